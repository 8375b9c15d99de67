"""Another tool keeps registering a job without our part: to put it back each time would roll it for ever. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from secretbinding.desired.carrying import lacks_our_part
from secretbinding.desired.values import BindingInput, Desired, Observed
from secretbinding.job.inject import user_state
from secretbinding.job.marks import placed_marks
from secretbinding.kinds.base import Fault
from secretbinding.models.reasons import Reason
from secretbinding.ports import Json
from secretbinding.rotation.failures import nanoseconds_to_time

LOSSES = 3
"""So many times our part was taken away: Nomad keeps six versions of a job by default, so that no more can be seen."""
_ANSWER = timedelta(minutes=5)
_SPAN = timedelta(minutes=20)
PAUSE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Fight:
    """Our part was taken away `LOSSES` times by one and the same job file, the last time at `last` (by Nomad's clock);
    it is put in again at `until` (by the controller's)."""

    last: datetime
    until: datetime

    def fault(self) -> Fault:
        return Fault(
            Reason.GITOPS_CONFLICT,
            "something registers the same job without its secrets whenever they are put in, the last time at "
            f"{_text(self.last)}; they are put in again at {_text(self.until)}, or when somebody asks with `rotate`. "
            "Have it register what `secretbinding inject` makes of the file, put NACP before Nomad, or have it ignore "
            "what others change",
        )


def fight(
    observed: Observed, bindings: Sequence[BindingInput], instance: str, *, since: datetime | None = None
) -> Fight | None:
    """The fight that the job's history tells of, as long as it is not our turn. A person who deploys changes something,
    or asks; a tool that puts its file back does it soon after us, and it is the same file each time. `since` is when we
    took our part out ourselves, by Nomad's clock: what was before is no fight, and neither is it where all are leaving.
    """
    now = observed.gate.now
    if now is None or not observed.versions or not lacks_our_part(observed, instance):
        return None
    if all(item.deleting for item in bindings):
        return None
    taken = [job for job in _losses(observed.versions, instance) if since is None or _submitted(job) > since]
    losses = taken[-LOSSES:]
    newest = max(int(job.get("Version") or 0) for job in observed.versions)
    if len(losses) < LOSSES or int(losses[-1].get("Version") or 0) != newest:
        return None
    first, last = _submitted(losses[0]), _submitted(losses[-1])
    until = last - observed.gate.nomad_ahead + PAUSE
    if last - first > _SPAN or now >= until or len({user_state(job, instance) for job in losses}) > 1:
        return None
    asked = [item.rotate_requested_at for item in bindings if item.rotate_requested_at is not None]
    if asked and max(asked) + observed.gate.nomad_ahead > last:
        return None
    return Fight(last, until)


def paused(desired: Desired, found: Fight) -> Desired:
    """The desired state, with the job left as it is. Rights stay, so that nothing is missing when it is our turn."""
    told = found.fault()
    results = {
        key: result if result.fault is not None else replace(result, fault=told)
        for key, result in desired.results.items()
    }
    return replace(desired, job=None, results=results, again_at=found.until)


def _losses(versions: Sequence[Json], instance: str) -> Iterator[Json]:
    """The versions, oldest first, that lack our part soon after one of the same job had it."""
    ordered = sorted(versions, key=lambda job: int(job.get("Version") or 0))
    for before, job in pairwise(ordered):
        ours = any(placed_marks(before, instance))
        if ours and not any(placed_marks(job, instance)) and _submitted(job) - _submitted(before) <= _ANSWER:
            yield job


def _submitted(job: Json) -> datetime:
    return nanoseconds_to_time(int(job.get("SubmitTime") or 0))


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
