"""The condition RotationHealthy: which versions serve, which are on their way, and what became of those that were."""

from collections.abc import Mapping

from secretbinding.job.marks import serving_pins
from secretbinding.job.targets import job_fault
from secretbinding.kinds.base import Fault, Pin
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.rotation import Strategy
from secretbinding.models.status import ConditionStatus, SecretBindingStatus
from secretbinding.rollout import behind, broken, is_active, is_parent, superseded, waits_for_promotion
from secretbinding.rotation import FailedState, SecretDecision
from secretbinding.status.faults import STALLED
from secretbinding.status.view import (
    Draft,
    View,
    lacking,
    pins_in,
    recovered,
    rolls,
    rolls_cut_short,
    stable_pins,
    taken_back,
    told_failure,
    waiting_failure,
)

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
_REMEDY = "write a new version, change the binding or the job, or ask with `rotate`"


def rotation_healthy(view: View, previous: SecretBindingStatus) -> Draft:
    """The condition. `previous` is used for what Nomad has forgotten of a failure."""
    failure = view.failure or waiting_failure(view)
    if failure is not None:
        return _failed(view, failure, previous)
    told = told_failure(view, previous)
    if told is not None:
        reverted = told.reason == Reason.DEPLOYMENT_REVERTED.value
        return Draft(_FALSE, Reason.DEPLOYMENT_REVERTED if reverted else Reason.DEPLOYMENT_FAILED, told.message)
    result = view.result
    blocked = _not_generated(view)
    for decision in result.secrets if result is not None else ():
        if decision.hold is not None or decision.fault is not None:
            held = _held(view, decision)
            # A value that cannot be made is worse than one that waits, and why a secret is missing.
            covered = held.status is _TRUE or held.reason is Reason.SECRET_NOT_FOUND
            return blocked if blocked is not None and covered else held
    if result is not None and result.fault is not None:
        return Draft(_UNKNOWN, result.fault.reason, result.fault.message)
    return _untouchable(view) or _deferred(view) or _moving(view) or blocked or _named_at_risk(view) or _arrived(view)


def refused_roll(view: View, error: Fault) -> Draft | None:
    """What stands in the way of a roll that a server has refused; None when none of the binding was to begin."""
    if error.reason not in STALLED:
        return None
    for decision in rolls_cut_short(view):
        assert decision.pin is not None
        assert decision.serving is not None
        what = f"{decision.pin.title} of {decision.name} cannot be rolled"
        return Draft(_FALSE, error.reason, f"{what}: {error.message}; {decision.serving.title} serves")
    return None


def failed_message(view: View, failure: FailedState, previous: SecretBindingStatus) -> str:
    """What failed, why as far as Nomad says so, what serves, and what to do."""
    failed = _listed(pins_in(view, failure.version)) or "this state"
    told = failure_told(view, failure, previous)
    what = f"the deployment with {failed} failed (job version {failure.version}{f': {told}' if told else ''})"
    serving = {name: pin for name, (pin, _) in sorted(serving_pins(view.placed, view.item.key).items())}
    serves = _listed(serving) or "the job without these secrets"
    if not taken_back(view, failure):
        return f"{what}, and the job keeps it, since there is nothing to go back to; {_REMEDY}"
    if _is_back(view, failure, previous):
        return f"{what}; {serves} serves again, and the failed state is not tried again by itself: {_REMEDY}"
    again = view.deployment
    if again is not None and again.get("Status") == "failed" and again.get("JobVersion") != failure.version:
        version = again.get("JobVersion")
        back = f"the job is back at {serves}, and that deployment (job version {version}) failed as well"
        return f"{what}; {back}; {_REMEDY}"
    return f"{what}; {serves} is being put back, and the failed state is not tried again by itself: {_REMEDY}"


def failure_told(view: View, failure: FailedState, previous: SecretBindingStatus) -> str:
    """Nomad's words for why the deployment failed; as they were reported before where Nomad has forgotten them."""
    for item in view.found.observed.deployments:
        if item.get("JobVersion") == failure.version and item.get("Status") == "failed":
            return str(item.get("StatusDescription") or "")
    before = previous.failed
    return before.message or "" if before is not None and before.job_version == failure.version else ""


def under_way(view: View) -> str:
    """The job's deployment in a sentence, with what it waits for; "" when none is under way."""
    deployment = view.deployment
    if deployment is None or not is_active(deployment):
        return ""
    label = f"deployment {str(deployment.get('ID'))[:8]} of job version {deployment.get('JobVersion')}"
    before = superseded(view.found.observed)
    instead = f"; it took the place of job version {before}, which had not come through" if before is not None else ""
    if waits_for_promotion(deployment):
        promote = f"nomad deployment promote {str(deployment.get('ID'))[:8]}"
        return f"the canaries of {label} are healthy, and wait for `{promote}`{instead}"
    if deployment.get("Status") != "running":
        return f"{label} is {deployment.get('Status')}{instead}"
    by_hand = _health_by_hand(view)
    waits = f", and waits for somebody to set the health of group {by_hand} (health_check manual)" if by_hand else ""
    return f"{label} is running{waits}{instead}"


def _failed(view: View, failure: FailedState, previous: SecretBindingStatus) -> Draft:
    reason = Reason.DEPLOYMENT_REVERTED if _is_back(view, failure, previous) else Reason.DEPLOYMENT_FAILED
    return Draft(_FALSE, reason, failed_message(view, failure, previous))


def _is_back(view: View, failure: FailedState, previous: SecretBindingStatus) -> bool:
    """True when what worked before serves again, or has done so since the failure: what comes later is no matter."""
    if not taken_back(view, failure):
        return False
    told, known = previous.condition(ConditionType.ROTATION_HEALTHY), previous.failed
    before = told is not None and told.reason == Reason.DEPLOYMENT_REVERTED.value
    return recovered(view, failure) or (before and known is not None and known.job_version == failure.version)


def _named_at_risk(view: View) -> Draft | None:
    """Of a version that the binding itself names (`kv.version`), and that nothing newer takes the place of."""
    for decision in view.result.secrets if view.result is not None else ():
        if decision.chosen and decision.at_risk and decision.pin is not None and decision.pin == decision.serving:
            message = (
                f"{decision.pin.title} of {decision.name}, which kv.version names, is the oldest that Vault keeps: the "
                "next version that is written prunes it; name a newer one, or have more kept (max_versions)"
            )
            return Draft(_FALSE, Reason.PINNED_VERSION_AT_RISK, message)
    return None


def _held(view: View, decision: SecretDecision) -> Draft:
    finding = decision.hold or decision.fault
    assert finding is not None
    moving = under_way(view) if view.present else ""
    serving = stable_pins(view).get(decision.name) if moving else decision.serving
    serves = f"; {serving.title} serves" if serving is not None else ""
    if decision.at_risk and finding.reason in _OUTRANKED_BY_RISK:
        message = f"{finding.message}{serves}, and Vault no longer keeps it, or not past the next write"
        return Draft(_FALSE, Reason.PINNED_VERSION_AT_RISK, message)
    ok = finding.reason in (Reason.MANUAL_ROTATION_PENDING, Reason.NEW_VERSION_HELD)
    message = f"{finding.message}{serves}{f'; {moving}' if moving else ''}"
    return Draft(_TRUE if ok else _FALSE, finding.reason, message)


def _untouchable(view: View) -> Draft | None:
    """Of a job that is not registered by us: what stands in it stays, whatever there is in Vault."""
    job = view.job
    if job is None or not view.present:
        return None
    fault = job_fault(job)
    newer = _listed(lacking(view))
    if fault is not None and newer:
        return Draft(_TRUE, fault.reason, f"{newer} is taken when the job is registered again; {fault.message}")
    if fault is None and job.get("Stop"):
        waits = f"; {newer} is taken when it is started" if newer else ""
        return Draft(_TRUE, Reason.JOB_STOPPED, f"the job is stopped{waits}")
    return None


def _deferred(view: View) -> Draft | None:
    deferred = view.found.plan.deferred if view.found.plan is not None else ""
    newer = _listed(lacking(view))
    if not (deferred and newer):
        return None
    return Draft(_TRUE, Reason.NEW_VERSION_HELD, f"{newer} waits for a moment: {deferred}")


def _moving(view: View) -> Draft | None:
    """What rolls through the job's allocations now; None when nothing of this binding's does."""
    if view.found.registered:
        if view.present and not rolls(view):
            return None
        return Draft(_TRUE, Reason.DEPLOYMENT_RUNNING, "the job was registered; its deployment begins")
    moving = under_way(view)
    if moving:
        if view.present and not rolls(view):
            return Draft(_TRUE, Reason.UP_TO_DATE, f"{moving}; it changes nothing of these secrets")
        waits = waits_for_promotion(view.deployment)
        return Draft(_TRUE, Reason.WAITING_FOR_PROMOTION if waits else Reason.DEPLOYMENT_RUNNING, moving)
    return _failed_by_itself(view) or _moving_without_deployment(view)


def _failed_by_itself(view: View) -> Draft | None:
    """What became of the job's deployment when it failed and nothing of ours is held for it: a user's own change, as a
    rule. The job is not as it should be, whoever is to blame."""
    if view.deployment is None or view.deployment.get("Status") != "failed" or not view.present:
        return None
    version, told = view.deployment.get("JobVersion"), view.deployment.get("StatusDescription")
    label = f"the deployment of job version {version} failed{f' ({told})' if told else ''}"
    if rolls(view):
        return Draft(_FALSE, Reason.DEPLOYMENT_FAILED, f"{label}; {_REMEDY}")
    return Draft(_TRUE, Reason.DEPLOYMENT_FAILED, f"{label}; it changes nothing of these secrets: see the job itself")


def _moving_without_deployment(view: View) -> Draft | None:
    late, failed = behind(view.found.observed), broken(view.found.observed)
    why = "Nomad makes no deployment of this job version, and so judges no health"
    if failed:
        return Draft(_FALSE, Reason.DEPLOYMENT_FAILED, f"allocations of the newest job version have failed; {why}")
    if not late or (view.present and not rolls(view)):
        return None
    job = view.job or {}
    system = job.get("Type") == "system"
    if not system and any((group.get("Update") or {}).get("MaxParallel") for group in job.get("TaskGroups") or []):
        return Draft(_TRUE, Reason.DEPLOYMENT_RUNNING, "the job was registered; its deployment begins")
    hint = "; the controller has it go on whenever those of the newest one are healthy" if system else ""
    return Draft(_TRUE, Reason.DEPLOYMENT_RUNNING, f"allocations of older job versions run still; {why}{hint}")


def _not_generated(view: View) -> Draft | None:
    """What hinders a new value that is due."""
    desired = view.found.desired
    for (key, _), found in desired.generations.items() if desired is not None else ():
        if key == view.item.key and found.fault is not None:
            return Draft(_FALSE, found.fault.reason, found.fault.message)
    return None


def _arrived(view: View) -> Draft:
    if not view.present:
        return Draft(_UNKNOWN, Reason.PENDING, "nothing is injected yet")
    if is_parent(view.job or {}):
        return Draft(_TRUE, Reason.UP_TO_DATE, "children that are started from now on have it; others are left alone")
    binding = view.item.binding
    if binding is not None and binding.spec.rotation.strategy is Strategy.NATIVE:
        return Draft(_TRUE, Reason.UP_TO_DATE, "Nomad follows the newest version by itself (strategy Native)")
    return Draft(_TRUE, Reason.UP_TO_DATE)


def _health_by_hand(view: View) -> str:
    """The first group of the binding's whose health nobody but a person sets, "" when there is none."""
    ours = {mark.group for mark in view.placed if mark.key == view.item.key}
    for group in (view.job or {}).get("TaskGroups") or []:
        if group["Name"] in ours and (group.get("Update") or {}).get("HealthCheck") == "manual":
            return str(group["Name"])
    return ""


def _listed(pins: Mapping[str, Pin]) -> str:
    return ", ".join(f"{name} {pin.title}" for name, pin in pins.items())
