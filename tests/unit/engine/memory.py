"""Vault, Nomad and a source in memory, and a controller on them that goes step by step under clocks of its own."""

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from pydantic import SecretStr

from secretbinding.engine.gatekeeper import Gatekeeper, Limits
from secretbinding.engine.hooks import Hooks
from secretbinding.engine.loop import Engine, EngineSettings
from secretbinding.engine.policies import Guard
from secretbinding.engine.queue import WorkQueue
from secretbinding.engine.reconciler import Pace, Reconciler
from secretbinding.errors import Conflict
from secretbinding.job.marks import placed_marks
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.status import SecretBindingStatus
from secretbinding.ports import Json, KvMetadata, KvVersion, Registered, VaultHealth
from secretbinding.sources.base import Sink, SourceItem
from secretbinding.status import Pass
from secretbinding.watch.secrets import SecretWatcher
from tests.support.builders import binding, kv
from tests.support.builders import job as make_job
from tests.unit.core.world import World as OneJob

INSTANCE = "default"
_INSTANT = 1e-6
START = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)
"""A Monday at noon."""


@dataclass(slots=True)
class Clocks:
    """One time that passes, and how far off from it three wall clocks are."""

    passed: float = 0.0
    ours: timedelta = timedelta(0)
    vaults: timedelta = timedelta(0)
    nomads: timedelta = timedelta(0)

    def monotonic(self) -> float:
        return self.passed

    def true(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def now(self) -> datetime:
        """What the controller's machine says."""
        return self.true() + self.ours

    def vault_now(self) -> datetime:
        return self.true() + self.vaults

    def nomad_now(self) -> datetime:
        return self.true() + self.nomads


class Stopped(BaseException):
    """The controller was killed: no handler of errors may take it."""


@dataclass(slots=True)
class Writes:
    """Every write to Vault, to Nomad and of a status, by kind; `before` and `after` may stop the controller."""

    done: Counter[str] = field(default_factory=Counter)
    names: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[str, str], None] = lambda kind, name: None
    after: Callable[[str, str], None] = lambda kind, name: None

    def write(self, kind: str, name: str, do: Callable[[], Any]) -> Any:
        self.before(kind, name)
        result = do()
        self.done[kind] += 1
        self.names.append((kind, name))
        self.after(kind, name)
        return result

    def forget(self) -> None:
        self.done.clear()
        self.names.clear()

    def external(self) -> dict[str, int]:
        """How many there were of each kind; empty when nothing was written."""
        return dict(self.done)


class MemoryVault:
    """Fulfils `ports.Vault` for KV version 2, with what people do to secrets."""

    def __init__(self, clocks: Clocks, writes: Writes) -> None:
        self._clocks = clocks
        self._writes = writes
        self.policies: dict[str, str] = {}
        self.roles: dict[str, Json] = {}
        self._secrets: dict[str, KvMetadata] = {}
        self._fields: dict[tuple[str, int], tuple[str, ...]] = {}

    # -- what people do

    def put(self, path: str, *fields: str, max_versions: int = 0) -> int:
        """Write a version; returns its number."""
        known = self._secrets.get(path)
        number = known.current + 1 if known is not None else 1
        created = self._clocks.vault_now().strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        kept = max_versions or (known.max_versions if known is not None else 0)
        versions = {**(known.versions if known is not None else {}), number: KvVersion(number, created)}
        versions = {n: version for n, version in versions.items() if n > number - (kept or 10)}
        self._secrets[path] = KvMetadata(number, versions, kept)
        self._fields[path, number] = fields or ("password", "username")
        return number

    def delete(self, path: str, number: int) -> None:
        """Soft-delete a version."""
        known = self._secrets[path]
        gone = replace(known.versions[number], deleted=True)
        self._secrets[path] = replace(known, versions={**known.versions, number: gone})

    # -- ports.Vault

    def health(self) -> VaultHealth:
        return VaultHealth(True, False, False, "2.7.2")

    def read_policy(self, name: str) -> str | None:
        return self.policies.get(name)

    def write_policy(self, name: str, text: str) -> None:
        self._writes.write("policy", name, lambda: self.policies.__setitem__(name, text))

    def delete_policy(self, name: str) -> None:
        self._writes.write("policy deleted", name, lambda: self.policies.pop(name, None))

    def list_policies(self) -> Sequence[str]:
        return list(self.policies)

    def read_jwt_role(self, mount: str, name: str) -> Json | None:
        return copy.deepcopy(self.roles.get(name))

    def write_jwt_role(self, mount: str, name: str, body: Json) -> None:
        self._writes.write("role", name, lambda: self.roles.__setitem__(name, copy.deepcopy(body)))

    def delete_jwt_role(self, mount: str, name: str) -> None:
        self._writes.write("role deleted", name, lambda: self.roles.pop(name, None))

    def list_jwt_roles(self, mount: str) -> Sequence[str]:
        return list(self.roles)

    def kv_engine(self, mount: str) -> str | None:
        return "v2"

    def kv_max_versions(self, mount: str) -> int | None:
        return None

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        return self._secrets.get(path)

    def patch_kv(self, mount: str, path: str, fields: Mapping[str, SecretStr], *, seen: int) -> int:
        assert self._secrets[path].current == seen
        number: int = self._writes.write("value", path, lambda: self.put(path))
        return number

    def kv_folder(self, mount: str, path: str) -> None:
        return None

    def kv_fields(self, mount: str, path: str, version: int) -> Mapping[str, Any] | None:
        known = self._secrets.get(path)
        there = known.versions.get(version) if known is not None else None
        return dict.fromkeys(self._fields[path, version]) if there is not None and there.readable else None


class _Job(OneJob):
    """One job, registered at the time that Nomad's clock shows."""

    def __init__(self, clocks: Clocks) -> None:
        super().__init__(instance=INSTANCE)
        self._clocks = clocks

    def _store(self, job: Json, submitted: int = 0) -> None:
        self._clock = int(self._clocks.nomad_now().timestamp()) * 1_000_000_000
        super()._store(job, submitted)

    def check_rights(self) -> None:
        """Rights are those of `MemoryVault`; what may run under them is checked by other tests."""


class MemoryNomad:
    """Fulfils `ports.Nomad` as far as the engine needs it. Deployments run until `finish`."""

    def __init__(self, clocks: Clocks, writes: Writes) -> None:
        self._clocks = clocks
        self._writes = writes
        self.jobs: dict[str, _Job] = {}

    # -- what people and Nomad do

    def add(self, sent: Json) -> None:
        """Somebody registers a job."""
        self.jobs.setdefault(sent["ID"], _Job(self._clocks)).user_registers(copy.deepcopy(sent))

    def finish(self, *, success: bool = True) -> None:
        """Every running deployment comes to its end."""
        for job in self.jobs.values():
            job.finish_deployment(success=success)

    def registrations(self) -> dict[str, int]:
        """How many versions each job has had."""
        return {name: int((job.job or {})["Version"]) for name, job in self.jobs.items()}

    def pins(self, name: str) -> set[int]:
        """The versions that the templates of a job name."""
        return {item.mark.pin.version for item in placed_marks(self.jobs[name].job, INSTANCE) if item.mark.pin}

    # -- ports.Nomad

    def region(self) -> str:
        return "global"

    def job(self, namespace: str, job_id: str) -> Json | None:
        found = self.jobs.get(job_id)
        return copy.deepcopy(found.job) if found is not None else None

    def submission(self, namespace: str, job_id: str, version: int) -> Json | None:
        return None

    def register(
        self, job: Json, *, modify_index: int, submission: Json | None = None, preserve_counts: bool = False
    ) -> Registered:
        name = job["ID"]

        def do() -> Registered:
            there = self.jobs[name]
            if modify_index != (there.job or {}).get("JobModifyIndex"):
                raise Conflict(f"job {name} moved", system="nomad")
            there.user_registers(copy.deepcopy(job))
            return Registered("", int((there.job or {})["JobModifyIndex"]))

        registered: Registered = self._writes.write("registration", name, do)
        return registered

    def versions(self, namespace: str, job_id: str) -> Sequence[Json]:
        return copy.deepcopy(self.jobs[job_id].versions[::-1])

    def tag_version(self, namespace: str, job_id: str, version: int, name: str, description: str) -> None:
        tag = {"Name": name, "Description": description}
        self._writes.write("tag", f"{job_id} {version}", lambda: self._set_tag(job_id, version, tag))

    def untag_version(self, namespace: str, job_id: str, name: str) -> None:
        versions = self.jobs[job_id].versions
        number = next((v["Version"] for v in versions if (v.get("VersionTag") or {}).get("Name") == name), -1)
        self._writes.write("untag", f"{job_id} {number}", lambda: self._set_tag(job_id, number, None))

    def deployments(self, namespace: str, job_id: str) -> Sequence[Json]:
        return copy.deepcopy(self.jobs[job_id].deployments)

    def allocations(self, namespace: str, job_id: str) -> Sequence[Json]:
        return copy.deepcopy(self.jobs[job_id].allocations) if job_id in self.jobs else []

    def evaluations(self, namespace: str, job_id: str) -> Sequence[Json]:
        return []

    def _set_tag(self, job_id: str, number: int, tag: Json | None) -> None:
        for version in self.jobs[job_id].versions:
            if version["Version"] == number:
                version["VersionTag"] = tag

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"the engine is not known to call {name}")


class MemorySource:
    """Fulfils `sources.base.Source`. The bindings, their statuses and finalizers outlive it."""

    name = "memory"

    def __init__(self, servers: "Servers") -> None:
        self._items = servers.items
        self._statuses = servers.statuses
        self._prepared = servers.prepared
        self._writes = servers.writes
        self._sink: Sink | None = None

    def start(self, sink: Sink) -> None:
        self._sink = sink
        for key in list(self._items):
            self.deliver(key)
        sink.listed(self.name)

    def deliver(self, key: BindingKey) -> None:
        """Tell the engine of a binding as it is now."""
        assert self._sink is not None
        status = self._statuses.get(key, SecretBindingStatus())
        self._sink.upsert(replace(self._items[key], status=status))

    def stop(self) -> None:
        self._sink = None

    def prepare(self, key: BindingKey) -> None:
        if key not in self._prepared:
            self._writes.write("finalizer", key.name, lambda: self._prepared.add(key))

    def report(self, key: BindingKey, status: SecretBindingStatus, transitions: object) -> None:
        self._writes.write("status", key.name, lambda: self._statuses.__setitem__(key, status))

    def gone(self, key: BindingKey) -> None:
        def do() -> None:
            self._items.pop(key, None)
            self._statuses.pop(key, None)
            self._prepared.discard(key)

        self._writes.write("finalizer removed", key.name, do)

    def proves_absent(self, key: BindingKey) -> bool:
        return key not in self._items

    def healthy(self, now: float) -> str:
        return ""


class Servers:
    """What outlives a controller: both servers, the bindings and their statuses, and the clocks."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.writes = Writes()
        self.vault = MemoryVault(self.clocks, self.writes)
        self.nomad = MemoryNomad(self.clocks, self.writes)
        self.items: dict[BindingKey, SourceItem] = {}
        self.statuses: dict[BindingKey, SecretBindingStatus] = {}
        self.prepared: set[BindingKey] = set()

    def bind(self, binding: SecretBinding) -> BindingKey:
        """Somebody declares a binding, or changes it."""
        key = BindingKey(MemorySource.name, "team", binding.metadata.name)
        before = self.items.get(key)
        self.items[key] = SourceItem(key, binding, "default", generation=before.generation + 1 if before else 1)
        return key

    def ask(self, name: str) -> None:
        """Somebody asks for a roll, by our clock."""
        key = BindingKey(MemorySource.name, "team", name)
        self.items[key] = replace(self.items[key], rotate_requested_at=self.clocks.now().isoformat())

    def status(self, name: str) -> SecretBindingStatus:
        return self.statuses[BindingKey(MemorySource.name, "team", name)]

    def reason(self, name: str, kind: str) -> str:
        condition = self.status(name).condition(kind)
        return condition.reason if condition is not None else ""


def of_one_job(*names: str) -> Servers:
    """Servers with the job `web`, deployed, and for each name a secret and a binding of the job that reads it."""
    servers = Servers()
    servers.nomad.add({**make_job(), "ID": "web", "Name": "web"})
    for name in names:
        servers.vault.put(name)
        servers.bind(binding(kv(path=name, env={name.upper(): "password"}), name=name))
    servers.nomad.finish()
    return servers


def placed(servers: Servers) -> set[str]:
    """The bindings that have a share of the job `web`."""
    return {mark.key.name for mark in placed_marks(servers.nomad.jobs["web"].job, INSTANCE)}


class _ToWatcher(Hooks):
    """Tells the watcher of a process of each pass."""

    def __init__(self, process: "Process") -> None:
        self._process = process

    def passed(self, workload: WorkloadKey, found: Pass, seconds: float) -> None:
        self._process.watcher.observed(workload, found)


class Process:
    """One controller process: objects of its own on servers that were there before it. It works when it is told to."""

    def __init__(
        self, servers: Servers, *, settle_seconds: float = 0.0, rolls: int = 0, guard: Guard | None = None
    ) -> None:
        self.servers = servers
        clocks = servers.clocks
        gates = make_gates(servers, Limits(rolls=rolls, settle_seconds=settle_seconds))
        reconciler = Reconciler(
            servers.vault,
            servers.nomad,
            instance=INSTANCE,
            jwt_mount="jwt-nomad",
            clock=clocks.monotonic,
            gates=gates,
            guard=guard,
        )
        self.engine = Engine(
            reconciler,
            servers.vault,
            EngineSettings(instance=INSTANCE, pace=Pace()),
            now=clocks.now,
            gates=gates,
            hooks=_ToWatcher(self),
        )
        self.engine.queue = WorkQueue(clocks.monotonic)
        self.watcher = SecretWatcher(
            servers.vault,
            self.engine.store,
            self.engine.wake,
            interval_seconds=30.0,
            clock=clocks.monotonic,
            rng=random.Random(1),
        )
        self.source = MemorySource(servers)
        self.engine.add_source(self.source)
        self.passes: Counter[WorkloadKey] = Counter()

    def start(self) -> "Process":
        """Have the source deliver all bindings."""
        self.source.start(self.engine)
        return self

    def work(self) -> float:
        """Look at the secrets that are due, and do every pass that is due; returns in how many seconds the next look
        is."""
        while (rest := self.watcher.step()) <= 0:
            pass
        for workload in self.due():
            self.passes[workload] += 1
            self.engine.reconcile(workload)
            self.engine.queue.done(workload)
        return rest

    def due(self) -> Iterator[WorkloadKey]:
        """The workloads that are due, one after the other."""
        while (workload := self.engine.queue.get(timeout=0.0)) is not None:
            yield workload

    def run(self, seconds: float, *, finish: bool = True) -> None:
        """Work while time passes. With `finish`, each deployment is over within a second."""
        clocks = self.servers.clocks
        end, tick = clocks.passed + seconds, clocks.passed
        while clocks.passed < end:
            if clocks.passed >= tick:
                tick += 1.0
                if finish:
                    self.servers.nomad.finish()
            # A rest may be too short to move a clock that has run for long.
            clocks.passed = min(clocks.passed + max(self.work(), _INSTANT), tick, end)
        self.work()


def make_gates(servers: Servers, limits: Limits) -> Gatekeeper:
    """The gatekeeper under the controller's own clocks."""
    clocks = servers.clocks
    return Gatekeeper(
        limits,
        clocks.now,
        clock=clocks.monotonic,
        vault_ahead=lambda: clocks.vaults - clocks.ours,
        nomad_ahead=lambda: clocks.nomads - clocks.ours,
    )
