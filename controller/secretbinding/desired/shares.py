"""What each binding wants of the job: tasks, versions, and who keeps a place that two of them want."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from secretbinding.desired.values import BindingInput, BindingResult, Observed
from secretbinding.job.marks import Placed
from secretbinding.job.targets import (
    TaskRef,
    destinations_of,
    find_task,
    named_tasks,
    select_tasks,
    task_fault,
    variables_of,
)
from secretbinding.kinds import KINDS
from secretbinding.kinds.base import Fault, Pin, SecretState
from secretbinding.models.reasons import Reason
from secretbinding.models.binding import AuthMethod, Delivery, FileFormat, SecretBinding, SecretEntry
from secretbinding.models.key import BindingKey
from secretbinding.naming import Owner, policy_name
from secretbinding.ports import Json
from secretbinding.render.template import Change, TemplateBlock, secret_blocks, secret_identity, workload_env_block
from secretbinding.rotation import SecretDecision, decide_version

_VARIABLE = re.compile(r"^(?:\{\{[^\n]*\}\})?([A-Za-z_][A-Za-z0-9_]*)=", re.MULTILINE)
_FORMATS = (None, FileFormat.JSON, FileFormat.DOTENV)
_RESTART = Change(mode="restart")


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

    Those that are in the job already come first, then by key: so that of two that want one place the one that has it
    keeps it, whatever order they were declared in.
    """
    present = {item.key for item in placed}
    claims = _Claims()
    bindings = list(bindings)
    leaving = {item.key for item in bindings if item.deleting}
    active = {item.key for item in bindings if not item.deleting and item.frozen is None and item.binding is not None}
    for item in placed:
        if item.key not in active and item.key not in leaving:
            claims.take_placed(item)
    judged: dict[BindingKey, Judged] = {}
    for candidate in sorted(bindings, key=lambda item: (item.key not in present, item.key)):
        if candidate.key in active and candidate.binding is not None:
            judged[candidate.key] = _judge_one(
                candidate, candidate.binding, observed, user_job, placed, claims, instance
            )
    return judged


def serving_pins(placed: Iterable[Placed], key: BindingKey) -> Mapping[str, tuple[Pin, str]]:
    """The version that a binding's share reads now, with the secret's identity, by secret name."""
    pins: dict[str, tuple[Pin, str]] = {}
    for item in placed:
        parts = item.mark.slot.split(":")
        if item.key == key and item.mark.pin is not None and len(parts) >= 2:
            pins[parts[1]] = (item.mark.pin, item.mark.of)
    return pins


def _judge_one(
    item: BindingInput,
    binding: SecretBinding,
    observed: Observed,
    user_job: Json | None,
    placed: Sequence[Placed],
    claims: "_Claims",
    instance: str,
) -> Judged:
    owner = Owner(instance, item.key)
    policy = policy_name(owner)
    there = observed.policies.get(policy)
    if there is not None and (there.document is None or there.document.owner != owner):
        message = f"policy {policy} exists and does not carry this binding's mark; delete or rename it, or `adopt` it"
        return Judged(BindingResult(item.key, fault=Fault(Reason.POLICY_CONFLICT, message), policy=policy))
    unsupported = _unsupported(binding)
    if unsupported is not None:
        return Judged(BindingResult(item.key, fault=unsupported, policy=policy))
    decisions = _decide(item, binding, observed, placed)
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
        for ref in tasks:
            claims.take(ref, item.key, binding)
    broken = next((decision.fault for decision in decisions if decision.fault is not None), None)
    if broken is not None:
        return refuse(broken)
    return Judged(result, _share(item, binding, tasks, observed, decisions))


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
                message = f"secret {entry.name}: format {target.format} is not supported by this release; use Json, Dotenv or a template"
                return Fault(Reason.UNSUPPORTED_KIND, message)
    return None


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
        requested = item.rotate_requested_at is not None and _unanswered(item, observed)
        decisions.append(
            decide_version(entry, state, pin, strategy=binding.spec.rotation.strategy.value, requested=requested)
        )
    return tuple(decisions)


def _unanswered(item: BindingInput, observed: Observed) -> bool:
    """True when the request is younger than the job's last registration, which would have answered it."""
    submitted = int((observed.job or {}).get("SubmitTime") or 0) / 1_000_000_000
    return item.rotate_requested_at is not None and item.rotate_requested_at.timestamp() > submitted


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
    """A pinned template never changes. What Nomad keeps reading restarts the task, unless the binding says otherwise."""
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
    """Which binding has which file and which variable of which task."""

    def __init__(self) -> None:
        self._files: dict[tuple[TaskRef, str], BindingKey] = {}
        self._variables: dict[tuple[TaskRef, str], BindingKey] = {}

    def take_placed(self, item: Placed) -> None:
        """The places of a template that stays as it is."""
        ref = TaskRef(item.group, item.task)
        self._files.setdefault((ref, str(item.template.get("DestPath"))), item.key)
        if item.template.get("Envvars"):
            for variable in _VARIABLE.findall(str(item.template.get("EmbeddedTmpl") or "")):
                self._variables.setdefault((ref, variable), item.key)

    def take(self, ref: TaskRef, key: BindingKey, binding: SecretBinding) -> None:
        for destination in destinations_of(binding):
            self._files[ref, destination] = key
        for variable in variables_of(binding):
            self._variables[ref, variable] = key

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
