"""Bindings that go from one connection to another: given up here once they have been taken in there."""

import threading
from collections.abc import Iterable

from secretbinding.desired.values import BindingInput
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.status import Pass


def takes_in(item: BindingInput, found: Pass) -> bool:
    """Whether a pass shows that a binding is let in: its servers answered, and neither a policy nor a fault of its own
    keeps it out. Whether its job is there yet does not matter."""
    if found.error is not None or found.desired is None or item.deleting or item.frozen is not None:
        return False
    result = found.desired.results.get(item.key)
    return item.key not in found.faults and result is not None and result.fault is None


class Elsewhere:
    """What an engine is told of the other connections. This one knows of none. All may be called from any thread."""

    def knows(self, key: BindingKey) -> bool:
        """Whether a binding names another connection now."""
        return False

    def took_in(self, key: BindingKey) -> bool:
        """Whether another connection has judged it, and found nothing that keeps it out."""
        return False

    def settled(self, key: BindingKey) -> None:
        """A binding has been taken in here."""


class Moving:
    """Thread-safe. What of a connection's own is on its way to another one, and what has been taken in here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leaving: dict[BindingKey, set[WorkloadKey]] = {}
        self._settled: set[BindingKey] = set()

    def leaves(self, key: BindingKey, workloads: Iterable[WorkloadKey]) -> None:
        """A binding names another connection; these are the jobs here that have a share of it."""
        with self._lock:
            self._settled.discard(key)
            self._leaving.setdefault(key, set()).update(workloads)

    def given_up(self, key: BindingKey) -> set[WorkloadKey]:
        """The jobs here that are to lose a binding's share now; none when it is not leaving."""
        with self._lock:
            return self._leaving.pop(key, set())

    def settle(self, key: BindingKey) -> bool:
        """A binding has been taken in; True for the first time."""
        with self._lock:
            new = key not in self._settled
            self._settled.add(key)
            self._leaving.pop(key, None)
            return new

    def is_settled(self, key: BindingKey) -> bool:
        """Whether a binding has been taken in."""
        with self._lock:
            return key in self._settled

    def forget(self, key: BindingKey) -> None:
        """A binding is no more."""
        with self._lock:
            self._settled.discard(key)
