"""The engine: takes bindings from the sources, hands workloads to workers, and gives statuses back."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog

from secretbinding import tracing
from secretbinding.desired.values import BindingInput, Observed
from secretbinding.engine.gatekeeper import Gatekeeper
from secretbinding.engine.hooks import Hooks, reconcile_id, traced_pass
from secretbinding.engine.moving import Elsewhere, Moving, takes_in
from secretbinding.engine.orphans import Orphans
from secretbinding.engine.queue import Priority, WorkQueue
from secretbinding.engine.reconciler import Pace, Reconciler, backoff_seconds, next_pass_seconds, unseen
from secretbinding.engine.reporting import Reporter
from secretbinding.engine.retention import leaves_behind, retain
from secretbinding.engine.store import Entry, Store, inputs_of, workload_of
from secretbinding.errors import SecretBindingError
from secretbinding.models.key import DEFAULT_CONNECTION, BindingKey, WorkloadKey
from secretbinding.naming import Owner
from secretbinding.ports import Vault
from secretbinding.sources.base import Source, SourceItem
from secretbinding.status import Pass
from secretbinding.trail import asked

_log = structlog.get_logger(__name__)

_REQUEST_LENGTH = 200
_PLACE_GRACE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of the engine.

    Attributes:
        jwt_mount: the auth mount that Nomad's clients log in to.
        workers: how many workloads are worked on at once.
        sweep_seconds: how often what no binding accounts for is looked for in Vault.
        confirmed_removals: sources (or `*`) of which many bindings at once may be gone.
    """

    instance: str = "default"
    jwt_mount: str = "jwt-nomad"
    workers: int = 8
    pace: Pace = field(default_factory=Pace)
    sweep_seconds: float = 600.0
    confirmed_removals: frozenset[str] = frozenset()


class Engine:
    """Fulfils `sources.base.Sink`. Holds nothing that it could not find again: after a restart the sources list their
    bindings, and each workload is read anew."""

    def __init__(
        self,
        reconciler: Reconciler,
        vault: Vault,
        settings: EngineSettings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        gates: Gatekeeper | None = None,
        hooks: Hooks | None = None,
        owns: Callable[[WorkloadKey], bool] = lambda workload: True,
        takes_part: Callable[[], bool] = lambda: True,
        connection: str = DEFAULT_CONNECTION,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """`owns` says which workloads are this controller's: others are known, and not touched. `takes_part` is false
        while none is. `elsewhere` tells of the bindings of connections other than this engine's own."""
        self._elsewhere = elsewhere or Elsewhere()
        self._moving = Moving()
        self._hooks = hooks or Hooks()
        self._owns = owns
        self._takes_part = takes_part
        self.store = Store(settings.instance, owns, connection=connection, now=now)
        self.queue = WorkQueue(on_taken=self._hooks.taken)
        self._reconciler = reconciler
        self._vault = vault
        self._settings = settings
        self._now = now
        self._gates = gates
        self._last_unseen: WorkloadKey | None = None
        if gates is not None:
            gates.look_first(self._unseen)
        self._sources: dict[str, Source] = {}
        self._reporter = Reporter(self._sources, self.store, self._moving, self._elsewhere, self._hooks)
        self._orphans = Orphans(
            vault,
            self.store,
            self._sources,
            self._elsewhere,
            instance=settings.instance,
            jwt_mount=settings.jwt_mount,
            confirmed_removals=settings.confirmed_removals,
        )
        self._failures: dict[WorkloadKey, int] = {}
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._wake_sweep = threading.Event()
        self.sweeps = 0  # looks for orphans that came to their end

    def add_source(self, source: Source) -> None:
        """Take bindings from a source; before `start`."""
        self._sources[source.name] = source

    def start(self, *, sources: bool = True) -> None:
        """Start the workers and the sources; without these where they deliver to somebody else."""
        for number in range(self._settings.workers):
            self._thread(self._work, f"worker-{number}")
        self._thread(self._sweep, "sweep")
        for source in self._sources.values() if sources else ():
            source.start(self)

    def stop(self, *, sources: bool = True) -> None:
        """Stop the sources, let each worker finish its pass, and end."""
        self._stopping.set()
        self._wake_sweep.set()
        for source in self._sources.values() if sources else ():
            source.stop()
        self.queue.close()
        for thread in self._threads:
            thread.join()

    @property
    def threads(self) -> Sequence[threading.Thread]:
        """The threads that live from `start` to `stop`."""
        return tuple(self._threads)

    @property
    def workers(self) -> int:
        """How many workloads are worked on at once."""
        return self._settings.workers

    @property
    def held(self) -> Mapping[str, int]:
        """By source: how many bindings were gone at once after a start, so that nothing of them is deleted."""
        return self._orphans.held

    @property
    def sources(self) -> Mapping[str, Source]:
        """The sources by name."""
        return self._sources

    def owns(self, workload: WorkloadKey) -> bool:
        """Whether a workload is this controller's."""
        return self._owns(workload)

    def upsert(self, item: SourceItem) -> None:
        entry = self.store.get(item.key)
        # What a source lists first was there before: a change that somebody makes now is not to wait for all of it.
        changed = self.store.is_listed(item.key.source) and (
            entry is None or not _only_status_differs(entry.item, item)
        )
        if entry is not None:
            _tell_requests(entry.item, item)
        if entry is not None and entry.workload.job and entry.workload != workload_of(item, self.store.connection):
            # What it has in the job that it named before is to be given back.
            self._orphans.add(entry.workload, {item.key})
        for workload in self.store.upsert(item):
            self.queue.add(workload, Priority.CHANGE if changed else Priority.RESYNC)

    def vanished(self, key: BindingKey) -> None:
        entry = self.store.get(key)
        if entry is None:
            return
        self.upsert(replace(entry.item, deleting=True))

    def leave(self, key: BindingKey) -> None:
        """A binding names another connection now. What it has here stays until `give_up`."""
        workload = self.store.leave(key)
        if workload is not None and workload.job:
            self._leaves(key, {workload})

    def _leaves(self, key: BindingKey, workloads: set[WorkloadKey]) -> None:
        self._moving.leaves(key, workloads)
        if self._elsewhere.took_in(key):
            self.give_up(key)

    def give_up(self, key: BindingKey) -> None:
        """A binding that is leaving has been taken in elsewhere, or is no more: what it has here goes."""
        for workload in self._moving.given_up(key):
            if self._orphans.add(workload, {key}):
                self.queue.add(workload, Priority.CHANGE)

    def has_taken_in(self, key: BindingKey) -> bool:
        """Whether a binding has been judged here, and nothing keeps it out. What another controller has judged is not
        known: as long as he has the job there, the old connection keeps what it has."""
        return self._moving.is_settled(key)

    def listed(self, source: str) -> None:
        self.store.listed(source)
        if self._gates is not None:
            self.wake(self._gates.woken(), Priority.PROGRESS)
        self._wake_sweep.set()

    def gained(self, of: Callable[[WorkloadKey], bool]) -> None:
        """Workloads of which `of` is true are this controller's from now on: each is looked at."""
        self.store.owned_changed()
        if self._gates is not None:
            self._gates.look_first(of=of)
        known = {*self.store.workloads(), *self._orphans.workloads()}
        self.wake((key for key in known if of(key)), Priority.RESYNC)
        self._wake_sweep.set()

    def lost(self) -> None:
        """Some workloads are this controller's no more."""
        self.store.owned_changed()

    def _unseen(self, looked: Set[WorkloadKey]) -> bool:
        """Whether there are, or may be, jobs that were not looked at yet. It is asked several times a pass, so the last
        one that was found is remembered, and they are looked for from the end of the queue."""
        if not all(self.store.is_listed(name) for name in self._sources):
            return True

        def is_unseen(workload: WorkloadKey) -> bool:
            return bool(workload.job) and workload not in looked and self._owns(workload)

        last = self._last_unseen
        if last is None or not is_unseen(last) or not self.store.named(last.namespace, last.job):
            self._last_unseen = next(filter(is_unseen, reversed(self.store.known())), None)
        return self._last_unseen is not None

    def busy(self, of: Callable[[WorkloadKey], bool]) -> bool:
        """Whether a worker is at a workload of which `of` is true."""
        return any(of(workload) for workload in self.queue.working())

    def wake(
        self, workloads: Iterable[WorkloadKey], priority: Priority = Priority.CHANGE, *, after: float = 0.0
    ) -> None:
        """Look at workloads because something outside changed, in so many seconds at the latest."""
        for workload in workloads:
            self.queue.add(workload, priority, after=after)

    def _work(self) -> None:
        while not self._stopping.is_set():
            workload = self.queue.get()
            if workload is None:
                return
            with reconcile_id(), traced_pass(workload) as traced:
                try:
                    self.reconcile(workload)
                except Exception as error:  # noqa: BLE001 - its surprise must not end the worker that all others need
                    _log.exception("pass failed", workload=str(workload))
                    traced.failed(type(error).__name__)
                    self._hooks.crashed(workload)
                    self._retry(workload, self._settings.pace.backoff_max_seconds)
                finally:
                    self.queue.done(workload)

    def reconcile(self, workload: WorkloadKey) -> Pass | None:
        """One pass over a workload: prepare, run, report, and say when to look again. None when nothing names it, and
        when it is another controller's, who looks at it when it becomes his."""
        if not self._owns(workload):
            self._failures.pop(workload, None)
            if self._gates is not None:
                self._gates.forget(workload)
            self._hooks.forgotten(workload)
            return None
        entries = self.store.of_workload(workload)
        if not workload.job:
            return self._reconcile_unplaced(workload, entries)
        held = self._reporter.prepare(entries)
        if (held and len(held) == len(entries)) or not self._release_retained(entries):
            self._hooks.unprepared(workload)
            self._again(workload, None)
            return None
        entries = self.store.of_workload(workload)
        bindings = [*inputs_of(entries, held), *self._orphans.of(workload, entries)]
        if not bindings:
            return None
        found = self._run(workload, bindings)
        if not self._owns(workload):
            return None
        if self._orphans.add_strays(workload, found):
            bindings = [*inputs_of(entries, held), *self._orphans.of(workload, entries)]
            found = self._run(workload, bindings)
        if self._gates is not None:
            self.wake(self._gates.note(workload, found), Priority.PROGRESS)
        with tracing.span("report"):
            reported = self._reporter.report(entries, found, self._now(), held)
            self._finish(found, bindings)
        self._settle(entries, found)
        self._again(workload, found, held=bool(held), reported=reported)
        return found

    def _release_retained(self, entries: Sequence[Entry]) -> bool:
        """Let go of bindings that leave behind what they made, once their policy says so: without that word it would be
        taken for orphaned later. One that may not goes as any other does."""
        for entry in entries:
            item = entry.item
            if not leaves_behind(item):
                continue
            try:
                allowed = self._reconciler.may_retain(entry.workload, entry.input)
                if allowed is None:
                    _log.warning(
                        "it is not known whether a binding may leave behind what it made", binding=str(item.key)
                    )
                    return False
                if not allowed:
                    continue
                with asked(bindings=[str(item.key)], changed=["+retain"]):
                    retain(self._vault, Owner(self._settings.instance, item.key))
            except SecretBindingError as error:
                _log.warning("binding cannot be let go", binding=str(item.key), error=str(error))
                return False
            if not self._reporter.let_go(item.key):
                return False
        return True

    def _settle(self, entries: Sequence[Entry], found: Pass) -> None:
        """Tell the other connections of what has been taken in here."""
        for entry in entries:
            key = entry.item.key
            if takes_in(entry.input, found) and self.store.get(key) is not None and self._moving.settle(key):
                self._elsewhere.settled(key)

    def _run(self, workload: WorkloadKey, bindings: Sequence[BindingInput]) -> Pass:
        started = time.monotonic()
        found = self._reconciler.run(workload, bindings)
        self._hooks.passed(workload, found, time.monotonic() - started)
        return found

    def _finish(self, found: Pass, bindings: Sequence[BindingInput]) -> None:
        """Let go of the bindings of which nothing is left, or nothing that we may touch yet."""
        if found.error is not None or found.plan is None:
            return
        workload = found.observed.workload
        for item in bindings:
            if item.key not in found.plan.gone or item.key in found.taken:
                continue
            entry = self.store.get(item.key)
            if (entry is None or entry.workload == workload) and not self._reporter.let_go(item.key):
                continue
            if found.plan.waiting:
                self._orphans.add(workload, {item.key})
            else:
                self._orphans.drop(workload, item.key)

    def _again(self, workload: WorkloadKey, found: Pass | None, *, held: bool = False, reported: bool = True) -> None:
        """Say when to look again: `found` is None where there was no pass, `reported` false where a status could not be
        written."""
        if not self._orphans.of(workload) and not self.store.of_workload(workload):
            self._failures.pop(workload, None)
            if self._gates is not None:
                self._gates.forget(workload)
            self._hooks.forgotten(workload)
            return
        failures = self._failures.get(workload, 0)
        pace = self._settings.pace.for_jobs(self.store.size)
        in_vain = found is None or held or not reported or unseen(found)
        after = pace.backoff_max_seconds
        if found is not None:
            after = next_pass_seconds(found, failures=failures, settings=pace)
        if in_vain:
            after = min(after, backoff_seconds(failures, pace))
        ends = self._gates.place_ends_in(workload) if self._gates is not None else None
        if ends is not None:
            after = min(after, ends + _PLACE_GRACE_SECONDS)
        failed = in_vain or (found is not None and found.error is not None)
        self._failures[workload] = failures + 1 if failed else 0
        if found is None or not reported or found.error is not None:
            self._retry(workload, after)
        else:
            self.queue.add(workload, Priority.PROGRESS if found.registered else Priority.RESYNC, after=after)

    def _retry(self, workload: WorkloadKey, after: float) -> None:
        # It may be a user's change that failed: not behind thousands of jobs with nothing to do.
        self._hooks.retried(Priority.PROGRESS)
        self.queue.add(workload, Priority.PROGRESS, after=after)

    def _sweep(self) -> None:
        """Sweep once all sources are listed, and every so often."""
        while not self._stopping.is_set():
            self._wake_sweep.wait(self._settings.sweep_seconds)
            self._wake_sweep.clear()
            if self._stopping.is_set():
                return
            if self._takes_part():
                self.sweep()

    def sweep(self) -> None:
        """Look for policies of ours whose binding is gone."""
        try:
            orphans = self._orphans.find()
        except SecretBindingError as error:
            _log.warning("orphans cannot be looked for", error=str(error))
            return
        for name, lost in orphans.items():
            for workload in self._orphans.take(name, self._without_leaving(lost)):
                self.queue.add(workload, Priority.RESYNC)
        self.sweeps += 1

    def _without_leaving(self, orphans: Mapping[WorkloadKey, set[BindingKey]]) -> dict[WorkloadKey, set[BindingKey]]:
        """Shares that no binding here accounts for, without those of bindings that another connection has now: these
        leave as others do."""
        lost: dict[WorkloadKey, set[BindingKey]] = {}
        for workload, keys in orphans.items():
            for key in sorted(keys):
                if self._elsewhere.knows(key):
                    self._leaves(key, {workload})
                else:
                    lost.setdefault(workload, set()).add(key)
        return lost

    def _reconcile_unplaced(self, workload: WorkloadKey, entries: Sequence[Entry]) -> Pass:
        """Manifests too broken to name their job: each gets a status, and one that is going is let go."""
        found = Pass(self._settings.instance, Observed(workload))
        for entry in entries:
            if entry.item.deleting:
                self._reporter.let_go(entry.item.key)
        if self._reporter.report(entries, found, self._now()):
            self._failures.pop(workload, None)
        else:
            self._again(workload, None)
        return found

    def _thread(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()


def _tell_requests(old: SourceItem, new: SourceItem) -> None:
    """A line for what somebody newly asks for; what comes of it is in the trail of changes."""
    asked_for = {
        "rotate": (old.rotate_requested_at, new.rotate_requested_at),
        "generate": (old.generate_requested_at, new.generate_requested_at),
    }
    fresh = {name: after[:_REQUEST_LENGTH] for name, (before, after) in asked_for.items() if after and after != before}
    if fresh:
        _log.info("request", binding=str(new.key), **fresh)


def _only_status_differs(old: SourceItem, new: SourceItem) -> bool:
    return replace(old, status=new.status) == new
