"""The conditions of one binding: which of them hold, and why."""

from collections.abc import Mapping

from secretbinding.job.targets import job_fault
from secretbinding.kinds.base import Fault
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import ConditionStatus, SecretBindingStatus
from secretbinding.rollout import behind, broken, is_active, waits_for_promotion
from secretbinding.status.faults import STALLED
from secretbinding.status.rolling import failed_message, refused_roll, rotation_healthy, under_way
from secretbinding.status.view import Draft, View, absent, served_before

_UNKNOWN = ConditionStatus.UNKNOWN
_TRUE = ConditionStatus.TRUE
_FALSE = ConditionStatus.FALSE


def conditions(view: View, previous: SecretBindingStatus) -> dict[ConditionType, Draft]:
    """The conditions by type. `previous` is used for what a failed pass could not look at."""
    if view.found.error is not None:
        return _after_error(view, view.found.error, previous)
    drafts: dict[ConditionType, Draft] = {}
    item = view.item
    if item.deleting:
        waiting = view.found.plan.waiting if view.found.plan is not None else ""
        drafts[ConditionType.READY] = Draft(_FALSE, Reason.DELETING, waiting)
        drafts[ConditionType.ROTATION_HEALTHY] = rotation_healthy(view, previous)
    else:
        fault = item.frozen or (view.result.fault if view.result is not None else None)
        drafts[ConditionType.VAULT_SYNCED] = _vault(view, fault)
        drafts[ConditionType.JOB_SYNCED] = _job_synced(view, fault, previous)
        drafts[ConditionType.ROTATION_HEALTHY] = rotation_healthy(view, previous)
        drafts[ConditionType.READY] = _ready(view, fault, drafts[ConditionType.JOB_SYNCED], previous)
        if item.key in view.found.faults and fault is not None:
            _refuse(view, fault, drafts)
            if view.present and item.key not in view.found.taken:
                drafts[ConditionType.READY] = _ready(view, None, drafts[ConditionType.JOB_SYNCED], previous)
    drafts[ConditionType.STALLED] = _stalled(drafts)
    return drafts


def _refuse(view: View, fault: Fault, drafts: dict[ConditionType, Draft]) -> None:
    """What policies do not allow: the rule that would allow it is told once, in Ready. What stays serves on."""
    short = fault.message.partition("\n")[0]
    known = _FALSE if view.item.key in view.found.taken else _UNKNOWN
    drafts[ConditionType.VAULT_SYNCED] = Draft(known, fault.reason, short)
    drafts[ConditionType.JOB_SYNCED] = Draft(known, fault.reason, short)
    drafts[ConditionType.ROTATION_HEALTHY] = Draft(_UNKNOWN, fault.reason, short)
    waiting = view.found.plan.waiting if view.found.plan is not None else ""
    if waiting and known is _FALSE:
        drafts[ConditionType.VAULT_SYNCED] = Draft(
            _FALSE, fault.reason, f"its rights are being taken away: {waiting}; {short}"
        )


def _after_error(view: View, error: Fault, previous: SecretBindingStatus) -> dict[ConditionType, Draft]:
    """A pass that could not be finished says what stopped it; what it did not look at stays as it was known."""
    drafts: dict[ConditionType, Draft] = {}
    for kind in ConditionType:
        old = previous.condition(kind)
        if old is not None:
            drafts[kind] = Draft(old.status, _known_reason(old.reason), old.message)
    wrong = ConditionType.JOB_SYNCED if view.found.error_system == "nomad" else ConditionType.VAULT_SYNCED
    drafts[wrong] = Draft(_FALSE if error.reason in STALLED else _UNKNOWN, error.reason, error.message)
    refused = refused_roll(view, error)
    if refused is not None:
        drafts[ConditionType.ROTATION_HEALTHY] = refused
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
    stolen = _stolen(view)
    if stolen:
        return Draft(_FALSE, Reason.WRAPPING_TOKEN_OPENED, stolen)
    if view.found.plan is not None and view.found.plan.waiting:
        return Draft(_TRUE, Reason.WIDENED, f"rights that are no longer wanted are kept: {view.found.plan.waiting}")
    return Draft(_TRUE, Reason.SYNCED)


def _stolen(view: View) -> str:
    """What is to be said of wrapped secret-ids that somebody else opened; "" when there is none."""
    bringing = view.found.desired.bringing if view.found.desired is not None else {}
    roles = view.result.roles if view.result is not None else ()
    for group, found in sorted(bringing.items()):
        if found.wanted.stolen and found.wanted.role in roles:
            last = max(found.wanted.stolen, key=lambda one: one.at)
            what = (
                "and logged in with the secret-id: revoke its logins and find out who it was"
                if last.used
                else "and did not log in; the secret-id is destroyed"
            )
            seen = f"{last.at:%Y-%m-%dT%H:%M:%SZ}"
            return (
                f"somebody other than the agent opened the wrapped secret-id of index {last.index} of group {group}, "
                f"seen at {seen}, {what}. Once that is done, `secretbinding rotate` takes this back"
            )
    return ""


def _job_synced(view: View, fault: Fault | None, previous: SecretBindingStatus) -> Draft:
    job = view.found.observed.job
    workload = view.found.observed.workload
    if fault is not None:
        return Draft(_FALSE if fault.reason is not Reason.SUSPENDED else _UNKNOWN, fault.reason, fault.message)
    if job is None:
        message = f"Nomad has no job {workload.job} in namespace {workload.namespace}; policy and role are ready for it"
        return Draft(_FALSE, Reason.JOB_NOT_FOUND, message)
    untouchable = job_fault(job)
    if view.present and untouchable is not None and absent(view):
        missing = ", ".join(absent(view))
        message = f"the job was registered without {missing}, which the binding asks for; {untouchable.message}"
        return Draft(_FALSE, untouchable.reason, message)
    if view.present:
        return Draft(_TRUE, Reason.SYNCED)
    if untouchable is not None:
        return Draft(_FALSE, untouchable.reason, untouchable.message)
    if job.get("Stop"):
        message = f"job {workload.job} is stopped; it gets its secrets when it is registered again"
        return Draft(_FALSE, Reason.JOB_STOPPED, message)
    if view.failure is not None:
        return Draft(_FALSE, Reason.DEPLOYMENT_FAILED, failed_message(view, view.failure, previous))
    deferred = view.found.plan.deferred if view.found.plan is not None else ""
    return Draft(_FALSE, Reason.PENDING, deferred or "no task of the job takes the secrets")


def _ready(view: View, fault: Fault | None, job_synced: Draft, previous: SecretBindingStatus) -> Draft:
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
    if served or (deployment is not None and deployment.get("Status") == "successful"):
        return _serving(view)
    if deployment is None:
        return _ready_without_deployment(view, previous)
    if is_active(deployment):
        waits = waits_for_promotion(deployment)
        reason = Reason.WAITING_FOR_PROMOTION if waits else Reason.ROLLING_OUT
        return Draft(_FALSE, reason, under_way(view))
    label = f"deployment {str(deployment.get('ID'))[:8]}"
    return Draft(_FALSE, Reason.DEPLOYMENT_FAILED, f"{label} failed: {deployment.get('StatusDescription') or ''}")


def _ready_without_deployment(view: View, previous: SecretBindingStatus) -> Draft:
    """Nomad makes none for a group with `max_parallel` 0, for one that is scaled to zero, and for a system job that it
    reverts; and it forgets one after an hour."""
    before = previous.condition(ConditionType.READY)
    late = [*behind(view.found.observed), *broken(view.found.observed)]
    if late and (before is None or before.status is not _TRUE):
        return Draft(
            _FALSE, Reason.ROLLING_OUT, "the job has no deployment; not all of its allocations run with the secrets"
        )
    return _serving(view)


def _serving(view: View) -> Draft:
    if view.item.frozen is not None and view.item.frozen.reason is Reason.SUSPENDED:
        return Draft(_TRUE, Reason.SUSPENDED, view.item.frozen.message)
    return Draft(_TRUE, Reason.READY)


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


def _known_reason(text: str) -> Reason:
    return next((reason for reason in Reason if reason.value == text), Reason.ERROR)
