"""What an engine would hear of a source, kept for a test to look at, and what it would report."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus
from secretbinding.sources.base import SourceItem
from secretbinding.sources.kubernetes import NAME, KubernetesSource, Pace

QUICK = Pace(suspect_seconds=0.5, relist_seconds=0.1, open_seconds=10.0, retry_max_seconds=1.0)


@dataclass(slots=True)
class RecordingSink:
    """Keeps every delivery in order; may be called from any thread."""

    deliveries: list[SourceItem] = field(default_factory=list)
    gone: list[BindingKey] = field(default_factory=list)
    listings: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def upsert(self, item: SourceItem) -> None:
        with self._lock:
            self.deliveries.append(item)

    def vanished(self, key: BindingKey) -> None:
        with self._lock:
            self.gone.append(key)

    def listed(self, source: str) -> None:
        with self._lock:
            self.listings.append(source)

    def of(self, key: BindingKey) -> list[SourceItem]:
        """The deliveries of one binding, oldest first."""
        with self._lock:
            return [item for item in self.deliveries if item.key == key]

    def last(self, key: BindingKey) -> SourceItem | None:
        """The latest delivery of one binding."""
        found = self.of(key)
        return found[-1] if found else None


Started = Callable[..., tuple[KubernetesSource, RecordingSink]]


def key(namespace: str, name: str = "web") -> BindingKey:
    return BindingKey(NAME, namespace, name)


def a_status(reason: Reason = Reason.READY, *, generation: int = 1) -> SecretBindingStatus:
    ready = ConditionStatus.TRUE if reason is Reason.READY else ConditionStatus.FALSE
    condition = Condition(
        type="Ready",
        status=ready,
        reason=reason,
        message="as it should be",
        last_transition_time="2030-01-01T00:00:00Z",
        observed_generation=generation,
    )
    return SecretBindingStatus(observed_generation=generation, conditions=(condition,))
