"""The policies that the sources of policies have delivered, and what they say of the bindings of a job."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from secretbinding.desired.values import BindingInput, Observed
from secretbinding.job.marks import placed_marks
from secretbinding.job.targets import find_task, select_tasks
from secretbinding.kinds import Fault
from secretbinding.loops import Loop
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.policy import Choice, SecretBindingPolicy
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner, policy_name
from secretbinding.ports import Json
from secretbinding.tenancy import Target, Tenant
from secretbinding.tenancy.verdict import UNDECIDED, Known, Verdict, verdict

_log = structlog.get_logger(__name__)

Labels = Callable[[str, str], Mapping[str, str] | None]
"""The labels of a tenant, by its source and its name; None where they are not known."""


class PolicySink(Protocol):
    """What a source of policies tells. Every method returns at once."""

    def deliver(self, source: str, policies: Sequence[SecretBindingPolicy], unreadable: Sequence[str]) -> None:
        """All policies that the source has now, and the names of those that cannot be read and never could."""

    def failed(self, source: str, why: str) -> None:
        """The source cannot be read now; what it last delivered stays."""


class PolicySource(Protocol):
    """One place where policies come from."""

    name: str

    @property
    def threads(self) -> Sequence[threading.Thread]:
        """Its own, which live from `start` to `stop`."""

    @property
    def loops(self) -> Sequence[Loop]:
        """What comes round in them."""

    def start(self, sink: PolicySink) -> None:
        """Begin to deliver, in a thread of the source's own; returns at once."""

    def stop(self) -> None:
        """Stop delivering."""


class PolicyBoard:
    """Fulfils `PolicySink`. Thread-safe. `changed` is called after each change, from a thread of the board's or the
    source's.

    Once all sources have delivered, a change counts when nothing has changed for `settle_seconds`: several policies
    that are replaced one after the other are not to take away for a moment what they allow together.
    """

    def __init__(
        self, sources: Sequence[str], changed: Callable[[], None] = lambda: None, *, settle_seconds: float = 0.0
    ) -> None:
        self._settle_seconds = settle_seconds
        self._timer: threading.Timer | None = None
        self._lock = threading.Condition()
        self._delivered: dict[str, tuple[SecretBindingPolicy, ...] | None] = dict.fromkeys(sources)
        self._unreadable: dict[str, tuple[str, ...]] = {}
        self._why: dict[str, str] = {}
        self._known = self._joined()
        self.changed = changed

    def deliver(self, source: str, policies: Sequence[SecretBindingPolicy], unreadable: Sequence[str]) -> None:
        with self._lock:
            known_before = self._delivered.get(source) is not None
            self._delivered[source] = tuple(policies)
            self._unreadable[source] = tuple(unreadable)
            self._why.pop(source, None)
            self._lock.notify_all()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if known_before and self._settle_seconds > 0 and self._joined() != self._known:
                self._timer = threading.Timer(self._settle_seconds, self._publish)
                self._timer.daemon = True
                self._timer.start()
                return
        self._publish()

    def stop(self) -> None:
        """Nothing counts any more that has not settled."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _publish(self) -> None:
        with self._lock:
            before, self._known = self._known, self._joined()
            same = self._known == before
            names = [policy.metadata.name for policy in self._known.policies]
        if not same:
            _log.info("policies", policies=names, unknown=self._known.unknown)
            self.changed()

    def failed(self, source: str, why: str) -> None:
        with self._lock:
            self._why[source] = why
            if self._delivered.get(source) is None:
                self._known = self._joined()

    def known(self) -> Known:
        """The policies of all sources, as they were last delivered."""
        with self._lock:
            return self._known

    def wait(self, seconds: float) -> bool:
        """Wait until every source has delivered once; False when the time is over first."""
        deadline = time.monotonic() + seconds
        with self._lock:
            while any(policies is None for policies in self._delivered.values()):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._lock.wait(left)
        return True

    def _joined(self) -> Known:
        policies = [policy for delivered in self._delivered.values() for policy in delivered or ()]
        missing = sorted(source for source, delivered in self._delivered.items() if delivered is None)
        if missing:
            why = self._why.get(missing[0], "")
            return Known(tuple(policies), f"the policies of {missing[0]} are not known yet{f': {why}' if why else ''}")
        broken = [name for names in self._unreadable.values() for name in names]
        return Known(tuple(policies), f"policy {broken[0]} cannot be read, and may be a Deny" if broken else "")


@dataclass(frozen=True, slots=True)
class Judged:
    """The bindings of a job after the policies were asked.

    Attributes:
        bindings: as the decisions are to take them: what is refused as if it were going, what is not known as it is.
        faults: why, by binding.
        taken: those whose share is taken away though the binding is there.
    """

    bindings: tuple[BindingInput, ...]
    faults: Mapping[BindingKey, Fault]
    taken: frozenset[BindingKey] = frozenset()


def without_rights(judged: Judged, refused: Mapping[str, Fault], instance: str) -> Judged:
    """The bindings of a job where Vault refused the policies in `refused`, by name: those whose they are stay as they
    are, and whatever else the job has goes on."""
    faults = {
        item.key: fault
        for item in judged.bindings
        if not item.deleting and item.frozen is None
        if (fault := refused.get(policy_name(Owner(instance, item.key)))) is not None
    }
    if not faults:
        return judged
    bindings = tuple(replace(item, frozen=faults[item.key]) if item.key in faults else item for item in judged.bindings)
    return Judged(bindings, {**judged.faults, **faults}, judged.taken)


class Guard:
    """Asks the policies. `instance` is the controller's own."""

    def __init__(self, board: PolicyBoard, labels: Labels, *, instance: str) -> None:
        self._board = board
        self._labels = labels
        self._instance = instance

    def before(self, workload: WorkloadKey, region: str, bindings: Sequence[BindingInput]) -> Judged:
        """What can be said before anything is looked at, so that of a refused secret nothing is even asked."""
        return self._judged(workload, region, bindings, None)

    def after(self, judged: Judged, observed: Observed) -> Judged:
        """What the job and its policies in Vault tell besides: the drivers of its tasks, and what was taken over."""
        found = self._judged(observed.workload, observed.region, judged.bindings, observed, judged)
        return Judged(found.bindings, {**judged.faults, **found.faults}, judged.taken | found.taken)

    def may_retain(self, workload: WorkloadKey, region: str, item: BindingInput) -> bool | None:
        """Whether a binding that goes may leave behind what it made; None as long as that is not known. Without any
        policy nothing is taken away."""
        fault = self._verdict(self._board.known(), workload, region, replace(item, deleting=False), None).fault
        if fault is not None and fault.reason is Reason.POLICIES_UNKNOWN:
            return None
        return fault is None or fault.reason is Reason.REFUSED_WITHOUT_POLICIES

    def _judged(
        self,
        workload: WorkloadKey,
        region: str,
        bindings: Sequence[BindingInput],
        observed: Observed | None,
        before: Judged | None = None,
    ) -> Judged:
        known = self._board.known()
        found: list[BindingInput] = []
        faults: dict[BindingKey, Fault] = {}
        taken: set[BindingKey] = set()
        for item in bindings:
            if item.deleting or (before is not None and item.key in before.faults):
                found.append(item)
                continue
            said = self._verdict(known, workload, region, item, observed)
            if said.fault is None:
                found.append(item)
                continue
            faults[item.key] = said.fault
            if said.taken:
                taken.add(item.key)
                found.append(replace(item, frozen=None, deleting=True))
            else:
                found.append(replace(item, frozen=said.fault))
        return Judged(tuple(found), faults, frozenset(taken))

    def _verdict(
        self, known: Known, workload: WorkloadKey, region: str, item: BindingInput, observed: Observed | None
    ) -> Verdict:
        try:
            return self._asked(known, workload, region, item, observed)
        except Exception as error:  # noqa: BLE001 - it concerns this binding, not those beside it in the job.
            _log.error("policy decision failed", binding=str(item.key), error_type=type(error).__name__)
            return Verdict(Fault(Reason.REFUSED_BY_POLICY, UNDECIDED), taken=bool(known.policies))

    def _asked(
        self, known: Known, workload: WorkloadKey, region: str, item: BindingInput, observed: Observed | None
    ) -> Verdict:
        if item.binding is None and observed is None:
            return Verdict()
        labels = self._labels(item.key.source, item.key.tenant) if known.asks_for_labels else {}
        tenant = Tenant(item.key.source, item.key.tenant, labels)
        policy = observed.policies.get(policy_name(Owner(self._instance, item.key))) if observed is not None else None
        document = policy.document if policy is not None else None
        if document is not None and document.owner.key != item.key:
            document = None
        adopted = document is not None and document.adopted is not None
        if observed is not None and item.binding is not None and not (adopted or known.asks_for_drivers):
            return Verdict()  # Nothing has come to be known that counts.
        drivers = drivers_of(item, observed.job) if observed is not None and observed.job is not None else None
        choices: frozenset[Choice] = frozenset()
        if item.binding is None and observed is not None:
            share = [one for one in placed_marks(observed.job, self._instance) if one.key == item.key]
            drivers = frozenset(str(one.host.get("Driver") or "") for one in share) or None
            scripted = any(one.template.get("ChangeMode") == "script" for one in share)
            choices = frozenset({Choice.SCRIPT}) if scripted else choices
        return verdict(
            known,
            tenant,
            item.binding,
            Target(workload.namespace, workload.job, region, drivers, workload.connection),
            adopted=adopted,
            rights=document.rights if document is not None else (),
            terms=document.terms if document is not None else None,
            choices=choices,
            made=document.engine_roles if document is not None else (),
        )


def drivers_of(item: BindingInput, job: Json) -> frozenset[str] | None:
    """The drivers of the tasks that get a binding's secrets; None where that cannot be told."""
    if item.binding is None:
        return None
    refs, fault = select_tasks(job, item.binding.spec.workload.groups)
    if fault is not None:
        return None
    tasks = (find_task(job, ref) for ref in refs)
    return frozenset(str(task.get("Driver") or "") for task in tasks if task is not None)
