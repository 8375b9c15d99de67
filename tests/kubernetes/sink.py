"""What an engine would hear of a source, kept for a test to look at."""

import threading
from dataclasses import dataclass, field

from secretbinding.models.key import BindingKey
from secretbinding.sources.base import SourceItem


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
