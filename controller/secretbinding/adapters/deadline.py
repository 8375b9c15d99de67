"""A deadline for a whole answer: a socket's own time limit only bounds each wait for the next bytes."""

import contextlib
import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

_asking = threading.local()


class AnswerTooSlowError(TimeoutError):
    """The answer was not complete when its time was over."""


@contextlib.contextmanager
def answer_within(seconds: float | None) -> Iterator[None]:
    """Requests of this thread that begin inside must be answered, headers and body, within so many seconds.

    The limit stays with the answer, whose reads raise `AnswerTooSlowError` (as urllib3 wraps it) after it; None means
    no limit. It holds for the pools that `use_deadlines` was called for.
    """
    _asking.until = None if seconds is None else time.monotonic() + seconds
    try:
        yield
    finally:
        _asking.until = None


def use_deadlines(pool: urllib3.HTTPConnectionPool) -> None:
    """Make all connections of the pool heed `answer_within`. For a pool that has no connection yet."""
    secure = isinstance(pool, urllib3.HTTPSConnectionPool)
    pool.ConnectionCls = _TimedHTTPSConnection if secure else TimedHTTPConnection


class _TimedReader(io.RawIOBase):
    """Reads from a socket until a point in (monotonic) time."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, until: float) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise AnswerTooSlowError("the answer took too long")
        quiet = self._sock.gettimeout()
        self._sock.settimeout(left if quiet is None else min(quiet, left))
        try:
            count: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            if time.monotonic() < self._until:
                raise
            raise AnswerTooSlowError("the answer took too long") from None
        finally:
            self._sock.settimeout(quiet)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        until: float | None = getattr(_asking, "until", None)
        if until is not None:
            self.fp = io.BufferedReader(_TimedReader(self.fp.detach(), sock, until))


class TimedHTTPConnection(HTTPConnection):
    """Answers of its requests heed `answer_within`."""

    response_class = _TimedResponse


class _TimedHTTPSConnection(HTTPSConnection):
    response_class = _TimedResponse
