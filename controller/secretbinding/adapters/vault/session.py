"""One token for all work: logs in, renews, and logs in again when the token was revoked; once for all threads."""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from secretbinding.adapters.connection import TokenFile, VaultConnection, current_token
from secretbinding.adapters.transport import OnCall
from secretbinding.adapters.vault.login import LoginMethod
from secretbinding.adapters.vault.tokens import Found, Life, TokenCalls
from secretbinding.errors import Denied, Rejected, SecretBindingError, ServiceError

_log = structlog.get_logger(__name__)

RENEW_AT = (0.5, 0.7)
"""The share of its life at which a token is renewed, drawn anew each time, so that many controllers do not meet."""
PAUSES = (1.0, 60.0)
"""Seconds from a failed login to the next one: the first pause, which doubles, and the longest."""
STEADY_SECONDS = 60.0
"""A token that lived so long was a good one: the next pause is the first one again."""
_BELIEVED_SECONDS = 1.0
"""So long an answer that a token is alive is believed, so that a missing right does not cost a look each time."""
_LOOK_SECONDS = 60.0
"""How often a token that is not ours to get (from the environment or a file) is looked at for news."""
_UNKNOWN_SECONDS = 300.0
_STOP_SECONDS = 2.0


@dataclass(slots=True)
class _Held:
    """A token that is in use. Times are of the session's monotonic clock; None for never."""

    token: str = field(repr=False)
    life: Life
    since: float
    ends_at: float | None
    due_at: float | None


@dataclass(frozen=True, slots=True)
class _Failure:
    """The last login failed: until then, and while the files are the same, nobody tries."""

    error: ServiceError
    until: float
    stamp: object


class VaultSession:
    """Gives the token for each request (`adapters.connection.Session`). Thread-safe.

    Args:
        connection: where and how; its own `token` is not used.
        login: how to get a token; None for one that is given: `token`, text or `TokenFile`, which is renewed too.
        login_namespace: the namespace of the auth mount; a token of it works in those below.
        on_call: told about each attempt at a request, for metrics.
        keep: renew in a thread of its own, which begins with the first token. Without it a token lives as long as it
            was given; a session that can log in gets another one then.
        clock, draw, now: monotonic seconds, a number between two others, our own wall clock.
    """

    def __init__(
        self,
        connection: VaultConnection,
        *,
        login: LoginMethod | None = None,
        login_namespace: str = "",
        token: str | TokenFile = "",
        on_call: OnCall | None = None,
        keep: bool = True,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        own = replace(connection, token="", pool_size=2, long_pool_size=1, retry_seconds=3.0, retry_attempts=2)
        self._calls = TokenCalls(own, login_namespace or connection.namespace, on_call)
        self._login = login
        self._given = token
        self._keep = keep
        self._clock, self._draw, self._now = clock, draw, now
        self._lock = threading.RLock()
        self._held: _Held | None = None
        self._failure: _Failure | None = None
        self._refusals = 0
        self._short_lives = 0
        self._alive: tuple[str, float] = ("", 0.0)
        self._told_dead = ""
        self._closed = threading.Event()
        self._news = threading.Event()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"VaultSession({self._login.name if self._login is not None else 'token'!r})"

    def __call__(self) -> str:
        """The token now; logs in when there is none. Raises `errors.ServiceError` subclasses, and `OSError` or
        `ValueError` for a token file that cannot be used."""
        if self._login is None:
            self._begin()
            return current_token(self._given)
        held = self._held
        if held is not None and self._lives(held):
            return held.token
        with self._lock:
            held = self._held
            if held is None or not self._lives(held):
                held = self._log_in()
            return held.token

    def refused(self, token: str) -> bool:
        """Whether another token is worth a try after Vault denied a request with this one.

        A look at the token itself decides: a token that is alive lacks a right, and stays. Of the threads that come
        with the same dead token one logs in; the others get its token.
        """
        with self._lock:
            if token != self._present():
                return True
            if self._alive[0] == token and self._clock() < self._alive[1]:
                return False
            found = self._calls.look(token)
            if found is not Found.DEAD:
                if found is Found.ALIVE:
                    self._alive = (token, self._clock() + _BELIEVED_SECONDS)
                return False
            if self._login is None:
                return self._told_of_dead(token)
            _log.warning("vault no longer accepts our token", method=self._login.name)
            self._lost()
            # When that fails, whoever asks for a token next is told why.
            with contextlib.suppress(SecretBindingError):
                self._log_in()
            return True

    def ends(self) -> datetime | None:
        """When the token ends unless it is renewed, by our own wall clock; None for never, or when it is not known."""
        held = self._held
        if held is None or held.ends_at is None:
            return None
        return self._now() + timedelta(seconds=held.ends_at - self._clock())

    def close(self) -> None:
        """Stop renewing, and revoke the token that a login gave. What is given stays as it is."""
        self._closed.set()
        self._news.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_SECONDS)
        held, self._held = self._held, None
        if self._login is not None and held is not None and self._lives(held):
            self._calls.revoke(held.token)
        self._calls.close()

    def tend(self) -> None:
        """Do what is due now: learn about a token that is new, renew, log in ahead of an end that no renewal defers."""
        with self._lock:
            if self._login is None:
                self._follow_given()
            held = self._held
            if held is None or held.due_at is None or self._clock() < held.due_at:
                return
            if held.life.renewable and self._renewed(held):
                return
            if self._login is not None:
                self._log_in_ahead(held)

    def _present(self) -> str:
        """The token that a request would get, without a login."""
        if self._login is None:
            try:
                return current_token(self._given)
            except (OSError, ValueError):
                return ""
        return self._held.token if self._held is not None else ""

    def _lives(self, held: _Held) -> bool:
        return held.ends_at is None or self._clock() < held.ends_at

    def _log_in(self) -> _Held:
        login, failure = self._login, self._failure
        assert login is not None
        if failure is not None and self._clock() < failure.until and failure.stamp == login.stamp():
            raise _again(failure.error)
        stamp, started = login.stamp(), self._clock()
        try:
            life = self._calls.log_in(login)
        except ServiceError as error:
            self._failed(error, stamp)
            raise
        self._failure, self._refusals = None, 0
        self._hold(life.token, life, started)
        _log.info(
            "logged in to vault",
            method=login.name,
            mount=login.mount,
            role=login.role,
            accessor=life.accessor,
            policies=list(life.policies),
            ttl_seconds=life.ttl_seconds,
        )
        held = self._held
        assert held is not None
        return held

    def _log_in_ahead(self, held: _Held) -> None:
        """Another token before the present one ends; when that fails, the present one is used on."""
        try:
            self._log_in()
        except ServiceError:
            self._later(held)

    def _failed(self, error: ServiceError, stamp: object) -> None:
        pause = min(PAUSES[1], PAUSES[0] * 2 ** min(self._refusals + self._short_lives, 10))
        self._refusals += 1
        pause = self._draw(pause / 2, pause)
        self._failure = _Failure(error, self._clock() + pause, stamp)
        _log.warning("login to vault failed", error=str(error), next_try_seconds=round(pause, 1))

    def _lost(self) -> None:
        """The token is dead. One that hardly lived counts as a failed login: else logins would go round in a ring."""
        held, self._held = self._held, None
        if held is None or self._login is None:
            return
        if self._clock() - held.since >= STEADY_SECONDS:
            self._short_lives = 0
            return
        self._short_lives += 1
        if self._short_lives > 1:
            error = Denied(
                "Vault accepts no token of our logins for long",
                system="vault",
                operation="log in",
                remedy="find out who revokes them: Vault's audit log tells",
            )
            self._failed(error, self._login.stamp())

    def _hold(self, token: str, life: Life, asked_at: float) -> None:
        ends_at = asked_at + life.ttl_seconds if life.ttl_seconds else None
        due_at = asked_at + life.ttl_seconds * self._draw(*RENEW_AT) if life.ttl_seconds else None
        self._held = _Held(token, life, asked_at, ends_at, due_at)
        self._begin()
        self._news.set()

    def _renewed(self, held: _Held) -> bool:
        """Renew; false when only another login helps. A renewal that Vault cannot do now is tried again soon."""
        asked_at = self._clock()
        try:
            life = self._calls.renew(held.token)
        except (Denied, Rejected) as error:
            if self._login is None and self._told_dead != held.token:
                self._told_dead = held.token
                _log.warning("vault does not renew our token", error=str(error))
            return self._login is None and self._at_rest(held)
        except ServiceError:
            self._later(held)
            return True
        left = held.ends_at - asked_at if held.ends_at is not None else 0.0
        held.ends_at = asked_at + life.ttl_seconds if life.ttl_seconds else None
        if life.ttl_seconds and life.ttl_seconds <= left + 1.0:
            # It comes to its maximum: a login gives another one, and else somebody has to.
            if self._login is None:
                _log.warning("our token for vault ends, and cannot be renewed further", seconds=life.ttl_seconds)
            return self._login is None and self._at_rest(held)
        held.due_at = asked_at + life.ttl_seconds * self._draw(*RENEW_AT) if life.ttl_seconds else None
        _log.debug("renewed our token for vault", ttl_seconds=life.ttl_seconds)
        return True

    def _later(self, held: _Held) -> None:
        left = max(0.0, held.ends_at - self._clock()) if held.ends_at is not None else PAUSES[1]
        held.due_at = self._clock() + self._draw(0.5, 1.0) * max(PAUSES[0], min(PAUSES[1] / 2, left / 4))

    def _at_rest(self, held: _Held) -> bool:
        held.due_at = None
        return True

    def _told_of_dead(self, token: str) -> bool:
        if self._told_dead != token:
            self._told_dead = token
            _log.warning(
                "vault does not accept our token", remedy="give it another one (VAULT_TOKEN, VAULT_TOKEN_FILE)"
            )
        return False

    def _follow_given(self) -> None:
        """Learn how long the given token lives, once for each token."""
        token = self._present()
        held = self._held
        if not token or (held is not None and held.token == token):
            return
        asked_at = self._clock()
        try:
            life = self._calls.learn(token)
        except Denied:
            life = None
        except ServiceError:
            return
        if life is None:
            self._held = _Held(token, Life(token="", ttl_seconds=0.0, renewable=False), asked_at, None, None)
            return
        self._hold(token, life, asked_at)

    def _begin(self) -> None:
        if not self._keep or self._thread is not None or self._closed.is_set():
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="vault-token", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self.tend()
            except Exception as error:  # noqa: BLE001 - a surprise must not end renewal; its text may hold anything
                _log.error("our token for vault cannot be tended", error=type(error).__name__)
            self._news.wait(self._rest_seconds())
            self._news.clear()

    def _rest_seconds(self) -> float:
        held = self._held
        longest = _LOOK_SECONDS if self._login is None else _UNKNOWN_SECONDS
        if held is None or held.due_at is None:
            return longest
        return max(0.05, min(longest, held.due_at - self._clock()))


def _again(error: ServiceError) -> ServiceError:
    """The same error for another thread: one exception must not be raised in two."""
    made: Any = type(error)
    again: ServiceError = made(
        error.message, system=error.system, operation=error.operation, status=error.status, remedy=error.remedy
    )
    return again
