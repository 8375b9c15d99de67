"""The status of one binding from what one pass over its workload found and did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from secretbinding.desired.shares import serving_pins
from secretbinding.desired.values import BindingInput, BindingResult, Desired, Observed
from secretbinding.job.marks import Placed, placed_marks
from secretbinding.job.targets import job_fault
from secretbinding.kinds.base import Fault, Pin
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import (
    Condition,
    ConditionStatus,
    DeploymentStatus,
    FailedState,
    JobStatus,
    SecretBindingStatus,
    SecretStatus,
)
from secretbinding.naming import Owner, policy_name
from secretbinding.plan import Plan, deployment_of, is_active
from secretbinding.ports import Json
from secretbinding.rotation import nanoseconds_to_time
from secretbinding.status.faults import STALLED

_UNKNOWN = ConditionStatus.UNKNOWN
_TRUE = ConditionStatus.TRUE
_FALSE = ConditionStatus.FALSE
# What holds a newer version is less urgent than that an allocation that starts anew could soon not read the old one.
_OUTRANKED_BY_RISK = (
    Reason.MANUAL_ROTATION_PENDING,
    Reason.NEW_VERSION_HELD,
    Reason.UNGATED_UPDATE,
    Reason.SECRET_FIELD_MISSING,
)


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass over a workload found and did.

    Attributes:
        desired, plan: None when the pass ended before they were made.
        error: what ended the pass early; `error_system` is `vault` or `nomad` then.
        registered: the pass registered the job.
    """

    instance: str
    observed: Observed
    desired: Desired | None = None
    plan: Plan | None = None
    error: Fault | None = None
    error_system: str = ""
    registered: bool = False


@dataclass(slots=True)
class _Draft:
    status: ConditionStatus
    reason: Reason
    message: str = ""


@dataclass(slots=True)
class _View:
    """One binding's part of a pass, looked up once."""

    item: BindingInput
    found: Pass
    placed: tuple[Placed, ...]
    deployment: Json | None
    result: BindingResult | None = None
    drafts: dict[ConditionType, _Draft] = field(default_factory=dict)

    @property
    def present(self) -> bool:
        return any(mark.key == self.item.key for mark in self.placed)


def compute_status(
    item: BindingInput, found: Pass, previous: SecretBindingStatus, now: datetime, *, request: str = ""
) -> SecretBindingStatus:
    """The status of `item`. `previous` is used for transition times and for what a failed pass could not look at.

    `request` is the text of a request to rotate, which the pass has answered unless it failed.
    """
    job = found.observed.job
    if found.registered and found.desired is not None and found.desired.job is not None:
        job = found.desired.job
    placed = tuple(placed_marks(job, found.instance))
    deployment = None if found.registered else deployment_of(found.observed)
    view = _View(item, found, placed, deployment)
    if found.desired is not None:
        view.result = found.desired.results.get(item.key)
    drafts = _conditions(view, previous)
    failed = _failed(view)
    handled = request if request and found.error is None else previous.last_handled_rotate_at
    status = SecretBindingStatus(
        observed_generation=item.generation or None,
        conditions=_dated(drafts, previous, now, item.generation),
        secrets=_secrets(view, previous),
        policies=(policy_name(Owner(found.instance, item.key)),) if _has_policy(view) else previous.policies,
        roles=view.result.roles if view.result is not None else previous.roles,
        job=_job(found.observed) or previous.job,
        deployment=_deployment(view) or (previous.deployment if found.error is not None else None),
        last_rotation_time=previous.last_rotation_time,
        last_handled_rotate_at=handled or None,
        failed=failed if found.error is None else previous.failed,
    )
    if _rotated(previous, status):
        status = status.model_copy(update={"last_rotation_time": _stamp(now)})
    return status


def _conditions(view: _View, previous: SecretBindingStatus) -> dict[ConditionType, _Draft]:
    if view.found.error is not None:
        return _after_error(view, view.found.error, previous)
    drafts: dict[ConditionType, _Draft] = {}
    item = view.item
    if item.deleting:
        waiting = view.found.plan.waiting if view.found.plan is not None else ""
        drafts[ConditionType.READY] = _Draft(_FALSE, Reason.DELETING, waiting)
        drafts[ConditionType.ROTATION_HEALTHY] = _rotation(view)
    else:
        fault = item.frozen or (view.result.fault if view.result is not None else None)
        drafts[ConditionType.VAULT_SYNCED] = _vault(view, fault)
        drafts[ConditionType.JOB_SYNCED] = _job_synced(view, fault)
        drafts[ConditionType.ROTATION_HEALTHY] = _rotation(view)
        drafts[ConditionType.READY] = _ready(view, fault, drafts[ConditionType.JOB_SYNCED])
    drafts[ConditionType.STALLED] = _stalled(drafts)
    return drafts


def _after_error(view: _View, error: Fault, previous: SecretBindingStatus) -> dict[ConditionType, _Draft]:
    """A pass that could not be finished says what stopped it; what it did not look at stays as it was known."""
    drafts: dict[ConditionType, _Draft] = {}
    for kind in ConditionType:
        old = previous.condition(kind)
        if old is not None:
            drafts[kind] = _Draft(old.status, _known_reason(old.reason), old.message)
    wrong = ConditionType.JOB_SYNCED if view.found.error_system == "nomad" else ConditionType.VAULT_SYNCED
    drafts[wrong] = _Draft(_FALSE if error.reason in STALLED else _UNKNOWN, error.reason, error.message)
    ready = drafts.get(ConditionType.READY)
    if ready is None or ready.status is not _TRUE:
        drafts[ConditionType.READY] = _Draft(_FALSE, error.reason, error.message)
    drafts[ConditionType.STALLED] = _stalled({wrong: drafts[wrong]})
    return drafts


def _vault(view: _View, fault: Fault | None) -> _Draft:
    if fault is not None and fault.reason in (Reason.POLICY_CONFLICT, Reason.ROLE_CONFLICT):
        return _Draft(_FALSE, fault.reason, fault.message)
    if fault is not None and view.result is None:
        return _Draft(_UNKNOWN, fault.reason, fault.message)
    if view.found.plan is not None and view.found.plan.waiting:
        return _Draft(_TRUE, Reason.WIDENED, f"rights that are no longer wanted are kept: {view.found.plan.waiting}")
    return _Draft(_TRUE, Reason.SYNCED)


def _job_synced(view: _View, fault: Fault | None) -> _Draft:
    job = view.found.observed.job
    workload = view.found.observed.workload
    if fault is not None:
        return _Draft(_FALSE if fault.reason is not Reason.SUSPENDED else _UNKNOWN, fault.reason, fault.message)
    if job is None:
        message = f"Nomad has no job {workload.job} in namespace {workload.namespace}; policy and role are ready for it"
        return _Draft(_FALSE, Reason.JOB_NOT_FOUND, message)
    if view.present:
        return _Draft(_TRUE, Reason.SYNCED)
    untouchable = job_fault(job)
    if untouchable is not None:
        return _Draft(_FALSE, untouchable.reason, untouchable.message)
    if job.get("Stop"):
        message = f"job {workload.job} is stopped; it gets its secrets when it is registered again"
        return _Draft(_FALSE, Reason.JOB_STOPPED, message)
    if view.found.desired is not None and view.found.desired.held is not None:
        return _Draft(_FALSE, Reason.DEPLOYMENT_FAILED, _held_message(view))
    return _Draft(_FALSE, Reason.PENDING, "no task of the job takes the secrets")


def _ready(view: _View, fault: Fault | None, job_synced: _Draft) -> _Draft:
    if fault is not None and not (fault.reason is Reason.SUSPENDED and view.present):
        return _Draft(_FALSE, fault.reason, fault.message)
    if not view.present:
        return _Draft(_FALSE, job_synced.reason, job_synced.message)
    if (view.found.observed.job or {}).get("Stop"):
        return _Draft(_FALSE, Reason.JOB_STOPPED, "the job is stopped; its secrets are in place for when it is started")
    served = _served_before(view)
    if view.found.registered:
        return (
            _serving(view) if served else _Draft(_FALSE, Reason.ROLLING_OUT, "the job was registered with its secrets")
        )
    deployment = view.deployment
    if deployment is None or deployment.get("Status") == "successful" or served:
        return _serving(view)
    label = f"deployment {str(deployment.get('ID'))[:8]}"
    if is_active(deployment):
        if _waits_for_promotion(deployment):
            return _Draft(_FALSE, Reason.WAITING_FOR_PROMOTION, f"{label} waits for promotion of its canaries")
        return _Draft(_FALSE, Reason.ROLLING_OUT, f"{label} is {deployment.get('Status')}")
    return _Draft(_FALSE, Reason.DEPLOYMENT_FAILED, f"{label} failed: {deployment.get('StatusDescription') or ''}")


def _serving(view: _View) -> _Draft:
    if view.item.frozen is not None and view.item.frozen.reason is Reason.SUSPENDED:
        return _Draft(_TRUE, Reason.SUSPENDED, view.item.frozen.message)
    return _Draft(_TRUE, Reason.READY)


def _rotation(view: _View) -> _Draft:
    found = view.found
    if found.desired is not None and found.desired.held is not None:
        return _Draft(_FALSE, Reason.DEPLOYMENT_FAILED, _held_message(view))
    result = view.result
    for decision in result.secrets if result is not None else ():
        finding = decision.hold or decision.fault
        if finding is not None:
            serves = f"; version {decision.serving.version} serves" if decision.serving is not None else ""
            if decision.at_risk and finding.reason in _OUTRANKED_BY_RISK:
                message = f"{finding.message}{serves}, and Vault no longer keeps it, or not past the next write"
                return _Draft(_FALSE, Reason.PINNED_VERSION_AT_RISK, message)
            ok = finding.reason in (Reason.MANUAL_ROTATION_PENDING, Reason.NEW_VERSION_HELD)
            return _Draft(_TRUE if ok else _FALSE, finding.reason, f"{finding.message}{serves}")
    if result is not None and result.fault is not None:
        return _Draft(_UNKNOWN, result.fault.reason, result.fault.message)
    if found.registered:
        return _Draft(_TRUE, Reason.DEPLOYMENT_RUNNING, "the job was registered; its deployment begins")
    if is_active(view.deployment):
        if _waits_for_promotion(view.deployment):
            return _Draft(_TRUE, Reason.WAITING_FOR_PROMOTION, "the canaries are healthy; promote the deployment")
        label = str((view.deployment or {}).get("ID"))[:8]
        return _Draft(_TRUE, Reason.DEPLOYMENT_RUNNING, f"deployment {label} is running")
    if not view.present:
        return _Draft(_UNKNOWN, Reason.PENDING, "nothing is injected yet")
    return _Draft(_TRUE, Reason.UP_TO_DATE)


def _held_message(view: _View) -> str:
    held = view.found.desired.held if view.found.desired is not None else None
    if held is None:
        return ""
    versions = _versions_in(view, held.version)
    failed = ", ".join(f"{name} version {number}" for name, number in versions.items()) or "this state"
    serving = serving_pins(view.placed, view.item.key)
    serves = ", ".join(f"{name} version {pin.version}" for name, (pin, _) in sorted(serving.items()))
    return (
        f"the deployment with {failed} failed (job version {held.version}) and is not tried again by itself; "
        f"{serves or 'the job without these secrets'} serves. Write a new version, change the binding or the job, "
        "or ask with `rotate`"
    )


def _failed(view: _View) -> FailedState | None:
    held = view.found.desired.held if view.found.desired is not None else None
    if held is None:
        return None
    return FailedState(
        state=held.part or "removed",
        secret_versions=_versions_in(view, held.version),
        job_version=held.version,
        at=_stamp(nanoseconds_to_time(held.at)),
    )


def _versions_in(view: _View, job_version: int) -> dict[str, str]:
    for job in view.found.observed.versions:
        if job.get("Version") == job_version:
            pins = serving_pins(placed_marks(job, view.found.instance), view.item.key)
            return {name: str(pin.version) for name, (pin, _) in sorted(pins.items())}
    return {}


def _stalled(drafts: Mapping[ConditionType, _Draft]) -> _Draft:
    for kind in (
        ConditionType.VAULT_SYNCED,
        ConditionType.JOB_SYNCED,
        ConditionType.READY,
        ConditionType.ROTATION_HEALTHY,
    ):
        draft = drafts.get(kind)
        if draft is not None and draft.status is not _TRUE and draft.reason in STALLED:
            return _Draft(_TRUE, draft.reason, draft.message)
    return _Draft(_FALSE, Reason.SYNCED)


def _served_before(view: _View) -> bool:
    """True when Nomad has called a version with this binding's share stable: the first injection succeeded."""
    for job in view.found.observed.versions:
        if job.get("Stable") and any(mark.key == view.item.key for mark in placed_marks(job, view.found.instance)):
            return True
    return False


def _waits_for_promotion(deployment: Json | None) -> bool:
    for state in ((deployment or {}).get("TaskGroups") or {}).values():
        canaries = int(state.get("DesiredCanaries") or 0)
        healthy = int(state.get("HealthyAllocs") or 0)
        if canaries and not state.get("Promoted") and not state.get("AutoPromote") and healthy >= canaries:
            return True
    return False


def _secrets(view: _View, previous: SecretBindingStatus) -> tuple[SecretStatus, ...]:
    result = view.result
    if result is None or view.found.error is not None:
        return previous.secrets
    statuses: list[SecretStatus] = []
    rolling = view.found.registered or is_active(view.deployment)
    stable = _stable_pins(view) if rolling else {}
    held = view.found.desired.held if view.found.desired is not None else None
    wanted_before = _versions_in(view, held.version) if held is not None else {}
    for decision in result.secrets:
        serving: Pin | None = decision.serving
        if view.found.registered and not stable:
            serving = decision.serving
        elif rolling:
            serving = stable.get(decision.name)
        wanted = decision.newest if decision.hold is not None else (decision.pin.version if decision.pin else 0)
        finding = decision.hold or decision.fault
        state = view.found.observed.secrets.get((view.item.key, decision.name))
        version = state.versions.get(wanted) if state is not None else None
        statuses.append(
            SecretStatus(
                name=decision.name,
                serving_version=str(serving.version) if serving is not None else None,
                wanted_version=wanted_before.get(decision.name) or (str(wanted) if wanted else None),
                changed_at=_seconds(version.created) if version is not None else None,
                next_rotation_at=_stamp(decision.until) if decision.until is not None else None,
                message=finding.message if finding is not None else None,
            )
        )
    return tuple(statuses)


def _stable_pins(view: _View) -> dict[str, Pin]:
    """The versions in the newest stable job version: what serves while a deployment runs."""
    newest_first: Sequence[Json] = sorted(
        view.found.observed.versions, key=lambda job: int(job.get("Version") or 0), reverse=True
    )
    for job in newest_first:
        if job.get("Stable"):
            pins = serving_pins(placed_marks(job, view.found.instance), view.item.key)
            return {name: pin for name, (pin, _) in pins.items()}
    return {}


def _has_policy(view: _View) -> bool:
    return view.found.desired is not None and any(
        document.owner.key == view.item.key for document in view.found.desired.policies.values()
    )


def _job(observed: Observed) -> JobStatus | None:
    job: Mapping[str, Any] | None = observed.job
    if job is None:
        return None
    return JobStatus(
        namespace=observed.workload.namespace,
        id=observed.workload.job,
        version=int(job.get("Version") or 0),
        modify_index=int(job.get("JobModifyIndex") or 0),
    )


def _deployment(view: _View) -> DeploymentStatus | None:
    if view.deployment is None or not view.present:
        return None
    return DeploymentStatus(id=str(view.deployment.get("ID")), status=str(view.deployment.get("Status")))


def _rotated(before: SecretBindingStatus, after: SecretBindingStatus) -> bool:
    old, new = before.condition(ConditionType.ROTATION_HEALTHY), after.condition(ConditionType.ROTATION_HEALTHY)
    running = (Reason.DEPLOYMENT_RUNNING.value, Reason.WAITING_FOR_PROMOTION.value)
    return old is not None and new is not None and old.reason in running and new.reason == Reason.UP_TO_DATE.value


def _dated(
    drafts: Mapping[ConditionType, _Draft], previous: SecretBindingStatus, now: datetime, generation: int
) -> tuple[Condition, ...]:
    conditions: list[Condition] = []
    for kind in ConditionType:
        draft = drafts.get(kind)
        if draft is None:
            continue
        old = previous.condition(kind)
        same = old is not None and old.status == draft.status
        conditions.append(
            Condition(
                type=kind.value,
                status=draft.status,
                reason=draft.reason.value,
                message=draft.message,
                last_transition_time=old.last_transition_time if old is not None and same else _stamp(now),
                observed_generation=generation or None,
            )
        )
    return tuple(conditions)


def _known_reason(text: str) -> Reason:
    return next((reason for reason in Reason if reason.value == text), Reason.ERROR)


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(created: str) -> str | None:
    """Vault's created_time, cut to whole seconds as Kubernetes' times are."""
    return f"{created[:19]}Z" if len(created) >= 19 and created.endswith("Z") else None
