"""One binding's part of a pass, looked up once, and what the job's history says of it."""

from dataclasses import dataclass, field

from secretbinding.desired.values import BindingInput, BindingResult, Desired, Observed
from secretbinding.job.marks import Placed, placed_marks, serving_pins
from secretbinding.kinds.base import Fault, Pin
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import ConditionStatus
from secretbinding.plan import Plan
from secretbinding.rollout import deployment_of
from secretbinding.ports import Json
from secretbinding.rotation import FailedState


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
class Draft:
    """A condition before it is dated."""

    status: ConditionStatus
    reason: Reason
    message: str = ""


@dataclass(slots=True)
class View:
    """One binding's part of a pass.

    `deployment` is that of the job's current version, None right after a registration.
    """

    item: BindingInput
    found: Pass
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
    return View(item, found, placed, deployment, result)


def versions_in(view: View, job_version: int) -> dict[str, str]:
    """The versions that the binding's secrets had in a version of the job, by name; empty when it is not known."""
    for job in view.found.observed.versions:
        if job.get("Version") == job_version:
            pins = serving_pins(placed_marks(job, view.found.instance), view.item.key)
            return {name: pin.label for name, (pin, _) in sorted(pins.items())}
    return {}


def served_before(view: View) -> bool:
    """True when the newest version that Nomad calls stable has this binding's share: the first injection succeeded, and
    the share has not been out of the job since."""
    stable = _newest_stable(view)
    return any(mark.key == view.item.key for mark in placed_marks(stable, view.found.instance))


def stable_pins(view: View) -> dict[str, Pin]:
    """The versions in the newest stable job version: what serves while a deployment runs."""
    pins = serving_pins(placed_marks(_newest_stable(view), view.found.instance), view.item.key)
    return {name: pin for name, (pin, _) in pins.items()}


def _newest_stable(view: View) -> Json | None:
    stable = (job for job in view.found.observed.versions if job.get("Stable"))
    return max(stable, key=lambda job: int(job.get("Version") or 0), default=None)
