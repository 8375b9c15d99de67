"""Parts of a controller that do nothing, but can be looked at."""

import threading
import time
from datetime import UTC, datetime
from typing import cast

from secretbinding.engine.gatekeeper import Gatekeeper, Limits
from secretbinding.engine.loop import Engine, EngineSettings
from secretbinding.engine.policies import PolicyBoard
from secretbinding.engine.reconciler import Reconciler
from secretbinding.loops import Loop
from secretbinding.metrics import Monitoring, Parts
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import ConditionType
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus, SecretStatus
from secretbinding.ports import Vault, VaultHealth
from secretbinding.sources.base import Pulse, Source, SourceItem
from tests.support.builders import binding, kv

EXPIRY = datetime(2027, 5, 1, 12, 0, tzinfo=UTC)


class FakeSource:
    """A source that is as well as it says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problem = ""
        self.held = 0
        self.heard = time.monotonic()
        self.threads: tuple[threading.Thread, ...] = ()
        self.loops: tuple[Loop, ...] = ()

    def healthy(self, now: float) -> str:
        return self.problem

    def pulse(self) -> Pulse:
        return Pulse(self.heard, self.held, self.threads, self.loops)


class FakeWatch:
    """A watch that has been silent for as long as it says."""

    def __init__(self, silent: float = 0.0) -> None:
        self.silent = silent
        self.broken = False
        self.threads: tuple[threading.Thread, ...] = ()
        self.loops: tuple[Loop, ...] = ()

    def silent_seconds(self) -> float:
        if self.broken:
            raise LookupError("a surprise")
        return self.silent


class FakeKeeper(FakeWatch):
    """One of several controllers."""

    total = 8

    def __init__(self, *shards: int) -> None:
        super().__init__(2.5)
        self.shards = frozenset(shards)

    def held(self) -> frozenset[int]:
        return self.shards


class FakeVault:
    """A Vault that is asked for nothing but its health and the token's end."""

    def __init__(self) -> None:
        self.sealed = False
        self.asked = 0

    def health(self) -> VaultHealth:
        self.asked += 1
        return VaultHealth(initialized=True, sealed=self.sealed, standby=False, version="1")

    def token_expiry(self) -> datetime | None:
        return EXPIRY


class FakeNomad:
    """A Nomad that is asked for its leader and the token's end."""

    def __init__(self) -> None:
        self.address = "10.0.0.1:4647"
        self.asked = 0

    def leader(self) -> str:
        self.asked += 1
        return self.address

    def token_expiry(self) -> datetime | None:
        return None


class Fakes:
    """A monitoring with everything that it looks at."""

    def __init__(
        self,
        *sources: str,
        stuck_seconds: float = 600.0,
        workers: int = 2,
        keeper: FakeKeeper | None = None,
        policies: PolicyBoard | None = None,
    ) -> None:
        self.engine = Engine(cast(Reconciler, None), cast(Vault, None), EngineSettings(workers=workers), hooks=None)
        self.sources = {name: FakeSource(name) for name in sources or ("nomad",)}
        for source in self.sources.values():
            self.engine.add_source(cast(Source, source))
        self.secrets, self.variables, self.events = FakeWatch(), FakeWatch(), FakeWatch()
        self.vault, self.nomad = FakeVault(), FakeNomad()
        self.gates = Gatekeeper(Limits())
        self._binding = binding(kv("secret-name", path="vault-path-of/a-secret"))
        watches = (self.secrets, self.variables, self.events)
        self.parts = Parts(self.engine, workers, self.gates, *watches, keeper=keeper, policies=policies)
        self.monitoring = Monitoring(("127.0.0.1", 0), stuck_seconds=stuck_seconds)
        self.monitoring.attach(self.parts, self.vault, self.nomad)

    def bind(
        self,
        name: str,
        status: SecretBindingStatus,
        *,
        source: str = "nomad",
        tenant: str = "team",
        deleting: bool = False,
    ) -> None:
        """A binding whose status was reported."""
        key = BindingKey(source, tenant, name)
        self.engine.upsert(SourceItem(key, self._binding, "default", deleting=deleting, status=status))


def reported(
    ready: ConditionStatus = ConditionStatus.TRUE,
    rotation: ConditionStatus = ConditionStatus.TRUE,
    reason: str = "Synced",
    *,
    last: str | None = None,
    upcoming: str | None = None,
) -> SecretBindingStatus:
    """A status with all conditions."""
    words = {ConditionType.READY: ready, ConditionType.ROTATION_HEALTHY: rotation}
    conditions = tuple(
        Condition(
            type=kind.value,
            status=words.get(kind, ConditionStatus.TRUE),
            reason=reason,
            message="secret vault-path-of/a-secret is not there",
            last_transition_time="2027-01-01T00:00:00Z",
        )
        for kind in ConditionType
    )
    return SecretBindingStatus(
        conditions=conditions,
        secrets=(SecretStatus(name="secret-name", next_rotation_at=upcoming),),
        last_rotation_time=last,
    )
