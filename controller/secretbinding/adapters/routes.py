"""Where a transport's requests go: connections to the one address, or to the node that was found."""

import threading
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from secretbinding.adapters.connection import Connection
from secretbinding.adapters.discovery.address import discovered
from secretbinding.adapters.discovery.nodes import Node, Nodes
from secretbinding.adapters.pools import Pools
from secretbinding.adapters.tls import TlsFiles
from secretbinding.adapters.unixsocket import socket_path


@dataclass(frozen=True, slots=True)
class Route:
    """Connections to one server. `node` is None for a server whose address was given."""

    node: Node | None
    pools: Pools


class Routes:
    """Thread-safe. Without `nodes` there is one route, which is never another.

    Attributes:
        prefix: the path before every request's own.
        secure: whether TLS is spoken.
    """

    def __init__(self, connection: Connection, nodes: Nodes | None) -> None:
        self._nodes = nodes
        self._lock = threading.Lock()
        self._address = connection.address
        found = discovered(connection.address)
        url = urlsplit(connection.address)
        self._scheme = url.scheme if found is None else found.scheme
        path = "" if socket_path(connection.address) else url.path.rstrip("/")
        self.prefix = path if found is None else found.prefix
        self.secure = self._scheme == "https"
        # Nodes are found by their addresses; the certificate is the service's.
        name = connection.tls_server_name or ("" if found is None else found.server_name)
        self._connection = replace(connection, tls_server_name=name)
        # Of all nodes: files in the middle of a renewal must not keep from a node what the last one was reached with.
        self._tls = TlsFiles(self._connection, secure=self.secure)
        self._route = None if nodes is not None else Route(None, Pools(self._connection, self._tls))

    @property
    def where(self) -> str:
        """The address, and the node in use, for people."""
        node = self._route.node if self._route is not None else None
        return self._address if node is None else f"{self._address}, node {node.authority},"

    def authority(self, route: Route) -> str:
        """Host and port of a route, without a user; "" for a socket."""
        if route.node is not None:
            return route.node.authority
        return "" if socket_path(self._address) else urlsplit(self._address).netloc.rpartition("@")[2]

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
                old, route = route, Route(node, Pools(replace(self._connection, address=address), self._tls))
                self._route = route
                if old is not None:
                    old.pools.clear()
            return route

    def failed(self, route: Route) -> bool:
        """Look for another node; False where there is only the one address."""
        if self._nodes is None or route.node is None:
            return False
        self._nodes.failed(route.node)
        return True

    def clear(self) -> None:
        """Close all idle connections; the next request connects anew."""
        self._tls.look_again()
        with self._lock:
            if self._route is not None:
                self._route.pools.clear()

    def close(self) -> None:
        """Close all idle connections, also those over which nodes are looked up."""
        self.clear()
        if self._nodes is not None:
            self._nodes.close()
