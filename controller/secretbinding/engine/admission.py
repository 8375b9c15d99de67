"""A job with its secrets before it is registered, so that it is right in its first version."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from secretbinding.desired import desire
from secretbinding.desired.adoption import dressed
from secretbinding.desired.values import BindingInput, Desired, Observed
from secretbinding.engine.apply import Applier
from secretbinding.engine.gatekeeper import Gatekeeper
from secretbinding.engine.observe import Observer
from secretbinding.engine.policies import Guard, Judged
from secretbinding.engine.store import Store, inputs_of
from secretbinding.engine_roles import without_refused
from secretbinding.errors import SecretBindingError
from secretbinding.job.carry import carried_over
from secretbinding.job.inject import same_job, strip
from secretbinding.job.marks import placed_marks
from secretbinding.models.key import WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.plan import Action, Plan, Rights, make_plan
from secretbinding.ports import Json, Nomad, Vault
from secretbinding.render.agent import AgentDefaults


@dataclass(frozen=True, slots=True)
class Admitted:
    """The job as it is to be registered, and for people what stands in the way of a binding, one line each.

    `warnings` are of bindings that have no say over the job: anybody can write one that policies refuse, or that is
    invalid, and name somebody else's job in it.
    """

    job: Json
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Admission:
    """Decides by what the sources have delivered. Thread-safe.

    Args:
        sources: names of the sources that must have delivered all that they hold before anything is decided.
        gates: with them, a version that waits for a window or a limit waits here as well.
        guard: with it, what policies do not allow is left out here as well.
    """

    def __init__(
        self,
        vault: Vault,
        nomad: Nomad,
        store: Store,
        *,
        instance: str,
        jwt_mount: str,
        agents: AgentDefaults | None = None,
        sources: Sequence[str] = (),
        gates: Gatekeeper | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._vault = vault
        self._nomad = nomad
        self._store = store
        self._instance = instance
        self._jwt_mount = jwt_mount
        self._approle_mount = (agents or AgentDefaults()).approle_mount
        self._sources = tuple(sources)
        self._gates = gates
        self._guard = guard
        self._observer = Observer(vault, nomad, instance=instance, jwt_mount=jwt_mount, agents=agents)

    def admit(self, job: Json) -> Admitted:
        """The job that somebody is about to register, with its secrets; rights that it lacks are made first, since
        Nomad does not repeat a failed login. A job that no binding names is left as it is, and no server is asked.

        What the job has from us in its present version is kept where it would be kept there: a version that waits goes
        on waiting.
        """
        namespace, name = str(job.get("Namespace") or "default"), str(job.get("ID") or "")
        workload = WorkloadKey(self._store.connection, "", namespace, name)
        entries = self._store.of_workload(workload)
        unlisted = [source for source in self._sources if not self._store.is_listed(source)]
        if unlisted:
            return Admitted(job, (f"the bindings of {', '.join(unlisted)} are not known yet; try again",))
        bindings = inputs_of(entries)
        if not bindings or job.get("Stop"):
            return Admitted(job)
        try:
            return self._admit(job, workload, bindings)
        except SecretBindingError as error:
            return Admitted(job, (str(error),))

    def _admit(
        self, job: Json, workload: WorkloadKey, bindings: Sequence[BindingInput], applier: Applier | None = None
    ) -> Admitted:
        applier = applier or Applier(
            self._vault,
            self._nomad,
            jwt_mount=self._jwt_mount,
            approle_mount=self._approle_mount,
            instance=self._instance,
            bindings=[item.key for item in bindings],
        )
        there = self._nomad.job(workload.namespace, workload.job)
        # The type of a job matters only to those who register it.
        seen = {**carried_over(there, job, self._instance), "Type": "service", "Namespace": workload.namespace}
        judged = Judged(tuple(bindings), {})
        if self._guard is not None:
            judged = self._guard.before(workload, self._nomad.region(), bindings)
        observed = self._observer.with_job(workload, judged.bindings, seen)
        if self._guard is not None:
            judged = self._guard.after(judged, observed)
        given, bindings = bindings, judged.bindings
        refused = [item for item in given if item.key in judged.taken]
        if there is not None:
            observed = replace(
                observed,
                deployments=self._nomad.deployments(workload.namespace, workload.job),
                versions=self._nomad.versions(workload.namespace, workload.job),
            )
        if self._gates is not None:
            observed = replace(observed, gate=self._gates.gate(workload))
        observed = dressed(without_refused(observed, bindings, applier.refused), bindings, self._instance)
        desired = desire(observed, bindings, self._instance)
        if desired.job is None:
            told = told_of(desired, bindings, refused, judged)
            nothing = () if told.warnings else ("the job cannot be given its secrets",)
            return Admitted(job, told.refusals or nothing, told.warnings)
        if not self._make_rights(applier, observed, desired, bindings):
            return self._admit(job, workload, given, applier)
        placed = {mark.key for mark in placed_marks(desired.job, self._instance)}
        by_hand = observed.adoptions and observed.job is not None and same_job(observed.job, desired.job)
        injected = job if by_hand else {**job, "TaskGroups": desired.job["TaskGroups"]}
        missing = [item for item in bindings if not item.deleting and item.key not in placed]
        told = told_of(desired, missing, refused, judged)
        return Admitted(injected, told.refusals, told.warnings)

    def _make_rights(
        self, applier: Applier, observed: Observed, desired: Desired, bindings: Sequence[BindingInput]
    ) -> bool:
        """False when the job has to be looked at anew."""
        # Compared with the job as it is without our part, the injection is always due, and so no right is taken away.
        without = replace(observed, job=strip(observed.job or {}, self._instance).job)
        plan = make_plan(without, desired, bindings, self._instance)
        rights: list[Action] = [action for action in plan.actions if isinstance(action, Rights)]
        return applier.apply(Plan(tuple(rights)), observed.workload.namespace, observed.workload.job)


@dataclass(frozen=True, slots=True)
class Told:
    """Lines for people: what ends a registration, and what does not."""

    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def told_of(desired: Desired, missing: Sequence[BindingInput], refused: Sequence[BindingInput], judged: Judged) -> Told:
    """Of bindings that are not in the job (`missing`), and of those that policies refuse."""
    powerless = [
        item
        for item in missing
        if item.binding is None or (item.frozen is not None and item.frozen.reason is Reason.REFUSED_WITHOUT_POLICIES)
    ]
    others = [item for item in missing if item not in powerless]
    return Told(tuple(_faults(desired, others)), (*_faults(desired, powerless), *_told(refused, judged)))


def _told(bindings: Sequence[BindingInput], judged: Judged) -> list[str]:
    """Why bindings are refused, a line each, without the rule that would allow them."""
    found = [(item.key, judged.faults[item.key]) for item in bindings]
    return [f"SecretBinding {key}: {fault.message.partition(chr(10))[0]} ({fault.reason})" for key, fault in found]


def _faults(desired: Desired, bindings: Sequence[BindingInput]) -> list[str]:
    """Why the given bindings are not in the job; a suspended one is left out by its owner's wish."""
    lines: list[str] = []
    for item in bindings:
        result = desired.results.get(item.key)
        fault = item.frozen or (result.fault if result is not None else None)
        if item.binding is not None and item.binding.spec.suspend:
            continue
        told = f"{fault.message} ({fault.reason})" if fault is not None else "no task of the job takes the secrets"
        lines.append(f"SecretBinding {item.key}: {told}")
    return lines
