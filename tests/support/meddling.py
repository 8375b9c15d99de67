"""A proxy before a server that does with each request as it is told: passes it on, refuses it, loses its answer."""

import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.support.proxies import listening

_READS = ("/plan", "/v1/jobs/parse", "/login", "-self", "/capabilities-self", "/v1/var/nomad-vault/status/", "/lookup")
_HOP = ("transfer-encoding", "content-length", "connection", "keep-alive")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request. `number` counts the writes, from 1; 0 for one that writes nothing of interest."""

    method: str
    path: str
    number: int = 0

    @property
    def writes(self) -> bool:
        return self.number > 0

    @property
    def streams(self) -> bool:
        return self.path.startswith("/v1/event/stream")


@dataclass(frozen=True, slots=True)
class Meddling:
    """What to do with a request. Without anything it is passed on.

    Attributes:
        name: what it is counted as.
        answer: status, text and headers to answer instead.
        cut: the connection is closed instead of an answer; with `forward`, after the server has acted.
        forward: whether the server gets the request.
        delay_seconds: to wait before anything else.
        body: what the server's answer holds instead of what it said; its head stays.
        lines: for a stream: what becomes of each line.
        then: called when the server has acted or would have, before the connection is closed.
    """

    name: str
    answer: tuple[int, str, dict[str, str]] | None = None
    cut: bool = False
    forward: bool = False
    delay_seconds: float = 0.0
    body: bytes | None = None
    lines: Callable[[bytes], Iterable[bytes]] | None = None
    then: Callable[[], None] | None = None


Rule = Callable[[Seen], Meddling | None]


def refusing(name: str, status: int, text: str, **headers: str) -> Meddling:
    """An answer instead of the server's."""
    return Meddling(name, (status, text, {key.replace("_", "-"): value for key, value in headers.items()}))


class Meddler:
    """The running proxy. `rule` may be set at any time; a stream keeps the rule that it began with. `met` counts what
    was done by name, `writes` all writing requests."""

    def __init__(self, target: str) -> None:
        self.rule: Rule | None = None
        self.met: Counter[str] = Counter()
        self.writes = 0
        self.address = ""
        self._target = urlsplit(target)
        self._lock = threading.Lock()
        self._streams: set[socket.socket] = set()

    def cut_streams(self) -> None:
        """End all event streams that are open."""
        with self._lock:
            for each in self._streams:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        meddling = self._decide(handler)
        if meddling is None:
            self._forward(handler, body, None)
            return
        time.sleep(meddling.delay_seconds)
        if meddling.answer is not None:
            status, text, headers = meddling.answer
            self._answer(handler, status, text.encode(), headers)
            return
        if meddling.cut:
            handler.close_connection = True
            if meddling.forward:
                self._ask(handler, body).close()
            if meddling.then is not None:
                meddling.then()
            return
        self._forward(handler, body, meddling)

    def _decide(self, handler: BaseHTTPRequestHandler) -> Meddling | None:
        path = handler.path.partition("?")[0]
        method = handler.command
        with self._lock:
            writing = method in ("PUT", "POST", "DELETE", "PATCH") and not any(one in path for one in _READS)
            self.writes += writing
            seen = Seen(method, path, self.writes if writing else 0)
            meddling = self.rule(seen) if self.rule is not None else None
            if meddling is not None:
                self.met[meddling.name] += 1
            return meddling

    def _ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> http.client.HTTPConnection:
        """Send the request on; the answer has been read, its head at least."""
        upstream = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=400)
        headers = {key: value for key, value in handler.headers.items() if key.lower() not in ("host", "connection")}
        with suppress(OSError, http.client.HTTPException):
            upstream.request(handler.command, handler.path, body or None, headers)
            upstream.getresponse().read()
        return upstream

    def _forward(self, handler: BaseHTTPRequestHandler, sent: bytes, meddling: Meddling | None) -> None:
        upstream = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=400)
        headers = {key: value for key, value in handler.headers.items() if key.lower() not in ("host", "connection")}
        try:
            upstream.request(handler.command, handler.path, sent or None, headers)
            found = upstream.getresponse()
            if handler.path.startswith("/v1/event/stream"):
                self._stream(handler, found, meddling)
                return
            kept = {key: value for key, value in found.getheaders() if key.lower() not in _HOP}
            body = found.read()
            if meddling is not None and meddling.body is not None:
                body = meddling.body
            self._answer(handler, found.status, body, kept)
        except (OSError, http.client.HTTPException):
            handler.close_connection = True
        finally:
            upstream.close()

    def _stream(
        self, handler: BaseHTTPRequestHandler, found: http.client.HTTPResponse, meddling: Meddling | None
    ) -> None:
        handler.close_connection = True
        with self._lock:
            self._streams.add(handler.connection)
        try:
            handler.send_response(found.status)
            handler.end_headers()
            while line := found.readline():
                for each in meddling.lines(line) if meddling is not None and meddling.lines is not None else (line,):
                    handler.wfile.write(each)
                handler.wfile.flush()
        finally:
            with self._lock:
                self._streams.discard(handler.connection)

    def _answer(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        handler.wfile.flush()


@contextmanager
def meddling(target: str) -> Iterator[Meddler]:
    """Run the proxy before `target` (`http://host:port`) on a free loopback port."""
    made = Meddler(target)
    with listening(made.handle, keep_alive=True) as made.address:
        try:
            yield made
        finally:
            made.cut_streams()
