"""Which of a service's nodes requests go to: one that answers, for as long as it does."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from secretbinding.errors import ServiceError

REFRESH_SECONDS = 30.0
"""How often a node that answers is looked for again, since another one may be the active one by now."""
AGAIN_SECONDS = 0.5
"""How long an answer of DNS or Consul is used at least: less than the pauses between the attempts of one call add up
to, so that its last attempt knows where the service went."""
SHUN_SECONDS = 10.0
"""How long a node that failed is left out where there are others."""


@dataclass(frozen=True, slots=True)
class Node:
    """One instance. `priority`: those with the lowest number that can be had are used (RFC 2782)."""

    host: str
    port: int
    priority: int = 0

    @property
    def authority(self) -> str:
        """`host:port`, as a URL has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Nodes:
    """Thread-safe; one thread looks the nodes up at a time.

    Args:
        find: the nodes there are, the best first, at least one. Raises `ServiceError`.
        clock: seconds that never go back.
        closing: gives up what `find` holds open.
    """

    def __init__(
        self,
        find: Callable[[], Sequence[Node]],
        clock: Callable[[], float],
        closing: Callable[[], None] = lambda: None,
    ) -> None:
        self._find = find
        self.close = closing
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Sequence[Node] = ()
        self._known_at = 0.0
        self._failed_at: dict[Node, float] = {}
        self._current: Node | None = None

    def current(self) -> Node:
        """The node to ask now. Raises `ServiceError` when none was ever found."""
        node = self._current
        if node is None:
            with self._lock:
                return self._renewed()
        # Whoever has a node that answers does not wait for another thread's look-up.
        if self._stale() and self._lock.acquire(blocking=False):
            try:
                return self._renewed()
            finally:
                self._lock.release()
        return node

    def failed(self, node: Node) -> None:
        """The node did not do what it should: another one is looked for."""
        with self._lock:
            self._failed_at[node] = self._clock()
            if self._current == node:
                self._current = None

    def _stale(self) -> bool:
        return self._clock() - self._known_at >= REFRESH_SECONDS

    def _renewed(self) -> Node:
        node = self._current
        return self._choose() if node is None or self._stale() else node

    def _choose(self) -> Node:
        now = self._clock()
        if not self._known or now - self._known_at >= AGAIN_SECONDS:
            try:
                self._known = tuple(self._find())
            except ServiceError:
                if not self._known:
                    raise
            self._known_at = now
            self._failed_at = {node: at for node, at in self._failed_at.items() if now - at < SHUN_SECONDS}
        best = min(self._known, key=self._rank)
        if self._current is None or self._current not in self._known or self._rank(self._current) > self._rank(best):
            self._current = best
        return self._current

    def _rank(self, node: Node) -> tuple[float, int]:
        """A node that did not fail lately first, then by priority; of those that failed, the one longest ago."""
        return self._failed_at.get(node, float("-inf")), node.priority
