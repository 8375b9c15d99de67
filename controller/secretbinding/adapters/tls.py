"""TLS towards a server: one context of all files, made anew when one of them changes."""

import math
import os
import ssl
import threading
import time
from collections.abc import Callable

from urllib3.util.ssl_ import create_urllib3_context

from secretbinding.adapters.connection import Connection

LOOK_SECONDS = 5.0
"""How often the files are looked at."""

_Seen = tuple[tuple[int, int, int] | None, ...]


class TlsFiles:
    """The context that a connection's files make. Thread-safe.

    Files that do not fit together, as in the middle of a renewal, leave the context that was there in use until they
    do; without one, making it raises what `ssl` raises.
    """

    def __init__(self, connection: Connection, *, secure: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._seen: _Seen = ()
        self._looked_at = -math.inf
        self.secure = secure

    def context(self) -> ssl.SSLContext | None:
        """The context to connect with now, the same object while no file changes; None without TLS.

        Raises:
            OSError: also as `ssl.SSLError`: there is no context, and the files make none.
        """
        if not self.secure:
            return None
        now = self._clock()
        with self._lock:
            if self._context is not None and now - self._looked_at < LOOK_SECONDS:
                return self._context
            self._looked_at = now
            seen = self._look()
            if self._context is None or seen != self._seen:
                try:
                    self._context = self._make()
                    self._seen = seen
                except OSError:
                    if self._context is None:
                        raise
            return self._context

    def look_again(self) -> None:
        """Let the next context be of the files as they are then."""
        with self._lock:
            self._looked_at = -math.inf

    def _look(self) -> _Seen:
        own = self._connection
        return tuple(_stamp(path) for path in (own.ca_cert, own.ca_path, own.client_cert, own.client_key) if path)

    def _make(self) -> ssl.SSLContext:
        own = self._connection
        context = create_urllib3_context(cert_reqs=ssl.CERT_NONE if own.skip_verify else ssl.CERT_REQUIRED)
        if own.ca_cert or own.ca_path:
            context.load_verify_locations(own.ca_cert or None, own.ca_path or None)
        elif not own.skip_verify:
            context.load_default_certs()
        if own.client_cert:
            context.load_cert_chain(own.client_cert, own.client_key)
        return context


def _stamp(path: str) -> tuple[int, int, int] | None:
    """What tells that a file was replaced or written; through links, as Kubernetes mounts its Secrets."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
