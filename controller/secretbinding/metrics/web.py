"""The HTTP server of metrics and health checks: a thread for each request, few at a time, and nothing but reading."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from types import MappingProxyType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from secretbinding.errors import UsageError
from secretbinding.metrics.health import Check, report

_log = structlog.get_logger(__name__)

REQUESTS = 16
"""How many connections there are at once; for a further one the oldest is closed, so that slow ones keep nobody out."""
_REQUEST_SECONDS = 10.0
"""How long one may be silent, and how long it may take from beginning to end."""
_STOP_SECONDS = 2.0

Application = Callable[[Mapping[str, Any], Callable[..., Any]], Iterable[bytes]]


def application(
    registry: CollectorRegistry,
    live: Callable[[], Sequence[Check]],
    ready: Callable[[], Sequence[Check]],
    pages: Mapping[str, Application] = MappingProxyType({}),
) -> Application:
    """`/metrics` (Prometheus' text, or OpenMetrics where `Accept` asks for it), `/healthz`, `/readyz`: 503 when a check
    fails, with a line for each check. And `pages`, by path."""
    metrics: Any = make_wsgi_app(registry)
    checks = {"/healthz": live, "/readyz": ready}
    paths = "".join(f"{path}\n" for path in ("/metrics", *checks, *sorted(pages)))

    def answer(environment: Mapping[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        try:
            return route(environment, start)
        except Exception as error:  # noqa: BLE001 - the library would print a traceback among the log's lines
            _log.error("request cannot be answered", path=environment.get("PATH_INFO"), error=type(error).__name__)
            return _text(start, "500 Internal Server Error", "see the log\n")

    def route(environment: Mapping[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path, method = environment.get("PATH_INFO", ""), environment.get("REQUEST_METHOD", "")
        if path == "/metrics":
            served: Iterable[bytes] = metrics(environment, start)
            return served
        if path in pages:
            return pages[path](environment, start)
        if path not in checks:
            return _text(start, "404 Not Found", paths)
        if method not in ("GET", "HEAD"):
            return _text(start, "405 Method Not Allowed", "use GET\n", ("Allow", "GET, HEAD"))
        well, text = report(checks[path]())
        return _text(start, "200 OK" if well else "503 Service Unavailable", text if method == "GET" else "")

    return answer


class MetricsServer:
    """Listens at `(host, port)`; port 0 for any free one."""

    def __init__(self, bind: tuple[str, int], answer: Application) -> None:
        self._bind = bind
        self._answer = answer
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    @property
    def address(self) -> str:
        """Where it listens: `host:port`; what was asked for before it was started."""
        host, port = self._bind
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread that lives from `start` to `stop`."""
        return (self._thread,)

    def start(self) -> None:
        """Start listening. Raises `errors.UsageError` when that is not possible."""
        try:
            self._server = _Server(self._bind)
        except OSError as problem:
            raise UsageError(
                f"SECRETBINDING_METRICS_ADDRESS: cannot listen at {self.address} ({problem.strerror})",
                remedy="choose an address that is free and that this user may use, or set it empty to serve no metrics",
            ) from None
        self._server.set_app(self._answer)
        self._bind = self._bind[0], self._server.server_address[1]
        self._thread.start()
        _log.info("serving metrics", address=self.address)

    def stop(self) -> None:
        """Stop listening."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        if self._server is not None:
            self._server.serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = REQUESTS

    def __init__(self, bind: tuple[str, int]) -> None:
        self.address_family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}
        super().__init__(bind, _Handler)

    def server_bind(self) -> None:
        # The library's own asks the name service for the host's full name, which may take its time.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            oldest = next(iter(self._open)) if len(self._open) >= REQUESTS else None
            self._open[request] = time.monotonic()
        if oldest is not None:
            self._cut(oldest)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)

    def service_actions(self) -> None:
        # Twice a second: whoever sends a byte now and then is never silent for long, and has to come to an end.
        now = time.monotonic()
        with self._lock:
            late = [request for request, since in self._open.items() if now - since > _REQUEST_SECONDS]
        for request in late:
            self._cut(request)

    def _cut(self, request: socket.socket) -> None:
        """End a connection under the thread that serves it."""
        with self._lock:
            self._open.pop(request, None)
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[0]
        _log.debug("request for metrics not answered", error=error.__name__ if error is not None else "")


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a scrape every few seconds is no news."""


def _text(start: Callable[..., Any], status: str, text: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    body = text.encode()
    fixed = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start(status, [*fixed, ("Cache-Control", "no-store"), *headers])
    return [body]
