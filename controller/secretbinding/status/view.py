"""One binding's part of a pass, looked up once, and what the job's history says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from secretbinding.desired.gating import is_rotation
from secretbinding.desired.values import BindingInput, BindingResult, Desired, Observed
from secretbinding.generation import Made
from secretbinding.job.marks import Placed, part_state, placed_marks, serving_pins, share_states
from secretbinding.kinds.base import Fault, Pin
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus
from secretbinding.plan import Plan
from secretbinding.ports import Json
from secretbinding.rollout import all_run, deployment_of, is_active
from secretbinding.rotation import FailedState, SecretDecision, failed_states


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass over a workload found and did.

    Attributes:
        desired, plan: None when the pass ended before they were made.
        error: what ended the pass early; `error_system` is `vault` or `nomad` then.
        registered: the pass registered the job.
        made: new values that the pass has had made.
        cut_short: with an error: what was decided and planned before it, of which a part may have been done.
        faults: why policies do not allow a binding.
        taken: those of them whose share is taken away, though the binding stays.
    """

    instance: str
    observed: Observed
    desired: Desired | None = None
    plan: Plan | None = None
    error: Fault | None = None
    error_system: str = ""
    registered: bool = False
    made: tuple[Made, ...] = ()
    cut_short: tuple[Desired, Plan] | None = None
    faults: Mapping[BindingKey, Fault] = field(default_factory=dict)
    taken: frozenset[BindingKey] = frozenset()


@dataclass(slots=True)
class Draft:
    """A condition before it is dated."""

    status: ConditionStatus
    reason: Reason
    message: str = ""


@dataclass(slots=True)
class View:
    """One binding's part of a pass.

    `job` is as the pass left it. `deployment` is that of its version, None right after a registration.
    """

    item: BindingInput
    found: Pass
    job: Json | None
    placed: tuple[Placed, ...]
    deployment: Json | None
    result: BindingResult | None = None
    drafts: dict[ConditionType, Draft] = field(default_factory=dict)

    @property
    def failure(self) -> FailedState | None:
        """The failure that holds what the binding wants."""
        if self.result is not None and self.result.failed is not None:
            return self.result.failed
        return self.found.desired.held if self.found.desired is not None else None

    @property
    def present(self) -> bool:
        return any(mark.key == self.item.key for mark in self.placed)


def view_of(item: BindingInput, found: Pass) -> View:
    """The view of `item`; of a job that the pass has just registered as it was registered."""
    job = found.observed.job
    if found.registered and found.desired is not None and found.desired.job is not None:
        job = found.desired.job
    placed = tuple(placed_marks(job, found.instance))
    deployment = None if found.registered else deployment_of(found.observed)
    result = found.desired.results.get(item.key) if found.desired is not None else None
    if not item.deleting and item.key in found.faults:
        item = replace(item, frozen=found.faults[item.key])
    return View(item, found, job, placed, deployment, result)


def rolls_cut_short(view: View) -> tuple[SecretDecision, ...]:
    """The decisions that a newer version is to serve, of a pass that an error has ended."""
    result = view.found.cut_short[0].results.get(view.item.key) if view.found.cut_short is not None else None
    if result is None or view.item.deleting:
        return ()
    return tuple(item for item in result.secrets if is_rotation(item))


def pins_in(view: View, job_version: int) -> dict[str, Pin]:
    """What the binding's secrets had in a version of the job, by name; empty when it is not known."""
    pins = serving_pins(placed_marks(_version(view, job_version), view.found.instance), view.item.key)
    return {name: pin for name, (pin, _) in sorted(pins.items())}


def waiting_failure(view: View) -> FailedState | None:
    """The newest failure of a version that waits now for something else (a request, a window), None when there is none:
    somebody asked for it, it was rolled and taken back, and nothing is going to try it again before."""
    waiting = {
        item.name: item.waiting
        for item in (view.result.secrets if view.result is not None else ())
        if item.hold is not None and item.waiting is not None
    }
    found = view.found
    if not waiting or not found.observed.versions:
        return None
    failures = failed_states(found.observed.versions, found.observed.deployments, found.instance)
    for failure in sorted(failures, key=lambda one: one.version, reverse=True):
        pins = pins_in(view, failure.version)
        if any(pins.get(name) == pin for name, pin in waiting.items()):
            return failure
    return None


def told_failure(view: View, previous: SecretBindingStatus) -> Condition | None:
    """What was told of such a failure before, when Nomad's history is not at hand; None when it is another one."""
    told, known = previous.condition(ConditionType.ROTATION_HEALTHY), previous.failed
    if known is None or told is None or told.reason not in (Reason.DEPLOYMENT_REVERTED, Reason.DEPLOYMENT_FAILED):
        return None
    waiting = {
        item.name: item.waiting.label
        for item in (view.result.secrets if view.result is not None else ())
        if item.hold is not None and item.waiting is not None
    }
    return told if any(known.secret_versions.get(name) == label for name, label in waiting.items()) else None


def taken_back(view: View, failure: FailedState) -> bool:
    """True when what failed is out of the job again: Nomad reverted the job, or we took our part back."""
    instance, key = view.found.instance, view.item.key
    failed = _version(view, failure.version)
    if view.result is not None and view.result.failed is not None and failed is not None:
        return share_states(view.job, instance).get(key) != share_states(failed, instance).get(key)
    return part_state(view.job, instance) != failure.part


def recovered(view: View, failure: FailedState) -> bool:
    """True when a job version since the failed one has come through. Nomad calls a version that it reverts to stable at
    once, so that the deployment of it counts where there is one; where it makes none, the allocations do."""
    job, observed = view.job, view.found.observed
    current = job.get("Version") if job is not None else None
    states = {item.get("JobVersion"): item.get("Status") for item in reversed(observed.deployments)}
    if current is not None and int(current) > failure.version and current not in states and not view.found.registered:
        return all_run(observed)
    return any(
        version.get("Stable")
        and int(version.get("Version") or 0) > failure.version
        and states.get(version.get("Version"))
        in ("successful", *(() if version.get("Version") == current else (None,)))
        for version in observed.versions
    )


def lacking(view: View) -> dict[str, Pin]:
    """What the job has to be registered for: the binding's secrets that it has in another version, or not at all."""
    if view.result is None:
        return {}
    return {item.name: item.pin for item in view.result.secrets if item.pin is not None and item.pin != item.serving}


def absent(view: View) -> tuple[str, ...]:
    """The binding's secrets that no task of the job has, though there is nothing wrong with them."""
    there = {mark.mark.secret for mark in view.placed if mark.key == view.item.key}
    decisions = view.result.secrets if view.result is not None else ()
    return tuple(item.name for item in decisions if item.fault is None and item.name not in there)


def rolls(view: View) -> bool:
    """True when what the binding has in the job is another thing than in the newest version that came through: what the
    job's deployment is about, as far as the binding is concerned."""
    stable, instance, key = _newest_stable(view), view.found.instance, view.item.key
    return stable is None or share_states(stable, instance).get(key) != share_states(view.job, instance).get(key)


def served_before(view: View) -> bool:
    """True when the newest version that Nomad calls stable has this binding's share: the first injection succeeded, and
    the share has not been out of the job since."""
    stable = _newest_stable(view)
    return any(mark.key == view.item.key for mark in placed_marks(stable, view.found.instance))


def stable_pins(view: View) -> dict[str, Pin]:
    """The versions in the newest stable job version: what serves while a deployment runs."""
    pins = serving_pins(placed_marks(_newest_stable(view), view.found.instance), view.item.key)
    return {name: pin for name, (pin, _) in pins.items()}


def _version(view: View, number: int) -> Json | None:
    return next((job for job in view.found.observed.versions if job.get("Version") == number), None)


def _newest_stable(view: View) -> Json | None:
    """The newest version that came through; not the one whose deployment is under way, which may have come through
    since it was looked at, or is called stable because it is a copy of such a one."""
    current = (view.found.observed.job or {}).get("Version") if is_active(view.deployment) else None
    stable = (job for job in view.found.observed.versions if job.get("Stable") and job.get("Version") != current)
    return max(stable, key=lambda job: int(job.get("Version") or 0), default=None)
