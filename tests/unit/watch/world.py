"""A Vault of the test's own, a clock of the test's own, and bindings."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from secretbinding.desired.values import Observed
from secretbinding.engine.store import Store
from secretbinding.kinds import KINDS
from secretbinding.kinds.base import Fault, SecretState
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.loading import parse_object
from secretbinding.models.reasons import Reason
from secretbinding.ports import KvMetadata, KvVersion, LeaseLimits, PkiRole, StaticRole
from secretbinding.sources.base import SourceItem
from secretbinding.status import Pass
from secretbinding.watch.secrets import SecretWatcher
from tests.support.builders import created

T = TypeVar("T")
START = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ahead = 0.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> datetime:
        """The same as the time of a day, which may be set."""
        return START + timedelta(seconds=self.now + self.ahead)


def metadata(current: int, *, deleted: Sequence[int] = (), destroyed: Sequence[int] = ()) -> KvMetadata:
    """Metadata of a secret with all versions up to `current`."""
    versions = {
        number: KvVersion(number, created(number), number in deleted, number in destroyed)
        for number in range(1, current + 1)
    }
    return KvMetadata(current, versions)


def observed(found: KvMetadata | None) -> SecretState:
    """The same as the engine sees it."""
    if found is None:
        fault = Fault(Reason.SECRET_NOT_FOUND, "no secret")
        return SecretState(engine="v2", pinnable=True, fault=fault)
    return SecretState(engine="v2", pinnable=True, current=found.current, versions=found.versions)


@dataclass
class FakeVault:
    """Counts what it is asked. `lists` False is a server without lists; `failure` is raised by everything."""

    clock: Clock
    secrets: dict[tuple[str, str], KvMetadata] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    lists: bool = True
    failure: Exception | None = None
    list_failure: Exception | None = None
    seconds: float = 0.001
    static_roles: dict[str, StaticRole] = field(default_factory=dict)
    roles: dict[str, LeaseLimits] = field(default_factory=dict)
    pki_roles: dict[str, PkiRole] = field(default_factory=dict)
    issuers: dict[str, str] = field(default_factory=dict)

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        return self._answer(f"{mount}/{path}", self.secrets.get((mount, path)))

    def static_role(self, mount: str, name: str) -> StaticRole | None:
        return self._answer(f"{mount}/static-roles/{name}", self.static_roles.get(f"{mount}/{name}"))

    def database_role(self, mount: str, name: str) -> LeaseLimits | None:
        return self._answer(f"{mount}/roles/{name}", self.roles.get(f"{mount}/{name}"))

    def pki_role(self, mount: str, name: str) -> PkiRole | None:
        return self._answer(f"{mount}/roles/{name}", self.pki_roles.get(f"{mount}/{name}"))

    def pki_issuer(self, mount: str, issuer: str) -> str | None:
        return self._answer(f"{mount}/issuer/{issuer}", self.issuers.get(f"{mount}/{issuer}"))

    def mount_limits(self, mount: str) -> LeaseLimits | None:
        """The adapter remembers it: no request."""
        return LeaseLimits(3600.0, 86400.0)

    def _answer(self, path: str, found: T) -> T:
        self.clock.now += self.seconds
        self.reads.append(path)
        if self.failure is not None:
            raise self.failure
        return found

    def kv_folder(self, mount: str, path: str) -> Mapping[str, KvMetadata] | None:
        self.clock.now += self.seconds
        self.listed.append(f"{mount}/{path}")
        if self.failure is not None or self.list_failure is not None:
            raise self.failure or self.list_failure or AssertionError
        if not self.lists:
            return None
        inside = {
            name: found
            for (where, whole), found in self.secrets.items()
            for folder, _, name in [whole.rpartition("/")]
            if (where, folder) == (mount, path)
        }
        return inside or None

    def rotated(self, name: str, ago: float = 0.0, *, period: float = 86400.0, mount: str = "database") -> None:
        """A static role whose password was rotated so long ago, by the clock."""
        moment = self.clock.wall() - timedelta(seconds=ago)
        self.static_roles[f"{mount}/{name}"] = StaticRole(f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z", period)

    def write(self, path: str, current: int, *, mount: str = "secret", **states: Sequence[int]) -> None:
        """Give a secret the versions up to `current`."""
        self.secrets[mount, path] = metadata(current, **states)


def binding(name: str, *paths: str, job: str = "", suspend: bool = False, **kv: object) -> SourceItem:
    """A binding of KV secrets, named `s0`, `s1` and so on."""
    secrets = [
        {"name": f"s{number}", "kv": {"mount": "secret", "path": path, **kv}, "env": {f"V{number}": "value"}}
        for number, path in enumerate(paths)
    ]
    manifest = {
        "metadata": {"name": name},
        "spec": {"workload": {"job": job or name}, "secrets": secrets, "suspend": suspend},
    }
    return SourceItem(BindingKey("files", "default", name), parse_object(manifest, source="test"), "default")


def of_kind(name: str, kind: str, **fields: Any) -> SourceItem:
    """A binding of one secret of another kind, which is also the job's name."""
    secret: dict[str, Any] = {"name": "s0", kind: fields, "files": [{"destination": "secrets/s0"}]}
    manifest = {"metadata": {"name": name}, "spec": {"workload": {"job": name}, "secrets": [secret]}}
    return SourceItem(BindingKey("files", "default", name), parse_object(manifest, source="test"), "default")


def workload(job: str) -> WorkloadKey:
    return WorkloadKey("default", "", "default", job)


class Watch:
    """A watcher with what it needs, and the workloads that it has woken."""

    def __init__(self, *, interval: float = 30.0, namespace: str = "", seed: int = 7) -> None:
        self.clock = Clock()
        self.vault = FakeVault(self.clock)
        self.store = Store()
        self.woken: list[set[WorkloadKey]] = []
        self.watcher = SecretWatcher(
            self.vault,
            self.store,
            self.woken.append,
            interval_seconds=interval,
            namespace=namespace,
            clock=self.clock,
            now=self.clock.wall,
            rng=random.Random(seed),
        )

    def engine_pass(self, job: str, **states: SecretState) -> None:
        """What the engine does when it works on a job: it observes the secrets, and the watcher is told. `states` by
        the secret's name in place of what Vault has."""
        found: dict[tuple[BindingKey, str], SecretState] = {}
        for entry in self.store.of_workload(workload(job)):
            assert entry.item.binding is not None
            for secret in entry.item.binding.spec.secrets:
                state = states.get(secret.name)
                if state is None and secret.kv is not None:
                    state = observed(self.vault.secrets.get((secret.kv.mount, secret.kv.path)))
                elif state is None:
                    state = KINDS[secret.kind_name].observe(secret, self.vault, ())
                found[entry.item.key, secret.name] = state
        self.watcher.observed(workload(job), Pass("default", Observed(workload(job), secrets=found)))

    def bind(self, *items: SourceItem) -> None:
        """Add bindings, and let the engine see each of their jobs."""
        for item in items:
            self.store.upsert(item)
        for item in items:
            self.engine_pass(item.binding.spec.workload.job if item.binding is not None else "")

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.clock.now + seconds
        for _ in range(1_000_000):
            rest = self.watcher.step()
            if self.clock.now >= end:
                return
            self.clock.now = min(end, self.clock.now + max(rest, 1e-4))
        raise AssertionError("the watcher is busy without end")

    def forget(self) -> None:
        """Count anew."""
        self.vault.reads.clear()
        self.vault.listed.clear()
        self.woken.clear()

    def jobs_woken(self) -> list[str]:
        """The jobs that were woken, once for each time."""
        return sorted(key.job for each in self.woken for key in each)
