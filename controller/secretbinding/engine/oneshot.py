"""Bring bindings to their end state and return: what `apply`, `delete` and `plan` on the command line do."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from secretbinding.desired.values import BindingInput
from secretbinding.engine.reconciler import Preview, Reconciler
from secretbinding.engine.store import Entry, Store, inputs_of
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import ConditionStatus, SecretBindingStatus
from secretbinding.rollout import deployment_of, is_active
from secretbinding.sources.base import SourceItem
from secretbinding.status import Pass, Requests, compute_status


@dataclass(slots=True)
class Outcome:
    """Where a binding ended. `done` is False when time ran out first; `gone` when nothing of it is left."""

    key: BindingKey
    status: SecretBindingStatus = field(default_factory=SecretBindingStatus)
    done: bool = False
    gone: bool = False

    @property
    def succeeded(self) -> bool:
        """True for a binding that is ready and held by nothing, or that is gone as asked."""
        if self.gone:
            return True
        ready, stalled = self.status.condition(ConditionType.READY), self.status.condition(ConditionType.STALLED)
        if ready is None or ready.status is not ConditionStatus.TRUE:
            return False
        return self.done and (stalled is None or stalled.status is not ConditionStatus.TRUE)


class OneShot:
    """Works on a fixed set of bindings; what other bindings have in the same jobs stays as it is."""

    def __init__(self, reconciler: Reconciler, items: Iterable[SourceItem]) -> None:
        self._reconciler = reconciler
        self._store = Store(reconciler.instance, connection=reconciler.connection)
        for item in items:
            self._store.upsert(item, asked_now=True)
        self._former: dict[WorkloadKey, set[BindingKey]] | None = None

    def workloads(self) -> Sequence[WorkloadKey]:
        """The workloads that the bindings name, and those that they named before, as their policies in Vault tell: what
        is left there is to be given back. Raises `errors.ServiceError` subclasses."""
        if self._former is None:
            self._former = {}
            for entry in self._store.entries():
                former = self._reconciler.former_workload(entry.item.key, entry.workload)
                if former is not None:
                    self._former.setdefault(former, set()).add(entry.item.key)
        return sorted({*self._store.workloads(), *self._former})

    @property
    def instance(self) -> str:
        """The controller instance whose marks are read and written."""
        return self._reconciler.instance

    def inputs(self, workload: WorkloadKey) -> list[BindingInput]:
        """The bindings of a workload as the decisions take them."""
        own = inputs_of(self._store.of_workload(workload))
        left = sorted((self._former or {}).get(workload, ()))
        return [*own, *(BindingInput(key, None, deleting=True, moved=True) for key in left)]

    def preview(self) -> Mapping[WorkloadKey, Preview]:
        """What a first pass would do, by workload. Raises `errors.ServiceError` subclasses."""
        return {key: self._reconciler.preview(key, self.inputs(key)) for key in self.workloads()}

    def status_now(self) -> Mapping[BindingKey, SecretBindingStatus]:
        """The status of each binding as things are, without a write. Raises `errors.ServiceError` subclasses."""
        return self.judge(self.preview())

    def judge(self, previews: Mapping[WorkloadKey, Preview]) -> Mapping[BindingKey, SecretBindingStatus]:
        """The status of each binding as the previews of its workload tell it."""
        found: dict[BindingKey, SecretBindingStatus] = {}
        for workload, preview in previews.items():
            looked = Pass(self._reconciler.instance, preview.observed, preview.desired, preview.plan)
            for entry in self._store.of_workload(workload):
                found[entry.item.key] = compute_status(entry.input, looked, entry.status, datetime.now(UTC))
        return found

    def converge(
        self,
        *,
        timeout_seconds: float,
        wait: bool = True,
        poll_seconds: float = 0.5,
        on_change: Callable[[BindingKey, SecretBindingStatus], None] = lambda key, status: None,
    ) -> Mapping[BindingKey, Outcome]:
        """Run passes until every binding has come to its end, or time runs out.

        Without `wait` it ends as soon as the jobs are registered. `on_change` is called with each new status.
        """
        deadline = time.monotonic() + timeout_seconds
        outcomes = {entry.item.key: Outcome(entry.item.key) for entry in self._store.entries()}
        pending = set(self.workloads())
        while pending:
            for workload in sorted(pending):
                entries = self._store.of_workload(workload)
                bindings = self.inputs(workload)
                found = self._reconciler.run(workload, bindings)
                finished = _finished(found, bindings, wait=wait)
                for entry in entries:
                    self._note(outcomes[entry.item.key], entry, found, finished, on_change)
                if finished:
                    pending.discard(workload)
                    # What a binding has where it lives now waited for what it had here.
                    moved = (self._former or {}).pop(workload, set())
                    pending.update(entry.workload for entry in self._store.entries() if entry.item.key in moved)
            if pending:
                if time.monotonic() >= deadline:
                    break
                time.sleep(poll_seconds)
        return outcomes

    def _note(
        self,
        outcome: Outcome,
        entry: Entry,
        found: Pass,
        finished: bool,
        on_change: Callable[[BindingKey, SecretBindingStatus], None],
    ) -> None:
        requests = Requests(entry.item.rotate_requested_at, entry.item.generate_requested_at)
        status = compute_status(entry.input, found, entry.status, datetime.now(UTC), requests=requests)
        outcome.done = finished
        plan = found.plan if finished else None
        outcome.gone = plan is not None and entry.item.key in plan.gone and not plan.waiting
        if status != entry.status:
            self._store.set_status(entry.item.key, status)
            on_change(entry.item.key, status)
        outcome.status = status


class OneShots:
    """The same for bindings of several connections, one after the other; each has its own servers."""

    def __init__(self, shots: Mapping[str, OneShot]) -> None:
        self._shots = dict(shots)

    def instance_of(self, workload: WorkloadKey) -> str:
        """The controller instance whose marks are read and written in a job's connection."""
        return self._of(workload).instance

    def inputs(self, workload: WorkloadKey) -> list[BindingInput]:
        """As `OneShot.inputs`."""
        return self._of(workload).inputs(workload)

    def preview(self) -> Mapping[WorkloadKey, Preview]:
        """As `OneShot.preview`."""
        return {key: preview for shot in self._shots.values() for key, preview in shot.preview().items()}

    def status_now(self) -> Mapping[BindingKey, SecretBindingStatus]:
        """As `OneShot.status_now`."""
        return {key: status for shot in self._shots.values() for key, status in shot.status_now().items()}

    def judge(self, previews: Mapping[WorkloadKey, Preview]) -> Mapping[BindingKey, SecretBindingStatus]:
        """As `OneShot.judge`."""
        found: dict[BindingKey, SecretBindingStatus] = {}
        for connection, shot in self._shots.items():
            found |= shot.judge({key: one for key, one in previews.items() if key.connection == connection})
        return found

    def converge(
        self,
        *,
        timeout_seconds: float,
        wait: bool = True,
        on_change: Callable[[BindingKey, SecretBindingStatus], None] = lambda key, status: None,
    ) -> Mapping[BindingKey, Outcome]:
        """As `OneShot.converge`; each connection has the whole time."""
        found: dict[BindingKey, Outcome] = {}
        for shot in self._shots.values():
            found |= shot.converge(timeout_seconds=timeout_seconds, wait=wait, on_change=on_change)
        return found

    def _of(self, workload: WorkloadKey) -> OneShot:
        return self._shots[workload.connection]


def _finished(found: Pass, bindings: Sequence[BindingInput], *, wait: bool) -> bool:
    """True when another pass would bring nothing new unless somebody does something."""
    if found.plan is not None and found.plan.generates:
        return False
    if found.error is not None:
        return found.error.reason not in (
            Reason.VAULT_UNREACHABLE,
            Reason.NOMAD_UNREACHABLE,
            Reason.NOMAD_NO_LEADER,
            Reason.WRITE_CONFLICT,
        )
    if found.plan is None or found.desired is None:
        return True
    deleting = {item.key for item in bindings if item.deleting}
    if deleting:
        # Of a job that is not registered by us the rights stay until it has ended: that is not the end of it either.
        removed = deleting <= found.plan.gone and not (wait and found.plan.waiting)
        return removed or found.desired.held is not None
    if found.plan.deferred:
        return False
    if not wait:
        return True
    if found.registered or is_active(deployment_of(found.observed)):
        return False
    return not (found.plan.waiting and found.desired.held is None)
