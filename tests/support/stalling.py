"""A proxy before a server that holds back one kind of request until it is told to let go."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_CHUNK_BYTES = 64 * 1024


class Stalling:
    """The running proxy. What holds `marker` (in one piece: a request line) waits; `held` is set when something does,
    and setting `go` lets everything through."""

    def __init__(self, target: str, marker: bytes) -> None:
        self.held, self.go = threading.Event(), threading.Event()
        self.address = ""
        where = urlsplit(target)
        self._target = (where.hostname or "127.0.0.1", where.port or 80)
        self._marker = marker
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        with suppress(OSError):
            while True:
                taken, _ = self._listener.accept()
                onward = socket.create_connection(self._target)
                self._open += [taken, onward]
                for source, sink in ((taken, onward), (onward, taken)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def close(self) -> None:
        """End everything."""
        self.go.set()
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                if self._marker in data:
                    self.held.set()
                    self.go.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def stalling(target: str, marker: bytes) -> Iterator[Stalling]:
    """A proxy before `target` (`http://host:port`) at its `address`."""
    proxy = Stalling(target, marker)
    host, port = proxy._listener.getsockname()[:2]
    proxy.address = f"http://{host}:{port}"
    threading.Thread(target=proxy.serve, name="stalling", daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.close()
