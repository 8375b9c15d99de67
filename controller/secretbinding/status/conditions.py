"""The conditions of one binding: which of them hold, and why."""

from collections.abc import Mapping

from secretbinding.job.marks import serving_pins
from secretbinding.job.targets import job_fault
from secretbinding.kinds.base import Fault
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import ConditionStatus, SecretBindingStatus
from secretbinding.rollout import is_active
from secretbinding.ports import Json
from secretbinding.rotation import FailedState
from secretbinding.status.faults import STALLED
from secretbinding.status.view import Draft, View, served_before, versions_in

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


def conditions(view: View, previous: SecretBindingStatus) -> dict[ConditionType, Draft]:
    """The conditions by type. `previous` is used for what a failed pass could not look at."""
    if view.found.error is not None:
        return _after_error(view, view.found.error, previous)
    drafts: dict[ConditionType, Draft] = {}
    item = view.item
    if item.deleting:
        waiting = view.found.plan.waiting if view.found.plan is not None else ""
        drafts[ConditionType.READY] = Draft(_FALSE, Reason.DELETING, waiting)
        drafts[ConditionType.ROTATION_HEALTHY] = _rotation(view)
    else:
        fault = item.frozen or (view.result.fault if view.result is not None else None)
        drafts[ConditionType.VAULT_SYNCED] = _vault(view, fault)
        drafts[ConditionType.JOB_SYNCED] = _job_synced(view, fault)
        drafts[ConditionType.ROTATION_HEALTHY] = _rotation(view)
        drafts[ConditionType.READY] = _ready(view, fault, drafts[ConditionType.JOB_SYNCED])
    drafts[ConditionType.STALLED] = _stalled(drafts)
    return drafts


def _after_error(view: View, error: Fault, previous: SecretBindingStatus) -> dict[ConditionType, Draft]:
    """A pass that could not be finished says what stopped it; what it did not look at stays as it was known."""
    drafts: dict[ConditionType, Draft] = {}
    for kind in ConditionType:
        old = previous.condition(kind)
        if old is not None:
            drafts[kind] = Draft(old.status, _known_reason(old.reason), old.message)
    wrong = ConditionType.JOB_SYNCED if view.found.error_system == "nomad" else ConditionType.VAULT_SYNCED
    drafts[wrong] = Draft(_FALSE if error.reason in STALLED else _UNKNOWN, error.reason, error.message)
    ready = drafts.get(ConditionType.READY)
    if ready is None or ready.status is not _TRUE:
        drafts[ConditionType.READY] = Draft(_FALSE, error.reason, error.message)
    drafts[ConditionType.STALLED] = _stalled({wrong: drafts[wrong]})
    return drafts


def _vault(view: View, fault: Fault | None) -> Draft:
    if fault is not None and fault.reason in (Reason.POLICY_CONFLICT, Reason.ROLE_CONFLICT):
        return Draft(_FALSE, fault.reason, fault.message)
    if fault is not None and view.result is None:
        return Draft(_UNKNOWN, fault.reason, fault.message)
    if view.found.plan is not None and view.found.plan.waiting:
        return Draft(_TRUE, Reason.WIDENED, f"rights that are no longer wanted are kept: {view.found.plan.waiting}")
    return Draft(_TRUE, Reason.SYNCED)


def _job_synced(view: View, fault: Fault | None) -> Draft:
    job = view.found.observed.job
    workload = view.found.observed.workload
    if fault is not None:
        return Draft(_FALSE if fault.reason is not Reason.SUSPENDED else _UNKNOWN, fault.reason, fault.message)
    if job is None:
        message = f"Nomad has no job {workload.job} in namespace {workload.namespace}; policy and role are ready for it"
        return Draft(_FALSE, Reason.JOB_NOT_FOUND, message)
    if view.present:
        return Draft(_TRUE, Reason.SYNCED)
    untouchable = job_fault(job)
    if untouchable is not None:
        return Draft(_FALSE, untouchable.reason, untouchable.message)
    if job.get("Stop"):
        message = f"job {workload.job} is stopped; it gets its secrets when it is registered again"
        return Draft(_FALSE, Reason.JOB_STOPPED, message)
    if view.failure is not None:
        return Draft(_FALSE, Reason.DEPLOYMENT_FAILED, _held_message(view, view.failure))
    return Draft(_FALSE, Reason.PENDING, "no task of the job takes the secrets")


def _ready(view: View, fault: Fault | None, job_synced: Draft) -> Draft:
    if fault is not None and not (fault.reason is Reason.SUSPENDED and view.present):
        return Draft(_FALSE, fault.reason, fault.message)
    if not view.present:
        return Draft(_FALSE, job_synced.reason, job_synced.message)
    if (view.found.observed.job or {}).get("Stop"):
        return Draft(_FALSE, Reason.JOB_STOPPED, "the job is stopped; its secrets are in place for when it is started")
    served = served_before(view)
    if view.found.registered:
        return (
            _serving(view) if served else Draft(_FALSE, Reason.ROLLING_OUT, "the job was registered with its secrets")
        )
    deployment = view.deployment
    if deployment is None or deployment.get("Status") == "successful" or served:
        return _serving(view)
    label = f"deployment {str(deployment.get('ID'))[:8]}"
    if is_active(deployment):
        if _waits_for_promotion(deployment):
            return Draft(_FALSE, Reason.WAITING_FOR_PROMOTION, f"{label} waits for promotion of its canaries")
        return Draft(_FALSE, Reason.ROLLING_OUT, f"{label} is {deployment.get('Status')}")
    return Draft(_FALSE, Reason.DEPLOYMENT_FAILED, f"{label} failed: {deployment.get('StatusDescription') or ''}")


def _serving(view: View) -> Draft:
    if view.item.frozen is not None and view.item.frozen.reason is Reason.SUSPENDED:
        return Draft(_TRUE, Reason.SUSPENDED, view.item.frozen.message)
    return Draft(_TRUE, Reason.READY)


def _rotation(view: View) -> Draft:
    found = view.found
    if view.failure is not None:
        return Draft(_FALSE, Reason.DEPLOYMENT_FAILED, _held_message(view, view.failure))
    result = view.result
    for decision in result.secrets if result is not None else ():
        finding = decision.hold or decision.fault
        if finding is not None:
            serves = f"; {decision.serving.title} serves" if decision.serving is not None else ""
            if decision.at_risk and finding.reason in _OUTRANKED_BY_RISK:
                message = f"{finding.message}{serves}, and Vault no longer keeps it, or not past the next write"
                return Draft(_FALSE, Reason.PINNED_VERSION_AT_RISK, message)
            ok = finding.reason in (Reason.MANUAL_ROTATION_PENDING, Reason.NEW_VERSION_HELD)
            return Draft(_TRUE if ok else _FALSE, finding.reason, f"{finding.message}{serves}")
    if result is not None and result.fault is not None:
        return Draft(_UNKNOWN, result.fault.reason, result.fault.message)
    if found.registered:
        return Draft(_TRUE, Reason.DEPLOYMENT_RUNNING, "the job was registered; its deployment begins")
    if is_active(view.deployment):
        if _waits_for_promotion(view.deployment):
            return Draft(_TRUE, Reason.WAITING_FOR_PROMOTION, "the canaries are healthy; promote the deployment")
        label = str((view.deployment or {}).get("ID"))[:8]
        return Draft(_TRUE, Reason.DEPLOYMENT_RUNNING, f"deployment {label} is running")
    if not view.present:
        return Draft(_UNKNOWN, Reason.PENDING, "nothing is injected yet")
    return Draft(_TRUE, Reason.UP_TO_DATE)


def _held_message(view: View, held: FailedState) -> str:
    versions = versions_in(view, held.version)
    failed = ", ".join(f"{name} {number}" for name, number in versions.items()) or "this state"
    serving = serving_pins(view.placed, view.item.key)
    serves = ", ".join(f"{name} {pin.title}" for name, (pin, _) in sorted(serving.items()))
    return (
        f"the deployment with {failed} failed (job version {held.version}) and is not tried again by itself; "
        f"{serves or 'the job without these secrets'} serves. Write a new version, change the binding or the job, "
        "or ask with `rotate`"
    )


def _stalled(drafts: Mapping[ConditionType, Draft]) -> Draft:
    for kind in (
        ConditionType.VAULT_SYNCED,
        ConditionType.JOB_SYNCED,
        ConditionType.READY,
        ConditionType.ROTATION_HEALTHY,
    ):
        draft = drafts.get(kind)
        if draft is not None and draft.status is not _TRUE and draft.reason in STALLED:
            return Draft(_TRUE, draft.reason, draft.message)
    return Draft(_FALSE, Reason.SYNCED)


def _waits_for_promotion(deployment: Json | None) -> bool:
    for state in ((deployment or {}).get("TaskGroups") or {}).values():
        canaries = int(state.get("DesiredCanaries") or 0)
        healthy = int(state.get("HealthyAllocs") or 0)
        if canaries and not state.get("Promoted") and not state.get("AutoPromote") and healthy >= canaries:
            return True
    return False


def _known_reason(text: str) -> Reason:
    return next((reason for reason in Reason if reason.value == text), Reason.ERROR)
