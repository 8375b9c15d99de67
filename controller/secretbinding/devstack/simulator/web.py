"""HTTP for the simulator: requests, answers, routing, the server's threads."""

import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from secretbinding.devstack.simulator.durations import parse_duration


class HttpError(Exception):
    """An answer with plain text and a status of 4xx or 5xx, as Nomad gives errors."""

    def __init__(self, status: int, text: str, *, index: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.index = index


def denied() -> HttpError:
    return HttpError(403, "Permission denied")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` is decoded; `parts` are what the route's pattern matched."""

    method: str
    path: str
    query: Mapping[str, str]
    lists: Mapping[str, list[str]]
    token: str
    body: bytes
    parts: tuple[str, ...] = ()
    has_namespace: bool = False

    @property
    def namespace(self) -> str:
        return self.query.get("namespace") or "default"

    @property
    def region(self) -> str:
        """Empty for the region of the one who answers."""
        return self.query.get("region") or ""

    def json(self) -> Any:
        """The body, decoded. Raises `HttpError` 400."""
        if not self.body:
            raise HttpError(400, "Request body is empty")
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise HttpError(400, f"invalid JSON: {error}") from None

    def blocking(self) -> tuple[int, float]:
        """(index, seconds) of a blocking query. Raises `HttpError` 400."""
        try:
            index = int(self.query.get("index") or 0)
        except ValueError:
            raise HttpError(400, "Invalid index") from None
        try:
            wait = parse_duration(self.query["wait"]) / 1e9 if self.query.get("wait") else 0.0
        except ValueError:
            raise HttpError(400, "Invalid wait time") from None
        return index, wait


@dataclass(slots=True)
class Response:
    """An answer: `value` is sent as JSON unless `text` or `stream` is given."""

    value: Any = None
    status: int = 200
    index: int | None = None
    text: str | None = None
    content_type: str = "application/json"
    stream: Iterator[Any] | None = None
    known_leader: bool = False
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Response]


class Router:
    """Routes by method and a pattern over the decoded path; the first that matches wins."""

    def __init__(self) -> None:
        self._routes: list[tuple[frozenset[str], re.Pattern[str], Handler]] = []

    def add(self, methods: str, pattern: str, handler: Handler) -> None:
        self._routes.append((frozenset(methods.split()), re.compile(pattern, re.DOTALL), handler))

    def dispatch(self, request: Request) -> Response:
        wrong_method = False
        for methods, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path)
            if match is None:
                continue
            if request.method not in methods:
                wrong_method = True
                continue
            request = Request(
                request.method,
                request.path,
                request.query,
                request.lists,
                request.token,
                request.body,
                tuple(group or "" for group in match.groups()),
                request.has_namespace,
            )
            return handler(request)
        raise HttpError(405, "Invalid method") if wrong_method else HttpError(404, "404 page not found\n")


class WebServer:
    """Serves a router on loopback in threads."""

    def __init__(self, router: Router, port: int = 0) -> None:
        server = _Server(("127.0.0.1", port), _Handler)
        server.router = router
        self._server = server
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        self._thread = threading.Thread(target=server.serve_forever, args=(0.5,), name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and cut the connections that are open."""
        self._server.shutdown()
        self._server.server_close()
        self._server.cut()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    router: Router

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        with self._open_lock:
            for one in list(self._open):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error worth a traceback; anything else is a fault of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """No access log: it would carry query strings."""

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        parts = urlsplit(self.path)
        lists = parse_qs(parts.query, keep_blank_values=True)
        token = self.headers.get("X-Nomad-Token") or ""
        authorization = self.headers.get("Authorization") or ""
        if not token and authorization.startswith("Bearer "):
            token = authorization.removeprefix("Bearer ")
        query = {name: values[0] for name, values in lists.items()}
        request = Request(
            self.command, unquote(parts.path), query, lists, token, body, has_namespace="namespace" in query
        )
        try:
            response = self.server.router.dispatch(request)
        except HttpError as error:
            response = Response(
                status=error.status, text=error.text, content_type="text/plain; charset=utf-8", index=error.index
            )
        self._send(response)

    def _send(self, response: Response) -> None:
        if response.stream is not None:
            self._stream(response.stream)
            return
        if response.text is not None:
            data = response.text.encode()
        elif response.status == 204 or (response.value is None and response.content_type == ""):
            data = b""
        else:
            data = json.dumps(response.value, separators=(",", ":"), ensure_ascii=False).encode()
        self.send_response(response.status)
        if data:
            self.send_header("Content-Type", response.content_type)
        if response.index is not None:
            self.send_header("X-Nomad-Index", str(response.index))
        if response.known_leader:
            self.send_header("X-Nomad-KnownLeader", "true")
            self.send_header("X-Nomad-LastContact", "0")
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _stream(self, items: Iterable[Any]) -> None:
        """Lines of JSON, unframed as Nomad sends them, until the iterator or the client ends."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        try:
            for item in items:
                self.wfile.write(json.dumps(item, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
                self.wfile.flush()
        except OSError:
            return

    do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - names that http.server asks for
