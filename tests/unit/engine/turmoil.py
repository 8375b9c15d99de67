"""A small site in memory on which anything may happen in any order, and what has to hold after every single write."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from secretbinding.engine.policies import Guard, PolicyBoard
from secretbinding.errors import Unavailable, Unreachable
from secretbinding.job.inject import user_state
from secretbinding.job.marks import placed_marks
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.naming import Owner, policy_name
from secretbinding.ports import Json
from secretbinding.render.policy import read_policy
from tests.support import builders as make
from tests.unit.core.world import our_tasks, paths_read
from tests.unit.engine.memory import INSTANCE, MemorySource, Process, Servers, Stopped
from tests.unit.tenancy.builders import policy

JOBS = ("j0", "j1", "j2")
SECRETS = ("s0", "s1", "s2")
NAMES = ("a", "b", "c")
FATES = ("before", "after", "lost")
"""What may become of a write: the controller is killed before or after it took effect, or its answer is lost."""
STRICT = {"all": SECRETS, "some": ("s0", "s1"), "few": ("s0",)}
_SETTLED = 45.0
"""Longer than a poll interval with its jitter, and than the longest pause after a few failures."""
_SWEEP = 30.0
"""How often what is left of bindings that are gone is looked for."""
_TRUCE = 400.0
"""Longer than a fight with another tool pauses."""
_PINNED = re.compile(r'secret/data/(\w+)\?version=(\d+)"')


@dataclass(frozen=True)
class Outage:
    """A server's API, each method of which fails while the server is away; deployments go on."""

    target: Any
    system: str
    away: set[str]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.target, name)
        if name == "finish":
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            if self.system in self.away:
                raise Unavailable(f"{self.system} cannot work now", system=self.system, operation=name)
            return found(*arguments, **named)

        return call


@dataclass
class Turmoil:
    """The site. `fates` says by their numbers what becomes of writes; `deaths` counts those that came true.

    The controller works for some seconds after each step and is started anew whenever it was killed. Every write, of
    the controller's or of Nomad's, is followed by a look at what has to hold always:

    - no task that may run lacks its role, a policy of it, or the right to what its templates read;
    - a registration leaves the user's own part of the job as it was, and changes something;
    - a status, and nothing else, is written to where bindings are kept.
    """

    fates: Mapping[int, str] = field(default_factory=dict)
    auto_revert: bool = True

    def __post_init__(self) -> None:
        self.servers = Servers()
        self.vault, self.nomad = self.servers.vault, self.servers.nomad
        self.away: set[str] = set()
        self.deaths = self.count = 0
        self.broken: set[tuple[str, int]] = set()
        self.board = PolicyBoard([MemorySource.name])
        self._before: Json | None = None
        for path in SECRETS:
            self.vault.put(path)
        for name in JOBS:
            self.nomad.add(a_job(name, 0))
            self.nomad.jobs[name].auto_revert = self.auto_revert
        self.nomad.finish()
        self.nomad.finish = self._finish  # type: ignore[method-assign]
        self.servers.writes.before, self.servers.writes.after = self._at_write, self._written
        self.servers.vault = Outage(self.vault, "vault", self.away)  # type: ignore[assignment]
        self.servers.nomad = Outage(self.nomad, "nomad", self.away)  # type: ignore[assignment]
        self.allow("all")

    # -- what people do

    def do(self, step: tuple[Any, ...]) -> None:
        """One step: the name of a method and its arguments, and then some work."""
        name, *arguments = step
        getattr(self, name)(*arguments)
        self.work()

    def bind(self, name: str, job: str, paths: tuple[str, ...], suspend: bool = False) -> None:
        """Declare a binding, or change one, its job included."""
        if self._leaves(name):
            return
        entries = [make.kv(path, path=path, env={f"{name}_{path}".upper(): "password"}) for path in paths]
        more = [make.spec(suspend=True)] if suspend else []
        self._deliver(self.servers.bind(make.binding(*entries, *more, name=name, job=job)))

    def unbind(self, name: str) -> None:
        """Delete a binding; its finalizer keeps it until the controller lets go."""
        key = key_of(name)
        if key in self.servers.items:
            self.servers.items[key] = replace(self.servers.items[key], deleting=True)
            self._deliver(key)

    def rotate(self, path: str) -> None:
        """A new version."""
        self.vault.put(path)

    def spoil(self, path: str) -> None:
        """A new version with which every task fails."""
        self.broken.add((path, self.vault.put(path)))

    def take_back(self, path: str) -> None:
        """The newest version is deleted."""
        metadata = self.vault.kv_metadata("secret", path)
        assert metadata is not None
        self.vault.delete(path, metadata.current)

    def register(self, name: str, edition: int) -> None:
        """The user registers the job from a file, which holds nothing of ours."""
        self.nomad.add(a_job(name, edition))
        self._look(name)

    def edit(self, name: str, edition: int) -> None:
        """The user changes the job as Nomad has it."""
        there = self.nomad.job("default", name)
        if there is not None:
            there["Priority"] = 50 + edition
            self.nomad.add(there)
            self._look(name)

    def purge(self, name: str) -> None:
        """The job goes with its tasks."""
        self.nomad.jobs[name].purge()
        self._look(name)

    def ask(self, name: str) -> None:
        """Somebody asks for a roll."""
        if key_of(name) in self.servers.items:
            self.servers.ask(name)
            self._deliver(key_of(name))

    def allow(self, which: str) -> None:
        """The policy is another one."""
        names = list(STRICT[which])
        rule = policy(
            "own",
            tenants=[{"names": ["team"]}],
            workloads=[{"namespaces": ["*"]}],
            secrets=[{"mounts": ["secret"], "paths": names}],
        )
        self.board.deliver(MemorySource.name, [rule], [])
        if self._process is not None:
            self._process.engine.wake(self._process.engine.store.workloads())

    def outage(self, system: str) -> None:
        """A server is away for some time, or comes back."""
        self.away ^= {system}

    def restart(self) -> None:
        """The controller is replaced by another one."""
        self._process = None

    # -- what the controller does

    _process: Process | None = None
    _swept = 0.0

    def work(self, seconds: float = _SETTLED) -> None:
        """Let time pass."""
        end = self.servers.clocks.passed + seconds
        while self.servers.clocks.passed < end:
            try:
                if self._process is None:
                    guard = Guard(self.board, lambda source, tenant: {}, instance=INSTANCE)
                    self._process = Process(self.servers, guard=guard)
                    self._process.start()
                    self._swept = -_SWEEP
                if self.servers.clocks.passed >= self._swept + _SWEEP:
                    self._swept = self.servers.clocks.passed
                    self._process.engine.sweep()
                self._process.run(min(end, self._swept + _SWEEP) - self.servers.clocks.passed)
            except Stopped:
                self._process = None

    def settle(self) -> None:
        """Everything is there again, and time passes until nothing is to be done any more."""
        self.away.clear()
        self.work(_TRUCE)

    def _at_write(self, kind: str, name: str) -> None:
        self.count += 1
        if kind == "registration":
            self._before = self.nomad.job("default", name)
        self._meet("before")

    def _written(self, kind: str, name: str) -> None:
        if kind == "registration":
            before, after = self._before, self.nomad.job("default", name)
            assert before is not None
            assert after is not None
            assert user_state(before, INSTANCE) == user_state(after, INSTANCE), f"{name}: the user's part is another"
            assert shares(before) != shares(after), f"{name}: registered without a change"
        self.check_rights(f"{kind} {name}")
        self._meet("after")
        self._meet("lost")

    def _meet(self, fate: str) -> None:
        if self.fates.get(self.count) != fate:
            return
        self.deaths += 1
        if fate == "lost":
            raise Unreachable("the answer was lost", system="vault")
        raise Stopped

    # -- what has to hold

    def check_rights(self, after: str) -> None:
        """Every task that may run can log in and read what its templates read."""
        for name, job in self.nomad.jobs.items():
            running = {one["JobVersion"] for one in job.allocations if one["ClientStatus"] == "running"}
            running |= {job.job["Version"]} if job.job is not None else set()
            for version in [one for one in job.versions if one["Version"] in running]:
                for _, task_name, task in our_tasks(version, INSTANCE):
                    self._check_task(f"after {after}: {name} version {version['Version']} {task_name}", name, task)

    def _check_task(self, label: str, job: str, task: Json) -> None:
        role = self.vault.roles.get(task["Vault"]["Role"])
        assert role is not None, f"{label}: no role"
        assert role["bound_claims"]["nomad_job_id"] == job, f"{label}: the role is another job's"
        documents = [read_policy(self.vault.policies.get(one, "")) for one in role["token_policies"]]
        assert None not in documents, f"{label}: a policy is not there"
        rights = {right.path for one in documents if one is not None for right in one[0].rights}
        assert paths_read(task) <= rights, f"{label}: no right to {paths_read(task) - rights}"

    def check_settled(self) -> None:
        """Nothing is left to do, rights are those of the bindings that there are and no more, and what can be there is
        there."""
        self.servers.writes.forget()
        self.work()
        self.restart()
        self.work()
        assert self.servers.writes.external() == {}
        owners = {policy_name(Owner(INSTANCE, key)) for key in self.servers.items}
        assert self.vault.policies.keys() <= owners
        used = {
            task["Vault"]["Role"]
            for job in self.nomad.jobs.values()
            if job.job is not None
            for _, _, task in our_tasks(job.job, INSTANCE)
        }
        granted = {one for name in self.vault.roles for one in self.vault.roles[name]["token_policies"]}
        assert granted <= self.vault.policies.keys()
        assert used <= self.vault.roles.keys()
        for key in self.servers.items:
            self._check_served(key)

    def _check_served(self, key: BindingKey) -> None:
        """A binding that is ready serves what is newest, or says why it does not."""
        if self.servers.reason(key.name, "Ready") != "Ready":
            return
        if self.servers.reason(key.name, "RotationHealthy") != "UpToDate":
            return
        item = self.servers.items[key]
        assert item.binding is not None
        if item.binding.spec.suspend:
            return
        job = self.nomad.jobs[item.binding.spec.workload.job].job
        pinned = pins(job)
        for entry in item.binding.spec.secrets:
            assert entry.kv is not None
            metadata = self.vault.kv_metadata("secret", entry.kv.path)
            assert metadata is not None
            assert (entry.kv.path, metadata.current) in pinned, f"{key.name}: {entry.kv.path} is not at its newest"

    def check_gone(self) -> None:
        """Without bindings, nothing of ours is anywhere."""
        assert self.servers.items == {}
        assert self.vault.policies == {}
        assert self.vault.roles == {}
        assert [name for name, job in self.nomad.jobs.items() if shares(job.job)] == []

    def outcome(self) -> dict[str, Any]:
        """All that is left, times aside."""
        return {
            "versions": {name: (job.job or {}).get("Version") for name, job in self.nomad.jobs.items()},
            "shares": {name: shares(job.job) for name, job in self.nomad.jobs.items()},
            "users": {name: job.job and user_state(job.job, INSTANCE) for name, job in self.nomad.jobs.items()},
            "policies": self.vault.policies,
            "roles": self.vault.roles,
            "statuses": {
                key.name: [(one.type, one.status, one.reason) for one in status.conditions]
                + [(one.serving_version, one.wanted_version) for one in status.secrets]
                for key, status in sorted(self.servers.statuses.items())
            },
            "finalizers": sorted(self.servers.prepared),
        }

    def failures(self) -> set[tuple[str, int, str]]:
        """The versions that are remembered as failed: job, number and tag."""
        return {
            (name, one["Version"], one["VersionTag"]["Name"])
            for name, job in self.nomad.jobs.items()
            for one in job.versions
            if one.get("VersionTag")
        }

    # -- the rest

    def _finish(self, *, success: bool = True) -> None:
        """Deployments come to their ends: those of tasks that read a spoilt version fail."""
        for name, job in self.nomad.jobs.items():
            if any(one["Status"] == "running" for one in job.deployments):
                job.finish_deployment(success=not pins(job.job) & self.broken)
                self.check_rights(f"deployment of {name}")

    def _deliver(self, key: BindingKey) -> None:
        if self._process is not None:
            self._process.source.deliver(key)

    def _look(self, name: str) -> None:
        """Nomad's event stream tells of a job."""
        if self._process is not None:
            self._process.engine.wake([WorkloadKey("default", "", "default", name)])

    def _leaves(self, name: str) -> bool:
        found = self.servers.items.get(key_of(name))
        return found is not None and found.deleting


def key_of(name: str) -> BindingKey:
    return BindingKey(MemorySource.name, "team", name)


def a_job(name: str, edition: int) -> Json:
    """The user's own job file, in one of its editions."""
    return {**make.job(), "ID": name, "Name": name, "Meta": {"edition": str(edition)}}


def pins(job: Json | None) -> set[tuple[str, int]]:
    """The secrets and versions that the templates of a job name."""
    return {(path, int(number)) for path, number in _PINNED.findall(str(job))} if job is not None else set()


def shares(job: Json | None) -> list[tuple[Any, ...]]:
    """What of a job is ours."""
    return [
        (one.group, one.task, one.key.name, one.mark.slot, one.template["EmbeddedTmpl"])
        for one in placed_marks(job, INSTANCE)
    ]


def live(steps: Sequence[tuple[Any, ...]], fates: Mapping[int, str], *, auto_revert: bool = True) -> Turmoil:
    """A site on which all the steps are done and everything has settled."""
    site = Turmoil(fates, auto_revert)
    for step in steps:
        site.do(step)
    site.settle()
    return site
