"""Where a transport's requests go: pools of connections to the one address, or to the node that was found."""

import threading
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import urllib3

from secretbinding.adapters.connection import Connection
from secretbinding.adapters.deadline import use_deadlines
from secretbinding.adapters.discovery.address import discovered
from secretbinding.adapters.discovery.nodes import Node, Nodes


@dataclass(frozen=True, slots=True)
class Route:
    """Pools to one server. `node` is None for a server whose address was given."""

    node: Node | None
    short: urllib3.HTTPConnectionPool
    long: urllib3.HTTPConnectionPool

    def pool(self, *, long: bool) -> urllib3.HTTPConnectionPool:
        """For an ordinary call, or for one that waits long."""
        return self.long if long else self.short

    def close(self) -> None:
        """Close all idle connections."""
        self.short.close()
        self.long.close()


class Routes:
    """Thread-safe. Without `nodes` there is one route, which is never another.

    Attributes:
        prefix: the path before every request's own.
    """

    def __init__(self, connection: Connection, nodes: Nodes | None) -> None:
        self._nodes = nodes
        self._lock = threading.Lock()
        found = discovered(connection.address)
        self._scheme = urlsplit(connection.address).scheme if found is None else found.scheme
        self.prefix = urlsplit(connection.address).path.rstrip("/") if found is None else found.prefix
        self._address = connection.address
        # Nodes are found by their addresses; the certificate is the service's.
        name = connection.tls_server_name or ("" if found is None else found.server_name)
        self._connection = replace(connection, tls_server_name=name)
        self._route = None if nodes is not None else _route(self._connection, None)

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self._scheme == "https"

    @property
    def where(self) -> str:
        """The address, and the node in use, for people."""
        node = self._route.node if self._route is not None else None
        return self._address if node is None else f"{self._address}, node {node.authority},"

    def now(self) -> Route:
        """The route for a request that begins now. Raises `ServiceError` when no node can be found."""
        route = self._route
        node = self._nodes.current() if self._nodes is not None else None
        if route is not None and route.node == node:
            return route
        with self._lock:
            route = self._route
            if route is None or route.node != node:
                address = f"{self._scheme}://{node.authority}" if node is not None else self._address
                old, route = route, _route(replace(self._connection, address=address), node)
                self._route = route
                if old is not None:
                    old.close()
            return route

    def failed(self, route: Route) -> bool:
        """Look for another node; False where there is only the one address."""
        if self._nodes is None or route.node is None:
            return False
        self._nodes.failed(route.node)
        return True

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            if self._route is not None:
                self._route.close()


def _route(connection: Connection, node: Node | None) -> Route:
    short, long = (_pool(connection, size) for size in (connection.pool_size, connection.long_pool_size))
    return Route(node, short, long)


def _pool(connection: Connection, size: int) -> urllib3.HTTPConnectionPool:
    options: dict[str, Any] = {}
    if urlsplit(connection.address).scheme == "https":
        options = {
            "cert_reqs": "CERT_NONE" if connection.skip_verify else "CERT_REQUIRED",
            "ca_certs": connection.ca_cert or None,
            "ca_cert_dir": connection.ca_path or None,
            "cert_file": connection.client_cert or None,
            "key_file": connection.client_key or None,
            "server_hostname": connection.tls_server_name or None,
        }
    manager = urllib3.PoolManager(num_pools=1, maxsize=size, block=True, **options)
    pool = manager.connection_from_url(connection.address)
    use_deadlines(pool)
    return pool
