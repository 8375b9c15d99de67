"""Hears of changed secrets from Vault's audit devices: a listener for `socket` devices, a reader of `file` devices."""

import contextlib
import errno
import io
import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from secretbinding.errors import UsageError
from secretbinding.watch.audit_entries import Lines, changed_path

_log = structlog.get_logger(__name__)

OnChange = Callable[[str], None]
"""Gets the path of a request that changed something, namespace included; called from the listener's thread."""

_CHUNK = 1 << 16
_CONNECTIONS_MAX = 32
_STOP_SECONDS = 2.0
_PAUSE_SECONDS = 0.5


def _tell(lines: Iterable[bytes], on_change: OnChange) -> None:
    for line in lines:
        try:
            path = changed_path(line)
            if path is not None:
                on_change(path)
        except Exception as error:  # noqa: BLE001 - one entry must not end the push; the error's text may hold anything
            _log.error("audit entry not understood", error=type(error).__name__)


class AuditListener:
    """Listens at a TCP address (`(host, port)`; port 0 for any free one) or at a Unix socket (a path).

    Whoever can connect can make the controller read the metadata of secrets that it watches, and nothing else. What
    arrives is always taken off the socket at once: Vault waits for it with each of its answers.
    """

    def __init__(self, bind: tuple[str, int] | Path, on_change: OnChange) -> None:
        self._bind = bind
        self._on_change = on_change
        self._listening: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._stop_read, self._stop_write = socket.socketpair()
        self._connections: dict[socket.socket, Lines] = {}
        self._turned_away = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-listen", daemon=True)

    @property
    def address(self) -> str:
        """Where it listens: `host:port` or the path; what was asked for before it was started."""
        if isinstance(self._bind, Path):
            return str(self._bind)
        host, port = self._bind
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The threads that live from `start` to `stop`."""
        return (self._thread,)

    def start(self) -> None:
        """Start listening. Raises `errors.UsageError` when that is not possible."""
        try:
            self._listening = _open_unix(self._bind) if isinstance(self._bind, Path) else _open_tcp(*self._bind)
        except OSError as problem:
            raise UsageError(
                f"SECRETBINDING_AUDIT_LISTEN: cannot listen at {self.address} ({problem.strerror})",
                remedy="choose an address that is free and that this user may use",
            ) from None
        if not isinstance(self._bind, Path):
            self._bind = self._bind[0], self._listening.getsockname()[1]
        self._listening.setblocking(False)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._stop_read, selectors.EVENT_READ)
        self._thread.start()
        _log.info("listening for audit entries", address=self.address)

    def stop(self) -> None:
        """Stop listening, and close all connections."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._stop_write.send(b"\0")
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        self._stop_read.close()
        self._stop_write.close()
        if self._listening is not None:
            self._listening.close()
            if isinstance(self._bind, Path):
                self._bind.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select():
                ready = key.fileobj
                if ready is self._listening:
                    self._accept(self._listening)
                elif isinstance(ready, socket.socket) and ready in self._connections:
                    self._receive(ready)
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            return
        except OSError as problem:
            # Without free descriptors the connection stays in the queue: no busy loop.
            _log.warning("audit connection cannot be taken", error=problem.strerror)
            self._stopping.wait(_PAUSE_SECONDS)
            return
        if len(self._connections) >= _CONNECTIONS_MAX:
            connection.close()
            if not self._turned_away:
                self._turned_away = True
                _log.warning("too many audit connections: new ones are turned away", limit=_CONNECTIONS_MAX)
            return
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._connections[connection] = Lines()
        self._selector.register(connection, selectors.EVENT_READ)

    def _receive(self, connection: socket.socket) -> None:
        try:
            chunk = connection.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._close(connection)
            return
        _tell(self._connections[connection].feed(chunk), self._on_change)

    def _close(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._connections[connection]
        connection.close()


def _open_tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _open_unix(path: Path) -> socket.socket:
    """A socket for this user and group, in place of one that nobody listens at any more."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            made.bind(str(path))
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE or not _is_abandoned(path):
                raise
            path.unlink()
            made.bind(str(path))
        path.chmod(0o660)
        made.listen()
    except OSError:
        made.close()
        raise
    return made


def _is_abandoned(path: Path) -> bool:
    if not stat.S_ISSOCK(path.stat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


@dataclass(slots=True)
class _Followed:
    """An open file. One that was renamed is read for a while longer: Vault writes to it until it is told (SIGHUP)."""

    file: io.FileIO
    lines: Lines = field(default_factory=Lines)
    until: float = float("inf")

    def same_as(self, found: os.stat_result) -> bool:
        mine = os.fstat(self.file.fileno())
        return (mine.st_dev, mine.st_ino) == (found.st_dev, found.st_ino)


class AuditFile:
    """Reads what is appended to the file of a `file` audit device, from its present end on; follows it when it is
    renamed and made anew, or emptied. A file that is not there yet is waited for, and read from its beginning."""

    def __init__(
        self, path: Path, on_change: OnChange, *, interval_seconds: float = 0.2, renamed_seconds: float = 600.0
    ) -> None:
        self._path = path
        self._on_change = on_change
        self._interval_seconds = interval_seconds
        self._renamed_seconds = renamed_seconds
        self._current: _Followed | None = None
        self._renamed: list[_Followed] = []
        self._complaint = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-file", daemon=True)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The threads that live from `start` to `stop`."""
        return (self._thread,)

    def start(self) -> None:
        """Start reading at the present end of the file."""
        self._reopen()
        if self._current is not None:
            self._current.file.seek(0, os.SEEK_END)
        self._thread.start()
        _log.info("reading audit entries", file=str(self._path))

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def look(self) -> None:
        """Read what was appended since the last look."""
        now = time.monotonic()
        for followed in [*self._renamed, *([self._current] if self._current is not None else [])]:
            self._read(followed)
        for followed in [each for each in self._renamed if each.until <= now]:
            followed.file.close()
            self._renamed.remove(followed)
        self._reopen()

    def _reopen(self) -> None:
        """Turn to the file that has the name now."""
        try:
            found = self._path.stat()
            if self._current is not None and self._current.same_as(found):
                return
            if not stat.S_ISREG(found.st_mode):
                self._complain("not a regular file")
                return
            opened = _Followed(io.FileIO(self._path))
        except FileNotFoundError:
            return
        except OSError as problem:
            self._complain(str(problem.strerror))
            return
        self._complaint = ""
        if self._current is not None:
            self._current.until = time.monotonic() + self._renamed_seconds
            self._renamed.append(self._current)
        self._current = opened
        while len(self._renamed) > 4:
            self._renamed.pop(0).file.close()

    def _complain(self, why: str) -> None:
        if why != self._complaint:
            self._complaint = why
            _log.warning("audit file cannot be read", file=str(self._path), error=why)

    def _read(self, followed: _Followed) -> None:
        with contextlib.suppress(OSError):
            if os.fstat(followed.file.fileno()).st_size < followed.file.tell():
                followed.file.seek(0)
                followed.lines = Lines()
            while not self._stopping.is_set() and (chunk := followed.file.read(_CHUNK)):
                _tell(followed.lines.feed(chunk), self._on_change)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            self.look()
        for followed in [*self._renamed, *([self._current] if self._current is not None else [])]:
            followed.file.close()
