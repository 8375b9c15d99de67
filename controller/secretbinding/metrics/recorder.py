"""Counts what the engine tells: passes, requests, and what happens to the rotations of each workload."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from secretbinding.engine.hooks import Hooks, current_reconcile_id
from secretbinding.engine.queue import Priority
from secretbinding.generation import GenerateValue
from secretbinding.metrics.decisions import Ended, Memory, Occurrence, Registered, follow
from secretbinding.metrics.instruments import Instruments
from secretbinding.metrics.passes import sight_of
from secretbinding.metrics.sight import References
from secretbinding.metrics.words import Result
from secretbinding.models.key import WorkloadKey
from secretbinding.plan import Action, RegisterJob
from secretbinding.status import Pass

_log = structlog.get_logger(__name__)


class Recorder(Hooks):
    """Remembers a little of each workload (`decisions.Memory`), so that everything is counted once.

    `references` gives the secrets of the bindings that name a workload; `now` is the present time by
    the clock of the Vault that a workload's secrets are in.
    """

    def __init__(
        self,
        instruments: Instruments,
        references: Callable[[WorkloadKey], References],
        now: Callable[[WorkloadKey], datetime] = lambda workload: datetime.now(UTC),
    ) -> None:
        self._instruments = instruments
        self._references = references
        self._now = now
        self._lock = threading.Lock()
        self._memories: dict[WorkloadKey, Memory] = {}
        self._at_risk = 0
        self._done: dict[WorkloadKey, list[Action]] = {}
        self._registered_at: dict[WorkloadKey, datetime] = {}

    @property
    def at_risk(self) -> int:
        """How many secrets of workloads are served in a version that is at risk."""
        return self._at_risk

    def called(self, connection: str, system: str, operation: str, seconds: float, outcome: str) -> None:
        """A request was answered, or not (`adapters.transport.OnCall`)."""
        self._instruments.called(connection, system, operation, seconds, outcome, current_reconcile_id())

    def taken(self, priority: Priority, seconds: float) -> None:
        self._instruments.taken(priority, seconds)

    def acted(self, workload: WorkloadKey, action: Action) -> None:
        with self._lock:
            self._done.setdefault(workload, []).append(action)
            if isinstance(action, RegisterJob):
                self._registered_at[workload] = self._now(workload)
        if isinstance(action, GenerateValue):
            self._instruments.generated(current_reconcile_id())

    def passed(self, workload: WorkloadKey, found: Pass, seconds: float) -> None:
        named = current_reconcile_id()
        with self._lock:
            done = self._done.pop(workload, [])
            registered_at = self._registered_at.pop(workload, None)
        self._instruments.reconciled(_result(found, bool(done)), seconds, named)
        try:
            sight = sight_of(found, self._references(workload), done)
            with self._lock:
                before = self._memories.get(workload)
                after, occurrences = follow(before, sight)
                self._memories[workload] = after
                self._at_risk += after.at_risk - (before.at_risk if before is not None else 0)
        except Exception as error:  # noqa: BLE001 - what cannot be counted must not hinder the work that is counted
            _log.error("pass cannot be counted", workload=str(workload), error=type(error).__name__)
            return
        for occurrence in occurrences:
            delays = self._delays(occurrence, registered_at, self._now(workload))
            self._instruments.happened(occurrence, delays, named)

    def unprepared(self, workload: WorkloadKey) -> None:
        self._instruments.reconciled(Result.UNPREPARED, None, current_reconcile_id())

    def crashed(self, workload: WorkloadKey) -> None:
        self._instruments.reconciled(Result.CRASHED, None, current_reconcile_id())
        with self._lock:
            self._done.pop(workload, None)
            self._registered_at.pop(workload, None)

    def retried(self, priority: Priority) -> None:
        self._instruments.retried(priority)

    def forgotten(self, workload: WorkloadKey) -> None:
        with self._lock:
            memory = self._memories.pop(workload, None)
            self._at_risk -= memory.at_risk if memory is not None else 0

    def _delays(self, occurrence: Occurrence, registered_at: datetime | None, now: datetime) -> list[float]:
        """Seconds since the versions were made. Both times are of Vault's clock, which is known to seconds only."""
        if not isinstance(occurrence, Registered | Ended):
            return []
        until = registered_at or now if isinstance(occurrence, Registered) else now
        return [max(0.0, (until - changed).total_seconds()) for changed in occurrence.changed]


def _result(found: Pass, acted: bool) -> Result:
    if found.error is not None:
        return Result.FAILED
    if found.registered:
        return Result.REGISTERED
    return Result.CHANGED if acted else Result.UNCHANGED
