"""From what is to what should be: an ordered list of actions, each with a reader's words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from secretbinding.desired.approles import BringSecretIds, DropSecretIds
from secretbinding.desired.generating import values_to_make
from secretbinding.desired.values import BindingInput, Desired, Observed
from secretbinding.engine_roles import DeleteEngineRole, WriteEngineRole, missing_roles, unused_roles
from secretbinding.generation import GenerateValue
from secretbinding.job.inject import same_job
from secretbinding.job.marks import part_state, placed_marks
from secretbinding.models.key import BindingKey
from secretbinding.naming import Owner, is_app_role, is_app_role_of, name_prefix, policy_name
from secretbinding.ports import Json
from secretbinding.render.policy import PolicyDocument, join_rights, policy_text
from secretbinding.render.role import role_policies, same_role
from secretbinding.rollout import deployment_of, is_live, is_parent, older_allocations, older_children, starting, stuck
from secretbinding.rotation import failed_description, failed_states, failed_tag, is_failed_tag
from secretbinding.tenancy.terms import Terms


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """Create or replace an ACL policy. `before` is the text that it replaces."""

    name: str
    text: str
    before: str | None


@dataclass(frozen=True, slots=True)
class DeletePolicy:
    """Delete an ACL policy of ours."""

    name: str
    before: str


@dataclass(frozen=True, slots=True)
class WriteRole:
    """Create or replace a JWT role. `before` is the body that it replaces."""

    name: str
    body: dict[str, Any]
    before: Json | None


@dataclass(frozen=True, slots=True)
class DeleteRole:
    """Delete a JWT role of ours."""

    name: str
    before: Json


@dataclass(frozen=True, slots=True)
class RegisterJob:
    """Register the job over the version that was read (`modify_index` for EnforceIndex)."""

    job: Json
    before: Json
    modify_index: int


@dataclass(frozen=True, slots=True)
class TagVersion:
    """Remember a failed state in Nomad itself: a tagged version is kept, and tagging causes no evaluation."""

    version: int
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class UntagVersion:
    """Forget a failed state that no longer matters."""

    name: str


@dataclass(frozen=True, slots=True)
class EvaluateJob:
    """Have Nomad go on with a version of a job that it has stopped rolling, `left` allocations before the end."""

    job_id: str
    version: int
    left: int


Rights = WritePolicy | WriteRole | WriteEngineRole
"""The actions that a job needs to be done before it is registered."""
Action = (
    Rights
    | GenerateValue
    | BringSecretIds
    | DropSecretIds
    | DeletePolicy
    | DeleteRole
    | DeleteEngineRole
    | RegisterJob
    | EvaluateJob
    | TagVersion
    | UntagVersion
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order.

    `waiting` says why surplus rights are still kept, `""` when none are; `gone` are the bindings of which nothing is
    left once the actions are done. `deferred` says why a registration that is due waits for a moment, `""` when none
    does.
    """

    actions: tuple[Action, ...] = ()
    waiting: str = ""
    gone: frozenset[BindingKey] = frozenset()
    deferred: str = ""

    @property
    def registration(self) -> RegisterJob | None:
        """The registration of the job, None when none is due."""
        return next((action for action in self.actions if isinstance(action, RegisterJob)), None)

    @property
    def registers(self) -> bool:
        """True when the job is to be registered."""
        return self.registration is not None

    @property
    def generates(self) -> bool:
        """True when a secret is to get a new value."""
        return any(isinstance(action, GenerateValue) for action in self.actions)


def make_plan(observed: Observed, desired: Desired, bindings: Sequence[BindingInput], instance: str) -> Plan:
    """Widen rights, then register the job, and only when nothing can need them any more narrow or delete. New values
    come after rights and beside no registration: the next plan sees them as any other new version.

    Nothing can need the surplus when no registration is due, no deployment is running or failed, and every allocation
    that may still run has the current version of the job.
    """
    register = _register(observed, desired)
    waiting = "the job is being registered" if register is not None else _unsettled(observed, desired)
    narrow = not waiting
    deleting = {item.key for item in bindings if item.deleting}
    sound = [item.key for item in bindings if item.deleting or _is_sound(desired, item.key)]
    known = {policy_name(Owner(instance, key)) for key in sound}

    widening: list[Action] = []
    narrowing: list[Action] = []
    surplus = False
    for name, document in desired.policies.items():
        action, kept = _policy(observed, desired, name, document, narrow=narrow)
        surplus = surplus or kept
        if action is not None:
            (narrowing if narrow and action.before is not None else widening).append(action)
    # After the policy, whose mark remembers them.
    widening.extend(missing_roles(observed, desired))
    for name, body in desired.roles.items():
        role_action, kept = _role(observed.roles.get(name), name, body, known, narrow=narrow)
        surplus = surplus or kept
        if role_action is not None:
            (narrowing if narrow and role_action.before is not None else widening).append(role_action)
    removals = _removals(observed, desired, bindings, instance, known)
    unused = unused_roles(observed, desired, _documents_to_tidy(observed, desired, bindings, instance), instance)
    dropped = [
        DropSecretIds(group, brought.path)
        for group, brought in sorted(observed.brought.items())
        if brought.modify_index and brought.instance == instance and group not in desired.bringing
    ]
    surplus = surplus or bool(removals) or bool(unused) or bool(dropped)
    if narrow:
        # The mark of a policy remembers the roles of engines: it changes after them.
        narrowing = [*unused, *dropped, *narrowing, *removals]
    middle: list[Action] = [*_tags(observed, desired, instance)]
    # After the role, and before the job whose agents read them.
    middle.extend(found.action for _, found in sorted(desired.bringing.items()) if found.action is not None)
    if register is not None:
        middle.append(register)
        middle.extend(_forget(observed, desired, instance))
    elif late := stuck(observed, instance):
        middle.append(EvaluateJob(observed.workload.job, _version(observed), len(late)))
    # What we may not register is not waited for: rights go when the job has ended.
    untouchable = observed.job is not None and desired.job is None
    gone = frozenset(deleting) if narrow or untouchable else _nowhere(observed, deleting, instance)
    still = _still_elsewhere(observed, bindings, instance)
    if still and not waiting:
        waiting, surplus = "the job that the binding named before is being given back", True
    written = {action.name for action in (*widening, *narrowing) if isinstance(action, WritePolicy)}
    generating = values_to_make(observed, desired.generations, written, instance) if register is None else []
    return Plan((*widening, *middle, *generating, *narrowing), waiting=waiting if surplus else "", gone=gone - still)


def deferred(plan: Plan, observed: Observed) -> Plan:
    """The plan without its registration, as long as that would lose sight of allocations that are just starting
    (`rollout.starting`); the same plan where it would not."""
    register = plan.registration
    early = starting(observed, register.job) if register is not None else ()
    if not early:
        return plan
    groups = ", ".join(sorted({str(item.get("TaskGroup")) for item in early}))
    return put_off(plan, f"allocations of group {groups}, which stay as they are, are starting")


def put_off(plan: Plan, why: str) -> Plan:
    """The plan without its registration."""
    kept = tuple(action for action in plan.actions if not isinstance(action, RegisterJob | UntagVersion))
    return replace(plan, actions=kept, deferred=why)


def _still_elsewhere(observed: Observed, bindings: Sequence[BindingInput], instance: str) -> frozenset[BindingKey]:
    """The bindings that are going, and that have something in a job that they named before."""
    found: set[BindingKey] = set()
    for item in bindings:
        policy = observed.policies.get(policy_name(Owner(instance, item.key)))
        if item.moved or not item.deleting or policy is None or policy.document is None:
            continue
        if _lives_elsewhere(observed, policy.document):
            found.add(item.key)
    return frozenset(found)


def _nowhere(observed: Observed, keys: set[BindingKey], instance: str) -> frozenset[BindingKey]:
    """Those of the bindings of which there is nothing, so that nothing has to be waited for."""
    placed = {item.key for item in placed_marks(observed.job, instance)}
    policies = {key: observed.policies.get(policy_name(Owner(instance, key))) for key in keys}
    made = {key for key, policy in policies.items() if policy is not None and policy.document is not None}
    return frozenset(keys - placed - made)


def _register(observed: Observed, desired: Desired) -> RegisterJob | None:
    job = observed.job
    if job is None or desired.job is None or same_job(job, desired.job):
        return None
    return RegisterJob(desired.job, observed.bare or job, int(job.get("JobModifyIndex") or 0))


def _version(observed: Observed) -> int:
    return int((observed.job or {}).get("Version") or 0)


def _is_sound(desired: Desired, key: BindingKey) -> bool:
    """True for a binding whose wish is known and can be met. What any other one has stays, also in its roles."""
    result = desired.results.get(key)
    return result is not None and result.fault is None and result.failed is None


def _unsettled(observed: Observed, desired: Desired) -> str:
    """Why surplus rights must stay, `""` when they may go."""
    if desired.held is not None:
        return "a failed state is held"
    if not desired.clean:
        return "a group of the job is left as it is for now"
    job = observed.job
    if job is None:
        return "tasks of the purged job may still be running" if observed.purged_at_risk else ""
    live = [item for item in observed.allocations if is_live(item)]
    if desired.job is None and live:
        return f"{len(live)} allocation(s) of a job that is not registered by us may still be running"
    if is_parent(job):
        children = observed.children if desired.job is None else older_children(observed)
        return f"{len(children)} child job(s) of older versions may still be running" if children else ""
    deployment = deployment_of(observed)
    if deployment is not None and deployment.get("Status") != "successful":
        return f"deployment {str(deployment.get('ID'))[:8]} is {deployment.get('Status')}"
    older = older_allocations(observed)
    return f"{len(older)} allocation(s) of older versions may still be running" if older else ""


def _policy(
    observed: Observed, desired: Desired, name: str, document: PolicyDocument, *, narrow: bool
) -> tuple[WritePolicy | None, bool]:
    """The write that a policy needs, and whether it keeps more than is wanted."""
    current = observed.policies.get(name)
    if current is None:
        return WritePolicy(name, policy_text(document), None), False
    if current.document is None or current.document.owner != document.owner:
        return None, False
    elsewhere = {role for role in current.document.roles if _belongs_elsewhere(observed, role)}
    exact = narrow and not elsewhere and _is_sound(desired, document.owner.key)
    target = replace(document, answered=current.document.answered)
    if not exact:
        rights = join_rights(document.rights, current.document.rights)
        # A revert brings back what was there by hand.
        adopted = document.adopted or current.document.adopted
        target = replace(
            target,
            rights=rights,
            roles=tuple(sorted({*document.roles, *current.document.roles})),
            engine_roles=tuple(sorted({*document.engine_roles, *current.document.engine_roles})),
            adopted=adopted,
        )
    if elsewhere:
        # The mark goes on naming the job that the binding named before, until nothing of it is left there.
        target = replace(target, workload=current.document.workload)
    surplus = target.rights != join_rights(document.rights) or set(target.roles) != set(document.roles)
    surplus = surplus or set(target.engine_roles) != set(document.engine_roles)
    if current.intact and _meaning(current.document) == _meaning(target):
        return None, surplus
    return WritePolicy(name, policy_text(target), current.text), surplus


def _meaning(document: PolicyDocument) -> tuple[Any, ...]:
    return (
        document.owner,
        document.workload,
        join_rights(document.rights),
        sorted(document.roles),
        sorted(document.engine_roles),
        document.retain,
        document.adopted,
        # Of a policy that an older version wrote nobody knows; the usual ones are no reason to write it anew.
        document.terms or Terms(),
    )


def _role(
    current: Json | None, name: str, body: dict[str, Any], known: set[str], *, narrow: bool
) -> tuple[WriteRole | None, bool]:
    """The write that a role needs, and whether it keeps more than is wanted.

    Policies of bindings that this process does not see, or whose wish cannot be met, stay in any case.
    """
    wanted = set(body["token_policies"])
    prefix = name.rsplit(".", 2)[0] + "."
    there = {policy for policy in role_policies(current) if policy.startswith(prefix)}
    unseen = there - known
    kept = wanted | unseen if narrow else wanted | there
    target = {**body, "token_policies": sorted(kept)}
    surplus = bool(kept - wanted - unseen)
    if current is not None and same_role(current, target):
        return None, surplus
    return WriteRole(name, target, current), surplus


def _documents_to_tidy(
    observed: Observed, desired: Desired, bindings: Sequence[BindingInput], instance: str
) -> Iterator[PolicyDocument]:
    """The policies, as they are, of bindings that are going, and of those whose wish is known."""
    for item in bindings:
        name = policy_name(Owner(instance, item.key))
        policy = observed.policies.get(name)
        document = policy.document if policy is not None else None
        if document is None or document.owner != Owner(instance, item.key):
            continue
        going = item.deleting and not item.moved and not _lives_elsewhere(observed, document)
        if going or (not item.deleting and _is_sound(desired, item.key) and name in desired.policies):
            yield document


def _removals(
    observed: Observed, desired: Desired, bindings: Sequence[BindingInput], instance: str, known: set[str]
) -> list[Action]:
    """Roles that no binding wants any more, then policies of bindings that are going: role first, so that no role ever
    grants a policy that is not there."""
    stale: set[str] = set()
    policies: list[Action] = []
    for item in bindings:
        name = policy_name(Owner(instance, item.key))
        current = observed.policies.get(name)
        if current is None or current.document is None or current.document.owner != Owner(instance, item.key):
            continue
        if item.deleting:
            stale.update(current.document.roles)
            if not item.moved and not _lives_elsewhere(observed, current.document):
                policies.append(DeletePolicy(name, current.text))
        elif _is_sound(desired, item.key) and name in desired.policies:
            stale.update(current.document.roles)
    roles: list[Action] = []
    for name in sorted(stale - set(desired.roles)):
        body = observed.roles.get(name)
        if body is None or not name.startswith(name_prefix(instance)) or _belongs_elsewhere(observed, name):
            continue
        others = [policy for policy in role_policies(body) if policy not in known]
        ours_only = not [policy for policy in others if policy.startswith(name_prefix(instance))]
        roles.append(
            DeleteRole(name, body)
            if ours_only
            else WriteRole(name, {**_settable(body), "token_policies": others}, body)
        )
    return [*roles, *policies]


def _lives_elsewhere(observed: Observed, document: PolicyDocument) -> bool:
    """True for a policy that tasks of another job log in with still."""
    return any(_belongs_elsewhere(observed, role) for role in document.roles)


def _belongs_elsewhere(observed: Observed, role: str) -> bool:
    """True for a role that lets tasks of another job in: of a binding that named that job before."""
    if is_app_role(role):
        return not is_app_role_of(role, observed.workload)
    claims = (observed.roles.get(role) or {}).get("bound_claims") or {}
    workload = observed.workload
    return bool(claims) and (claims.get("nomad_namespace"), claims.get("nomad_job_id")) != (
        workload.namespace,
        workload.job,
    )


def _settable(body: Mapping[str, Any]) -> dict[str, Any]:
    """A role as the server answered it, as it can be written again: without what is not set."""
    return {name: value for name, value in body.items() if value is not None}


def _tags(observed: Observed, desired: Desired, instance: str) -> list[Action]:
    """Tags for the failures that hold something; one that nobody wants any more needs no memory."""
    failures = failed_states(observed.versions, observed.deployments, instance)
    # A version has one tag; somebody else's stays (and keeps the version as well).
    taken = {int(job.get("Version") or 0) for job in observed.versions if job.get("VersionTag")}
    holding = desired.holding()
    return [
        TagVersion(failure.version, failed_tag(instance, failure.version), failed_description(failure))
        for failure in failures
        if failure.version in holding and not failure.tagged and failure.version not in taken
    ]


def _forget(observed: Observed, desired: Desired, instance: str) -> list[Action]:
    """When a state is registered, failures that hold nothing any more need no memory: Nomad may collect them."""
    if desired.held is not None:
        return []
    wanted = part_state(desired.job, instance)
    holding = desired.holding()
    return [
        UntagVersion(str(job["VersionTag"]["Name"]))
        for job in observed.versions
        if is_failed_tag(job, instance) and job.get("Version") not in holding and part_state(job, instance) != wanted
    ]
