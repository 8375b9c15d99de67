"""The desired policies, roles and job of one workload: one pure function of all its bindings and of what is there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from secretbinding.desired.shares import Judged, Share, judge
from secretbinding.desired.values import BindingInput, BindingResult, Desired, Observed
from secretbinding.job.inject import Stripped, TaskPart, inject, is_our_vault, keep_rendered, strip, user_state
from secretbinding.job.marks import Placed, part_state, placed_marks
from secretbinding.job.targets import TaskRef, find_task, job_fault, select_tasks
from secretbinding.kinds import KINDS
from secretbinding.kinds.base import Right
from secretbinding.models.binding import DeletionPolicy, SecretBinding
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.naming import Owner, policy_name, role_name
from secretbinding.ports import Json
from secretbinding.render.policy import PolicyDocument, join_rights
from secretbinding.render.role import RoleBinding, join_limits, role_body
from secretbinding.render.template import TemplateBlock
from secretbinding.rotation import FailedState, failed_states, good_version, held_failure


def desire(observed: Observed, bindings: Sequence[BindingInput], instance: str) -> Desired:
    """What the workload should be.

    `bindings` are all that name this workload, and, as `deleting`, owners whose marks are in the job though their
    binding is proven gone or has moved to another job. An owner in the job that is not among them is somebody whom
    this process cannot see (another source): its share stays as it is.
    """
    job = observed.job
    stripped = strip(job, instance) if job is not None else None
    placed = tuple(placed_marks(job, instance))
    judged = judge(bindings, observed, stripped.job if stripped else None, placed, instance)
    shares = [item.share for item in judged.values() if item.share is not None]
    leaving = {item.key for item in bindings if item.deleting}
    kept = [item for item in placed if item.key not in leaving and item.key not in {share.key for share in shares}]
    scopes = _Scopes(observed.workload, instance, judged, bindings, job)
    parts = _parts(shares, kept, scopes, job, instance)
    roles, role_owners = _roles(observed, parts, shares, kept, scopes, bindings, instance)
    policies = _policies(observed, judged, bindings, role_owners, instance)
    results = {key: _with_roles(item.result, role_owners) for key, item in judged.items()}
    if job is None or stripped is None or job_fault(job) is not None:
        return Desired(None, policies, roles, results)
    candidate = keep_rendered(inject(stripped, parts, instance), job, instance)
    failures = failed_states(observed.versions, observed.deployments, instance)
    requested = max((item.rotate_requested_at for item in bindings if item.rotate_requested_at), default=None)
    user = user_state(job, instance)
    held = held_failure(failures, part_state(candidate, instance), user, requested)
    if held is None:
        return Desired(candidate, policies, roles, results)
    return Desired(_go_back(observed, stripped, failures, user, instance), policies, roles, results, held=held)


def _go_back(
    observed: Observed, stripped: Stripped, failures: Sequence[FailedState], user: str, instance: str
) -> Json | None:
    """What to have while the wanted state is held: what is there, unless that is a failed state itself (Nomad did not
    revert); then our own part of the newest version that did not fail, in the job as its user has it now."""
    job = observed.job
    if job is None:
        return None
    current = part_state(job, instance)
    failed_here = any((failure.part, failure.user) == (current, user) for failure in failures)
    if not failed_here or _rolling(observed.deployments):
        return job
    good = good_version(observed.versions, failures, instance)
    if good is None:
        return job
    parts: dict[tuple[str, str], TaskPart] = {}
    for item in placed_marks(good, instance):
        task = find_task(good, TaskRef(item.group, item.task)) or {}
        part = parts.get((item.group, item.task)) or _kept_part(task)
        parts[item.group, item.task] = replace(part, templates=(*part.templates, (item.mark.owner, item.template)))
    return keep_rendered(inject(stripped, parts, instance), job, instance)


def _kept_part(task: Json) -> TaskPart:
    vault: Mapping[str, Any] = task.get("Vault") or {}
    return TaskPart(
        role=str(vault.get("Role") or ""),
        templates=(),
        polls=not vault.get("AllowTokenExpiration", False),
        leased=vault.get("ChangeMode") == "restart",
        vault_namespace=str(vault.get("Namespace") or ""),
    )


def _rolling(deployments: Sequence[Json]) -> bool:
    return bool(deployments) and deployments[0].get("Status") not in ("successful", "failed", "cancelled")


class _Scopes:
    """Which role a task logs in with.

    Bindings that name no groups share one role of the job, whose name is known before the job is, so that a job file
    can be rendered first. A task that any binding names has a role of its own.
    """

    def __init__(
        self,
        workload: WorkloadKey,
        instance: str,
        judged: Mapping[BindingKey, Judged],
        bindings: Sequence[BindingInput],
        job: Json | None,
    ) -> None:
        self._workload = workload
        self._instance = instance
        self._job = job
        self.job_role = role_name(instance, workload, None, None)
        self.whole_job = {
            item.key
            for item in bindings
            if not item.deleting and item.binding is not None and item.binding.spec.workload.groups is None
        }

    def role(self, ref: TaskRef, owners: set[BindingKey], unseen: set[BindingKey]) -> str:
        """The role of a task with templates of `owners`; of the `unseen` among them the binding is not known: then the
        task keeps what it has."""
        own_role = role_name(self._instance, self._workload, ref.group, ref.task)
        if unseen:
            task = find_task(self._job, ref) if self._job is not None else None
            current = ((task or {}).get("Vault") or {}).get("Role")
            if current in (own_role, self.job_role):
                return str(current)
        return self.job_role if owners - unseen and owners - unseen <= self.whole_job else own_role


def _parts(
    shares: Sequence[Share], kept: Sequence[Placed], scopes: _Scopes, job: Json | None, instance: str
) -> dict[tuple[str, str], TaskPart]:
    templates: dict[TaskRef, list[tuple[Owner, TemplateBlock | Json]]] = {}
    polls: set[TaskRef] = set()
    leased: set[TaskRef] = set()
    for share in shares:
        owner = Owner(instance, share.key)
        for ref in share.tasks:
            templates.setdefault(ref, []).extend((owner, block) for block in share.blocks)
            if share.polls:
                polls.add(ref)
            if share.leased:
                leased.add(ref)
    for item in kept:
        ref = TaskRef(item.group, item.task)
        templates.setdefault(ref, []).append((item.mark.owner, item.template))
        if not item.template.get("Once"):
            polls.add(ref)
            vault = ((find_task(job, ref) if job is not None else None) or {}).get("Vault") or {}
            if vault.get("ChangeMode") == "restart":
                leased.add(ref)
    seen = {share.key for share in shares}
    parts: dict[tuple[str, str], TaskPart] = {}
    for ref, items in templates.items():
        owners = {owner.key for owner, _ in items}
        role = scopes.role(ref, owners, owners - seen - scopes.whole_job)
        parts[ref.group, ref.task] = TaskPart(role, tuple(items), polls=ref in polls, leased=ref in leased)
    return parts


def _roles(
    observed: Observed,
    parts: Mapping[tuple[str, str], TaskPart],
    shares: Sequence[Share],
    kept: Sequence[Placed],
    scopes: _Scopes,
    bindings: Sequence[BindingInput],
    instance: str,
) -> tuple[dict[str, dict[str, Any]], dict[str, set[BindingKey]]]:
    """Role bodies by name, and the bindings that each role serves."""
    owners: dict[str, set[BindingKey]] = {}
    scope: dict[str, RoleBinding] = {}
    whole = RoleBinding(observed.workload)
    for (group, task), part in parts.items():
        owners.setdefault(part.role, set()).update(owner.key for owner, _ in part.templates)
        single = RoleBinding(observed.workload, group, task, observed.region)
        scope[part.role] = whole if part.role == scopes.job_role else single
    if observed.job is None or job_fault(observed.job) is not None:
        _expected_roles(observed, shares, scopes, instance, owners, scope)
    by_key: dict[BindingKey, SecretBinding] = {item.key: item.binding for item in bindings if item.binding is not None}
    bodies: dict[str, dict[str, Any]] = {}
    for name, keys in owners.items():
        if name not in scope or not name:
            continue
        limits = join_limits(by_key[key].spec.auth for key in sorted(keys) if key in by_key)
        bodies[name] = role_body(scope[name], [policy_name(Owner(instance, key)) for key in keys], limits)
    return bodies, owners


def _expected_roles(
    observed: Observed,
    shares: Sequence[Share],
    scopes: _Scopes,
    instance: str,
    owners: dict[str, set[BindingKey]],
    scope: dict[str, RoleBinding],
) -> None:
    """Roles for a job that is not there yet, or that somebody else registers: ready before its first allocation asks."""
    named: dict[TaskRef, set[BindingKey]] = {}
    whole: set[BindingKey] = set()
    for share in shares:
        if share.binding.spec.workload.groups is None:
            whole.add(share.key)
        for ref in share.tasks if share.binding.spec.workload.groups is not None else ():
            named.setdefault(ref, set()).add(share.key)
    if whole:
        owners.setdefault(scopes.job_role, set()).update(whole)
        scope[scopes.job_role] = RoleBinding(observed.workload)
    for ref, keys in named.items():
        name = role_name(instance, observed.workload, ref.group, ref.task)
        owners.setdefault(name, set()).update(keys | whole)
        scope[name] = RoleBinding(observed.workload, ref.group, ref.task, observed.region)


def _policies(
    observed: Observed,
    judged: Mapping[BindingKey, Judged],
    bindings: Sequence[BindingInput],
    role_owners: Mapping[str, set[BindingKey]],
    instance: str,
) -> dict[str, PolicyDocument]:
    """The policy of every binding whose kinds are known, injected or not: rights come before the job."""
    documents: dict[str, PolicyDocument] = {}
    for item in bindings:
        found = judged.get(item.key)
        if found is None or item.binding is None or not found.result.secrets:
            continue
        rights: list[tuple[Right, ...]] = []
        for entry in item.binding.spec.secrets:
            state = observed.secrets.get((item.key, entry.name))
            if state is not None:
                rights.append(KINDS[entry.kind_name].rights(entry, state))
        owner = Owner(instance, item.key)
        documents[policy_name(owner)] = PolicyDocument(
            owner=owner,
            workload=observed.workload,
            rights=join_rights(*rights),
            roles=tuple(sorted(name for name, keys in role_owners.items() if item.key in keys and name)),
            retain=item.binding.spec.deletion_policy is DeletionPolicy.RETAIN,
        )
    return documents


def _with_roles(result: BindingResult, role_owners: Mapping[str, set[BindingKey]]) -> BindingResult:
    return replace(
        result, roles=tuple(sorted(name for name, keys in role_owners.items() if result.key in keys and name))
    )
