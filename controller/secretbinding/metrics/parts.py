"""The parts of a running controller that are looked at, for metrics and for health checks."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from secretbinding.engine.gatekeeper import Gatekeeper
from secretbinding.engine.loop import Engine


class Threaded(Protocol):
    """Something that works in threads of its own."""

    @property
    def threads(self) -> Sequence[threading.Thread]:
        """Those that live from its start to its stop."""


class Watching(Threaded, Protocol):
    """Something that hears of changes."""

    def silent_seconds(self) -> float:
        """How long it has heard nothing; 0 while there is nothing to be heard."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The engine with its sources, what watches secrets, Nomad's variables and events, and what else has threads."""

    engine: Engine
    workers: int
    gates: Gatekeeper
    secrets: Watching
    variables: Watching
    events: Watching
    others: Sequence[Threaded] = ()

    def threads(self) -> Iterable[threading.Thread]:
        """All threads that have to be alive."""
        for part in (self.engine, self.secrets, self.variables, self.events, *self.others):
            yield from part.threads
        for source in self.engine.sources.values():
            yield from source.pulse().threads
