"""The pools of connections to one server, which follow its TLS files."""

import threading
from dataclasses import dataclass
from typing import Any

import urllib3

from secretbinding.adapters.connection import Connection
from secretbinding.adapters.deadline import use_deadlines
from secretbinding.adapters.tls import TlsFiles
from secretbinding.adapters.unixsocket import socket_path, unix_connection


@dataclass(frozen=True, slots=True)
class _Pair:
    """Pools of one TLS context: for ordinary calls, and for those that wait long."""

    context: object
    short: urllib3.HTTPConnectionPool
    long: urllib3.HTTPConnectionPool


class Pools:
    """Thread-safe. When a TLS file changes, new requests go over new connections, and those under way are finished.

    `tls` may be shared with other pools.
    """

    def __init__(self, connection: Connection, tls: TlsFiles) -> None:
        self._connection = connection
        self._tls = tls
        self._lock = threading.Lock()
        self._pair: _Pair | None = None

    def get(self, *, long: bool) -> urllib3.HTTPConnectionPool:
        """The pool for a request that begins now. Raises `OSError`, `ssl.SSLError` included, when TLS files are
        missing or do not fit together."""
        context = self._tls.context()
        pair = self._pair
        if pair is None or pair.context is not context:
            with self._lock:
                pair = self._pair
                if pair is None or pair.context is not context:
                    old, pair = pair, self._make(context)
                    self._pair = pair
                    _drop(old)
        return pair.long if long else pair.short

    def clear(self) -> None:
        """Close all idle connections; the next request connects anew, by the files that are there then."""
        self._tls.look_again()
        with self._lock:
            old, self._pair = self._pair, None
        _drop(old)

    def _make(self, context: object) -> _Pair:
        own = self._connection
        return _Pair(context, self._pool(context, own.pool_size), self._pool(context, own.long_pool_size))

    def _pool(self, context: object, size: int) -> urllib3.HTTPConnectionPool:
        own = self._connection
        path = socket_path(own.address)
        if path:
            pool = urllib3.HTTPConnectionPool("localhost", maxsize=size, block=True)
            pool.ConnectionCls = unix_connection(path)
            return pool
        options: dict[str, Any] = {}
        if context is not None:
            options = {
                "ssl_context": context,
                "cert_reqs": "CERT_NONE" if own.skip_verify else "CERT_REQUIRED",
                "server_hostname": own.tls_server_name or None,
            }
        manager = urllib3.PoolManager(num_pools=1, maxsize=size, block=True, **options)
        made = manager.connection_from_url(own.address)
        use_deadlines(made)
        return made


def _drop(pair: _Pair | None) -> None:
    """Close the idle connections. A thread that got the pool just before gets `ClosedPoolError`, unsent."""
    for pool in (pair.short, pair.long) if pair is not None else ():
        pool.close()
