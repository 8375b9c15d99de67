"""The desired policies, roles and job of one workload: one pure function of all its bindings and of what is there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from secretbinding.desired.approles import Bringing, bring, group_ahead, is_ahead
from secretbinding.desired.generating import generations
from secretbinding.desired.once import Mixture
from secretbinding.desired.past import Past, good_job, rolling
from secretbinding.desired.requests import next_request, open_requests
from secretbinding.desired.shares import Judged, Share, agent_wishes, judge
from secretbinding.desired.sidecars import AgentLogin, agent_logins, sidecar_parts
from secretbinding.desired.tokens import renewed_roles
from secretbinding.desired.values import BindingInput, BindingResult, Desired, Observed
from secretbinding.job.carry import kept_part, parts_of
from secretbinding.job.inject import Stripped, TaskPart, inject, keep_rendered, strip
from secretbinding.job.marks import Placed, part_state, placed_marks, serving_pins
from secretbinding.job.sidecar import is_sidecar
from secretbinding.job.targets import TaskRef, find_task, job_fault
from secretbinding.kinds import KINDS, engine_role
from secretbinding.kinds.base import EngineRole, Fault, Right
from secretbinding.models.approle import AppRole
from secretbinding.models.binding import DeletionPolicy, SecretBinding
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner, policy_name, role_name
from secretbinding.ports import Json
from secretbinding.render.agent import APPROLE
from secretbinding.render.approle import app_role_body
from secretbinding.render.policy import PolicyDocument, join_rights
from secretbinding.render.role import (
    DEFAULT_PERIOD_SECONDS,
    UNRENEWED_PERIOD_SECONDS,
    RoleBinding,
    join_limits,
    role_body,
    role_limits,
)
from secretbinding.rotation import (
    FailedState,
    held_failure,
)
from secretbinding.tenancy.terms import terms_of


def desire(observed: Observed, bindings: Sequence[BindingInput], instance: str) -> Desired:
    """What the workload should be: policies, roles and job, and the secrets that are to get new values. See `_desire`
    for what `bindings` are."""
    found = _desire(observed, open_requests(bindings, observed), instance)
    again_at = next_request(bindings, observed.gate.now)
    return replace(found, generations=generations(observed, bindings, found.results, instance), again_at=again_at)


def _desire(observed: Observed, bindings: Sequence[BindingInput], instance: str) -> Desired:
    """What policies, roles and job should be.

    `bindings` are all that name this workload, and, as `deleting`, owners whose marks are in the job though their
    binding is proven gone or has moved to another job. An owner in the job that is not among them is somebody whom
    this process cannot see (another source): its share stays as it is.
    """
    job = observed.job
    stripped = strip(job, instance) if job is not None else None
    placed = tuple(placed_marks(job, instance))
    judged = judge(bindings, observed, stripped.job if stripped else None, placed, instance)
    past = Past(observed, bindings, instance)
    failed: dict[BindingKey, FailedState] = {}
    while True:
        attempt = _assemble(observed, bindings, judged, stripped, past.staying(placed, failed), failed, instance)
        suspects = past.suspects(attempt.job) if attempt.job is not None else {}
        if set(suspects) <= set(failed):
            break
        failed |= suspects
    if attempt.job is None or job is None or stripped is None:
        return attempt
    held = held_failure(past.failures, part_state(attempt.job, instance), past.user, past.requested)
    if held is None:
        return attempt
    return replace(attempt, job=_go_back(observed, stripped, past.failures, past.user, instance), held=held)


def _assemble(
    observed: Observed,
    bindings: Sequence[BindingInput],
    judged: Mapping[BindingKey, Judged],
    stripped: Stripped | None,
    placed: Sequence[Placed],
    failed: Mapping[BindingKey, FailedState],
    instance: str,
) -> Desired:
    """The desired state, with the shares of `failed` bindings as they are in `placed`."""
    job = observed.job
    shares = [item.share for key, item in judged.items() if item.share is not None and key not in failed]
    leaving = {item.key for item in bindings if item.deleting}
    kept = [item for item in placed if item.key not in leaving and item.key not in {share.key for share in shares}]
    scopes = Scopes(observed.workload, instance, shares, job)
    parts = parts_for(observed, shares, kept, scopes, stripped.job if stripped else None, instance)
    roles, role_owners = _roles(observed, parts, shares, scopes, instance)
    policies = _policies(observed, judged, bindings, role_owners, instance)
    engine_roles = _engine_roles(observed, judged, bindings)
    results = {
        key: _with_failure(_with_roles(item.result, role_owners), failed.get(key), placed)
        for key, item in judged.items()
    }
    if job is None or stripped is None:
        ahead = _bringing(observed, parts, shares, roles, bindings, instance)
        return Desired(None, policies, roles, results, engine_roles=engine_roles, bringing=ahead)
    if job_fault(job) is not None or _rests(job, placed, leaving):
        return Desired(None, policies, roles, results, engine_roles=engine_roles)
    bringing = _bringing(observed, parts, shares, roles, bindings, instance)
    unreadable = _unreadable_groups(placed, judged)
    candidate = keep_rendered(inject(stripped, parts, instance), job, instance)
    candidate = _with_groups_of(job, candidate, unreadable)
    results = _waiting(results, shares, unreadable, {item.key for item in placed})
    return Desired(
        candidate, policies, roles, results, clean=not unreadable, engine_roles=engine_roles, bringing=bringing
    )


def _with_failure(result: BindingResult, failure: FailedState | None, placed: Sequence[Placed]) -> BindingResult:
    """The result of a binding whose share has failed: what it had goes on."""
    if failure is None:
        return result
    serving = serving_pins(placed, result.key)
    secrets = tuple(
        replace(item, pin=serving[item.name][0], serving=serving[item.name][0]) if item.name in serving else item
        for item in result.secrets
    )
    return replace(result, secrets=secrets, failed=failure)


def _rests(job: Json, placed: Sequence[Placed], leaving: set[BindingKey]) -> bool:
    """True for a stopped job, which gets its secrets when somebody starts it again; only what is to go is taken out of
    it (Nomad leaves a job stopped that is registered with `Stop`)."""
    return bool(job.get("Stop")) and not any(item.key in leaving for item in placed)


def _unreadable_groups(placed: Sequence[Placed], judged: Mapping[BindingKey, Judged]) -> dict[str, BindingKey]:
    """Groups with a task that reads a version which a new allocation could not read: starting the group anew, for
    whatever reason, would stop its tasks for good."""
    unreadable = {
        (key, decision.name)
        for key, found in judged.items()
        for decision in found.result.secrets
        if decision.unreadable
    }
    groups: dict[str, BindingKey] = {}
    for item in placed:
        if (item.key, item.mark.secret) in unreadable:
            groups.setdefault(item.group, item.key)
    return groups


def _with_groups_of(job: Json, candidate: Json, names: Mapping[str, BindingKey]) -> Json:
    """The candidate with the named groups as the job has them, but for the constraints that the server adds."""
    if not names:
        return candidate
    there = {group["Name"]: group for group in job.get("TaskGroups") or []}
    groups = [
        {**there[group["Name"]], "Constraints": group.get("Constraints")} if group["Name"] in names else group
        for group in candidate["TaskGroups"]
    ]
    return {**candidate, "TaskGroups": groups}


def _waiting(
    results: Mapping[BindingKey, BindingResult],
    shares: Sequence[Share],
    groups: Mapping[str, BindingKey],
    present: set[BindingKey],
) -> dict[BindingKey, BindingResult]:
    """The results, with what waits because a group must not be started anew now."""
    waiting = dict(results)
    for share in shares:
        group = min((name for name in share.groups if name in groups), default=None)
        if group is None:
            continue
        fault = Fault(
            Reason.NEW_VERSION_HELD,
            f"group {group} is not started anew while a task of it reads a version that can no longer be read "
            f"({groups[group]})",
        )
        result = results[share.key]
        secrets = tuple(
            replace(item, pin=item.serving, waiting=item.pin, hold=fault)
            if item.hold is None and item.serving not in (None, item.pin)
            else item
            for item in result.secrets
        )
        waiting[share.key] = replace(result, secrets=secrets, fault=None if share.key in present else fault)
    return waiting


def _go_back(
    observed: Observed, stripped: Stripped, failures: Sequence[FailedState], user: str, instance: str
) -> Json | None:
    """What to have while the wanted state is held: what is there, unless that is a failed state itself (Nomad did not
    revert); then our own part of the newest version that did not fail, in the job as its user has it now.

    A state that has worked later than that stays: it is not what is wrong now.
    """
    job = observed.job
    if job is None:
        return None
    current = part_state(job, instance)
    failed_here = any((failure.part, failure.user) == (current, user) for failure in failures)
    if not failed_here or rolling(observed.deployments):
        return job
    good = good_job(observed, failures, current, instance)
    if good is None:
        return job
    parts = parts_of(good, instance)
    return keep_rendered(inject(stripped, parts, instance), job, instance)


class Scopes:
    """Which role a task logs in with.

    Bindings that name no groups share one role of the job, whose name is known before the job is, so that a job file
    can be rendered first. A task that any binding names has a role of its own.
    """

    def __init__(self, workload: WorkloadKey, instance: str, shares: Sequence[Share], job: Json | None) -> None:
        self._workload = workload
        self._instance = instance
        self._job = job
        self.job_role = role_name(instance, workload, None, None)
        self.whole_job = {share.key for share in shares if share.binding.spec.workload.groups is None}

    def own_role(self, ref: TaskRef) -> str:
        """The role of this one task."""
        return role_name(self._instance, self._workload, ref.group, ref.task)

    def role(self, ref: TaskRef, active: set[BindingKey], kept: set[BindingKey]) -> str:
        """The role of a task with templates of `active` bindings, and of `kept` ones that stay as they are: a task with
        such keeps its role, unless it is the job's and would get the rights of a binding that names tasks."""
        whole = active <= self.whole_job
        if not kept:
            return self.job_role if whole else self.own_role(ref)
        task = find_task(self._job, ref) if self._job is not None else None
        current = str(((task or {}).get("Vault") or {}).get("Role") or "")
        return self.job_role if whole and current == self.job_role else self.own_role(ref)


def parts_for(
    observed: Observed,
    shares: Sequence[Share],
    kept: Sequence[Placed],
    scopes: Scopes,
    user_job: Json | None,
    instance: str,
) -> dict[tuple[str, str], TaskPart]:
    """What each task gets, those of sidecars included, by group and task. `kept` are templates that stay as they
    are."""
    job = observed.job
    active: dict[TaskRef, list[Share]] = {}
    for share in shares:
        for ref in share.tasks:
            active.setdefault(ref, []).append(share)
    staying: dict[TaskRef, list[Placed]] = {}
    for item in kept:
        if is_sidecar(item.host):
            continue
        staying.setdefault(TaskRef(item.group, item.task), []).append(item)
    parts: dict[tuple[str, str], TaskPart] = {}
    for ref in sorted({*active, *staying}):
        task = (find_task(user_job, ref) if user_job is not None else None) or {}
        part = _task_part(
            task.get("Templates") or [],
            active.get(ref, []),
            staying.get(ref, []),
            kept_part((find_task(job, ref) if job is not None else None) or {}),
            instance,
        )
        owners = {share.key for share in active.get(ref, [])}
        role = scopes.role(ref, owners, {item.key for item in staying.get(ref, [])})
        parts[ref.group, ref.task] = replace(part, role=role)
    return parts | sidecar_parts(observed, agent_wishes(shares), kept, instance)


def _task_part(
    own: Sequence[Json], shares: Sequence[Share], kept: Sequence[Placed], current: TaskPart, instance: str
) -> TaskPart:
    """The part of one task, its role left out. What is kept keeps the Vault block's ways (`current`) as well."""
    mixture = Mixture([*own, *(item.template for item in kept)])
    for share in shares:
        mixture.add_ours(share.blocks)
    blocks = [(Owner(instance, share.key), mixture.settled(block)) for share in shares for block in share.blocks]
    return TaskPart(
        role="",
        templates=(*blocks, *((item.mark.owner, item.template) for item in kept)),
        polls=any(block.of and not block.once for _, block in blocks) or (bool(kept) and current.polls),
        leased=any(share.leased for share in shares) or (bool(kept) and current.leased),
        vault_namespace=current.vault_namespace if kept else "",
        token_env=any(share.token_env for share in shares) or (bool(kept) and current.token_env),
        token_file=any(share.token_file for share in shares) or (bool(kept) and current.token_file),
        vault=any(share.vault for share in shares) or (bool(kept) and current.vault),
    )


def _roles(
    observed: Observed,
    parts: Mapping[tuple[str, str], TaskPart],
    shares: Sequence[Share],
    scopes: Scopes,
    instance: str,
) -> tuple[dict[str, dict[str, Any]], dict[str, set[BindingKey]]]:
    """Role bodies by name, and the bindings that each role serves."""
    owners: dict[str, set[BindingKey]] = {}
    scope: dict[str, RoleBinding] = {}
    whole = RoleBinding(observed.workload)
    for (group, task), part in parts.items():
        if not part.vault:
            continue
        owners.setdefault(part.role, set()).update(owner.key for owner, _ in part.templates)
        single = RoleBinding(observed.workload, group, task, observed.region)
        scope[part.role] = whole if part.role == scopes.job_role else single
    if observed.job is None:
        _expected_roles(observed, shares, scopes, owners, scope)
    agents = agent_logins(observed, agent_wishes(shares), parts, instance)
    for name, login in agents.items():
        owners.setdefault(name, set()).update(login.keys)
        scope[name] = login.scope
    active = {share.key: share.binding for share in shares}
    renewed = renewed_roles(observed.job, parts, shares, owners)
    bodies: dict[str, dict[str, Any]] = {}
    for name, keys in sorted(owners.items()):
        # A binding that stays as it is has a part in the limits that are there.
        current = role_limits(observed.roles.get(name)) if keys - set(active) else None
        default = DEFAULT_PERIOD_SECONDS if name in renewed or name in agents else UNRENEWED_PERIOD_SECONDS
        auths = [active[key].spec.auth for key in sorted(keys) if key in active]
        limits = join_limits(auths, current, default_period=default)
        policies = [policy_name(Owner(instance, key)) for key in keys]
        if name in agents and agents[name].method == APPROLE:
            bodies[name] = app_role_body(name, _app_role(agents[name], active), policies, limits)
        else:
            bodies[name] = role_body(scope[name], policies, limits)
    return bodies, owners


def _app_role(login: AgentLogin, active: Mapping[BindingKey, SecretBinding]) -> AppRole:
    """The limits of an AppRole: the bindings of a group that name any name the same ones."""
    named = (active[key].spec.auth.app_role for key in sorted(login.keys) if key in active)
    return next((limits for limits in named if limits is not None), AppRole())


def _bringing(
    observed: Observed,
    parts: Mapping[tuple[str, str], TaskPart],
    shares: Sequence[Share],
    roles: Mapping[str, Mapping[str, Any]],
    bindings: Sequence[BindingInput],
    instance: str,
) -> dict[str, Bringing]:
    """What is decided about the wrapped secret-ids of each group whose agent logs in by AppRole. What was brought ahead
    of the job (`inject`) stays for it."""
    groups = {str(group["Name"]): group for group in (observed.job or {}).get("TaskGroups") or []}
    if observed.job is None:
        groups = {name: group_ahead(name, one) for name, one in observed.brought.items() if is_ahead(one, instance)}
    active = {share.key: share.binding for share in shares}
    asked = {item.key: item.rotate_requested_at for item in bindings}
    found: dict[str, Bringing] = {}
    for name, login in agent_logins(observed, agent_wishes(shares), parts, instance).items():
        brought = observed.brought.get(login.group)
        if login.method != APPROLE or brought is None or login.group not in groups:
            continue
        answers = [at for key in login.keys if (at := asked.get(key)) is not None]
        found[login.group] = bring(
            groups[login.group],
            brought,
            name,
            _app_role(login, active),
            roles[name],
            observed.allocations,
            max(answers, default=None),
            observed.agents.approle_mount,
            instance,
        )
    return found


def _expected_roles(
    observed: Observed,
    shares: Sequence[Share],
    scopes: Scopes,
    owners: dict[str, set[BindingKey]],
    scope: dict[str, RoleBinding],
) -> None:
    """Roles for a job that is not there yet: ready before its first allocation asks."""
    named: dict[TaskRef, set[BindingKey]] = {}
    for share in shares:
        if share.key not in scopes.whole_job and share.vault:
            for ref in share.tasks:
                named.setdefault(ref, set()).add(share.key)
    whole_job = {share.key for share in shares if share.vault} & scopes.whole_job
    if whole_job:
        owners.setdefault(scopes.job_role, set()).update(whole_job)
        scope[scopes.job_role] = RoleBinding(observed.workload)
    for ref, keys in named.items():
        name = scopes.own_role(ref)
        owners.setdefault(name, set()).update(keys | whole_job)
        scope[name] = RoleBinding(observed.workload, ref.group, ref.task, observed.region)


def _engine_roles(
    observed: Observed, judged: Mapping[BindingKey, Judged], bindings: Sequence[BindingInput]
) -> dict[str, EngineRole]:
    """The roles of secrets engines that the bindings have made, by path; those of bindings that have a policy."""
    roles: dict[str, EngineRole] = {}
    for item in bindings:
        found = judged.get(item.key)
        if found is None or item.binding is None or not found.result.secrets:
            continue
        made = (engine_role(entry) for entry in item.binding.spec.secrets)
        roles.update({role.path: role for role in made if role is not None and role.path in observed.engine_roles})
    return roles


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
        made = (engine_role(entry) for entry in item.binding.spec.secrets)
        documents[policy_name(owner)] = PolicyDocument(
            owner=owner,
            workload=observed.workload,
            rights=join_rights(*rights),
            roles=tuple(sorted(name for name, keys in role_owners.items() if item.key in keys and name)),
            engine_roles=tuple(sorted(role.path for role in made if role is not None)),
            retain=item.binding.spec.deletion_policy is DeletionPolicy.RETAIN,
            adopted=observed.adoptions[item.key].to_json() if item.key in observed.adoptions else None,
            terms=terms_of(item.binding),
        )
    return documents


def _with_roles(result: BindingResult, role_owners: Mapping[str, set[BindingKey]]) -> BindingResult:
    return replace(
        result, roles=tuple(sorted(name for name, keys in role_owners.items() if result.key in keys and name))
    )
