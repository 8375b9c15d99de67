"""What the engine tells while it works, and the name that each pass has in logs and metrics."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import structlog

from secretbinding import tracing
from secretbinding.engine.queue import Priority
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.status import SecretBindingStatus
from secretbinding.plan import Action
from secretbinding.status import Pass, Transition

_RECONCILE_ID = "reconcile_id"


class Hooks:
    """Each does nothing by default. All are called from the workers' threads, and hold up the pass for as long as they
    take."""

    def taken(self, priority: Priority, seconds: float) -> None:
        """A worker begins with a workload, so many seconds after it was due. Called with the queue locked."""

    def acted(self, workload: WorkloadKey, action: Action) -> None:
        """A write was done."""

    def passed(self, workload: WorkloadKey, found: Pass, seconds: float) -> None:
        """A pass came to its end, after so many seconds."""

    def unprepared(self, workload: WorkloadKey) -> None:
        """A pass could not begin: a source could not prepare a binding, or not let go of one."""

    def crashed(self, workload: WorkloadKey) -> None:
        """A pass ended in an error that nobody foresaw."""

    def retried(self, priority: Priority) -> None:
        """A workload is queued again because its last pass did not come to a good end."""

    def forgotten(self, workload: WorkloadKey) -> None:
        """Nothing names the job any more."""

    def reported(
        self,
        key: BindingKey,
        before: SecretBindingStatus,
        after: SecretBindingStatus,
        events: Sequence[Transition],
    ) -> None:
        """A status that differs from the one before was written to the binding's source."""


class Several(Hooks):
    """Tells each of several, in their order."""

    def __init__(self, hooks: Sequence[Hooks]) -> None:
        self._hooks = tuple(hooks)

    def taken(self, priority: Priority, seconds: float) -> None:
        for each in self._hooks:
            each.taken(priority, seconds)

    def acted(self, workload: WorkloadKey, action: Action) -> None:
        for each in self._hooks:
            each.acted(workload, action)

    def passed(self, workload: WorkloadKey, found: Pass, seconds: float) -> None:
        for each in self._hooks:
            each.passed(workload, found, seconds)

    def unprepared(self, workload: WorkloadKey) -> None:
        for each in self._hooks:
            each.unprepared(workload)

    def crashed(self, workload: WorkloadKey) -> None:
        for each in self._hooks:
            each.crashed(workload)

    def retried(self, priority: Priority) -> None:
        for each in self._hooks:
            each.retried(priority)

    def forgotten(self, workload: WorkloadKey) -> None:
        for each in self._hooks:
            each.forgotten(workload)

    def reported(
        self,
        key: BindingKey,
        before: SecretBindingStatus,
        after: SecretBindingStatus,
        events: Sequence[Transition],
    ) -> None:
        for each in self._hooks:
            each.reported(key, before, after, events)


@contextmanager
def reconcile_id() -> Iterator[None]:
    """Give whatever is logged in the block, by this thread, one `reconcile_id` of 16 hexadecimal digits."""
    with structlog.contextvars.bound_contextvars(**{_RECONCILE_ID: secrets.token_hex(8)}):
        yield


def current_reconcile_id() -> str:
    """The name of the pass that this thread is at, "" when it is at none."""
    return str(structlog.contextvars.get_contextvars().get(_RECONCILE_ID, ""))


def traced_pass(workload: WorkloadKey) -> AbstractContextManager[tracing.Span]:
    """The span of a pass, which the names of its job and its own name tell from others."""
    return tracing.span(
        "reconcile",
        secretbinding__reconcile_id=current_reconcile_id(),
        secretbinding__nomad__namespace=workload.namespace,
        secretbinding__nomad__job=workload.job,
    )
