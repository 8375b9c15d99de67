"""Where `inject` writes its result: found out to be writable before anything is written anywhere else."""

import contextlib
import os
import select
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from secretbinding.cli.console import emit
from secretbinding.errors import UsageError


class Destination(Protocol):
    """Takes one text, in two steps: whatever can fail early, fails in `prepare`."""

    def prepare(self, text: str) -> None:
        """Make ready. Raises `UsageError` when the text cannot be written."""

    def finish(self, text: str) -> None:
        """The text is where it belongs. Raises `UsageError` when it could not be written after all."""


@contextmanager
def destination(output: str | None) -> Iterator[Destination]:
    """The destination named by a path; standard output for None. Raises `UsageError` for one that cannot be written.

    A file is replaced as a whole or stays as it was. A pipe gets its text in `finish`, since whoever reads it acts on
    it; a device gets it in `prepare`.
    """
    if output is None:
        yield _StandardOutput()
        return
    path = os.path.realpath(output)
    if not os.path.exists(path) or os.path.isfile(path):
        with _Replaced(output, path) as replaced:
            yield replaced
        return
    with _told(output):
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed below, where a fault of it is told
    try:
        yield _Opened(output, file)
    finally:
        with contextlib.suppress(OSError):
            file.close()


class _StandardOutput:
    def prepare(self, text: str) -> None:
        # None is what Python makes of a standard output that is not open.
        if sys.stdout is None or _reader_is_gone():
            raise UsageError("standard output is closed", remedy="give a FILE by -o, or pipe into a program that reads")

    def finish(self, text: str) -> None:
        with _told("standard output"):
            emit(text)


class _Opened:
    """A pipe or a device."""

    def __init__(self, name: str, file: TextIO) -> None:
        self._name = name
        self._file = file
        self._early = stat.S_ISCHR(os.fstat(file.fileno()).st_mode)

    def prepare(self, text: str) -> None:
        if self._early:
            self._write(text)

    def finish(self, text: str) -> None:
        if not self._early:
            self._write(text)

    def _write(self, text: str) -> None:
        with _told(self._name):
            self._file.write(text)
            self._file.flush()


class _Replaced:
    """A file: the text goes into a new one beside it, which takes its place."""

    def __init__(self, name: str, path: str) -> None:
        self._name = name
        self._path = path
        self._new = ""

    def __enter__(self) -> "_Replaced":
        with _told(self._name):
            if os.path.exists(self._path):
                os.close(os.open(self._path, os.O_WRONLY))
            folder, base = os.path.split(self._path)
            number, self._new = tempfile.mkstemp(prefix=f".{base[:100]}.", dir=folder)
            os.close(number)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._new:
            with contextlib.suppress(OSError):
                os.unlink(self._new)

    def prepare(self, text: str) -> None:
        with _told(self._name):
            with open(self._new, "w", encoding="utf-8") as file:
                file.write(text)
            if os.path.exists(self._path):
                shutil.copymode(self._path, self._new)
            else:
                os.chmod(self._new, 0o666 & ~_umask())

    def finish(self, text: str) -> None:
        with _told(self._name):
            os.replace(self._new, self._path)
        self._new = ""


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        reason = (failure.strerror or type(failure).__name__).lower()
        raise UsageError(f"{name} cannot be written: {reason}", remedy="write somewhere else") from None


def _reader_is_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more (poll(2), POLLERR)."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    asked = select.poll()
    asked.register(number, select.POLLOUT)
    return any(events & select.POLLERR for _, events in asked.poll(0))


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
