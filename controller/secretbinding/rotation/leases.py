"""When credentials that live for a limited time are to be replaced: ahead of their end, each job at its own moment."""

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from secretbinding.models.key import WorkloadKey
from secretbinding.ports import Json

SPREAD = 0.25
"""A job's turn comes up to this share of its latest moment earlier, by a hash of the job."""
TURN_SECONDS = 60.0
"""How far apart the turns of jobs are kept, where their leases are long enough for that."""
_ENDING = 0.03
_PRESSING = 0.02
"""The part of a life in which all jobs have their turns that are overdue: less than is left then."""
_CLOCK_SKEW = timedelta(minutes=1)
"""By how much the clocks of Nomad's servers may differ at any time."""
_STEP_SECONDS = 10
_LIVE = ("pending", "running", "unknown")


@dataclass(frozen=True, slots=True)
class Lease:
    """The leases of one secret in the running allocations of one job.

    Attributes:
        seconds: how long one lives at most, renewals included.
        due: when the job is to be rolled.
        late: when it can wait for windows no longer.
        last: when the turns of other jobs are no longer to keep it waiting for long.
        end: when they end. Nomad then fetches others and restarts the tasks in place, so that what runs is good again.
    """

    seconds: float
    due: datetime
    late: datetime
    last: datetime
    end: datetime

    @property
    def ending(self) -> datetime:
        """When so little is left that tasks which are stopped now lose nothing."""
        return self.end - timedelta(seconds=int(self.seconds * _ENDING))


def lease_of(
    allocations: Iterable[Json],
    groups: Set[str],
    seconds: float,
    workload: WorkloadKey,
    share: float,
    *,
    now: datetime | None = None,
    seen: Mapping[str, datetime] = MappingProxyType({}),
) -> Lease | None:
    """The lease to go by: that of the oldest allocation (Nomad's `CreateTime`) of the groups which may be running,
    since each allocation gets its credentials when it starts. None when none runs, or what it gets does not end.

    `share` is the part of its life after which the last of many jobs is rolled; the others come up to `SPREAD` of that
    earlier, so that jobs which were started together do not roll together. In what is left of it come, each job's at
    its own moment again, `late` and `last`: a herd that a window has held up must not be let go at once.

    `now` and `seen`, when an allocation (by ID) was first seen, are by Nomad's clock as it is set now. What that clock
    has dated before it was set back may lie in the future: such an allocation is as old as it has been known.
    """
    created = [
        _created(item, now, seen)
        for item in allocations
        if item.get("TaskGroup") in groups
        and item.get("ClientStatus") in _LIVE
        # One that Nomad has replaced may stay unknown for as long as its client is away: no roll would change that.
        and item.get("DesiredStatus", "run") == "run"
    ]
    if not created or seconds <= 0:
        return None
    oldest = min(created)
    unit, rest = _unit(workload), 1 - share

    def after(part: float) -> datetime:
        return oldest + timedelta(seconds=int(seconds * part))

    late, last = after(share + rest * (0.25 + 0.4 * unit)), after(share + rest * (0.75 + 0.15 * unit))
    return Lease(seconds, after(share * (1 - SPREAD * unit)), late, last, after(1))


def _created(item: Json, now: datetime | None, seen: Mapping[str, datetime]) -> datetime:
    dated = datetime.fromtimestamp(int(item.get("CreateTime") or 0) // 1_000_000_000, tz=UTC)
    known = seen.get(str(item.get("ID")), now)
    if known is None or dated <= known + _CLOCK_SKEW:
        return dated
    # In steps, so that how well the clock is known makes no other moment of it in each pass.
    return datetime.fromtimestamp(known.timestamp() // _STEP_SECONDS * _STEP_SECONDS, tz=UTC)


def lease_turn(lease: Lease | None, now: datetime | None, requested_at: datetime | None) -> str:
    """The moment for which new credentials are wanted, as text that sorts by time; "" when the ones that run are good
    for now. `now` is None where nobody is to be rolled by the clock."""
    moments: list[datetime] = []
    if lease is not None and now is not None and now >= lease.due:
        moments.append(lease.due)
    if requested_at is not None:
        moments.append(requested_at)
    return _text(max(moments)) if moments else ""


def renewed_for(turn: str, before: str, now: datetime | None) -> str:
    """The newer of a turn and that for which the job was rolled `before`; but one that lies ahead is the work of a
    clock that was set back, and must not keep the others away until then."""
    ahead = now is not None and before > _text(now + _CLOCK_SKEW)
    return turn if turn and ahead else max(before, turn)


def spacing_seconds(
    lease_seconds: float, jobs: int, share: float, *, part: float = 1.0, pressing: bool = False
) -> float:
    """How far apart the turns of `jobs` jobs are kept: a minute where their leases are long enough for it, and longer
    for who has only a `part` of all jobs, so that several controllers together keep that pace."""
    time = lease_seconds * (_PRESSING if pressing else share * SPREAD)
    return min(TURN_SECONDS / part, time / max(jobs, 1))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unit(workload: WorkloadKey) -> float:
    """A number from 0 to 1 that is always the same for a job."""
    text = "\n".join((workload.connection, workload.region, workload.namespace, workload.job))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
