"""A small HTTP server that answers as it is told: with errors, slowly, half, or not at all."""

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Action = Callable[[BaseHTTPRequestHandler], None]


def reply(status: int = 200, body: Any = None, **headers: str) -> Action:
    """Answer with a status, a JSON value or bytes, and headers (`Retry_After="1"`)."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return act


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Cut the connection with a TCP reset, after the request was read."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def half(handler: BaseHTTPRequestHandler) -> None:
    """Announce a body and send only its beginning."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": ')
    handler.close_connection = True


def drip(text: bytes = b'{"data": {}}', *, head: bool = False, seconds: float = 0.1) -> Action:
    """Answer one byte at a time, for ever: after a whole head, or in the middle of it."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        start = b"HTTP/1.1 200 OK\r\nX-Slow: " if head else b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + text
        handler.connection.sendall(start)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            handler.connection.sendall(b"x")
            time.sleep(seconds)

    return act


def lines(*texts: str, then: Action | None = None) -> Action:
    """Send an endless answer without a length, as Nomad's event stream does: each text as one line."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.flush()
        for text in texts:
            handler.wfile.write(text.encode() + b"\n")
            handler.wfile.flush()
        if then is not None:
            then(handler)

    return act


@dataclass
class Misbehaving:
    """The running server. Each request takes the next of `script`; the last one is used again and again."""

    address: str = ""
    script: list[Action] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    def silent(self, handler: BaseHTTPRequestHandler) -> None:
        """Say nothing until the test is over."""
        self.released.wait(30)
        handler.close_connection = True


@contextlib.contextmanager
def misbehaving(tls: ssl.SSLContext | None = None) -> Iterator[Misbehaving]:
    """Run the server on a free loopback port."""
    state = Misbehaving()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # Headers and body in one packet, or each answer waits for a delayed acknowledgement.

        def setup(self) -> None:
            super().setup()
            with lock:
                state.connections += 1

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                state.requests.append(Request(self.command, self.path, dict(self.headers.items()), body))
                action = state.script.pop(0) if len(state.script) > 1 else state.script[0]
            action(self)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing on standard error."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A cut connection is what these tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    state.address = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
