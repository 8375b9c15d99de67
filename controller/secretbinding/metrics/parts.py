"""The parts of a running controller that are looked at, for metrics and for health checks."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from secretbinding.engine.gatekeeper import Gatekeeper
from secretbinding.engine.loop import Engine
from secretbinding.engine.policies import PolicyBoard
from secretbinding.loops import Loop


class Threaded(Protocol):
    """Something that works in threads of its own."""

    @property
    def threads(self) -> Sequence[threading.Thread]:
        """Those that live from its start to its stop."""


class Looping(Threaded, Protocol):
    """Something whose threads come round."""

    @property
    def loops(self) -> Sequence[Loop]:
        """The loops in its threads."""


class Watching(Looping, Protocol):
    """Something that hears of changes."""

    def silent_seconds(self) -> float:
        """How long it has heard nothing; 0 while there is nothing to be heard."""


class Keeping(Looping, Protocol):
    """What agrees with other controllers who works on which jobs."""

    @property
    def total(self) -> int:
        """How many shards there are."""

    def held(self) -> frozenset[int]:
        """Those of this controller."""

    def silent_seconds(self) -> float:
        """How long the server that holds the leases has not answered."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The engine with its sources, what watches secrets, Nomad's variables and events, and what else has threads;
    `keeper` is None for a controller alone, `policies` where tenancy is open; `rules` is where these come from."""

    engine: Engine
    workers: int
    gates: Gatekeeper
    secrets: Watching
    variables: Watching
    events: Watching
    others: Sequence[Threaded] = ()
    keeper: Keeping | None = None
    policies: PolicyBoard | None = None
    rules: Sequence[Looping] = ()

    def threads(self) -> Iterable[threading.Thread]:
        """All threads that have to be alive."""
        keeper = (self.keeper,) if self.keeper is not None else ()
        watches = (self.secrets, self.variables, self.events, *self.rules, *keeper)
        for part in (self.engine, *watches, *self.others):
            yield from part.threads
        for source in self.engine.sources.values():
            yield from source.pulse().threads

    def loops(self) -> Iterable[Loop]:
        """All loops that have to come round."""
        keeper = (self.keeper,) if self.keeper is not None else ()
        for part in (self.secrets, self.variables, self.events, *self.rules, *keeper):
            yield from part.loops
        for source in self.engine.sources.values():
            yield from source.pulse().loops
