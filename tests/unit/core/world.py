"""Vault and Nomad as plain dicts, and what Nomad's server does to a job on registration: for tests of the pure core."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from secretbinding.desired import BindingInput, Desired, Observed, Policy, desire
from secretbinding.engine_roles import DeleteEngineRole, WriteEngineRole
from secretbinding.gate import Gate
from secretbinding.generation import KV, ROOT, Attempts, GenerateValue
from secretbinding.job.inject import to_register
from secretbinding.kinds import engine_role
from secretbinding.kinds.base import Pin, SecretState
from secretbinding.models.key import BindingKey
from secretbinding.models.templates import scan
from secretbinding.naming import Owner, policy_name
from secretbinding.plan import (
    Action,
    DeletePolicy,
    DeleteRole,
    EvaluateJob,
    Plan,
    RegisterJob,
    TagVersion,
    UntagVersion,
    WritePolicy,
    WriteRole,
    make_plan,
)
from secretbinding.ports import Json, KvVersion
from secretbinding.render.agent import AgentDefaults
from secretbinding.render.policy import read_policy
from secretbinding.rotation import nanoseconds_to_time
from tests.support.builders import INSTANCE, WORKLOAD, path_of
from tests.unit.core.agents import agent_reads, agents_of, role_of

VAULT_CONSTRAINT = {"LTarget": "${attr.vault.version}", "RTarget": ">= 0.6.1", "Operand": "semver"}
NOMAD_CONSTRAINT = {"LTarget": "${attr.nomad.version}", "RTarget": ">= 1.7.0-a", "Operand": "semver"}
_SECOND = 1_000_000_000
_TEMPLATE_DEFAULTS: Json = {
    "ChangeMode": "restart", "ChangeScript": None, "ChangeSignal": "", "Envvars": False, "ErrMissingKey": False,
    "Gid": None, "LeftDelim": "{{", "Once": False, "Perms": "0644", "RightDelim": "}}", "SourcePath": "",
    "Splay": 5 * _SECOND, "Uid": None, "VaultGrace": 0, "Wait": None,
}  # fmt: skip
_IDENTITY_DEFAULTS: Json = {
    "Audience": None,
    "ChangeMode": "",
    "Env": False,
    "ExtraClaims": None,
    "File": False,
    "TTL": 0,
}


def server_hooks(sent: Json, *, older_nomad: bool = False) -> Json:
    """A job as Nomad's server stores what was sent: defaults set, implied constraints added. `older_nomad` does not
    keep `Once` and `AllowTokenExpiration`."""
    job = copy.deepcopy(sent)
    for group in job.get("TaskGroups") or []:
        for task in group.get("Tasks") or []:
            task["Templates"] = [{**_TEMPLATE_DEFAULTS, **item} for item in task.get("Templates") or []] or None
            task["Identities"] = [{**_IDENTITY_DEFAULTS, **item} for item in task.get("Identities") or []] or None
            task.setdefault("Vault", None)
            if older_nomad:
                for item in task["Templates"] or []:
                    item.pop("Once", None)
                (task["Vault"] or {}).pop("AllowTokenExpiration", None)
        _imply(group)
    return job


def _imply(group: Json) -> None:
    constraints: list[Json] = list(group.get("Constraints") or [])
    tasks = group.get("Tasks") or []
    vault_target = VAULT_CONSTRAINT["LTarget"]
    if any(task.get("Vault") for task in tasks) and all(item["LTarget"] != vault_target for item in constraints):
        constraints.append(dict(VAULT_CONSTRAINT))
    signals = {task["KillSignal"] for task in tasks if task.get("KillSignal")}
    for task in tasks:
        if (task.get("Vault") or {}).get("ChangeMode") == "signal":
            signals.add(task["Vault"]["ChangeSignal"])
        signals.update(t["ChangeSignal"] for t in task.get("Templates") or [] if t["ChangeMode"] == "signal")
    if signals:
        needed = {"LTarget": "${attr.os.signals}", "RTarget": ",".join(sorted(signals)), "Operand": "set_contains"}
        if needed not in constraints:
            constraints.append(needed)
    services = [*(group.get("Services") or []), *(item for task in tasks for item in task.get("Services") or [])]
    if any(task.get("Identities") for task in tasks) or any(item.get("Identity") for item in services):
        constraints.append(dict(NOMAD_CONSTRAINT))
    group["Constraints"] = constraints or None


class World:
    """One workload. `secrets` are the states by (binding, secret name); `check` makes every write prove that no task
    that may run lacks a right."""

    def __init__(self, *, auto_revert: bool = True, older_nomad: bool = False, instance: str = INSTANCE) -> None:
        self.instance = instance
        self.policies: dict[str, str] = {}
        self.roles: dict[str, Json] = {}
        self.engine_roles: dict[str, Json] = {}
        self.job: Json | None = None
        self.versions: list[Json] = []
        self.deployments: list[Json] = []
        self.allocations: list[Json] = []
        self.children: dict[str, Json] = {}
        self.secrets: dict[tuple[str, str], SecretState] = {}
        self.auto_revert = auto_revert
        self.older_nomad = older_nomad
        self.log: list[Action] = []
        self.attempts = Attempts()
        self.generated: list[GenerateValue] = []
        self.evaluations = 0
        self.gone: set[BindingKey] = set()
        self.gate = Gate()
        self.agents = AgentDefaults(allowed=frozenset({"driver", "image", "command", "args", "user", "script"}))
        self._clock = 1_800_000_000 * _SECOND

    # -- what people do

    def user_registers(self, sent: Json) -> None:
        """Somebody registers a job from their job file."""
        self._register(sent)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self._clock += int(seconds * _SECOND)

    def purge(self) -> None:
        """Somebody purges the job; its tasks end at once."""
        self.job, self.versions, self.deployments, self.allocations = None, [], [], []

    @property
    def now(self) -> int:
        """Nanoseconds since the epoch."""
        return self._clock

    # -- what the controller does

    def observe(self, bindings: Sequence[BindingInput]) -> Observed:
        """Everything as it is."""
        policies: dict[str, Policy | None] = {}
        for item in bindings:
            name = policy_name(Owner(self.instance, item.key))
            text = self.policies.get(name)
            found = read_policy(text) if text is not None else None
            policies[name] = (
                None if text is None else Policy(text, found[0] if found else None, found[1] if found else False)
            )
        wanted = [item for item in bindings if item.binding is not None and item.frozen is None and not item.deleting]
        return Observed(
            workload=WORKLOAD,
            region="global",
            job=copy.deepcopy(self.job),
            versions=copy.deepcopy(self.versions[::-1]),
            deployments=copy.deepcopy(self.deployments),
            allocations=copy.deepcopy(self.allocations),
            children=copy.deepcopy(self.children),
            policies=policies,
            roles={name: _as_answered(body) for name, body in self.roles.items()},
            secrets={
                (item.key, entry.name): self.secrets[entry.kind_name, path_of(entry)]
                for item in wanted
                if item.binding is not None
                for entry in item.binding.spec.secrets
            },
            engine_roles={
                path: copy.deepcopy(self.engine_roles.get(path)) for path in self._engine_paths(policies, wanted)
            },
            agents=self.agents,
            attempts=self.attempts,
            gate=self._gate(),
        )

    def _engine_paths(self, policies: Mapping[str, Policy | None], wanted: Iterable[BindingInput]) -> set[str]:
        entries = [entry for item in wanted if item.binding is not None for entry in item.binding.spec.secrets]
        made = {role.path for entry in entries if (role := engine_role(entry)) is not None}
        documents = [policy.document for policy in policies.values() if policy is not None]
        return made.union(*(document.engine_roles for document in documents if document is not None))

    def _gate(self) -> Gate:
        """The time is Nomad's, as our own clock shows it."""
        if self.gate.now is None:
            return self.gate
        return replace(self.gate, now=nanoseconds_to_time(self._clock) - self.gate.nomad_ahead)

    def decide(self, bindings: Sequence[BindingInput]) -> tuple[Desired, Plan]:
        """What a pass would do."""
        observed = self.observe(bindings)
        desired = desire(observed, bindings, self.instance)
        return desired, make_plan(observed, desired, bindings, self.instance)

    def run(self, bindings: Sequence[BindingInput]) -> Plan:
        """One pass."""
        _, plan = self.decide(bindings)
        for action in plan.actions:
            self._do(action)
            self.log.append(action)
            self.check_rights()
        self.gone |= plan.gone
        return plan

    def settle(self, bindings: Sequence[BindingInput], *, passes: int = 8) -> Plan:
        """Passes, each deployment succeeding, until one finds nothing to do. Raises `AssertionError` when none does."""
        for _ in range(passes):
            rolling = any(item["Status"] == "running" for item in self.deployments)
            plan = self.run(bindings)
            self.finish_deployment()
            if not plan.actions and not plan.waiting and not rolling:
                return plan
        raise AssertionError(f"no end in sight: {plan}")

    # -- what Nomad does

    def finish_deployment(self, *, success: bool = True) -> None:
        """The running deployment comes to its end."""
        if not self.deployments or self.deployments[0]["Status"] != "running" or self.job is None:
            return
        deployment = self.deployments[0]
        if success:
            deployment["Status"] = "successful"
            self.versions[-1]["Stable"] = self.job["Stable"] = True
            for allocation in self.allocations:
                allocation["ClientStatus"] = "complete"
            self._allocate()
            self.check_rights()
            return
        deployment["Status"] = "failed"
        stable = next((job for job in reversed(self.versions[:-1]) if job["Stable"]), None)
        if self.auto_revert and stable is not None:
            # Nomad's revert is no registration: no hook runs.
            self._store(copy.deepcopy(stable), submitted=stable["SubmitTime"])
            self.finish_deployment()

    def forget_deployments(self) -> None:
        """Nomad collects deployments after an hour, and untagged versions beyond six."""
        self.deployments = [item for item in self.deployments if item["Status"] == "running"]
        tagged = [job for job in self.versions[:-6] if job.get("VersionTag")]
        self.versions = [*tagged, *self.versions[-6:]]

    def check_rights(self) -> None:
        """Every task that may run can log in and read what its templates read."""
        running = {item["JobVersion"] for item in self.allocations if item["ClientStatus"] == "running"}
        running |= {self.job["Version"]} if self.job is not None else set()
        for job in self.versions:
            if job["Version"] in running:
                for name, task_name, task in our_tasks(job, self.instance):
                    self._check_task(f"version {job['Version']} {name}/{task_name}", task_name, task)
                for name, task in agents_of(job):
                    self._check_agent(f"version {job['Version']} {name}", name, task)

    def _check_task(self, label: str, task_name: str, task: Json) -> None:
        role = self.roles.get(task["Vault"]["Role"])
        assert role is not None, f"{label}: no role {task['Vault']['Role']}"
        claims = role["bound_claims"]
        assert claims["nomad_job_id"] == WORKLOAD.job
        assert claims.get("nomad_task", task_name) == task_name, f"{label}: the role is of another task"
        missing = [name for name in role["token_policies"] if name not in self.policies]
        assert not missing, f"{label}: the role grants policies that are not there: {missing}"
        rights = self.rights_of(task["Vault"]["Role"])
        lacking = paths_read(task) - rights
        assert not lacking, f"{label}: no right to {lacking}"

    def _check_agent(self, label: str, group: str, task: Json) -> None:
        role = self.roles.get(role_of(task))
        assert role is not None, f"{label}: the agent has no role {role_of(task)}"
        assert role["bound_subject"] == f"global:default:{WORKLOAD.job}:{group}:vault-agent:vault"
        lacking = agent_reads(task) - self.rights_of(role_of(task))
        assert not lacking, f"{label}: the agent has no right to {lacking}"

    def rights_of(self, role: str) -> set[str]:
        """The paths that a role grants."""
        texts = [self.policies[name] for name in self.roles[role]["token_policies"] if name in self.policies]
        found = [read_policy(text) for text in texts]
        return {right.path for item in found if item is not None for right in item[0].rights}

    def _do(self, action: Action) -> None:
        match action:
            case WritePolicy(name=name, text=text):
                self.policies[name] = text
            case WriteEngineRole(role=role):
                assert self._remembered(role.path), "made before any policy remembers it"
                self.engine_roles[role.path] = {**self.engine_roles.get(role.path, {}), **copy.deepcopy(role.body)}
            case DeleteEngineRole(path=path):
                assert self._remembered(path), "forgotten before it is deleted"
                del self.engine_roles[path]
            case DeletePolicy(name=name):
                granted = [role for role, body in self.roles.items() if name in body["token_policies"]]
                assert not granted, f"policy {name} is deleted while {granted} grant it"
                del self.policies[name]
            case WriteRole(name=name, body=body):
                self.roles[name] = {**self.roles.get(name, {}), **copy.deepcopy(body)}
            case DeleteRole(name=name):
                del self.roles[name]
            case RegisterJob(job=sent, modify_index=index):
                assert self.job is not None
                assert index == self.job["JobModifyIndex"], "registered over another version than the one that was read"
                self._register(to_register(sent))
            case GenerateValue():
                self._generate(action)
            case EvaluateJob():
                self.evaluations += 1
            case TagVersion(version=version, name=name, description=description):
                for job in self.versions:
                    if job["Version"] == version:
                        job["VersionTag"] = {"Name": name, "Description": description}
            case UntagVersion(name=name):
                for job in self.versions:
                    if (job.get("VersionTag") or {}).get("Name") == name:
                        job["VersionTag"] = None

    def _generate(self, action: GenerateValue) -> None:
        """Vault makes a new value, dated by its own clock, which is this world's."""
        self.generated.append(action)
        made = nanoseconds_to_time(self._clock).isoformat()
        if action.target.kind == ROOT:
            assert action.answer is not None
            self.policies[action.answer[0]] = action.answer[1]
            return
        kind = "kv" if action.target.kind == KV else "database"
        before = self.secrets[kind, action.target.name]
        if kind == "database":
            assert before.revision is not None
            assert before.revision.told == action.seen, "rotated though it was changed meanwhile"
            self.secrets[kind, action.target.name] = replace(before, revision=Pin.revision(made))
            return
        assert action.seen == str(before.current), "written over a version that is not the newest"
        number = before.current + 1
        fields = before.fields.get(before.current) or dict.fromkeys(action.entry.fields)
        self.secrets[kind, action.target.name] = replace(
            before,
            current=number,
            versions={**before.versions, number: KvVersion(number, made)},
            fields={**before.fields, number: fields},
            fault=None,
        )

    def _remembered(self, path: str) -> bool:
        found = [read_policy(text) for text in self.policies.values()]
        return any(path in item[0].engine_roles for item in found if item is not None)

    def _register(self, sent: Json) -> None:
        self._store(server_hooks(sent, older_nomad=self.older_nomad))

    def _store(self, job: Json, submitted: int = 0) -> None:
        self._clock += _SECOND
        at = submitted or self._clock
        version = self.versions[-1]["Version"] + 1 if self.versions else 0
        # A rolling update replaces a newer one that is still under way.
        for deployment in self.deployments:
            if deployment["Status"] == "running":
                deployment["Status"] = "cancelled"
        job.update(Version=version, JobModifyIndex=100 + version, SubmitTime=at, Stable=False, VersionTag=None)
        self.job = copy.deepcopy(job)
        self.versions.append(copy.deepcopy(job))
        parent = job.get("Periodic") or job.get("ParameterizedJob")
        if job.get("Type", "service") == "service" and not parent and not job.get("Stop"):
            deployment = {"ID": f"deployment-{version}", "JobVersion": version, "Status": "running"}
            self.deployments.insert(0, {**deployment, "CreateIndex": 100 + version})
        if not any(item["ClientStatus"] == "running" for item in self.allocations) and not parent:
            self._allocate()

    def _allocate(self) -> None:
        assert self.job is not None
        if not self.job.get("Stop"):
            for group in self.job["TaskGroups"]:
                row = {"JobVersion": self.job["Version"], "ClientStatus": "running", "CreateTime": self._clock}
                name = f"allocation-{len(self.allocations)}"
                self.allocations.append({"ID": name, "TaskGroup": group["Name"], **row})


def our_tasks(job: Json, instance: str = INSTANCE) -> Iterable[tuple[str, str, Json]]:
    """Group, name and task of each task that logs in with a role of ours."""
    for group in job["TaskGroups"]:
        for task in group["Tasks"]:
            if str((task.get("Vault") or {}).get("Role") or "").startswith(f"nsb.{instance}."):
                yield group["Name"], task["Name"], task


def paths_read(task: Json) -> set[str]:
    """The paths that a task's templates read, queries cut off."""
    paths: set[str] = set()
    for template in task.get("Templates") or []:
        text, left, right = template["EmbeddedTmpl"], template["LeftDelim"], template["RightDelim"]
        for action in scan(text, left, right):
            if action.keyword == "with" and action.functions and action.functions[0].text == "secret":
                paths.add(action.strings[0].value.partition("?")[0])
    return paths


def _as_answered(body: Json) -> Json:
    """A role as Vault answers it, with values of its own beside."""
    extra: dict[str, Any] = {"token_num_uses": 0, "token_bound_cidrs": [], "groups_claim": "", "oidc_scopes": None}
    return {**extra, **copy.deepcopy(body)}
