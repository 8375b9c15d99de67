"""The status of one binding from what one pass over its workload found and did."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from secretbinding.desired.requests import waits_for_its_time
from secretbinding.desired.values import BindingInput, Observed
from secretbinding.generation import Generation
from secretbinding.kinds.base import Pin, SecretState
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import (
    GENERATE_REQUEST_LENGTH,
    ROTATE_REQUEST_LENGTH,
    Condition,
    DeploymentStatus,
    FailedState,
    JobStatus,
    SecretBindingStatus,
    SecretStatus,
)
from secretbinding.naming import Owner, policy_name
from secretbinding.rollout import behind, is_active
from secretbinding.rotation import SecretDecision, nanoseconds_to_time
from secretbinding.status.conditions import conditions
from secretbinding.status.rolling import failure_told
from secretbinding.status.view import (
    Draft,
    Pass,
    View,
    pins_in,
    rolls,
    rolls_cut_short,
    stable_pins,
    told_failure,
    view_of,
    waiting_failure,
)

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[^ ]*Z\Z")


@dataclass(frozen=True, slots=True)
class Requests:
    """What somebody asks of a binding, as texts: for a roll, which a pass answers unless it fails, and for new values,
    which are answered when they have been made."""

    rotate: str = ""
    generate: str = ""


def compute_status(
    item: BindingInput,
    found: Pass,
    previous: SecretBindingStatus,
    now: datetime,
    *,
    requests: Requests = Requests(),
) -> SecretBindingStatus:
    """The status of `item`. `previous` is used for transition times and for what a failed pass could not look at."""
    view = view_of(item, found)
    drafts = conditions(view, previous)
    failed = _failed(view, previous)
    handled = previous.last_handled_rotate_at
    put_off = found.plan is not None and bool(found.plan.deferred)
    if requests.rotate and found.error is None and not put_off and not _waits(item, found):
        handled = requests.rotate[:ROTATE_REQUEST_LENGTH]
    generated = previous.last_handled_generate_at
    if _generated(view, requests):
        generated = requests.generate[:GENERATE_REQUEST_LENGTH]
    status = SecretBindingStatus(
        observed_generation=item.generation or None,
        conditions=_dated(drafts, previous, now, item.generation),
        secrets=_secrets(view, previous),
        policies=(policy_name(Owner(found.instance, item.key)),) if _has_policy(view) else previous.policies,
        roles=view.result.roles if view.result is not None else previous.roles,
        job=_job(found.observed) or previous.job,
        deployment=_deployment(view) or _known_deployment(view, previous),
        last_rotation_time=previous.last_rotation_time,
        last_handled_rotate_at=handled or None,
        last_handled_generate_at=generated or None,
        failed=failed if found.error is None else previous.failed,
    )
    if item.key in found.taken and found.plan is not None and item.key in found.plan.gone:
        status = status.model_copy(update={"secrets": (), "policies": (), "roles": (), "job": None, "deployment": None})
    if _rotated(previous, status):
        status = status.model_copy(update={"last_rotation_time": _stamp(now)})
    return status


def _waits(item: BindingInput, found: Pass) -> bool:
    """True when a request for a roll is kept for later: its time has not come, the binding stays as it is, or one of
    its secrets could not be looked at."""
    observed = found.observed
    if item.frozen is not None or waits_for_its_time(item, observed.gate.now):
        return True
    states = [state for (key, _), state in observed.secrets.items() if key == item.key]
    return any(state.fault is not None and state.fault.reason is not Reason.SECRET_NOT_FOUND for state in states)


def _generations(view: View) -> list[Generation]:
    """What was decided about new values of the binding."""
    desired = view.found.desired
    return [found for (key, _), found in desired.generations.items() if key == view.item.key] if desired else []


def _generated(view: View, requests: Requests) -> bool:
    """True when a request for new values has been answered: every secret that it is for has changed since. One that
    cannot be read is answered as well, by an event."""
    request = view.item.generate_request
    if requests.generate and request is None:
        return view.found.error is None
    if not requests.generate or request is None or view.found.error is not None or view.found.made:
        return False
    wanted = view.item.binding.spec.rotation.generate if view.item.binding is not None else ()
    decided = {found.entry.secret: found for found in _generations(view)}
    asked = [entry.secret for entry in wanted if request.covers(entry.secret)]
    return bool(asked) and all(name in decided and not decided[name].open for name in asked)


def _failed(view: View, previous: SecretBindingStatus) -> FailedState | None:
    held = view.failure or waiting_failure(view)
    if held is None:
        return previous.failed if told_failure(view, previous) is not None else None
    return FailedState(
        state=held.part or "removed",
        secret_versions={name: pin.label for name, pin in pins_in(view, held.version).items()},
        job_version=held.version,
        at=_stamp(nanoseconds_to_time(held.at)),
        message=failure_told(view, held, previous) or None,
    )


def _secrets(view: View, previous: SecretBindingStatus) -> tuple[SecretStatus, ...]:
    result = view.result
    if result is None or view.found.error is not None:
        refused = {item.name: item.pin for item in rolls_cut_short(view)}
        return tuple(_wanting(view, one, refused.get(one.name)) for one in previous.secrets)
    statuses: list[SecretStatus] = []
    late = behind(view.found.observed) if not view.found.registered else ()
    rolling = view.found.registered or is_active(view.deployment) or bool(late)
    # A version whose deployment failed serves nowhere, or not for long.
    rolling = rolling or (view.deployment is not None and view.deployment.get("Status") == "failed" and rolls(view))
    stable = stable_pins(view) if rolling else {}
    if late:
        # What is not deployed has no stable version to speak of.
        stable = stable or pins_in(view, min(int(item.get("JobVersion") or 0) for item in late))
    failed = pins_in(view, view.failure.version) if view.failure is not None else {}
    for decision in result.secrets:
        serving: Pin | None = decision.serving
        if view.found.registered and not stable:
            serving = decision.serving
        elif rolling:
            serving = stable.get(decision.name)
        wanted = failed.get(decision.name) or _wanted(decision)
        finding = decision.hold or decision.fault
        coming = next((found for found in _generations(view) if found.entry.secret == decision.name), None)
        dates = [date for date in (decision.until, coming.until if coming is not None else None) if date is not None]
        told = finding.message if finding is not None else coming.message if coming is not None else ""
        state = view.found.observed.secrets.get((view.item.key, decision.name))
        statuses.append(
            SecretStatus(
                name=decision.name,
                serving_version=(serving.label or None) if serving is not None else None,
                wanted_version=(wanted.label or None) if wanted is not None else None,
                changed_at=_changed_at(wanted, state),
                next_rotation_at=_stamp(min(dates)) if dates else None,
                message=told or None,
            )
        )
    return tuple(statuses)


def _wanting(view: View, known: SecretStatus, pin: Pin | None) -> SecretStatus:
    """What was told of a secret, with the version that was to be rolled; None where none was."""
    if pin is None or not pin.label:
        return known
    state = view.found.observed.secrets.get((view.item.key, known.name))
    return known.model_copy(update={"wanted_version": pin.label, "changed_at": _changed_at(pin, state)})


def _wanted(decision: SecretDecision) -> Pin | None:
    """What the job should read, though something may hold it back, or Nomad sees to it by itself."""
    if decision.fault is not None or (decision.hold is None and decision.pin is not None):
        return decision.pin
    return decision.waiting or (Pin(decision.newest, "") if decision.newest else None)


def _changed_at(wanted: Pin | None, state: SecretState | None) -> str | None:
    """When the wanted version or revision was made, as far as that is told."""
    if wanted is None or state is None:
        return None
    version = state.versions.get(wanted.version)
    return _seconds(version.created if version is not None else wanted.created)


def _has_policy(view: View) -> bool:
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


def _deployment(view: View) -> DeploymentStatus | None:
    if view.deployment is None or not view.present:
        return None
    return DeploymentStatus(id=str(view.deployment.get("ID")), status=str(view.deployment.get("Status")))


def _known_deployment(view: View, previous: SecretBindingStatus) -> DeploymentStatus | None:
    """What was known of the deployment, when this pass could not look; or when Nomad has forgotten it, as it does after
    an hour, while the job is the one that it brought: forgetting is no change."""
    if view.found.error is not None:
        return previous.deployment
    same = previous.job is not None and _job(view.found.observed) == previous.job and not view.found.registered
    return previous.deployment if same and view.present and not view.found.observed.deployments else None


def _rotated(before: SecretBindingStatus, after: SecretBindingStatus) -> bool:
    """True when another version has come to serve in all allocations."""
    old, new = before.condition(ConditionType.ROTATION_HEALTHY), after.condition(ConditionType.ROTATION_HEALTHY)
    if old is None or new is None or new.reason != Reason.UP_TO_DATE.value:
        return False
    served = {secret.name: secret.serving_version for secret in before.secrets}
    return any(
        secret.serving_version is not None and secret.serving_version != served.get(secret.name)
        for secret in after.secrets
    )


def _dated(
    drafts: Mapping[ConditionType, Draft], previous: SecretBindingStatus, now: datetime, generation: int
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


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(created: str) -> str | None:
    """Vault's created_time, cut to whole seconds as Kubernetes' times are."""
    return f"{created[:19]}Z" if _TIME.match(created) else None
