"""What the limits on rolls need to remember while the process runs: changes seen, and rolls in flight."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from secretbinding.desired.gating import is_rotation
from secretbinding.desired.values import Desired
from secretbinding.gate import Change, Gate
from secretbinding.kinds.base import Pin
from secretbinding.models.key import WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.plan import deployment_of, is_active
from secretbinding.status import Pass


@dataclass(frozen=True, slots=True)
class Limits:
    """How many jobs may roll for a new secret version at once; 0 means any number.

    Attributes:
        rolls: of the whole controller.
        rolls_per_namespace: in one Nomad namespace.
        settle_seconds: how long changes settle where a binding does not say.
        ungated_allowed: groups that Nomad replaces all at once may be rolled without being asked.
    """

    rolls: int = 20
    rolls_per_namespace: int = 0
    settle_seconds: float = 10.0
    ungated_allowed: bool = False


class Gatekeeper:
    """Thread-safe. Forgetting everything does no harm: changes settle anew at most, and rolls in flight are found again
    by the passes over their jobs."""

    def __init__(self, limits: Limits, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._limits = limits
        self._now = now
        self._lock = threading.Lock()
        self._seen: dict[WorkloadKey, dict[Change, datetime]] = {}
        self._rolling: set[WorkloadKey] = set()
        self._queued: set[WorkloadKey] = set()

    def gate(self, workload: WorkloadKey) -> Gate:
        """The gate for a pass over a job."""
        with self._lock:
            return Gate(
                now=self._now(),
                seen=dict(self._seen.get(workload, {})),
                slot_free=self._free(workload),
                settle_seconds=self._limits.settle_seconds,
                ungated_allowed=self._limits.ungated_allowed,
            )

    def enter(self, workload: WorkloadKey, desired: Desired) -> bool:
        """Take a slot for a registration that rolls a new version; False when the last one has gone meanwhile. What is
        no such roll (a first injection, a changed binding) needs none."""
        if not any(is_rotation(item) for result in desired.results.values() for item in result.secrets):
            return True
        with self._lock:
            if not self._free(workload):
                return False
            self._rolling.add(workload)
            return True

    def note(self, workload: WorkloadKey, found: Pass) -> set[WorkloadKey]:
        """Take in what a pass found; answers with the jobs that waited for a slot which is free now."""
        if found.error is not None or found.desired is None:
            return set()
        changes = _pending(found)
        rolls = found.registered or is_active(deployment_of(found.observed))
        with self._lock:
            known = self._seen.get(workload, {})
            moment = self._now()
            fresh = {change: known.get(change, moment) for change in changes}
            if fresh:
                self._seen[workload] = fresh
            else:
                self._seen.pop(workload, None)
            if workload in self._rolling and not rolls:
                self._rolling.discard(workload)
            if changes and not self._free(workload):
                self._queued.add(workload)
            else:
                self._queued.discard(workload)
            woken = {key for key in self._queued if self._free(key)}
            self._queued -= woken
            return woken

    def forget(self, workload: WorkloadKey) -> None:
        """Nothing names the job any more."""
        with self._lock:
            self._seen.pop(workload, None)
            self._rolling.discard(workload)
            self._queued.discard(workload)

    def rolling(self) -> int:
        """How many jobs roll for a new version now."""
        with self._lock:
            return len(self._rolling)

    def _free(self, workload: WorkloadKey) -> bool:
        others = self._rolling - {workload}
        if self._limits.rolls and len(others) >= self._limits.rolls:
            return False
        here = sum(1 for key in others if key.namespace == workload.namespace)
        return not self._limits.rolls_per_namespace or here < self._limits.rolls_per_namespace


def _pending(found: Pass) -> set[Change]:
    """The new versions that wait to be rolled."""
    changes: set[Change] = set()
    for key, result in (found.desired.results if found.desired is not None else {}).items():
        for item in result.secrets:
            state = found.observed.secrets.get((key, item.name))
            version = state.versions.get(item.newest) if state is not None else None
            if version is not None and item.hold is not None and item.hold.reason is Reason.NEW_VERSION_HELD:
                changes.add((key, item.name, Pin(item.newest, version.created)))
    return changes
