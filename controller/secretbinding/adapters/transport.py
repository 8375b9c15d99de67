"""The lean HTTP transport under hvac and python-nomad: pooled, verified, timed, retried, with typed errors only."""

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import stamina
import urllib3
from urllib3.exceptions import ClosedPoolError, ConnectTimeoutError, HTTPError, NewConnectionError

from secretbinding import tracing
from secretbinding.adapters.calls import Answer, Call, unexpected
from secretbinding.adapters.clocks import ServerClock
from secretbinding.adapters.connection import Connection, check, close_source, current_token, refused
from secretbinding.adapters.deadline import answer_within
from secretbinding.adapters.discovery.nodes import Nodes
from secretbinding.adapters.pools import Pools
from secretbinding.adapters.reasons import describe, hopeless
from secretbinding.adapters.routes import Route, Routes
from secretbinding.errors import Denied, NoLeader, ServiceError, Unavailable, Unreachable, VaultSealed
from secretbinding.trail import CORRELATION_HEADER, is_change, new_correlation_id
from secretbinding.trail import told as trail_of

__all__ = ["Answer", "Call", "OnCall", "Transport", "unexpected"]

OnCall = Callable[[str, str, float, str], None]
"""`(system, operation, seconds, outcome)`, called once for each attempt, from the calling thread. `operation` is the
call's label, `outcome` is `Success` or the `reason` of the error: both from small fixed sets, fit for metric labels."""

_TEXT_LIMIT = 2000
_NOT_ACTIVE = "local node not active"
_SHORTEST_SECRET = 4
"""A shorter value is in most texts by chance."""

# Retries are reported by `on_call`; stamina's own hooks would print to standard output, among a command's results.
stamina.instrumentation.set_on_retry_hooks(())


Judge = Callable[[Call, int, str], ServiceError]
"""`(call, status, text)` of an answer with status 400 or more: the error that it is."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """An attempt that failed. `repeat` says that trying again is safe and may help."""

    error: ServiceError
    repeat: bool = False
    retry_after_seconds: float | None = None


class Transport:
    """Sends requests to one server, or to one of the `nodes` of a service. Thread-safe; sockets are bounded by the two
    pool sizes.

    Redirects are never followed: the token would go to whatever host the answer names.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        system: str,
        token_header: str,
        headers: Mapping[str, str],
        judge: Judge,
        on_call: OnCall | None = None,
        clock: ServerClock | None = None,
        nodes: Nodes | None = None,
    ) -> None:
        check(connection, system)
        self.clock = clock or ServerClock()
        self._connection = connection
        self._system = system
        self._token_header = token_header
        self._fixed_headers = dict(headers)
        self._judge = judge
        self._on_call = on_call
        self._pool_timeout = max(1, round(connection.timeout_seconds))
        self._routes = Routes(connection, nodes)

    def __repr__(self) -> str:
        return f"Transport({self._system!r}, {self._connection.address!r})"

    def close(self) -> None:
        """Close all idle connections, and a session that gives the tokens."""
        close_source(self._connection.token)
        self._routes.close()

    def reconnect(self) -> None:
        """Let the next request connect anew, with the certificates that are there then."""
        self._routes.clear()

    def send(
        self,
        call: Call,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        wait_seconds: float = 0.0,
    ) -> Answer:
        """Send a request and give the answer, whose status is below 300.

        `path` is already quoted; `body` becomes JSON unless it is None. With `wait_seconds` the server may hold back
        its answer for so long (a blocking query): such a call is tried once.

        Raises:
            Unreachable: no answer, after what retries are safe.
            ServiceError: or the subclass that the judge chose for the answer.
        """
        target = self._target(path, params)
        payload = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        if not is_change(call.label, method, call.text):
            return self._send(call, method, target, payload, wait_seconds)
        correlation_id = new_correlation_id() if self._system == "vault" else ""
        marked = replace(call, headers=(*call.headers, (CORRELATION_HEADER, correlation_id)))
        told = partial(trail_of, self._system, call.label, call.text)
        more = {"correlation_id": correlation_id, "namespace": str((params or {}).get("namespace") or "")}
        try:
            answer = self._send(marked if correlation_id else call, method, target, payload, wait_seconds)
        except ServiceError as error:
            told(error.reason, **more)
            raise
        told("Success", **more, request_id=answer.request_id)
        return answer

    def _send(self, call: Call, method: str, target: str, payload: bytes | None, wait_seconds: float) -> Answer:
        quiet, whole = self._connection.timeout_seconds, self._connection.answer_limit_seconds
        limits = (quiet + wait_seconds, whole + wait_seconds)
        outcome = self._attempt(call, method, target, payload, limits, long=wait_seconds > 0)
        if isinstance(outcome, _Failure) and outcome.repeat and wait_seconds == 0:
            outcome = self._retry(outcome, call, method, target, payload)
        if isinstance(outcome, _Failure):
            raise outcome.error
        return outcome

    def open(
        self, call: Call, path: str, *, params: Mapping[str, Any], quiet_seconds: float
    ) -> urllib3.BaseHTTPResponse:
        """Open an endless answer, whose reads fail when the server is silent for `quiet_seconds`. Tried once.

        The caller reads with `read1`, turns what that raises into an error with `lost`, and closes it.
        """
        started = time.perf_counter()
        outcome = self._stream(call, self._target(path, params), quiet_seconds)
        self._count(call, started, outcome)
        if isinstance(outcome, _Failure):
            raise outcome.error
        return outcome

    def _stream(self, call: Call, target: str, quiet_seconds: float) -> urllib3.BaseHTTPResponse | _Failure:
        token = self._token(call)
        if isinstance(token, _Failure):
            return token
        pools = self._routes.now().pools
        opened = self._open(call, "GET", target, None, (quiet_seconds, None), token, pools, long=True)
        if isinstance(opened, _Failure) or opened.status == 200:
            return opened
        finished = self._finish(call, opened, token)
        if isinstance(finished, _Failure):
            return finished
        return _Failure(unexpected(self._system, call, f"status {opened.status}"))

    def lost(self, call: Call, problem: Exception | None = None) -> Unreachable:
        """The error for an answer that broke off; `problem` is what reading it raised."""
        if problem is None:
            return self._unreachable(call, "the connection was closed")
        return self._unreachable(call, *describe(problem, self._system))

    def _target(self, path: str, params: Mapping[str, Any] | None) -> str:
        prefix = self._routes.prefix
        query = {key: _query_value(value) for key, value in (params or {}).items() if value is not None}
        return f"{prefix}{path}?{urlencode(query, doseq=True)}" if query else f"{prefix}{path}"

    def _retry(self, first: _Failure, call: Call, method: str, target: str, payload: bytes | None) -> Answer | _Failure:
        deadline = time.monotonic() + self._connection.retry_seconds
        failure = first

        def decide(_: Exception) -> bool | float:
            if not failure.repeat:
                return False
            pause = failure.retry_after_seconds
            if pause is not None:
                pause += random.uniform(0.0, 0.1 + pause / 10)
            if time.monotonic() + (pause or 0.0) >= deadline:
                return False
            return True if pause is None else pause

        try:
            for attempt in stamina.retry_context(
                on=decide,
                attempts=self._connection.retry_attempts,
                timeout=None,
                wait_initial=0.1,
                wait_max=2.0,
                wait_jitter=0.3,
            ):
                with attempt:
                    if attempt.num > 1:
                        left = max(1.0, deadline - time.monotonic())
                        limits = (min(self._connection.timeout_seconds, left), left)
                        outcome = self._attempt(call, method, target, payload, limits, long=False)
                        if isinstance(outcome, Answer):
                            return outcome
                        failure = outcome
                    raise failure.error
        except ServiceError:
            pass
        failure.error.__traceback__ = None
        return failure

    def _attempt(
        self, call: Call, method: str, target: str, payload: bytes | None, limits: tuple[float, float], *, long: bool
    ) -> Answer | _Failure:
        token = self._token(call)
        if isinstance(token, _Failure):
            self._count(call, time.perf_counter(), token)
            return token
        outcome = self._exchange(call, method, target, payload, limits, token, long=long)
        # Vault never began what it denies, so that it can be asked again, whatever it is.
        if token and isinstance(outcome, _Failure) and isinstance(outcome.error, Denied):
            another = self._token(call) if refused(self._connection.token, token) else token
            if isinstance(another, _Failure):
                return another
            if another != token:
                outcome = self._exchange(call, method, target, payload, limits, another, long=long)
        return outcome

    def _exchange(
        self,
        call: Call,
        method: str,
        target: str,
        payload: bytes | None,
        limits: tuple[float, float],
        token: str,
        *,
        long: bool,
    ) -> Answer | _Failure:
        started, sent = time.perf_counter(), self.clock.ours()
        try:
            route = self._routes.now()
        except ServiceError as error:
            error.__traceback__ = None
            outcome: Answer | _Failure = _Failure(error, repeat=error.transient)
            self._count(call, started, outcome)
            return outcome
        with tracing.call(self._system, call.label, method, self._routes.authority(route)) as traced:
            opened = self._open(call, method, target, payload, limits, token, route.pools, long=long)
            if not isinstance(opened, _Failure):
                self.clock.heard(opened.headers.get("Date"), sent)
                traced.set(http__response__status_code=opened.status)
            outcome = opened if isinstance(opened, _Failure) else self._finish(call, opened, token)
            if isinstance(outcome, _Failure):
                traced.failed(outcome.error.reason)
                outcome = self._elsewhere(route, outcome)
            self._count(call, started, outcome)
        return outcome

    def _elsewhere(self, route: Route, failure: _Failure) -> _Failure:
        """Where another node may do better, look for one. A node that redirects, or is sealed, did nothing."""
        error = failure.error
        away = isinstance(error, Unreachable) or (isinstance(error, Unavailable) and error.status > 500)
        # A 500 is about what was asked, but for that of a standby that knows no active node.
        away = away or (error.status == 500 and _NOT_ACTIVE in error.message)
        idle = isinstance(error, VaultSealed) or 300 <= error.status < 400
        if (away or idle) and self._routes.failed(route) and idle:
            return replace(failure, repeat=True)
        return failure

    def _token(self, call: Call) -> str | _Failure:
        """The token to send with a call, `""` for none."""
        if call.anonymous:
            return ""
        try:
            return current_token(self._connection.token)
        except (OSError, ValueError) as problem:
            return _Failure(self._no_token(call, problem))
        except ServiceError as error:
            return _Failure(error)

    def _open(
        self,
        call: Call,
        method: str,
        target: str,
        payload: bytes | None,
        limits: tuple[float, float | None],
        token: str,
        pools: Pools,
        *,
        long: bool,
    ) -> urllib3.BaseHTTPResponse | _Failure:
        """Send and read the answer's head. `limits`: seconds of silence, and seconds for the answer as a whole."""
        headers = {**self._fixed_headers, **dict(call.headers), **dict(tracing.headers())}
        if payload is not None:
            headers["Content-Type"] = call.content_type
        if token:
            headers[self._token_header] = token
        timeout = urllib3.Timeout(connect=self._connection.connect_timeout_seconds, read=limits[0])

        def ask() -> urllib3.BaseHTTPResponse:
            return pools.get(long=long).urlopen(
                method,
                target,
                body=payload,
                headers=headers,
                timeout=timeout,
                pool_timeout=self._pool_timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )

        try:
            with answer_within(limits[1]):
                try:
                    return ask()
                except ClosedPoolError:  # Its TLS files changed just now, or another node took its place.
                    return ask()
        except (HTTPError, OSError) as problem:
            unsent = isinstance(problem, NewConnectionError | ConnectTimeoutError)
            error = self._unreachable(call, *describe(problem, self._system))
            return _Failure(error, repeat=(unsent or call.repeatable) and not hopeless(problem))

    def _finish(self, call: Call, response: urllib3.BaseHTTPResponse, token: str) -> Answer | _Failure:
        limit = self._connection.max_answer_bytes
        try:
            body = response.read(limit + 1)
        except (HTTPError, OSError) as problem:
            response.close()
            response.release_conn()
            return _Failure(self.lost(call, problem), repeat=call.repeatable)
        if len(body) > limit:
            response.close()
            response.release_conn()
            return _Failure(unexpected(self._system, call, f"more than {limit} bytes"))
        response.release_conn()
        if response.status < 300:
            return Answer(response.status, response.headers, body, self._system, call)
        if response.status < 400:
            return _Failure(self._redirected(call, response.status, response.headers.get("Location", "")))
        error = self._judge(call, response.status, self._shown(call, body, token))
        waits = isinstance(error, Unavailable) and not isinstance(error, VaultSealed)
        unapplied = response.status == 429 or isinstance(error, NoLeader)
        after = _seconds(response.headers.get("Retry-After")) if response.status in (429, 503) else None
        return _Failure(error, repeat=waits and (call.repeatable or unapplied), retry_after_seconds=after)

    def _count(self, call: Call, started: float, outcome: object) -> None:
        if self._on_call is not None:
            word = outcome.error.reason if isinstance(outcome, _Failure) else "Success"
            self._on_call(self._system, call.label, time.perf_counter() - started, word)

    def _shown(self, call: Call, body: bytes, token: str) -> str:
        """The server's own words, unless they repeat a secret that was sent."""
        text = body.decode("utf-8", "replace").strip()
        for secret in (token, *call.hidden):
            if len(secret) >= _SHORTEST_SECRET and (secret in text or json.dumps(secret)[1:-1] in text):
                return "(its text is withheld, since it repeats a value that was sent)"
        return text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}..."

    def _no_token(self, call: Call, problem: Exception) -> ServiceError:
        why = f"cannot be read ({problem.strerror})" if isinstance(problem, OSError) else "holds odd characters"
        return Unavailable(
            f"the token for {self._system.capitalize()} {why}",
            system=self._system,
            operation=call.text,
            remedy="check the token file and who may read it",
        )

    def _unreachable(self, call: Call, why: str, remedy: str = "") -> Unreachable:
        if not remedy:
            remedy = f"check that it runs and that {self._system.upper()}_ADDR is right"
            if self._routes.secure and not self._connection.client_cert:
                remedy += f", and whether it wants a certificate ({self._system.upper()}_CLIENT_CERT)"
        return Unreachable(
            f"no answer from {self._system.capitalize()} at {self._routes.where} ({why})",
            system=self._system,
            operation=call.text,
            remedy=remedy,
        )

    def _redirected(self, call: Call, status: int, location: str) -> ServiceError:
        host = urlsplit(location)
        to = f"{host.scheme}://{host.netloc.rpartition('@')[2]}" if host.netloc else "another path"
        return ServiceError(
            f"{self._system.capitalize()} at {self._routes.where} redirects to {to}, which is not followed",
            system=self._system,
            operation=call.text,
            status=status,
            remedy=f"set {self._system.upper()}_ADDR to an address that answers by itself",
        )


def _query_value(value: object) -> str | list[str]:
    if isinstance(value, list):
        return [str(each) for each in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _seconds(header: str | None) -> float | None:
    """`Retry-After` in seconds; its date form is not worth a clock comparison and counts as absent."""
    return float(header) if header is not None and header.strip().isdigit() else None
