"""What each binding wants of the job: tasks, versions, and who keeps a place that two of them want."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from secretbinding.desired.decisions import decide_all, fields_read, state_of, unsupported
from secretbinding.desired.once import Mixture
from secretbinding.desired.sidecars import (
    AgentShare,
    AgentWish,
    SidecarClaims,
    agent_share,
    app_role_fault,
    by_agent,
    destination_of,
    main_tasks,
    named_groups,
    not_allowed,
)
from secretbinding.desired.values import BindingInput, BindingResult, Observed
from secretbinding.job.marks import Placed
from secretbinding.job.sidecar import is_sidecar
from secretbinding.job.targets import (
    TaskRef,
    destinations_of,
    find_task,
    named_tasks,
    needs_vault,
    normal_path,
    select_tasks,
    task_fault,
    variables_in,
    variables_of,
)
from secretbinding.kinds import KINDS
from secretbinding.kinds.base import Fault, Reading, Use
from secretbinding.models.binding import SecretBinding, SecretEntry
from secretbinding.models.key import BindingKey
from secretbinding.models.kinds import TokenDelivery
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner, policy_name
from secretbinding.ports import Json
from secretbinding.render.agent import unsound_written
from secretbinding.render.template import (
    Change,
    TemplateBlock,
    right_block,
    secret_blocks,
    unsound,
    workload_env_block,
)
from secretbinding.rotation import FIRST, SecretDecision

_RESTART = Change(mode="restart")


@dataclass(frozen=True, slots=True)
class Share:
    """What one binding wants in the job: `tasks` and, the same for each of them, `blocks`.

    Attributes:
        agent: with delivery Agent: what it wants of the sidecars. The tasks themselves get plain variables only.
        leased: losing the Vault token takes credentials away.
        vault: the tasks log in to Vault.
        token_env, token_file: how the tasks see their token.
    """

    key: BindingKey
    binding: SecretBinding
    tasks: tuple[TaskRef, ...]
    blocks: tuple[TemplateBlock, ...]
    leased: bool
    vault: bool
    token_env: bool = False
    token_file: bool = False
    agent: AgentShare | None = None

    @property
    def groups(self) -> frozenset[str]:
        """The groups in which it wants something."""
        return frozenset({ref.group for ref in self.tasks}.union(self.agent.groups if self.agent is not None else ()))


@dataclass(frozen=True, slots=True)
class Judged:
    """One binding after all checks: a share when it may be injected, and the result to report."""

    result: BindingResult
    share: Share | None = None


def agent_wishes(shares: Iterable[Share]) -> list[AgentWish]:
    """The shares that an agent renders."""
    return [AgentWish(share.key, share.binding, share.agent) for share in shares if share.agent is not None]


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
    decisions = decide_all(bindings, active, observed, placed, instance)
    variables = {
        key: variables_of(binding, fields_read(key, binding, decisions.get(key, ()), observed))
        for key, binding in active.items()
    }
    leaving = {item.key for item in bindings if item.deleting}
    staying = [item for item in placed if item.key not in leaving]
    present = {item.key for item in staying}
    stuck: set[BindingKey] = set()
    while True:
        claims = _Claims(user_job, variables)
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
    beyond = unsupported(binding) or not_allowed(binding, observed.agents) or _elsewhere(binding, observed)
    if beyond is not None:
        return Judged(BindingResult(item.key, fault=beyond, policy=policy))
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
            conflict = claims.conflicts(ref, item.key, binding, instance) or claims.refuses(ref, item.key, binding)
            if conflict is not None:
                return refuse(conflict)
    if by_agent(binding):
        groups = _groups(binding, tasks)
        conflict = app_role_fault(binding, groups, observed, instance)
        conflict = conflict or claims.sidecars.refuses(groups, item.key, binding)
        if conflict is not None:
            return refuse(conflict)
    broken = next((decision.fault for decision in decisions if decision.fault is not None), None)
    if broken is not None:
        return refuse(broken)
    twice = claims.twice(item.key)
    if twice:
        return refuse(Fault(Reason.DUPLICATE_TARGET, f"variable {twice} is set by two secrets of this binding"))
    share = share_of(item, binding, tasks, observed, decisions)
    wrong = _wrong(share)
    if wrong:
        return refuse(Fault(Reason.INVALID_MANIFEST, wrong))
    for ref in tasks:
        mixed = claims.mixes(ref, share.blocks)
        if mixed is not None:
            return refuse(mixed)
    for ref in tasks:
        claims.take(ref, item.key, binding, share.blocks)
    if share.agent is not None:
        claims.sidecars.take(share.agent.groups, item.key, binding)
    return Judged(result, share)


def _groups(binding: SecretBinding, tasks: Iterable[TaskRef]) -> tuple[str, ...]:
    """The groups of a binding whose secrets an agent renders: of a job that is not there yet those that it names."""
    return tuple(dict.fromkeys(ref.group for ref in tasks)) or named_groups(binding)


def _wrong(share: Share) -> str:
    """Why a template of a share would not be read as it is meant, "" when all are."""
    agent = share.agent
    plain = [*share.blocks, *(agent.inner if agent is not None else ())]
    written = [*agent.blocks, *agent.listed] if agent is not None else []
    found = [*(unsound(block) for block in plain), *(unsound_written(block) for block in written)]
    return next(filter(None, found), "")


def _elsewhere(binding: SecretBinding, observed: Observed) -> Fault | None:
    connection = binding.spec.connection
    if connection not in (None, observed.workload.connection):
        remedy = "leave it out for the default one, or add it to the file that SECRETBINDING_CONNECTIONS names"
        message = f"spec.connection is {connection}, and this controller has no connection of that name; {remedy}"
        return Fault(Reason.CONNECTION_UNKNOWN, message)
    region = binding.spec.workload.region
    if region is None or not observed.region or region == observed.region:
        return None
    message = f"spec.workload.region is {region}, and this controller works in region {observed.region}"
    return Fault(Reason.REGION_MISMATCH, message)


def share_of(
    item: BindingInput,
    binding: SecretBinding,
    tasks: tuple[TaskRef, ...],
    observed: Observed,
    decisions: Sequence[SecretDecision],
) -> Share:
    blocks: list[TemplateBlock] = []
    tokens: set[TokenDelivery] = set()
    leased = polls = False
    agent = by_agent(binding)
    fields = fields_read(item.key, binding, decisions, observed)
    plain = [workload_env_block(item.key, binding.spec.workload.env)] if binding.spec.workload.env else []
    for entry, decision in zip(binding.spec.secrets, decisions, strict=True):
        kind = KINDS[entry.kind_name]
        reading = kind.reading(entry, state_of(observed, item.key, entry), decision.pin)
        if isinstance(reading, Use):
            tokens.add(reading.token)
            blocks.append(right_block(item.key, entry, reading))
            continue
        leased = leased or reading.leased
        polls = polls or (reading.polls and not reading.leased)
        native = binding.spec.rotation.strategy.value == "Native"
        change = _change_beside(entry) if agent else _change(entry, reading, native=native)
        pin = decision.pin if decision.pin != FIRST else None
        blocks.extend(secret_blocks(item.key, entry, reading, pin, change, fields[entry.name]))
    if agent:
        wanted = agent_share(item.key, _groups(binding, tasks), blocks, polls=polls)
        return Share(item.key, binding, tasks if plain else (), tuple(plain), leased=False, vault=False, agent=wanted)
    return Share(
        item.key,
        binding,
        tasks,
        (*plain, *blocks),
        leased=leased,
        vault=needs_vault(binding),
        token_env=TokenDelivery.ENV in tokens,
        token_file=TokenDelivery.FILE in tokens,
    )


def _change(entry: SecretEntry, reading: Reading, *, native: bool) -> Change:
    """A pinned template never changes. What Nomad keeps reading restarts the task, where the binding says nothing else
    and the job is not rolled for it."""
    if not reading.polls:
        return Change()
    if not native:
        return Change() if reading.followed else _RESTART
    splay = entry.splay.seconds if entry.splay is not None else _RESTART.splay_seconds
    mode = entry.change_mode.value.lower() if entry.change_mode is not None else "restart"
    return Change(mode=mode, signal=entry.change_signal or "", splay_seconds=splay, script=_script(entry))


def _change_beside(entry: SecretEntry) -> Change:
    """What an agent does when it has rendered: nothing, or a command beside it."""
    return Change(script=_script(entry))


def _script(entry: SecretEntry) -> Json | None:
    script = entry.change_script
    if script is None:
        return None
    return {
        "Command": script.command,
        "Args": list(script.args),
        "Timeout": int((script.timeout.seconds if script.timeout is not None else 5) * 1_000_000_000),
        "FailOnError": script.fail_on_error,
    }


class _Claims:
    """Which binding has which file and which variable of which task, and what templates stand there anyway."""

    def __init__(self, user_job: Json | None, wanted: Mapping[BindingKey, tuple[str, ...]]) -> None:
        """`wanted` are the variables that each binding sets."""
        self._wanted = wanted
        self._files: dict[tuple[TaskRef, str], BindingKey] = {}
        self._variables: dict[tuple[TaskRef, str], BindingKey] = {}
        self._user_job = user_job
        self._mixtures: dict[TaskRef, Mixture] = {}
        self.sidecars = SidecarClaims(user_job)

    def take_placed(self, item: Placed) -> None:
        """The places of a template that stays as it is."""
        if is_sidecar(item.host):
            self.sidecars.take_placed(item)
            for ref in main_tasks(self._user_job, item.group):
                self._files.setdefault((ref, normal_path(destination_of(item))), item.key)
            return
        ref = TaskRef(item.group, item.task)
        self._files.setdefault((ref, normal_path(str(item.template.get("DestPath")))), item.key)
        for variable in variables_in(item.template):
            self._variables.setdefault((ref, variable), item.key)
        self._mixture(ref).add(item.template)

    def reserve(self, item: Placed, binding: SecretBinding) -> None:
        """The places of a template whose binding still wants them."""
        if is_sidecar(item.host):
            for ref in main_tasks(self._user_job, item.group):
                if normal_path(destination_of(item)) in destinations_of(binding):
                    self._files.setdefault((ref, normal_path(destination_of(item))), item.key)
            return
        ref = TaskRef(item.group, item.task)
        if self._user_job is None or ref not in select_tasks(self._user_job, binding.spec.workload.groups)[0]:
            return
        destination = normal_path(str(item.template.get("DestPath")))
        if destination in destinations_of(binding):
            self._files.setdefault((ref, destination), item.key)
        for variable in set(variables_in(item.template)).intersection(self._wanted[item.key]):
            self._variables.setdefault((ref, variable), item.key)

    def twice(self, key: BindingKey) -> str:
        """A variable that a binding sets twice (of `envFrom`, only the fields of the secrets show it); "" for none."""
        return next((name for name, count in Counter(self._wanted[key]).items() if count > 1), "")

    def take(self, ref: TaskRef, key: BindingKey, binding: SecretBinding, blocks: Iterable[TemplateBlock]) -> None:
        for destination in destinations_of(binding):
            self._files[ref, destination] = key
        for variable in self._wanted[key]:
            self._variables[ref, variable] = key
        self._mixture(ref).add_ours(blocks)

    def conflicts(self, ref: TaskRef, key: BindingKey, binding: SecretBinding, instance: str) -> Fault | None:
        """What the user's own task has in the way."""
        task = find_task(self._user_job, ref) if self._user_job is not None else None
        return task_fault(task, ref, binding, self._wanted[key], instance) if task is not None else None

    def refuses(self, ref: TaskRef, key: BindingKey, binding: SecretBinding) -> Fault | None:
        for destination in destinations_of(binding):
            holder = self._files.get((ref, destination))
            if holder not in (None, key):
                message = f"task {ref.group}/{ref.task}: {destination} is rendered by {holder} already"
                return Fault(Reason.DUPLICATE_TARGET, message)
        for variable in self._wanted[key]:
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
