"""The parts of a running controller that are looked at, for metrics and for health checks."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from secretbinding.engine.fleet import Fleet
from secretbinding.engine.gatekeeper import Gatekeeper
from secretbinding.engine.loop import Engine
from secretbinding.engine.policies import PolicyBoard
from secretbinding.loops import Loop
from secretbinding.ports import VaultHealth


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


class AskedVault(Protocol):
    """What is asked of Vault. Both raise `errors.ServiceError` subclasses."""

    def health(self) -> VaultHealth:
        """As `ports.Vault`."""

    def token_expiry(self) -> datetime | None:
        """When the own token ends, None for never."""


class AskedNomad(Protocol):
    """What is asked of Nomad. Both raise `errors.ServiceError` subclasses."""

    def leader(self) -> str:
        """The leader's address, "" without one."""

    def token_expiry(self) -> datetime | None:
        """When the own token ends, None for never."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of one connection; `vault_now` is the present time by Vault's clock, which dates the versions."""

    vault: AskedVault
    nomad: AskedNomad
    vault_now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Unit:
    """One connection at work: its engine, what watches secrets, Nomad's variables and events, and its servers."""

    engine: Engine
    gates: Gatekeeper
    secrets: Watching
    variables: Watching
    events: Watching
    servers: Servers

    @property
    def watches(self) -> tuple[tuple[str, Watching], ...]:
        """Each by its name."""
        return (("secrets", self.secrets), ("nomad_variables", self.variables), ("nomad_events", self.events))


@dataclass(frozen=True, slots=True)
class Parts:
    """All engines with their sources, the connections by name, and what else has threads; `keeper` is None for a
    controller alone, `policies` where tenancy is open; `rules` is where these come from."""

    fleet: Fleet
    units: Mapping[str, Unit]
    others: Sequence[Threaded] = ()
    keeper: Keeping | None = None
    policies: PolicyBoard | None = None
    rules: Sequence[Looping] = ()

    def threads(self) -> Iterable[threading.Thread]:
        """All threads that have to be alive."""
        keeper = (self.keeper,) if self.keeper is not None else ()
        yield from self.fleet.threads()
        for part in (*self._watches(), *self.rules, *keeper, *self.others):
            yield from part.threads
        for source in self.fleet.sources.values():
            yield from source.pulse().threads

    def loops(self) -> Iterable[Loop]:
        """All loops that have to come round."""
        keeper = (self.keeper,) if self.keeper is not None else ()
        for part in (*self._watches(), *self.rules, *keeper):
            yield from part.loops
        for source in self.fleet.sources.values():
            yield from source.pulse().loops

    def _watches(self) -> Iterable[Watching]:
        return (watch for unit in self.units.values() for _, watch in unit.watches)
