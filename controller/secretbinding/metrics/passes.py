"""What of one pass is counted, distilled from all that the pass found and did. Pure."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from secretbinding.desired.gating import is_rotation
from secretbinding.desired.values import Desired
from secretbinding.engine_roles import WriteEngineRole
from secretbinding.gate import Obstacle
from secretbinding.job.marks import part_state, placed_marks
from secretbinding.kinds.base import Pin, SecretState
from secretbinding.metrics.sight import (
    Obstruction,
    Reference,
    References,
    Registration,
    Repair,
    SecretSight,
    Sight,
    Stage,
)
from secretbinding.metrics.words import REFUSED, STARTING, UNREADABLE_GROUP, Decision, Part
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.models.rotation import Strategy
from secretbinding.naming import stable_digest
from secretbinding.plan import Action, Plan, RegisterJob, WritePolicy, WriteRole
from secretbinding.ports import Json
from secretbinding.render.template import secret_identity
from secretbinding.rollout import deployment_of, is_active, is_live, waits_for_promotion
from secretbinding.rotation import FIRST, SecretDecision
from secretbinding.status import Pass


def references_of(bindings: Iterable[tuple[BindingKey, SecretBinding]]) -> References:
    """The entries of bindings. Neither a version that the binding itself names, nor what is left to Nomad, is rolled by
    the controller."""
    return {
        (key, entry.name): Reference(
            secret_identity(entry),
            binding.spec.rotation.strategy is not Strategy.NATIVE and (entry.kv is None or entry.kv.version is None),
        )
        for key, binding in bindings
        for entry in binding.spec.secrets
    }


def sight_of(found: Pass, references: References, done: Sequence[Action]) -> Sight:
    """What of a pass is counted; `done` are the writes that it has done."""
    observed = found.observed
    job = observed.job or {}
    decided = (found.desired, found.plan) if found.desired is not None and found.plan is not None else found.cut_short
    if decided is None:
        return Sight(decided=False)
    desired, plan = decided
    pins = _pins(job, found.instance)
    secrets = _secrets(found, desired, references, pins, put_off=bool(plan.deferred))
    stages = {int(item.get("JobVersion", -1)): _stage(item) for item in reversed(observed.deployments)}
    version = int(job.get("Version") or 0) if job else -1
    registered = next((action for action in done if isinstance(action, RegisterJob)), None)
    lost = _lost(found, plan, done)
    active = is_active(deployment_of(observed))
    part = part_state(job, found.instance)
    # Where nothing is to be registered, what there is means the same as what is wanted.
    due = plan.registers or bool(plan.deferred)
    wanted = part_state(desired.job, found.instance) if due else part
    return Sight(
        settled=found.error is None and not plan.actions and not plan.waiting and not due and not active,
        version=version,
        part=part,
        stopped=bool(job.get("Stop")),
        rolled=_rolled(job, observed.allocations),
        stages=stages,
        pins=pins,
        secrets=secrets,
        holding=desired.holding(),
        rolling=_rolling(observed.versions, version, secrets, references, found.instance) if active else None,
        registered=_registered(registered, desired, secrets, references, found.instance) if registered else None,
        lost=_registered(lost, desired, secrets, references, found.instance) if lost else None,
        repairs=tuple(_repairs(plan, desired, done, found.instance)),
        wants=frozenset(_wants(desired, wanted)),
    )


def newest_pin(state: SecretState | None) -> Pin | None:
    """The newest version or revision that Vault tells of; None when it does not."""
    if state is None or state.fault is not None:
        return None
    if state.revision is not None:
        return state.revision
    version = state.versions.get(state.current)
    return Pin(version.number, version.created) if version is not None else None


def _secrets(
    found: Pass, desired: Desired, references: References, pins: Mapping[str, frozenset[Pin]], *, put_off: bool
) -> dict[str, SecretSight]:
    secrets: dict[str, SecretSight] = {}
    for key, result in desired.results.items():
        for item in result.secrets:
            reference = references.get((key, item.name))
            if reference is None:
                continue
            state = found.observed.secrets.get((key, item.name))
            one = _secret(item, state, reference, pins.get(reference.of, frozenset()))
            if put_off and reference.followed and is_rotation(item):
                one = replace(one, obstructions=frozenset({Obstruction(Decision.DEFERRED, STARTING)}))
            other = secrets.get(reference.of)
            secrets[reference.of] = one if other is None else _joined(one, other)
    return secrets


def _secret(
    item: SecretDecision, state: SecretState | None, reference: Reference, serving: frozenset[Pin]
) -> SecretSight:
    newest = newest_pin(state)
    wanted = item.waiting or item.pin
    due = wanted is not None and bool(wanted.renewed) and all(pin.renewed < wanted.renewed for pin in serving)
    obstruction = _obstruction(item, newest) if reference.followed else None
    return SecretSight(
        newest=newest,
        versions={number: version.created for number, version in state.versions.items()} if state is not None else {},
        serving=serving,
        renewal=wanted.renewed if due and wanted is not None else "",
        obstructions=frozenset({obstruction} if obstruction is not None else ()),
        at_risk=item.at_risk,
        followed=reference.followed,
    )


def _joined(one: SecretSight, other: SecretSight) -> SecretSight:
    return SecretSight(
        newest=one.newest or other.newest,
        versions=one.versions or other.versions,
        serving=one.serving,
        renewal=max(one.renewal, other.renewal),
        obstructions=one.obstructions | other.obstructions,
        at_risk=one.at_risk or other.at_risk,
        followed=one.followed or other.followed,
    )


def _obstruction(item: SecretDecision, newest: Pin | None) -> Obstruction | None:
    finding = item.hold or item.fault
    if finding is None or item.serving is None:
        return None
    if item.obstacle is not None:
        decision = Decision.LIMITED if item.obstacle is Obstacle.SLOT else Decision.DEFERRED
        return Obstruction(decision, item.obstacle.value)
    if finding.reason is Reason.MANUAL_ROTATION_PENDING:
        return Obstruction(Decision.DEFERRED, finding.reason.value)
    if finding.reason is Reason.NEW_VERSION_HELD:
        return Obstruction(Decision.DEFERRED, UNREADABLE_GROUP)
    if finding.reason in REFUSED and newest not in (None, item.serving):
        return Obstruction(Decision.HELD, finding.reason.value)
    return None


def _pins(job: Json, instance: str) -> dict[str, frozenset[Pin]]:
    found: dict[str, set[Pin]] = {}
    for placed in placed_marks(job, instance):
        if placed.mark.of:
            found.setdefault(placed.mark.of, set()).add(placed.mark.pin or FIRST)
    return {of: frozenset(pins) for of, pins in found.items()}


def _stage(deployment: Json) -> Stage:
    ends = {"successful": Stage.SUCCESSFUL, "failed": Stage.FAILED, "cancelled": Stage.CANCELLED}
    end = ends.get(str(deployment.get("Status")))
    if end is not None:
        return end
    return Stage.WAITING if waits_for_promotion(deployment) else Stage.RUNNING


def _rolled(job: Json, allocations: Sequence[Json]) -> bool:
    """Whether a job that has no deployment of its version is through with its roll. Children of a periodic or
    parameterized job are left alone; a service whose groups have an `update` block is going to have a deployment."""
    if job.get("Periodic") or job.get("ParameterizedJob"):
        return True
    groups = job.get("TaskGroups") or []
    gated = any(group.get("Count") and (group.get("Update") or {}).get("MaxParallel") for group in groups)
    if not job or (gated and job.get("Type", "service") == "service"):
        return False
    live = [item for item in allocations if is_live(item)]
    return all(item.get("JobVersion") == job.get("Version") and item.get("ClientStatus") == "running" for item in live)


def _rolling(
    versions: Sequence[Json], version: int, secrets: Mapping[str, SecretSight], references: References, instance: str
) -> Registration | None:
    """How the present version of the job came about, when the history tells."""
    by_number = {int(job.get("Version") or 0): job for job in versions}
    if version not in by_number or version - 1 not in by_number:
        return None
    changes = _changes(by_number[version - 1], by_number[version], references, instance)
    return _registration(version, "", [change for change in changes if change.is_forward(secrets)], [])


def _lost(found: Pass, plan: Plan, done: Sequence[Action]) -> RegisterJob | None:
    """The registration to which Nomad gave no answer: it is the first of the planned writes that was not done."""
    if found.error is None or found.error.reason is not Reason.NOMAD_UNREACHABLE:
        return None
    undone = next((action for action in plan.actions if not _is_done(action, done)), None)
    return undone if isinstance(undone, RegisterJob) else None


def _registered(
    action: RegisterJob, desired: Desired, secrets: Mapping[str, SecretSight], references: References, instance: str
) -> Registration:
    changes = _changes(action.before, action.job, references, instance)
    forward = [change for change in changes if change.is_forward(secrets)]
    back = [change for change in changes if change not in forward]
    version = int(action.before.get("Version") or 0) + 1
    made = _registration(version, part_state(action.job, instance), forward, back)
    return replace(made, restores=made.restores or (desired.held is not None and not forward))


def _registration(version: int, part: str, forward: Sequence["_Change"], back: Sequence["_Change"]) -> Registration:
    return Registration(
        version=version,
        part=part,
        want=_want(Part.JOB, "", part),
        brought={change.of: change.after for change in forward},
        changed=tuple(moment for change in forward if (moment := change.made_at()) is not None),
        restores=bool(back) and not forward,
    )


class _Change(NamedTuple):
    """Another version of a secret in a job, where there was one before."""

    of: str
    before: Pin
    after: Pin

    def is_forward(self, secrets: Mapping[str, SecretSight]) -> bool:
        """Whether it brings what is newest: a job that goes back gets what it had before."""
        secret = secrets.get(self.of)
        newest = secret.newest if secret is not None else None
        if self.after.version:
            return newest == self.after
        told = newest is not None and self.after.told == newest.told != self.before.told
        return told or self.after.renewed > self.before.renewed

    def made_at(self) -> datetime | None:
        """When Vault made it; None when it does not tell, and for new leases of the same secret."""
        told = self.after.created if self.after.version else self.after.told
        if not self.after.version and told == self.before.told:
            return None
        try:
            moment = datetime.fromisoformat(told)
        except ValueError:
            return None
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _changes(before: Json, after: Json, references: References, instance: str) -> list[_Change]:
    """What differs in the secrets that both have, each once."""
    old = {
        (item.key, item.mark.secret, item.mark.of): item.mark.pin or FIRST for item in placed_marks(before, instance)
    }
    found: dict[str, _Change] = {}
    for placed in placed_marks(after, instance):
        mark = placed.mark
        reference = references.get((placed.key, mark.secret))
        was, now = old.get((placed.key, mark.secret, mark.of)), mark.pin or FIRST
        if reference == (mark.of, True) and was is not None and was != now:
            found[mark.of] = _Change(mark.of, was, now)
    return list(found.values())


def _repairs(plan: Plan, desired: Desired, done: Sequence[Action], instance: str) -> Iterator[Repair]:
    # What was written by an earlier look of the same pass is in no plan any more.
    earlier = [action for action in done if not _is_done(action, plan.actions)]
    for action in (*earlier, *plan.actions):
        want: int | None = None
        match action:
            case WritePolicy(name=name) if name in desired.policies:
                what, want = Part.POLICY, _want(Part.POLICY, name, desired.policies[name])
            case WriteRole(name=name) if name in desired.roles:
                what, want = Part.ROLE, _want(Part.ROLE, name, stable_digest(desired.roles[name]))
            case WriteEngineRole(role=role):
                what, want = Part.ENGINE_ROLE, _want(Part.ENGINE_ROLE, role.path, role.digest)
            case RegisterJob(job=job):
                what, want = Part.JOB, _want(Part.JOB, "", part_state(job, instance))
        if want is not None:
            yield Repair(what, want, _is_done(action, done))


def _wants(desired: Desired, part: str) -> Iterator[int]:
    for name, document in desired.policies.items():
        yield _want(Part.POLICY, name, document)
    for name, body in desired.roles.items():
        yield _want(Part.ROLE, name, stable_digest(body))
    for path, role in desired.engine_roles.items():
        yield _want(Part.ENGINE_ROLE, path, role.digest)
    if desired.job is not None:
        yield _want(Part.JOB, "", part)


def _want(what: Part, name: str, meaning: Hashable) -> int:
    return hash((what, name, meaning))


def _is_done(action: Action, done: Sequence[Action]) -> bool:
    return any(action is each for each in done)
