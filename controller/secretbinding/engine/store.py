"""The bindings that the sources have delivered, by binding and by workload."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType

from secretbinding.desired.requests import CLOCK_SKEW
from secretbinding.desired.values import BindingInput
from secretbinding.generation import read_request
from secretbinding.kinds import Fault, with_role_names
from secretbinding.models.keeping import kept
from secretbinding.models.key import DEFAULT_CONNECTION, BindingKey, WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.models.status import ROTATE_REQUEST_LENGTH, SecretBindingStatus
from secretbinding.naming import Owner
from secretbinding.rotation import read_rotate_request
from secretbinding.sources.base import SourceItem


@dataclass(frozen=True, slots=True)
class Entry:
    """A binding in the store: as the source gave it, the workload it names, and the status last reported.

    `asked_at` is when its request for a roll came, None for one that was there before: before this process, or before
    the workload was this controller's. `untold` says that no status was stored when the binding came.
    """

    item: SourceItem
    workload: WorkloadKey
    status: SecretBindingStatus
    asked_at: datetime | None = None
    untold: bool = False

    @property
    def input(self) -> BindingInput:
        """The binding as the decisions take it."""
        item = self.item
        request = read_rotate_request(item.rotate_requested_at)
        # What another controller has answered since is in the status that the source tells.
        told = (self.status.last_handled_rotate_at, item.status.last_handled_rotate_at)
        answered = item.rotate_requested_at[:ROTATE_REQUEST_LENGTH] in told
        if request is None or answered:
            request, arrived = None, None
        else:
            request, arrived = _timed(request, self.asked_at)
        return BindingInput(
            key=item.key,
            binding=item.binding,
            frozen=_frozen(item),
            deleting=item.deleting,
            rotate_requested_at=request,
            rotate_arrived_at=arrived,
            rotate_doubtful=self.untold and self.asked_at is None,
            generate_request=read_request(item.generate_requested_at),
            generation=item.generation,
        )


class Store:
    """Thread-safe. Every change answers with the workloads that it touches."""

    def __init__(
        self,
        instance: str = "default",
        owns: Callable[[WorkloadKey], bool] = lambda workload: True,
        *,
        connection: str = DEFAULT_CONNECTION,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`instance` stands in the names of what bindings have made for themselves; `owns` says which workloads are
        this controller's; `connection` is the one whose bindings these are; `now` is this machine's clock."""
        self._now = now
        self._instance = instance
        self.connection = connection
        self._owns = owns
        self._lock = threading.Lock()
        self._entries: dict[BindingKey, Entry] = {}
        self._workloads: dict[WorkloadKey, set[BindingKey]] = {}
        self._listed: set[str] = set()
        self._changes = 0

    @property
    def changes(self) -> int:
        """Counts up with every binding that comes, changes or goes, and when other workloads are this controller's."""
        return self._changes

    def owned_changed(self) -> None:
        """Other workloads are this controller's now."""
        with self._lock:
            self._changes += 1
            for key, entry in self._entries.items():
                # Whoever has the others answers their requests.
                if entry.asked_at is not None and not self._owns(entry.workload):
                    self._entries[key] = replace(entry, asked_at=None)

    def upsert(self, item: SourceItem, *, asked_now: bool = False) -> set[WorkloadKey]:
        """Take a binding as it is now. Touched are the workload it names and the one it named before. `asked_now` says
        that somebody waits for what the binding asks for."""
        item = with_names(item, self._instance)
        workload = workload_of(item, self.connection)
        with self._lock:
            old = self._entries.get(item.key)
            touched = {old.workload, workload} if old is not None else {workload}
            if old is not None and _same(old.item, item) and old.workload == workload:
                self._entries[item.key] = replace(old, item=item, status=self._status(old, item))
                return set()
            # One that comes again after it was going is another binding of the same name.
            if old is not None and old.item.deleting and not item.deleting:
                old = None
            kept((item.binding, item.status))
            asked_at = old.asked_at if old is not None else None
            is_new = old is not None and old.item.rotate_requested_at != item.rotate_requested_at
            if asked_now or is_new:
                asked_at = self._now() if asked_now or self._owns(workload) else None
            if old is None:
                self._put(Entry(item, workload, item.status, asked_at, untold=not item.status.conditions))
            else:
                self._put(Entry(item, workload, self._status(old, item), asked_at, old.untold))
            return touched

    def remove(self, key: BindingKey) -> set[WorkloadKey]:
        """Forget a binding that is going; one that was made again under the same name meanwhile stays."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or not entry.item.deleting:
                return set()
            return {self._drop(entry)}

    def leave(self, key: BindingKey) -> WorkloadKey | None:
        """Forget a binding that another connection has now; gives the workload that it named here."""
        with self._lock:
            entry = self._entries.get(key)
            return self._drop(entry) if entry is not None else None

    def get(self, key: BindingKey) -> Entry | None:
        """The entry of a binding, None when it is not known."""
        with self._lock:
            return self._entries.get(key)

    def of_workload(self, workload: WorkloadKey) -> list[Entry]:
        """The bindings that name a workload, by key."""
        with self._lock:
            return [self._entries[key] for key in sorted(self._workloads.get(workload, ()))]

    def workloads(self, namespace: str | None = None) -> list[WorkloadKey]:
        """All workloads, or those of one Nomad namespace."""
        with self._lock:
            return sorted(key for key in self._workloads if namespace is None or key.namespace == namespace)

    @property
    def size(self) -> int:
        """How many workloads there are."""
        return len(self._workloads)

    def known(self) -> list[WorkloadKey]:
        """All workloads, those that came first at the front: cheap however many there are."""
        with self._lock:
            return list(self._workloads)

    def namespaces(self) -> set[str]:
        """The Nomad namespaces of all workloads that name a job."""
        return {key.namespace for key in self.known() if key.job}

    def named(self, namespace: str, job: str) -> set[WorkloadKey]:
        """The workload of a job; empty when no binding names it."""
        workload = WorkloadKey(self.connection, "", namespace, job)
        with self._lock:
            return {workload} if job and workload in self._workloads else set()

    def entries(self) -> list[Entry]:
        """All bindings of workloads that are this controller's, by key."""
        return sorted(self.snapshot(), key=lambda entry: entry.item.key)

    def snapshot(self) -> list[Entry]:
        """The same in no order: cheap however many there are."""
        with self._lock:
            entries = list(self._entries.values())
        return [entry for entry in entries if self._owns(entry.workload)]

    def set_status(self, key: BindingKey, status: SecretBindingStatus) -> None:
        """Remember what was reported."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                kept(status)
                self._entries[key] = replace(entry, status=status)

    def listed(self, source: str) -> None:
        """A complete listing of a source has been delivered."""
        with self._lock:
            self._listed.add(source)

    def is_listed(self, source: str) -> bool:
        """True when the absence of a source's binding from the store means something."""
        with self._lock:
            return source in self._listed

    def count(self, source: str) -> int:
        """How many bindings of a source there are."""
        with self._lock:
            return sum(1 for key in self._entries if key.source == source)

    def _status(self, old: Entry, item: SourceItem) -> SecretBindingStatus:
        """The newer one: what this process reported last, or what another that has the workload has written since."""
        written = item.status != old.item.status
        return item.status if written and not self._owns(old.workload) else old.status

    def _drop(self, entry: Entry) -> WorkloadKey:
        del self._entries[entry.item.key]
        self._changes += 1
        keys = self._workloads.get(entry.workload, set())
        keys.discard(entry.item.key)
        if not keys:
            self._workloads.pop(entry.workload, None)
        return entry.workload

    def _put(self, entry: Entry) -> None:
        key = entry.item.key
        old = self._entries.get(key)
        if old is not None and old.workload != entry.workload:
            keys = self._workloads.get(old.workload, set())
            keys.discard(key)
            if not keys:
                self._workloads.pop(old.workload, None)
        self._entries[key] = entry
        self._changes += 1
        self._workloads.setdefault(entry.workload, set()).add(key)


def with_names(item: SourceItem, instance: str) -> SourceItem:
    """The item, its binding with the names of the engine roles that are made for it (`kinds.with_role_names`)."""
    if item.binding is None:
        return item
    named = with_role_names(item.binding, Owner(instance, item.key))
    return item if named is item.binding else replace(item, binding=named)


def workload_of(item: SourceItem, connection: str = DEFAULT_CONNECTION) -> WorkloadKey:
    """The workload that a binding names; one with an empty job when its manifest is too broken to tell.

    The connection is the one that the binding was given to, the region that connection's own: a binding that names
    others is refused when it is judged, and one that names the same ones must not become a second workload of the job.
    """
    if item.binding is None:
        return WorkloadKey(connection, "", item.nomad_namespace, item.job)
    spec = item.binding.spec
    return WorkloadKey(
        connection=connection,
        region="",
        namespace=spec.workload.namespace or item.nomad_namespace,
        job=spec.workload.job,
    )


def connection_of(item: SourceItem) -> str | None:
    """The connection that a binding names; None where its manifest is too broken to tell."""
    if item.binding is None:
        return None
    return item.binding.spec.connection or DEFAULT_CONNECTION


def _frozen(item: SourceItem) -> Fault | None:
    if item.deleting:
        return None
    if item.binding is None:
        return Fault(item.refused, "; ".join(str(problem) for problem in item.problems) or "not a manifest")
    if item.binding.spec.suspend:
        return Fault(Reason.SUSPENDED, "spec.suspend is set; what is injected stays as it is")
    return None


def _timed(request: datetime, asked_at: datetime | None) -> tuple[datetime, datetime | None]:
    """When a request was made, and when it came: while this process watched, a clock that is a little behind ours
    makes no request older than what was rolled before it."""
    if asked_at is None:
        return request, None
    made_at = asked_at if asked_at - CLOCK_SKEW <= request <= asked_at else request
    return made_at, max(asked_at, made_at)


def _same(old: SourceItem, new: SourceItem) -> bool:
    """True when a delivery brings nothing new; the status that a source reads back is our own."""
    return replace(old, status=new.status) == new


def inputs_of(entries: Iterable[Entry], held: Mapping[BindingKey, Fault] = MappingProxyType({})) -> list[BindingInput]:
    """The bindings as the decisions take them; those in `held` stay as they are for that reason."""
    given = [entry.input for entry in entries]
    return [replace(each, frozen=each.frozen or held.get(each.key)) for each in given]
