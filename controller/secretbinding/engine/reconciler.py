"""One pass over one workload: observe, desire, plan, apply, and the status of each of its bindings."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from secretbinding import tracing
from secretbinding.desired import Desired, Observed, desire
from secretbinding.desired.adoption import dressed
from secretbinding.desired.carrying import carried, may_have_had_it
from secretbinding.desired.fighting import fight, paused
from secretbinding.desired.gating import rotations_in, turn_of
from secretbinding.desired.requests import open_requests
from secretbinding.desired.values import BindingInput
from secretbinding.engine.apply import Applier
from secretbinding.engine.gatekeeper import Gatekeeper
from secretbinding.engine.generator import Generator
from secretbinding.engine.observe import Observer
from secretbinding.engine.policies import Guard, Judged, without_rights
from secretbinding.engine_roles import without_refused
from secretbinding.errors import SecretBindingError, ServiceError
from secretbinding.gate import Obstacle
from secretbinding.job.marks import part_state, placed_marks
from secretbinding.kinds import Fault
from secretbinding.models.key import DEFAULT_CONNECTION, BindingKey, WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner, policy_name
from secretbinding.plan import Action, EvaluateJob, Plan, deferred, make_plan, put_off
from secretbinding.ports import Nomad, Vault
from secretbinding.render.agent import AgentDefaults
from secretbinding.render.policy import read_policy
from secretbinding.rollout import behind, deployment_of, deserted, is_active
from secretbinding.status import Pass, fault_of

_CHANCE = random.Random()

_START_GRACE_SECONDS = 10.0
# What was made is there to be rolled, and what could not be made is to be told.
_AGAIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Preview:
    """What a pass would do. `judged` are its bindings after the policies were asked."""

    observed: Observed
    desired: Desired
    plan: Plan
    judged: Judged = field(default_factory=lambda: Judged((), {}))


class Reconciler:
    """Stateless but for the moments at which a job was first seen missing, and at which its registration was first put
    off; everything else is read anew each pass.

    With a `guard`, bindings are held against the policies; without, everything is allowed. With `gates`, rolls of new
    versions wait as their bindings and the limits say; without, nothing waits.

    `clock` gives seconds that never go back; `purge_grace_seconds` is how long after a job was found gone its tasks may
    still be stopping. `may_write` is asked before each write. `connection` is the name of this pair of servers.
    """

    def __init__(
        self,
        vault: Vault,
        nomad: Nomad,
        *,
        instance: str,
        jwt_mount: str,
        agents: AgentDefaults | None = None,
        clock: Callable[[], float],
        purge_grace_seconds: float = 30.0,
        on_action: Callable[[WorkloadKey, Action], None] = lambda workload, action: None,
        gates: Gatekeeper | None = None,
        guard: Guard | None = None,
        may_write: Callable[[WorkloadKey], bool] = lambda workload: True,
        connection: str = DEFAULT_CONNECTION,
    ) -> None:
        self.connection = connection
        self._may_write = may_write
        self._vault = vault
        self._nomad = nomad
        self._instance = instance
        self._jwt_mount = jwt_mount
        self._approle_mount = (agents or AgentDefaults()).approle_mount
        self._clock = clock
        self._purge_grace_seconds = purge_grace_seconds
        self._on_action = on_action
        self._gates = gates
        self._guard = guard
        self._missing_since: dict[WorkloadKey, float] = {}
        self._deferred_since: dict[WorkloadKey, float] = {}
        self._evaluated: dict[WorkloadKey, EvaluateJob] = {}
        self._given_back: dict[WorkloadKey, datetime] = {}
        self._generator = Generator(vault)
        self._observer = Observer(vault, nomad, instance=instance, jwt_mount=jwt_mount, agents=agents)

    @property
    def instance(self) -> str:
        """The instance whose marks this reconciler reads and writes."""
        return self._instance

    def former_workload(self, key: BindingKey, workload: WorkloadKey) -> WorkloadKey | None:
        """Another workload that the binding's policy in Vault names; None when it names none or this one. Raises
        `errors.ServiceError` subclasses."""
        owner = Owner(self._instance, key)
        text = self._vault.read_policy(policy_name(owner))
        parsed = read_policy(text) if text is not None else None
        if parsed is None or parsed[0].owner != owner:
            return None
        former = parsed[0].workload
        same = (former.namespace, former.job) == (workload.namespace, workload.job)
        return None if same or not former.job else former

    def may_retain(self, workload: WorkloadKey, item: BindingInput) -> bool | None:
        """Whether policies let a binding that goes leave behind what it made; None as long as they are not known.
        Raises `errors.ServiceError` subclasses."""
        return self._guard.may_retain(workload, self._nomad.region(), item) if self._guard is not None else True

    def preview(
        self, workload: WorkloadKey, bindings: Sequence[BindingInput], refused: Mapping[str, Fault] | None = None
    ) -> Preview:
        """Everything but the writes; `refused` are roles of engines, by path, and policies, by name, that could not be
        written. Raises `errors.ServiceError` subclasses."""
        judged = Judged(tuple(bindings), {})
        if self._guard is not None:
            judged = self._guard.before(workload, self._nomad.region(), bindings)
        with tracing.span("observe"):
            found = self._observer.observe(workload, judged.bindings)
        if self._guard is not None:
            judged = self._guard.after(judged, found)
        judged = without_rights(judged, refused or {}, self._instance)
        bindings = judged.bindings
        observed = without_refused(found, bindings, refused or {})
        observed = replace(self._with_grace(observed, bindings), attempts=self._generator.attempts())
        if self._gates is not None:
            observed = replace(observed, gate=self._gates.gate(workload))
        if _unsettled(observed):
            observed = self._with_history(observed)
        preview = self._decided(observed, judged)
        due = preview.plan.registers or preview.plan.generates or _waits(preview.desired)
        due = due or (_faulty(preview.desired) and may_have_had_it(preview.observed, bindings, self._instance))
        if due and not observed.versions:
            # Only the history tells whether this very state has failed before, when the job was last rolled, and what
            # the job had from us before its user registered it without.
            preview = self._decided(self._with_history(observed), judged)
        return preview

    def _with_history(self, observed: Observed) -> Observed:
        with tracing.span("observe", secretbinding__history=True):
            return self._observer.with_history(observed)

    def _decided(self, observed: Observed, judged: Judged) -> Preview:
        with tracing.span("plan") as traced:
            preview = self._planned(observed, judged)
            traced.set(secretbinding__actions=len(preview.plan.actions))
            return preview

    def _planned(self, observed: Observed, judged: Judged) -> Preview:
        bindings = judged.bindings
        seen = dressed(observed, bindings, self._instance)
        shown = carried(seen, bindings, self._instance)
        if shown.carried and shown.job is not None:
            seen = self._observer.with_versions_of(seen, bindings, shown.job)
            shown = replace(shown, secrets=seen.secrets)
        desired = desire(shown, bindings, self._instance)
        if shown.carried and desired.job is not None:
            same = part_state(desired.job, self._instance) == part_state(shown.job, self._instance)
            desired = replace(desired, restored=same)
        found = fight(seen, open_requests(bindings, seen), self._instance, since=self._given_back.get(seen.workload))
        if found is not None:
            desired = paused(desired, found)
        return Preview(seen, desired, make_plan(seen, desired, bindings, self._instance), judged)

    def _evaluated_once(self, workload: WorkloadKey, preview: Preview) -> Preview:
        """The preview, without an evaluation that has been asked for already and has brought nothing."""
        done = self._evaluated.get(workload)
        rest = tuple(action for action in preview.plan.actions if action != done)
        return replace(preview, plan=replace(preview.plan, actions=rest))

    def _deferred(self, workload: WorkloadKey, preview: Preview) -> Preview:
        """The preview, its registration put off while allocations that it leaves alone are starting; not for long,
        since one may wait for something that only the registration brings. So is what comes with a new version that
        waits for a first look at all jobs: both make one deployment."""
        if preview.plan.registers and preview.observed.gate.looking_until is not None and _waits_for_a_place(preview):
            return replace(preview, plan=put_off(preview.plan, "all jobs are looked at first: some may be rolling"))
        plan = deferred(preview.plan, preview.observed)
        if not plan.deferred:
            self._deferred_since.pop(workload, None)
            return preview
        since = self._deferred_since.setdefault(workload, self._clock())
        over = self._clock() - since >= _START_GRACE_SECONDS
        return preview if over else replace(preview, plan=plan)

    def _entered(self, workload: WorkloadKey, preview: Preview) -> Preview:
        """The preview, when its roll may begin; decided anew when another job has taken the last slot meanwhile."""
        if self._gates is None:
            return preview
        brings = any(item.now and item.rolls for item in preview.desired.generations.values())
        if preview.plan.generates and brings and not self._gates.enter_value(workload):
            gate = replace(self._gates.gate(workload), slot_free=False)
            preview = self._decided(replace(preview.observed, gate=gate), preview.judged)
        if not preview.plan.registers or self._gates.enter(workload, preview.desired):
            return preview
        gate = self._gates.gate(workload)
        if turn_of(rotations_in(preview.desired), gate) is None:
            gate = replace(gate, slot_free=False)
        decided = self._decided(replace(preview.observed, gate=gate), preview.judged)
        if decided.plan.registers:
            # What somebody asks for waits for no place, and takes one.
            self._gates.enter(workload, decided.desired, anyway=True)
        return decided

    def run(self, workload: WorkloadKey, bindings: Sequence[BindingInput]) -> Pass:
        """One pass. Errors of the servers do not leave it: they are part of what it found."""
        preview: Preview | None = None
        applier = Applier(
            self._vault,
            self._nomad,
            jwt_mount=self._jwt_mount,
            approle_mount=self._approle_mount,
            on_action=lambda action: self._on_action(workload, action),
            generator=self._generator,
            instance=self._instance,
            bindings=[item.key for item in bindings],
            may_write=lambda: self._may_write(workload),
        )
        try:
            done = False
            while not done:
                preview = self.preview(workload, bindings, applier.refused)
                preview = self._deferred(workload, self._evaluated_once(workload, preview))
                preview = self._entered(workload, preview)
                with tracing.span("apply", secretbinding__actions=len(preview.plan.actions)):
                    done = applier.apply(preview.plan, workload.namespace, workload.job)
            assert preview is not None
            self._remember_given_back(workload, preview)
            for action in preview.plan.actions:
                if isinstance(action, EvaluateJob):
                    self._evaluated[workload] = action
        except SecretBindingError as error:
            observed = preview.observed if preview is not None else Observed(workload)
            system = error.system if isinstance(error, ServiceError) else "vault"
            cut_short = (preview.desired, preview.plan) if preview is not None else None
            return Pass(
                self._instance,
                observed,
                error=fault_of(error),
                error_system=system,
                made=tuple(applier.made),
                cut_short=cut_short,
                faults=preview.judged.faults if preview is not None else {},
                taken=preview.judged.taken if preview is not None else frozenset(),
            )
        return Pass(
            self._instance,
            preview.observed,
            preview.desired,
            preview.plan,
            registered=preview.plan.registers,
            made=tuple(applier.made),
            faults=preview.judged.faults,
            taken=preview.judged.taken,
        )

    def _remember_given_back(self, workload: WorkloadKey, preview: Preview) -> None:
        """That it was this controller that took the part out of the job, because its bindings went: nobody's fight."""
        register, gate = preview.plan.registration, preview.observed.gate
        if register is not None and gate.now is not None and not any(placed_marks(register.job, self._instance)):
            self._given_back[workload] = datetime.now(UTC) + gate.nomad_ahead

    def _with_grace(self, observed: Observed, bindings: Sequence[BindingInput]) -> Observed:
        """For a job that is gone while a binding is going: tasks may run on for their kill timeout."""
        workload = observed.workload
        if observed.job is not None:
            self._missing_since.pop(workload, None)
            return observed
        if not any(item.deleting for item in bindings):
            return observed
        observed = self._observer.with_purged(observed)
        since = self._missing_since.setdefault(workload, self._clock())
        over = self._clock() - since >= self._purge_grace_seconds
        live = any(item.get("ClientStatus") in ("pending", "running", "unknown") for item in observed.allocations)
        return replace(observed, purged_at_risk=observed.purged_at_risk and (live or not over))


def _waits_for_a_place(preview: Preview) -> bool:
    results = preview.desired.results.values()
    return any(item.obstacle is Obstacle.SLOT for result in results for item in result.secrets)


def next_pass_seconds(found: Pass, *, failures: int, settings: "Pace") -> float:
    """How long until the workload is looked at again if nothing wakes it before.

    `failures` counts the passes that ended in an error without one that did not in between.
    """
    if found.plan is not None and found.plan.generates:
        return _AGAIN_SECONDS
    if found.error is not None:
        return backoff_seconds(failures, settings)
    busy = found.registered or (found.plan is not None and bool(found.plan.waiting or found.plan.deferred))
    # A value that is due and not in the plan waits for something else of it.
    busy = busy or (found.desired is not None and any(item.now for item in found.desired.generations.values()))
    if busy or is_active(deployment_of(found.observed)) or behind(found.observed):
        return settings.progress_seconds
    if found.observed.job is None:
        return min(settings.missing_seconds, _gate_seconds(found, settings))
    resync = settings.resync_seconds * _CHANCE.uniform(0.8, 1.2)
    bringing = found.desired.bringing.values() if found.desired is not None else ()
    if bringing:
        soon = any(one.soon or one.action is not None for one in bringing)
        resync = min(resync, settings.progress_seconds if soon else settings.seals_seconds)
    return min(resync, _gate_seconds(found, settings))


def backoff_seconds(failures: int, settings: "Pace") -> float:
    """How long to wait after a failure that so many others came before; jittered, so that what failed together is not
    tried again together."""
    ceiling = min(settings.backoff_max_seconds, settings.backoff_seconds * 2.0 ** min(failures, 16))
    return float(ceiling * _CHANCE.uniform(0.5, 1.0))


def unseen(found: Pass) -> bool:
    """True when a secret could not be looked at, or a policy not be written: nobody tells of it when it can. A secret
    that is not there is found by the watch when it comes."""
    faults = [state.fault for state in found.observed.secrets.values() if state.fault is not None]
    if any(fault.reason is not Reason.SECRET_NOT_FOUND for fault in faults):
        return True
    return any(fault.reason in (Reason.PERMISSION_DENIED, Reason.REJECTED) for fault in found.faults.values())


def _gate_seconds(found: Pass, settings: "Pace") -> float:
    """How long until the first date on which something is to be done; a free slot wakes the workload by itself, and
    what should have come by itself but has not (Vault could not rotate a password) is left to the watch."""
    now = found.observed.gate.now
    if now is None or found.desired is None:
        return settings.resync_seconds
    dates = [
        item.until for result in found.desired.results.values() for item in result.secrets if item.until is not None
    ]
    dates += [found.desired.again_at] if found.desired.again_at is not None else []
    dates += [item.look_at for item in found.desired.generations.values() if item.look_at is not None]
    ahead = [moment for moment in dates if moment > now]
    # A moment later, so that the clock has surely passed the date.
    return (min(ahead) - now).total_seconds() + 0.05 if ahead else settings.resync_seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a workload is looked at, in seconds.

    Attributes:
        resync_seconds: when all is well: the time within which drift is found.
        resyncs_per_second: so many jobs a second are looked at for that; where there are more, each comes later.
        progress_seconds: while a deployment runs or surplus rights wait; events usually come first.
        seals_seconds: whether somebody else has opened a wrapped secret-id, where there are any.
        missing_seconds: while the job is not there; the event stream usually comes first.
        backoff_seconds, backoff_max_seconds: after an error, doubled with each further one.
    """

    resync_seconds: float = 300.0
    resyncs_per_second: float = 5.0
    progress_seconds: float = 5.0
    seals_seconds: float = 30.0
    missing_seconds: float = 30.0
    backoff_seconds: float = 1.0
    backoff_max_seconds: float = 300.0

    def for_jobs(self, count: int) -> "Pace":
        """The pace where there are so many jobs."""
        resync = count / self.resyncs_per_second
        return self if resync <= self.resync_seconds else replace(self, resync_seconds=resync)


def _waits(desired: Desired) -> bool:
    """True when a version is there that could be rolled and is not yet."""
    return any(item.waiting is not None for result in desired.results.values() for item in result.secrets)


def _faulty(desired: Desired) -> bool:
    """True when a secret cannot be used as it is now."""
    return any(item.fault is not None for result in desired.results.values() for item in result.secrets)


def _unsettled(observed: Observed) -> bool:
    deployment = deployment_of(observed)
    if behind(observed) or deserted(observed):
        return True
    return deployment is not None and deployment.get("Status") != "successful"
