"""When a new version may be rolled: settling, least interval, windows, and a free slot. Pure; the clock is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from secretbinding.kinds.base import Pin
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.models.rotation import Rotation
from secretbinding.windows import opening

Change = tuple[BindingKey, str, Pin]


@dataclass(frozen=True, slots=True)
class Gate:
    """What the limits are measured against.

    Attributes:
        now: the moment of the decision, in UTC; None lets everything through (one-shot commands, where somebody waits).
        seen: when each new version was first seen by this process, by binding, secret and version.
        slot_free: another roll may begin now, by the limits on rolls in flight.
        looking_until: when no more jobs are waited for that were not looked at since the start; None when all were.
        settle_seconds: how long changes settle where a binding does not say.
        ungated_allowed: groups that Nomad replaces all at once may be rolled without being asked.
        lease_share: the part of a lease's longest life after which a job is rolled at the latest, if nothing hinders.
        leased_jobs: how many jobs have leases that are replaced ahead of their end.
        last_lease_roll: when one of them was last rolled for that.
        shards, shards_of: which of so many shards this controller has; others keep turns of their own.
        last_registration: when this process last registered the job, None when it has not.
        allocations_seen: when this process first saw each allocation, by ID, of a job with leases.
        vault_ahead, nomad_ahead: how much later it is by the server's clock, which its times are to be read by.
    """

    now: datetime | None = None
    seen: Mapping[Change, datetime] = field(default_factory=dict)
    slot_free: bool = True
    looking_until: datetime | None = None
    settle_seconds: float = 0.0
    ungated_allowed: bool = False
    lease_share: float = 0.8
    leased_jobs: int = 0
    last_lease_roll: datetime | None = None
    shards: frozenset[int] = frozenset({0})
    shards_of: int = 1
    last_registration: datetime | None = None
    allocations_seen: Mapping[str, datetime] = field(default_factory=dict)
    vault_ahead: timedelta = timedelta(0)
    nomad_ahead: timedelta = timedelta(0)

    @property
    def part(self) -> float:
        """How much of all jobs this controller has, more than 0."""
        return max(len(self.shards) / self.shards_of, 0.01)


class Obstacle(StrEnum):
    """What a roll, or a new value, waits for, in one word for metrics."""

    SETTLE = "Settle"
    MIN_INTERVAL = "MinInterval"
    WINDOW = "Window"
    LEASE_TURN = "LeaseTurn"
    SLOT = "Slot"
    UNGATED = "UngatedUpdate"
    DEPLOYMENT = "Deployment"
    RETRY = "Retry"


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a roll waits, and until when; None when that is not known."""

    why: str
    obstacle: Obstacle
    until: datetime | None = None
    reason: Reason = Reason.NEW_VERSION_HELD


def first_seen(gate: Gate, change: Change) -> datetime | None:
    """When a change was first known of: when this process saw it, or when Vault says it was made, if that is earlier.
    A version that was written while the controller was down does not settle again. A change that is known is not known
    from the future, whatever its time says."""
    seen = gate.seen.get(change)
    created = _moment(change[2].created)
    known = [seen, created - gate.vault_ahead if created is not None else None]
    moments = [moment for moment in known if moment is not None]
    return min([*moments, gate.now], default=None) if moments and gate.now is not None else min(moments, default=None)


def waits(
    rotation: Rotation,
    gate: Gate,
    *,
    since: datetime | None,
    last_roll: datetime | None,
    ungated: str = "",
    urgent: bool = False,
) -> Wait | None:
    """What a binding's roll has to wait for by what its user says, None when it may begin if there is a place for it
    (`waits_for_place`). `urgent` changes wait for no interval and no window; they settle, so that several make one
    roll.

    `ungated` names a group that Nomad would replace all at once, "" when there is none.
    `since` is when the earliest of the job's pending changes was first known of, so that all that follow within the
    settle time roll with it. `last_roll` is when the job was last rolled for a change of ours.
    """
    now = gate.now
    if now is None:
        return None
    if ungated and not gate.ungated_allowed:
        why = (
            f"group {ungated} has update.max_parallel = 0, so that all its allocations would be replaced at once; "
            "set it to 1 or more, or ask with `rotate`"
        )
        return Wait(why, Obstacle.UNGATED, reason=Reason.UNGATED_UPDATE)
    settle = rotation.settle.seconds if rotation.settle is not None else gate.settle_seconds
    if since is not None and now < since + timedelta(seconds=settle):
        until = since + timedelta(seconds=settle)
        return Wait(f"changes settle until {_text(until)}", Obstacle.SETTLE, until)
    return None if urgent else _by_the_binding(rotation, now, last_roll)


def waits_for_place(gate: Gate, *, not_before: datetime | None = None) -> Wait | None:
    """What a job's roll has to wait for because of other jobs: `not_before`, the turn of one whose leases are to be
    replaced, among others like it; and a free slot."""
    if gate.now is None:
        return None
    if not_before is not None and gate.now < not_before:
        why = f"leases of other jobs are replaced; it is this job's turn at {_text(not_before)}"
        return Wait(why, Obstacle.LEASE_TURN, not_before)
    if gate.looking_until is not None:
        why = "every job is looked at first, since some may be rolling from before the start"
        return Wait(why, Obstacle.SLOT, gate.looking_until)
    if not gate.slot_free:
        return Wait("as many jobs as may are rolling now", Obstacle.SLOT)
    return None


def _by_the_binding(rotation: Rotation, now: datetime, last_roll: datetime | None) -> Wait | None:
    if rotation.min_interval is not None and last_roll is not None:
        until = last_roll + timedelta(seconds=rotation.min_interval.seconds)
        if now < until:
            why = f"the job was rolled at {_text(last_roll)}, and is not again before {_text(until)}"
            return Wait(why, Obstacle.MIN_INTERVAL, until)
    state = opening(rotation.windows, now)
    if not state.allowed:
        until_text = f"; that may change at {_text(state.changes_at)}" if state.changes_at is not None else ""
        return Wait(f"no window is open now{until_text}", Obstacle.WINDOW, state.changes_at)
    return None


def _moment(created: str) -> datetime | None:
    """Vault's created_time, which has nanoseconds, as a datetime."""
    try:
        return datetime.fromisoformat(created[:19] + "+00:00")
    except ValueError:
        return None


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
