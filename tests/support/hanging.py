"""A server that accepts and never answers, when told to; until then all is passed on to the real one."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_CHUNK = 65536


class Hanging:
    """A TCP proxy on 127.0.0.1. While it hangs, connections are accepted, what comes by them is read, and nothing is
    answered."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._flows = threading.Event()
        self._flows.set()
        self._closed = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def hang(self) -> None:
        """Answer nothing from now on."""
        self._flows.clear()

    def recover(self) -> None:
        """Answer again; who waits for an answer is cut off."""
        self._flows.set()
        self._cut()

    def close(self) -> None:
        """End it."""
        self._closed = True
        self._flows.set()
        # Closing alone does not wake a thread that accepts.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._cut()

    def _cut(self) -> None:
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                continue
            with self._lock:
                self._sockets |= {client, server}
            self._start(self._pass, client, server)
            self._start(self._pass, server, client)

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while chunk := one.recv(_CHUNK):
                self._flows.wait()
                other.sendall(chunk)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._sockets.discard(one)
        one.close()

    def _start(self, target: object, *args: object) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()  # type: ignore[arg-type]


@contextmanager
def hanging(target: str) -> Iterator[Hanging]:
    """A proxy of a server's address, closed at the end."""
    proxy = Hanging(target)
    try:
        yield proxy
    finally:
        proxy.close()
