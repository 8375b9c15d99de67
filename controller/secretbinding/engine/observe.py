"""Read one workload as it is, on both sides. Nothing here decides, and nothing here reads a secret's value."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from secretbinding.desired.approles import Brought
from secretbinding.desired.sidecars import agent_role, by_agent, method_of, named_groups
from secretbinding.desired.values import BindingInput, Observed, Policy
from secretbinding.engine.bringing import Bringer
from secretbinding.job.marks import placed_marks
from secretbinding.job.sidecar import is_sidecar
from secretbinding.job.targets import TaskRef, find_task, named_tasks, select_tasks
from secretbinding.kinds import SecretState, engine_role, look
from secretbinding.kinds.database import rival_fault, takes_a_user
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.naming import Owner, is_app_role, is_app_role_of, name_prefix, policy_name, role_name
from secretbinding.ports import Json, Nomad, Vault
from secretbinding.render.agent import APPROLE, AgentDefaults
from secretbinding.render.policy import read_policy
from secretbinding.rollout import deployment_of, is_parent

_FURTHER_LOOKS = 2


class Observer:
    """Reads through the two ports. `jwt_mount` is the auth mount that Nomad's clients log in to.

    `purge_grace_seconds` is how long after its job was purged tasks may still be stopping; `clock` gives seconds
    that never go back.
    """

    def __init__(
        self, vault: Vault, nomad: Nomad, *, instance: str, jwt_mount: str, agents: AgentDefaults | None = None
    ) -> None:
        self._vault = vault
        self._nomad = nomad
        self._instance = instance
        self._jwt_mount = jwt_mount
        self._agents = agents or AgentDefaults(jwt_mount=jwt_mount)
        self._bringer = Bringer(vault, nomad, mount=self._agents.approle_mount)

    def observe(self, workload: WorkloadKey, bindings: Sequence[BindingInput]) -> Observed:
        """The workload as it is, without the job's history. Raises `errors.ServiceError` subclasses.

        Nomad fails a deployment and goes back to the version before in one write, which may come between two reads:
        then all is read again, so that a job that is back already is not taken for one that cannot go back.
        """
        observed = self._look(workload, bindings)
        for _ in range(_FURTHER_LOOKS):
            if not self._overtaken(observed):
                break
            observed = self._look(workload, bindings)
        return observed

    def _overtaken(self, observed: Observed) -> bool:
        job, workload = observed.job, observed.workload
        if job is None:
            return False
        version = int(job.get("Version") or 0)
        if any(int(item.get("JobVersion") or 0) > version for item in observed.deployments):
            return True
        deployment = deployment_of(observed)
        if deployment is None or deployment.get("Status") != "failed":
            return False
        now = self._nomad.job(workload.namespace, workload.job)
        return now is None or int(now.get("Version") or 0) != version

    def _look(self, workload: WorkloadKey, bindings: Sequence[BindingInput]) -> Observed:
        job = self._nomad.job(workload.namespace, workload.job)
        observed = self.with_job(workload, bindings, job)
        if job is None:
            return observed
        if is_parent(job):
            return replace(observed, children=self._children(workload))
        return replace(
            observed,
            deployments=self._nomad.deployments(workload.namespace, workload.job),
            allocations=self._nomad.allocations(workload.namespace, workload.job),
        )

    def _children(self, workload: WorkloadKey) -> dict[str, Json]:
        """The child jobs of a periodic or parameterized job that have not ended: they log in with the parent's role."""
        return {
            str(child["ID"]): child
            for child in self._nomad.list_jobs(workload.namespace, f"{workload.job}/")
            if child.get("ParentID") == workload.job and child.get("Status") != "dead"
        }

    def with_job(self, workload: WorkloadKey, bindings: Sequence[BindingInput], job: Json | None) -> Observed:
        """What Vault has for a job, wherever the job came from; its deployments and allocations are not looked at."""
        region = str((job or {}).get("Region") or "") or self._nomad.region()
        policies = self._policies(bindings)
        secrets = self._with_rivals(bindings, policies, self._secrets(workload, bindings, job))
        roles = self._roles(workload, bindings, job, policies)
        return Observed(
            workload=workload,
            region=region,
            job=job,
            policies=policies,
            roles=roles,
            engine_roles=self._engine_roles(bindings, policies, secrets),
            secrets=secrets,
            agents=self._agents,
            brought=self._brought(workload, bindings, job, roles),
        )

    def _brought(
        self,
        workload: WorkloadKey,
        bindings: Sequence[BindingInput],
        job: Json | None,
        roles: Mapping[str, Json | None],
    ) -> dict[str, Brought]:
        """The variables of the groups whose agents log in by AppRole, or did."""
        by_app_role = [
            item
            for item in bindings
            if not item.deleting and item.binding is not None and method_of(item.binding) == APPROLE
        ]
        left = any(is_app_role_of(name, workload) and body is not None for name, body in roles.items())
        if not by_app_role and not left:
            return {}
        groups = _agent_groups(by_app_role, job, self._instance)
        return self._bringer.look(workload, groups, roles, self._instance, everywhere=left)

    def with_history(self, observed: Observed) -> Observed:
        """The same with the job's versions, which are many times larger than the job and seldom needed."""
        if observed.job is None:
            return observed
        workload = observed.workload
        return replace(observed, versions=self._nomad.versions(workload.namespace, workload.job))

    def with_versions_of(self, observed: Observed, bindings: Sequence[BindingInput], job: Json) -> Observed:
        """The same with the field names of the versions that a job reads, as far as they were not looked at."""
        lacking: set[tuple[BindingKey, str]] = set()
        for placed in placed_marks(job, self._instance):
            state = observed.secrets.get((placed.key, placed.mark.secret))
            pin = placed.mark.pin
            if state is not None and state.pinnable and pin is not None and pin.version not in state.fields:
                lacking.add((placed.key, placed.mark.secret))
        if not lacking:
            return observed
        concerned = [item for item in bindings if any(key == item.key for key, _ in lacking)]
        looked = self._secrets(observed.workload, concerned, job)
        found = {name: state for name, state in looked.items() if name in lacking}
        return replace(observed, secrets={**observed.secrets, **found})

    def with_purged(self, observed: Observed) -> Observed:
        """For a job that is gone: whether tasks of it may still be running. Allocations tell where they can; a job that
        Nomad still has evaluations of was there within the hour."""
        workload = observed.workload
        allocations = self._nomad.allocations(workload.namespace, workload.job)
        live = any(item.get("ClientStatus") in ("pending", "running", "unknown") for item in allocations)
        recent = bool(allocations) or bool(self._nomad.evaluations(workload.namespace, workload.job))
        return replace(observed, allocations=allocations, purged_at_risk=live or recent)

    def _policies(self, bindings: Iterable[BindingInput]) -> dict[str, Policy | None]:
        policies: dict[str, Policy | None] = {}
        for item in bindings:
            name = policy_name(Owner(self._instance, item.key))
            text = self._vault.read_policy(name)
            if text is None:
                policies[name] = None
                continue
            found = read_policy(text)
            policies[name] = Policy(text, found[0] if found else None, found[1] if found else False)
        return policies

    def _roles(
        self,
        workload: WorkloadKey,
        bindings: Sequence[BindingInput],
        job: Json | None,
        policies: Mapping[str, Policy | None],
    ) -> dict[str, Json | None]:
        names: set[str] = set()
        for ref in _possible_tasks(bindings, job) if not _whole_job(bindings) else ():
            names.add(role_name(self._instance, workload, ref.group, ref.task))
        if any(item.binding is not None and item.binding.spec.workload.groups is None for item in bindings):
            names.add(role_name(self._instance, workload, None, None))
        for placed in placed_marks(job, self._instance):
            task = find_task(job, TaskRef(placed.group, placed.task)) if job is not None else None
            names.add(str(((task or {}).get("Vault") or {}).get("Role") or ""))
        names.update(
            agent_role(self._instance, workload, group) for group in _agent_groups(bindings, job, self._instance)
        )
        by_app_role = [item for item in bindings if item.binding is not None and method_of(item.binding) == APPROLE]
        if by_app_role:
            groups = _agent_groups(by_app_role, job, self._instance)
            names.update(agent_role(self._instance, workload, group, APPROLE) for group in groups)
        for policy in policies.values():
            if policy is not None and policy.document is not None:
                names.update(policy.document.roles)
        ours = sorted(name for name in names if name.startswith(name_prefix(self._instance)))
        return {name: self._read_role(name) for name in ours}

    def _read_role(self, name: str) -> Json | None:
        if is_app_role(name):
            return self._vault.read_app_role(self._agents.approle_mount, name)
        return self._vault.read_jwt_role(self._jwt_mount, name)

    def _engine_roles(
        self,
        bindings: Iterable[BindingInput],
        policies: Mapping[str, Policy | None],
        secrets: Mapping[tuple[BindingKey, str], SecretState],
    ) -> dict[str, Json | None]:
        """The roles that the bindings have made, as they were looked at with their secrets (of one that could not be
        looked at, the secret says so), and those that they had before, as the marks of their policies tell."""
        roles: dict[str, Json | None] = {}
        unseen: set[str] = set()
        for item in bindings:
            for entry in item.binding.spec.secrets if item.binding is not None else ():
                state = secrets.get((item.key, entry.name))
                role = engine_role(entry)
                if role is None or state is None:
                    continue
                if state.fault is None or state.made is not None:
                    roles[role.path] = state.made
                else:
                    unseen.add(role.path)
        for policy in policies.values():
            for path in policy.document.engine_roles if policy is not None and policy.document is not None else ():
                if path not in roles and path not in unseen:
                    roles[path] = self._vault.read_engine_config(path)
        return roles

    def _with_rivals(
        self,
        bindings: Iterable[BindingInput],
        policies: Mapping[str, Policy | None],
        secrets: Mapping[tuple[BindingKey, str], SecretState],
    ) -> dict[tuple[BindingKey, str], SecretState]:
        """The secrets, with a fault for each static role whose user another role stands for."""
        states = dict(secrets)
        for item in bindings:
            policy = policies.get(policy_name(Owner(self._instance, item.key)))
            marked = policy.document.engine_roles if policy is not None and policy.document is not None else ()
            for entry in item.binding.spec.secrets if item.binding is not None else ():
                state = states.get((item.key, entry.name))
                if item.binding is None or state is None or state.fault is not None or not takes_a_user(entry):
                    continue
                wanted = {role.path for one in item.binding.spec.secrets if (role := engine_role(one)) is not None}
                fault = rival_fault(entry, state, self._vault, going=set(marked) - wanted)
                if fault is not None:
                    states[item.key, entry.name] = replace(state, fault=fault)
        return states

    def _secrets(
        self, workload: WorkloadKey, bindings: Iterable[BindingInput], job: Json | None
    ) -> dict[tuple[BindingKey, str], SecretState]:
        pinned: dict[tuple[BindingKey, str], set[int]] = {}
        for placed in placed_marks(job, self._instance):
            parts = placed.mark.slot.split(":")
            if placed.mark.pin is not None and len(parts) >= 2:
                pinned.setdefault((placed.key, parts[1]), set()).add(placed.mark.pin.version)
        states: dict[tuple[BindingKey, str], SecretState] = {}
        for item in bindings:
            if item.deleting or item.frozen is not None or item.binding is None:
                continue
            for entry in item.binding.spec.secrets:
                versions = sorted(pinned.get((item.key, entry.name), ()))
                state = look(entry, self._vault, self._nomad, workload.namespace, versions)
                states[item.key, entry.name] = state
        return states


def _agent_groups(bindings: Sequence[BindingInput], job: Json | None, instance: str) -> set[str]:
    """The groups that may have a sidecar."""
    groups = {placed.group for placed in placed_marks(job, instance) if is_sidecar(placed.host)}
    for item in bindings:
        if not item.deleting and item.binding is not None and by_agent(item.binding):
            named = item.binding.spec.workload.groups
            tasks = select_tasks(job, named)[0] if job is not None else ()
            groups.update({ref.group for ref in tasks} or named_groups(item.binding))
    return groups


def _whole_job(bindings: Iterable[BindingInput]) -> bool:
    """True when no task can have a role of its own but one that its policy or the job tells of: all bindings name the
    whole job, and none of them stays as it is or goes."""
    return all(
        item.binding is not None
        and item.binding.spec.workload.groups is None
        and item.frozen is None
        and not item.deleting
        for item in bindings
    )


def _possible_tasks(bindings: Sequence[BindingInput], job: Json | None) -> set[TaskRef]:
    tasks: set[TaskRef] = set()
    for item in bindings:
        if item.deleting or item.binding is None:
            continue
        groups = item.binding.spec.workload.groups
        tasks.update(named_tasks(groups) if job is None else select_tasks(job, groups)[0])
    return tasks
