"""A Vault of the test's own, a clock of the test's own, and bindings."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from secretbinding.desired.values import Observed
from secretbinding.engine.store import Store
from secretbinding.kinds.base import Fault, SecretState
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.loading import parse_object
from secretbinding.models.reasons import Reason
from secretbinding.ports import KvMetadata, KvVersion
from secretbinding.sources.base import SourceItem
from secretbinding.status import Pass
from secretbinding.watch.secrets import SecretWatcher
from tests.support.builders import created


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


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

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        self.clock.now += self.seconds
        self.reads.append(f"{mount}/{path}")
        if self.failure is not None:
            raise self.failure
        return self.secrets.get((mount, path))

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


def workload(job: str) -> WorkloadKey:
    return WorkloadKey("default", "", "default", job)


class Watch:
    """A watcher with what it needs, and the workloads that it has woken."""

    def __init__(self, *, interval: float = 30.0, namespace: str = "") -> None:
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
            rng=random.Random(7),
        )

    def engine_pass(self, job: str, **states: SecretState) -> None:
        """What the engine does when it works on a job: it observes the secrets, and the watcher is told. `states` by
        the secret's name in place of what Vault has."""
        found: dict[tuple[BindingKey, str], SecretState] = {}
        for entry in self.store.of_workload(workload(job)):
            assert entry.item.binding is not None
            for secret in entry.item.binding.spec.secrets:
                assert secret.kv is not None
                known = self.vault.secrets.get((secret.kv.mount, secret.kv.path))
                found[entry.item.key, secret.name] = states.get(secret.name) or observed(known)
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
