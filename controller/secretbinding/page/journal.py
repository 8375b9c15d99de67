"""What has happened lately, kept in memory: the newest events of all bindings, each with the versions concerned."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from secretbinding.engine.hooks import Hooks
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.models.status import SecretBindingStatus
from secretbinding.status import Transition

KEPT = 2000
"""How many events are kept of all bindings together: under a MiB."""
_MESSAGE = 600


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `kind` is `Normal` or `Warning`; `versions` says which versions were wanted then, such as `app 2`, ""
    where they are no news."""

    at: datetime
    key: BindingKey
    kind: str
    reason: Reason
    message: str
    versions: str = ""


class Journal(Hooks):
    """Thread-safe. Begins anew with the process; what has to outlast it stands in the statuses."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC), kept: int = KEPT) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=kept)
        self.since = now()

    def reported(
        self,
        key: BindingKey,
        before: SecretBindingStatus,
        after: SecretBindingStatus,
        events: Sequence[Transition],
    ) -> None:
        versions, at = _versions(after), self._now()
        made = [Event(at, key, each.kind, each.reason, _short(each.message), versions) for each in events]
        with self._lock:
            self._events.extend(made)

    def events(self) -> Sequence[Event]:
        """All that are kept, oldest first."""
        with self._lock:
            return tuple(self._events)

    @property
    def is_full(self) -> bool:
        """Whether older ones have made room for newer ones."""
        with self._lock:
            return len(self._events) == self._events.maxlen


def _versions(status: SecretBindingStatus) -> str:
    return ", ".join(f"{one.name} {one.wanted_version}" for one in status.secrets if one.wanted_version)


def _short(message: str) -> str:
    return message if len(message) <= _MESSAGE else f"{message[: _MESSAGE - 1]}…"
