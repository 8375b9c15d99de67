"""What each binding wants of the job: tasks, versions, and who keeps a place that two of them want."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from secretbinding.desired.gating import gated
from secretbinding.desired.once import Mixture
from secretbinding.desired.values import BindingInput, BindingResult, Observed
from secretbinding.job.marks import Mark, Placed
from secretbinding.job.targets import (
    TaskRef,
    destinations_of,
    find_task,
    named_tasks,
    normal_path,
    select_tasks,
    task_fault,
    variables_in,
    variables_of,
)
from secretbinding.kinds import KINDS
from secretbinding.kinds.base import Fault, Pin, SecretState
from secretbinding.models.binding import AuthMethod, Delivery, FileFormat, SecretBinding, SecretEntry
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner, policy_name
from secretbinding.ports import Json
from secretbinding.render.template import (
    Change,
    TemplateBlock,
    secret_blocks,
    secret_identity,
    unsound,
    workload_env_block,
)
from secretbinding.rotation import SecretDecision, decide_version, last_roll

_FORMATS = (None, FileFormat.JSON, FileFormat.DOTENV)
_RESTART = Change(mode="restart")
# How far apart the clocks of Vault and of who asks for a roll may be.
_CLOCK_SKEW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Share:
    """What one binding wants in the job: `tasks` and, the same for each of them, `blocks`."""

    key: BindingKey
    binding: SecretBinding
    tasks: tuple[TaskRef, ...]
    blocks: tuple[TemplateBlock, ...]
    polls: bool
    leased: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """One binding after all checks: a share when it may be injected, and the result to report."""

    result: BindingResult
    share: Share | None = None


def judge(
    bindings: Iterable[BindingInput], observed: Observed, user_job: Json | None, placed: Sequence[Placed], instance: str
) -> dict[BindingKey, Judged]:
    """Judge every binding that is neither frozen nor going.

    Of two that want one place the one that has it keeps it; else the first by key, in whatever order they come.
    A binding that is refused keeps what it has in the job, and so its places: whether it is refused can depend on the
    others, so all are judged again until no further one is.
    """
    bindings = sorted(bindings, key=lambda item: item.key)
    active = {
        item.key: item.binding
        for item in bindings
        if not item.deleting and item.frozen is None and item.binding is not None
    }
    decisions = _decisions(bindings, active, observed, placed, instance)
    leaving = {item.key for item in bindings if item.deleting}
    staying = [item for item in placed if item.key not in leaving]
    present = {item.key for item in staying}
    stuck: set[BindingKey] = set()
    while True:
        claims = _Claims(user_job)
        for item in staying:
            if item.key not in active or item.key in stuck:
                claims.take_placed(item)
            else:
                claims.reserve(item, active[item.key])
        judged = {
            item.key: _judge_one(
                item, active[item.key], decisions.get(item.key, ()), observed, user_job, claims, instance
            )
            for item in sorted(bindings, key=lambda item: (item.key not in present, item.key))
            if item.key in active
        }
        refused = {key for key, found in judged.items() if found.share is None and key in present}
        if refused <= stuck:
            return judged
        stuck |= refused


def secret_of(mark: Mark) -> str:
    """The name of the secret that a template reads, `""` for the workload's own variables."""
    parts = mark.slot.split(":")
    return parts[1] if len(parts) >= 2 else ""


def serving_pins(placed: Iterable[Placed], key: BindingKey) -> Mapping[str, tuple[Pin, str]]:
    """The version that a binding's share reads now, with the secret's identity, by secret name."""
    pins: dict[str, tuple[Pin, str]] = {}
    for item in placed:
        if item.key == key and item.mark.pin is not None:
            pins[secret_of(item.mark)] = (item.mark.pin, item.mark.of)
    return pins


def _judge_one(
    item: BindingInput,
    binding: SecretBinding,
    decisions: tuple[SecretDecision, ...],
    observed: Observed,
    user_job: Json | None,
    claims: "_Claims",
    instance: str,
) -> Judged:
    owner = Owner(instance, item.key)
    policy = policy_name(owner)
    there = observed.policies.get(policy)
    if there is not None and (there.document is None or there.document.owner != owner):
        message = f"policy {policy} exists and does not carry this binding's mark; delete or rename it"
        return Judged(BindingResult(item.key, fault=Fault(Reason.POLICY_CONFLICT, message), policy=policy))
    unsupported = _unsupported(binding) or _elsewhere(binding, observed)
    if unsupported is not None:
        return Judged(BindingResult(item.key, fault=unsupported, policy=policy))
    result = BindingResult(item.key, secrets=decisions, policy=policy)

    def refuse(fault: Fault) -> Judged:
        return Judged(BindingResult(item.key, fault=fault, secrets=decisions, policy=policy))

    if user_job is None:
        tasks: tuple[TaskRef, ...] = named_tasks(binding.spec.workload.groups)
    else:
        tasks, missing = select_tasks(user_job, binding.spec.workload.groups)
        if missing is not None:
            return refuse(missing)
        for ref in tasks:
            conflict = _conflict(user_job, ref, binding, instance) or claims.refuses(ref, item.key, binding)
            if conflict is not None:
                return refuse(conflict)
    broken = next((decision.fault for decision in decisions if decision.fault is not None), None)
    if broken is not None:
        return refuse(broken)
    share = _share(item, binding, tasks, observed, decisions)
    wrong = next((message for block in share.blocks if (message := unsound(block))), "")
    if wrong:
        return refuse(Fault(Reason.INVALID_MANIFEST, wrong))
    for ref in tasks:
        mixed = claims.mixes(ref, share.blocks)
        if mixed is not None:
            return refuse(mixed)
    for ref in tasks:
        claims.take(ref, item.key, binding, share.blocks)
    return Judged(result, share)


def _elsewhere(binding: SecretBinding, observed: Observed) -> Fault | None:
    connection = binding.spec.connection
    if connection not in (None, observed.workload.connection):
        message = f"spec.connection is {connection}, and this controller knows only {observed.workload.connection}"
        return Fault(Reason.CONNECTION_UNKNOWN, message)
    region = binding.spec.workload.region
    if region is None or not observed.region or region == observed.region:
        return None
    message = f"spec.workload.region is {region}, and this controller works in region {observed.region}"
    return Fault(Reason.REGION_MISMATCH, message)


def _unsupported(binding: SecretBinding) -> Fault | None:
    spec = binding.spec
    if spec.delivery is not Delivery.TEMPLATE:
        return Fault(
            Reason.UNSUPPORTED_DELIVERY, f"delivery {spec.delivery} is not supported by this release; use Template"
        )
    if spec.auth.method is not AuthMethod.JWT:
        return Fault(
            Reason.UNSUPPORTED_AUTH, f"auth.method {spec.auth.method} is not supported by this release; use JWT"
        )
    for entry in spec.secrets:
        if entry.kind_name not in KINDS:
            message = (
                f"secret {entry.name}: kind {entry.kind_name} is not supported by this release; it is left as it is"
            )
            return Fault(Reason.UNSUPPORTED_KIND, message)
        for target in entry.files:
            if target.format not in _FORMATS:
                message = (
                    f"secret {entry.name}: format {target.format} is not supported by this release; "
                    "use Json, Dotenv or a template"
                )
                return Fault(Reason.UNSUPPORTED_KIND, message)
    return None


def _decisions(
    bindings: Sequence[BindingInput],
    active: Mapping[BindingKey, SecretBinding],
    observed: Observed,
    placed: Sequence[Placed],
    instance: str,
) -> dict[BindingKey, tuple[SecretDecision, ...]]:
    """What is decided for each secret of all bindings, with what has to wait held back."""
    decisions = {
        item.key: _decide(item, active[item.key], observed, placed)
        for item in bindings
        if item.key in active and _unsupported(active[item.key]) is None
    }
    requested = frozenset(
        item.key
        for item in bindings
        if item.key in decisions
        and any(
            _requested(item.rotate_requested_at, _state(observed, item.key, entry))
            for entry in active[item.key].spec.secrets
        )
    )
    ungated = _ungated(observed.job, placed)
    return gated(decisions, active, requested, ungated, observed.gate, last_roll(observed.versions, instance))


def _ungated(job: Json | None, placed: Sequence[Placed]) -> dict[BindingKey, str]:
    """For each binding in the job, a group of its that Nomad replaces without a deployment: `max_parallel` 0 (Nomad's
    `Update.MaxParallel`) means all allocations at once, and no health check. A group without one is stored with 1."""
    groups = {
        group["Name"]
        for group in (job or {}).get("TaskGroups") or []
        if group.get("Update") and group["Update"].get("MaxParallel") == 0 and group.get("Count") != 0
    }
    return {item.key: item.group for item in placed if item.group in groups}


def _decide(
    item: BindingInput, binding: SecretBinding, observed: Observed, placed: Sequence[Placed]
) -> tuple[SecretDecision, ...]:
    serving = serving_pins(placed, item.key)
    decisions: list[SecretDecision] = []
    for entry in binding.spec.secrets:
        state = _state(observed, item.key, entry)
        pin, of = serving.get(entry.name, (None, ""))
        if of != secret_identity(entry):
            pin = None
        decisions.append(
            decide_version(
                entry,
                state,
                pin,
                strategy=binding.spec.rotation.strategy.value,
                requested=_requested(item.rotate_requested_at, state),
            )
        )
    return tuple(decisions)


def _requested(at: datetime | None, state: SecretState) -> bool:
    """True when somebody asked for a roll since the newest version is there: a request is for what there was to roll
    when it was made, not for whatever comes later."""
    newest = state.versions.get(state.current)
    if at is None or newest is None:
        return False
    try:
        created = datetime.fromisoformat(newest.created[:19]).replace(tzinfo=UTC)
    except ValueError:
        return True
    return created <= at + _CLOCK_SKEW


def _state(observed: Observed, key: BindingKey, entry: SecretEntry) -> SecretState:
    state = observed.secrets.get((key, entry.name))
    if state is None:
        message = f"secret {entry.name} was not looked at"
        return SecretState(engine="", pinnable=True, fault=Fault(Reason.SECRET_UNREADABLE, message))
    return state


def _share(
    item: BindingInput,
    binding: SecretBinding,
    tasks: tuple[TaskRef, ...],
    observed: Observed,
    decisions: Sequence[SecretDecision],
) -> Share:
    blocks: list[TemplateBlock] = []
    polls = leased = False
    if binding.spec.workload.env:
        blocks.append(workload_env_block(item.key, binding.spec.workload.env))
    for entry, decision in zip(binding.spec.secrets, decisions, strict=True):
        kind = KINDS[entry.kind_name]
        reading = kind.reading(entry, _state(observed, item.key, entry), decision.pin)
        polls = polls or reading.polls
        leased = leased or reading.leased
        change = _change(entry, native=binding.spec.rotation.strategy.value == "Native", polls=reading.polls)
        blocks.extend(secret_blocks(item.key, entry, reading, decision.pin, change))
    return Share(item.key, binding, tasks, tuple(blocks), polls, leased)


def _change(entry: SecretEntry, *, native: bool, polls: bool) -> Change:
    """A pinned template never changes; what Nomad keeps reading restarts the task, if the binding says nothing else."""
    if not polls:
        return Change()
    if not native:
        return _RESTART
    splay = entry.splay.seconds if entry.splay is not None else _RESTART.splay_seconds
    mode = entry.change_mode.value.lower() if entry.change_mode is not None else "restart"
    script = entry.change_script
    return Change(
        mode=mode,
        signal=entry.change_signal or "",
        splay_seconds=splay,
        script=None
        if script is None
        else {
            "Command": script.command,
            "Args": list(script.args),
            "Timeout": int((script.timeout.seconds if script.timeout is not None else 5) * 1_000_000_000),
            "FailOnError": script.fail_on_error,
        },
    )


def _conflict(user_job: Json, ref: TaskRef, binding: SecretBinding, instance: str) -> Fault | None:
    task = find_task(user_job, ref)
    return task_fault(task, ref, binding, instance) if task is not None else None


class _Claims:
    """Which binding has which file and which variable of which task, and what templates stand there anyway."""

    def __init__(self, user_job: Json | None) -> None:
        self._files: dict[tuple[TaskRef, str], BindingKey] = {}
        self._variables: dict[tuple[TaskRef, str], BindingKey] = {}
        self._user_job = user_job
        self._mixtures: dict[TaskRef, Mixture] = {}

    def take_placed(self, item: Placed) -> None:
        """The places of a template that stays as it is."""
        ref = TaskRef(item.group, item.task)
        self._files.setdefault((ref, normal_path(str(item.template.get("DestPath")))), item.key)
        for variable in variables_in(item.template):
            self._variables.setdefault((ref, variable), item.key)
        self._mixture(ref).add(item.template)

    def reserve(self, item: Placed, binding: SecretBinding) -> None:
        """The places of a template whose binding still wants them."""
        ref = TaskRef(item.group, item.task)
        if self._user_job is None or ref not in select_tasks(self._user_job, binding.spec.workload.groups)[0]:
            return
        destination = normal_path(str(item.template.get("DestPath")))
        if destination in destinations_of(binding):
            self._files.setdefault((ref, destination), item.key)
        for variable in set(variables_in(item.template)).intersection(variables_of(binding)):
            self._variables.setdefault((ref, variable), item.key)

    def take(self, ref: TaskRef, key: BindingKey, binding: SecretBinding, blocks: Iterable[TemplateBlock]) -> None:
        for destination in destinations_of(binding):
            self._files[ref, destination] = key
        for variable in variables_of(binding):
            self._variables[ref, variable] = key
        self._mixture(ref).add_ours(blocks)

    def refuses(self, ref: TaskRef, key: BindingKey, binding: SecretBinding) -> Fault | None:
        for destination in destinations_of(binding):
            holder = self._files.get((ref, destination))
            if holder not in (None, key):
                message = f"task {ref.group}/{ref.task}: {destination} is rendered by {holder} already"
                return Fault(Reason.DUPLICATE_TARGET, message)
        for variable in variables_of(binding):
            holder = self._variables.get((ref, variable))
            if holder not in (None, key):
                message = f"task {ref.group}/{ref.task}: variable {variable} is set by {holder} already"
                return Fault(Reason.DUPLICATE_TARGET, message)
        return None

    def mixes(self, ref: TaskRef, blocks: Iterable[TemplateBlock]) -> Fault | None:
        if not self._mixture(ref).clashes(blocks):
            return None
        message = (
            f"task {ref.group}/{ref.task} has a template with once = true, and one that is rendered again and again "
            "would stand beside it: Nomad loses environment variables then; give this secret to another task, or take "
            "`once` out of the job's own template where that is the one"
        )
        return Fault(Reason.TEMPLATE_CONFLICT, message)

    def _mixture(self, ref: TaskRef) -> Mixture:
        if ref not in self._mixtures:
            task = find_task(self._user_job, ref) if self._user_job is not None else None
            self._mixtures[ref] = Mixture((task or {}).get("Templates") or ())
        return self._mixtures[ref]
