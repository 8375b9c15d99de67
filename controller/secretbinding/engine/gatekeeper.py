"""What the limits on rolls need to remember while the process runs: changes seen, and rolls in flight."""

import threading
import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from secretbinding.desired.gating import leases_replaced, rotations_in, turn_of
from secretbinding.desired.values import Desired
from secretbinding.gate import Change, Gate, Obstacle
from secretbinding.models.key import WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.rollout import behind, deployment_of, is_active, waits_for_promotion
from secretbinding.status import Pass


@dataclass(frozen=True, slots=True)
class Limits:
    """How many jobs may roll for a new secret version at once; 0 means any number.

    Attributes:
        rolls: of the whole controller.
        rolls_per_namespace: in one Nomad namespace.
        settle_seconds: how long changes settle where a binding does not say.
        ungated_allowed: groups that Nomad replaces all at once may be rolled without being asked.
        lease_share: the part of a lease's longest life after which a job is rolled at the latest.
    """

    rolls: int = 20
    rolls_per_namespace: int = 0
    settle_seconds: float = 10.0
    ungated_allowed: bool = False
    lease_share: float = 0.8


_REFUSALS = frozenset({Reason.PERMISSION_DENIED, Reason.REJECTED, Reason.WRITE_CONFLICT})
_NOT_BEGUN_SECONDS = 600.0
"""How long a registration that Nomad begins no deployment of takes a place."""

_LOOK_SECONDS = 60.0
"""How long rolls wait at a start for a first look at every job: one may roll already."""
_VALUE_SECONDS = 30.0
"""How long a value that was made keeps the place of its roll, beyond what it settles, until the roll begins, or, where
the job cannot be looked at, at all."""

_TOLD_SECONDS = 10.0
"""How long a place is kept for a job that was told of it."""

ALL_SHARDS = (frozenset({0}), 1)

Ahead = Callable[[], timedelta]


def _level() -> timedelta:
    return timedelta(0)


class Gatekeeper:
    """Thread-safe. Forgetting everything does no harm: changes settle anew at most, and a deployment that is under way
    at the first pass over its job counts as a roll in flight.

    `now` is the wall clock, for windows and for what servers date; `clock` gives seconds that never go back, by which
    everything is timed that begins here, so that setting the wall clock changes nothing of it. `vault_ahead` and
    `nomad_ahead` tell how much later it is by the servers' clocks. `shards` tells which of how many shards of all jobs
    are this controller's, and so its part of the limits, which several controllers keep together; each may roll at
    least one.
    """

    def __init__(
        self,
        limits: Limits,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        clock: Callable[[], float] = time.monotonic,
        vault_ahead: Ahead = _level,
        nomad_ahead: Ahead = _level,
        shards: Callable[[], tuple[frozenset[int], int]] = lambda: ALL_SHARDS,
    ) -> None:
        self._limits = limits
        self._now = now
        self._clock = clock
        self._vault_ahead = vault_ahead
        self._nomad_ahead = nomad_ahead
        self._shards = shards
        self._lock = threading.Lock()
        self._seen: dict[WorkloadKey, dict[Change, float]] = {}
        self._known: set[WorkloadKey] = set()
        self._rolling: set[WorkloadKey] = set()
        self._made: dict[WorkloadKey, float] = {}  # until when it keeps its place if it is not looked at before
        self._pressing: set[WorkloadKey] = set()
        self._unseen: Callable[[Set[WorkloadKey]], bool] = lambda looked: False
        self._looked: set[WorkloadKey] = set()
        self._looking_until: float | None = None
        self._queued: dict[WorkloadKey, None] = {}  # who waits longest comes first
        self._told: dict[WorkloadKey, float] = {}  # that there is a place: since when
        self._leased: dict[WorkloadKey, dict[str, float]] = {}  # with when each allocation was first seen
        self._last_lease_roll: float | None = None
        self._registered: dict[WorkloadKey, float] = {}

    def look_first(
        self,
        unseen: Callable[[Set[WorkloadKey]], bool] | None = None,
        *,
        of: Callable[[WorkloadKey], bool] = lambda workload: True,
    ) -> None:
        """Let no roll begin before every job was looked at, since what began before this process, or under another's
        lease, is in flight; a minute at most. `unseen` is told the jobs that were, and says whether there are others.
        Without it, the one that was given before is asked again: there are more jobs, those of which `of` is true, and
        what was known of these is out of date. Who had them until now may have replaced leases a moment ago, so that
        this one's next turn is no sooner than after a roll of its own."""
        with self._lock:
            for known in (self._looked, self._known):
                known.difference_update([workload for workload in known if of(workload)])
            self._last_lease_roll = self._clock()
            self._unseen = unseen or self._unseen
            self._looking_until = self._clock() + _LOOK_SECONDS

    def gate(self, workload: WorkloadKey) -> Gate:
        """The gate for a pass over a job."""
        with self._lock:
            return self._gate(workload)

    def _gate(self, workload: WorkloadKey) -> Gate:
        now, passed = self._now(), self._clock()
        shards, total = self._shards()

        def told(at: float | None) -> datetime | None:
            return now - timedelta(seconds=passed - at) if at is not None else None

        free = self._free(workload)
        left = self._looking_until - passed if self._looking_until is not None and not free else None
        return Gate(
            now=now,
            looking_until=now + timedelta(seconds=left) if left is not None else None,
            seen={change: moment for change, at in self._seen.get(workload, {}).items() if (moment := told(at))},
            slot_free=free,
            settle_seconds=self._limits.settle_seconds,
            ungated_allowed=self._limits.ungated_allowed,
            lease_share=self._limits.lease_share,
            leased_jobs=len(self._leased),
            last_lease_roll=told(self._last_lease_roll),
            shards=shards,
            shards_of=total,
            last_registration=told(self._registered.get(workload)),
            allocations_seen={
                name: moment for name, at in self._leased.get(workload, {}).items() if (moment := told(at))
            },
            vault_ahead=self._vault_ahead(),
            nomad_ahead=self._nomad_ahead(),
        )

    def enter(self, workload: WorkloadKey, desired: Desired, *, anyway: bool = False) -> bool:
        """Take a slot for a registration that rolls a new version; False when the last one has gone meanwhile. What is
        no such roll (a first injection, a changed binding) needs none. `anyway`: it is rolled all the same, and takes
        one place too many."""
        rotations = rotations_in(desired)
        if not rotations:
            return True
        leases = leases_replaced(rotations)
        with self._lock:
            gate = self._gate(workload)
            if not anyway and (not gate.slot_free or turn_of(rotations, gate) is not None):
                return False
            self._rolling.add(workload)
            if leases:
                self._last_lease_roll = self._clock()
            return True

    def enter_value(self, workload: WorkloadKey) -> bool:
        """Take a slot for the roll that follows a new value; False when the last one has gone meanwhile. It is kept
        until the roll begins, or something else than settling holds it back."""
        with self._lock:
            if not self._free(workload):
                return False
            self._rolling.add(workload)
            self._made[workload] = self._clock() + _VALUE_SECONDS
            return True

    def place_ends_in(self, workload: WorkloadKey) -> float | None:
        """In how many seconds the place that a value has taken is free again if its roll does not begin: the job is to
        be looked at then, so that who waits for the place is told. None when it has taken none."""
        with self._lock:
            until = self._made.get(workload)
            return max(0.0, until - self._clock()) if until is not None else None

    def note(self, workload: WorkloadKey, found: Pass) -> set[WorkloadKey]:
        """Take in what a pass found; answers with the jobs that waited for a slot which is free now: first those whose
        secrets are overdue, and the others when none of these waits."""
        with self._lock:
            self._looked.add(workload)
            self._told.pop(workload, None)
            if workload in self._made and _made_nothing(found):
                self._give_back(workload)
        if found.error is not None and found.error.reason in _REFUSALS:
            # Nomad or Vault has refused it: it rolls nothing, however often it is tried.
            with self._lock:
                self._rolling.discard(workload)
                self._made.pop(workload, None)
                return self._woken()
        if found.error is not None or found.desired is None:
            with self._lock:
                return self._woken()
        changes = _pending(found)
        deployment = deployment_of(found.observed)
        # What waits for a person may wait for days: it must not keep others from rolling.
        rolls = found.registered or (is_active(deployment) and not waits_for_promotion(deployment))
        with self._lock:
            known = self._seen.get(workload, {})
            moment = self._clock()
            # Nomad begins a deployment when it comes to it, and makes none at all for some jobs.
            since = moment - self._registered.get(workload, moment)
            rolls = rolls or (bool(behind(found.observed)) and since < _NOT_BEGUN_SECONDS)
            if rolls:
                self._made.pop(workload, None)
            else:
                self._keep_while_it_settles(workload, found, moment)
            rolls = rolls or workload in self._made
            if found.registered and not found.desired.restored:
                self._registered[workload] = moment
            fresh = {change: known.get(change, moment) for change in changes}
            if fresh:
                self._seen[workload] = fresh
            else:
                self._seen.pop(workload, None)
            if any(state.lease_seconds for state in found.observed.secrets.values()):
                before = self._leased.get(workload, {})
                running = [str(item.get("ID")) for item in found.observed.allocations]
                self._leased[workload] = {name: before.get(name, moment) for name in running}
            else:
                self._leased.pop(workload, None)
            if workload not in self._known and rolls and not found.registered:
                # Begun before this process, or under another's lease: it may be a roll for a new version.
                self._rolling.add(workload)
            self._known.add(workload)
            if not rolls:
                self._rolling.discard(workload)
            # A place may have become free between the decision and now: who was told there is none is told that, too.
            denied = not found.observed.gate.slot_free or not self._free(workload)
            if (changes or _values_wait(found.desired)) and denied:
                self._queued[workload] = None
            else:
                self._queued.pop(workload, None)
            if workload in self._queued and _overdue_waits(found.desired):
                self._pressing.add(workload)
            else:
                self._pressing.discard(workload)
            return self._woken()

    def woken(self) -> set[WorkloadKey]:
        """Jobs that waited for a slot which is free now, as `note` tells them, since something else has happened."""
        with self._lock:
            return self._woken()

    def _keep_while_it_settles(self, workload: WorkloadKey, found: Pass, moment: float) -> None:
        """Keep the place of a value that was made while its roll may be about to begin."""
        until = self._made.get(workload)
        if until is None or found.desired is None:
            return
        waiting = [item for result in found.desired.results.values() for item in result.secrets]
        obstacles = {item.obstacle for item in waiting}
        if Obstacle.SETTLE in obstacles:
            dates = [item.until for item in waiting if item.obstacle is Obstacle.SETTLE and item.until is not None]
            now = found.observed.gate.now
            rest = max(0.0, (max(dates) - now).total_seconds()) if dates and now is not None else 0.0
            self._made[workload] = max(until, moment + rest + _VALUE_SECONDS)
        elif obstacles - {None} or moment >= until:
            self._made.pop(workload, None)

    def _give_back(self, workload: WorkloadKey) -> None:
        self._made.pop(workload, None)
        self._rolling.discard(workload)

    def _lapse(self) -> None:
        """Free the places of values whose rolls have not begun, and whose jobs nobody has looked at since."""
        moment = self._clock()
        for workload in [key for key, until in self._made.items() if moment >= until]:
            self._give_back(workload)

    def _woken(self) -> set[WorkloadKey]:
        self._lapse()
        if not self._queued or self._looks():
            return set()
        free = [key for key in self._queued if self._free(key)]
        first = [key for key in free if key in self._pressing] or free
        woken = first[: self._places()]
        for key in woken:
            del self._queued[key]
            self._told[key] = self._clock()
        self._pressing.difference_update(woken)
        return set(woken)

    def _places(self) -> int | None:
        """For how many more jobs there is a place, None for any number. Who was told of one just now is about to take
        it: to tell a thousand jobs of each would make as many passes in vain."""
        if not self._limits.rolls:
            return None
        latest = self._clock() - _TOLD_SECONDS
        self._told = {key: since for key, since in self._told.items() if since > latest}
        taken = self._rolling | self._told.keys()
        return max(0, self._part(self._limits.rolls) - len(taken))

    def _looks(self) -> bool:
        """True while jobs are to be looked at first."""
        if self._looking_until is not None and (self._clock() >= self._looking_until or not self._unseen(self._looked)):
            self._looking_until = None
        return self._looking_until is not None

    def forget(self, workload: WorkloadKey) -> None:
        """Nothing names the job any more."""
        with self._lock:
            self._seen.pop(workload, None)
            self._known.discard(workload)
            self._looked.discard(workload)
            self._made.pop(workload, None)
            self._pressing.discard(workload)
            self._rolling.discard(workload)
            self._queued.pop(workload, None)
            self._told.pop(workload, None)
            self._leased.pop(workload, None)
            self._registered.pop(workload, None)

    def rolling(self) -> int:
        """How many jobs roll for a new version now."""
        with self._lock:
            return len(self._rolling)

    def _free(self, workload: WorkloadKey) -> bool:
        if not self._limits.rolls and not self._limits.rolls_per_namespace:
            return True
        if self._looks():
            return False
        self._lapse()
        others = self._rolling - {workload}
        if self._limits.rolls and len(others) >= self._part(self._limits.rolls):
            return False
        here = sum(1 for key in others if key.namespace == workload.namespace)
        return not self._limits.rolls_per_namespace or here < self._part(self._limits.rolls_per_namespace)

    def _part(self, limit: int) -> int:
        shards, total = self._shards()
        return max(1, int(limit * len(shards) / total))


def _made_nothing(found: Pass) -> bool:
    """True when new values were to be made, and none was: no roll follows."""
    plan = found.plan if found.cut_short is None else found.cut_short[1]
    return plan is not None and bool(plan.generates) and not found.made


def _values_wait(desired: Desired) -> bool:
    """True when a new value waits for a slot, so that it comes together with its roll."""
    return any(item.wait is not None and item.wait.obstacle is Obstacle.SLOT for item in desired.generations.values())


def _overdue_waits(desired: Desired) -> bool:
    """True when something that is overdue waits for a slot."""
    return any(
        item.overdue and item.obstacle is Obstacle.SLOT
        for result in desired.results.values()
        for item in result.secrets
    )


def _pending(found: Pass) -> set[Change]:
    """The new versions that wait to be rolled."""
    changes: set[Change] = set()
    for key, result in (found.desired.results if found.desired is not None else {}).items():
        for item in result.secrets:
            if item.waiting is not None and item.hold is not None and item.hold.reason is Reason.NEW_VERSION_HELD:
                changes.add((key, item.name, item.waiting))
    return changes
