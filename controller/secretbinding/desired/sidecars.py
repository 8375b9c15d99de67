"""The Vault Agent sidecar of each group whose bindings ask for it: one for all of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from secretbinding.desired.approles import MOST_INDEXES, count_of, is_ahead
from secretbinding.desired.values import Observed
from secretbinding.job.inject import TaskPart
from secretbinding.job.marks import Placed, placed_marks, remarked
from secretbinding.job.sidecar import agent_task, bare, is_sidecar, own_task_in_the_way, wait_task
from secretbinding.job.targets import TaskRef, select_tasks
from secretbinding.kinds.base import Fault
from secretbinding.models.agent import AGENT_TASK, IN_MEMORY, WAIT_TASK, Agent, AgentDriver
from secretbinding.models.binding import AuthMethod, Delivery, GroupSelector, SecretBinding
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner, app_role_name, role_name
from secretbinding.ports import Json
from secretbinding.render.agent import (
    APPROLE,
    BASE,
    BASE_OF_WAIT,
    CA,
    IDENTITY,
    JWT,
    AgentDefaults,
    Login,
    Server,
    Sidecar,
    base_blocks,
    file_blocks,
    list_block,
    wait_blocks,
)
from secretbinding.render.approle import ROLE_ID, SECRET_ID, login_blocks, variable_path
from secretbinding.render.role import RoleBinding
from secretbinding.render.template import TemplateBlock

_BASES = (BASE, CA, BASE_OF_WAIT, ROLE_ID, SECRET_ID)
_RENDER_SECONDS = 300
# What runs on Nomad's clients, and as whom.
_CHOICES = ("driver", "image", "command", "args", "user")
_Template = tuple[Owner, TemplateBlock | Json]


@dataclass(frozen=True, slots=True)
class AgentShare:
    """What one binding wants of the sidecar of each of its groups.

    Attributes:
        blocks: the templates of the agent's task; `listed`: those of the waiting task.
        inner: the templates that the agent renders, as Nomad would.
        polls: the agent has to read again what has neither a version nor a lease.
    """

    groups: tuple[str, ...]
    blocks: tuple[TemplateBlock, ...]
    listed: tuple[TemplateBlock, ...]
    inner: tuple[TemplateBlock, ...]
    polls: bool


@dataclass(frozen=True, slots=True)
class AgentWish:
    """A binding that has a part in the sidecar of a group, whole and valid."""

    key: BindingKey
    binding: SecretBinding
    share: AgentShare


def by_agent(binding: SecretBinding) -> bool:
    """True for a binding whose secrets an agent renders."""
    return binding.spec.delivery is Delivery.AGENT


def agent_share(key: BindingKey, groups: Iterable[str], inner: Sequence[TemplateBlock], *, polls: bool) -> AgentShare:
    """The share of a binding whose templates are `inner`."""
    listed = (list_block(key, inner),) if any(block.call for block in inner) else ()
    return AgentShare(tuple(dict.fromkeys(groups)), file_blocks(key, inner), listed, tuple(inner), polls)


def named_groups(binding: SecretBinding) -> tuple[str, ...]:
    """The groups that a binding names, known before the job is."""
    return tuple(selector.name for selector in binding.spec.workload.groups or ())


def not_allowed(binding: SecretBinding, defaults: AgentDefaults) -> Fault | None:
    """Why the controller's settings do not let a binding have the sidecar that it asks for; None when they do."""
    if not by_agent(binding):
        return None
    agent = binding.spec.agent or Agent()
    asked = {f"spec.agent.{name}": name for name in _CHOICES if getattr(agent, name) not in (None, ())}
    if any(entry.change_script is not None for entry in binding.spec.secrets):
        asked["changeMode Script"] = "script"
    for field, word in asked.items():
        if word not in defaults.allowed:
            message = (
                f"{field} is not allowed with delivery Agent by this controller's settings; leave it out, or have its "
                f"operator add `{word}` to SECRETBINDING_AGENT_ALLOW"
            )
            return Fault(Reason.UNSUPPORTED_DELIVERY, message)
    driver = agent.driver.value if agent.driver is not None else defaults.driver
    waits = agent.wait is not False and driver != AgentDriver.RAW_EXEC
    for entry in binding.spec.secrets:
        for target in entry.files:
            if waits and target.path.startswith(IN_MEMORY):
                message = (
                    f"{target.path} cannot be waited for with driver {driver}, whose tasks do not see each other's "
                    "directories; set agent.wait to false and let the task wait, or write below ../alloc/"
                )
                return Fault(Reason.UNSUPPORTED_DELIVERY, message)
    return None


class SidecarClaims:
    """Who has a part in the sidecar of which group. A group has one sidecar, so that all have to agree about it."""

    def __init__(self, user_job: Json | None) -> None:
        self._user_job = user_job
        self._methods: dict[str, tuple[BindingKey, str]] = {}
        self._wishes: dict[str, list[tuple[BindingKey, SecretBinding]]] = {}

    def take_placed(self, item: Placed) -> None:
        """A part that stays as it is: the agent goes on logging in as it does."""
        if item.mark.slot == BASE:
            self._methods.setdefault(item.group, (item.key, login_method(item.host)))

    def take(self, groups: Iterable[str], key: BindingKey, binding: SecretBinding) -> None:
        for group in groups:
            self._wishes.setdefault(group, []).append((key, binding))

    def refuses(self, groups: Iterable[str], key: BindingKey, binding: SecretBinding) -> Fault | None:
        """What keeps a binding from having a part in the sidecars of its groups."""
        there = {str(group["Name"]): group for group in (self._user_job or {}).get("TaskGroups") or []}
        for group in groups:
            taken = own_task_in_the_way(there.get(group, {}))
            if taken:
                message = f"group {group} has a task {taken} of its own, which is the sidecar's name; rename it"
                return Fault(Reason.AGENT_CONFLICT, message)
            holder, method = self._methods.get(group, (key, method_of(binding)))
            if holder != key and method != method_of(binding):
                return _differ(group, holder, "auth.method")
            for other, wish in self._wishes.get(group, []):
                field = _disagreement(binding, wish)
                if field and other != key:
                    return _differ(group, other, field)
        return None


def _differ(group: str, other: BindingKey, field: str) -> Fault:
    message = f"group {group} has one sidecar, and {other} has another {field} for it; make them the same, or leave"
    return Fault(Reason.AGENT_CONFLICT, f"{message} {field} out in one of them")


def _disagreement(one: SecretBinding, other: SecretBinding) -> str:
    """The first field about which two bindings of one group differ, "" when they agree. Who leaves one out takes what
    the other one has."""
    if method_of(one) != method_of(other):
        return "auth.method"
    for name, mine, theirs in (
        ("agent", one.spec.agent, other.spec.agent),
        ("auth.appRole", one.spec.auth.app_role, other.spec.auth.app_role),
    ):
        if mine is not None and theirs is not None and mine != theirs:
            return name
    return ""


def method_of(binding: SecretBinding) -> str:
    """How a binding's agent logs in, in the agent's words."""
    return APPROLE if binding.spec.auth.method is AuthMethod.APP_ROLE else JWT


def login_method(task: Json) -> str:
    """How the agent of a task of ours logs in."""
    return JWT if task.get("Identities") else APPROLE


def agent_role(instance: str, workload: WorkloadKey, group: str, method: str = JWT) -> str:
    """The role of the agent of one group."""
    if method == APPROLE:
        return app_role_name(instance, workload, group, AGENT_TASK)
    return role_name(instance, workload, group, AGENT_TASK)


def app_role_fault(binding: SecretBinding, groups: Iterable[str], observed: Observed, instance: str) -> Fault | None:
    """What keeps the agents of a binding from logging in by AppRole."""
    if method_of(binding) != APPROLE:
        return None
    job = observed.job or {}
    if job.get("Type", "service") != "service" or job.get("Periodic") or job.get("ParameterizedJob"):
        message = "auth.method AppRole needs a service job, whose allocations have an index of their own; use JWT"
        return Fault(Reason.UNSUPPORTED_AUTH, message)
    there = {str(group["Name"]): group for group in job.get("TaskGroups") or []}
    for name in groups:
        path = variable_path(observed.workload, name)
        if path is None:
            message = (
                f"auth.method AppRole needs the Nomad variable nomad/jobs/{observed.workload.job}/{name}/{AGENT_TASK}, "
                "and a variable's path takes 128 letters, digits, - and _; use JWT"
            )
            return Fault(Reason.UNSUPPORTED_AUTH, message)
        if name in there and count_of(there[name]) > MOST_INDEXES:
            message = f"auth.method AppRole takes at most {MOST_INDEXES} allocations in group {name}; use JWT"
            return Fault(Reason.UNSUPPORTED_AUTH, message)
        brought = observed.brought.get(name)
        if brought is not None and brought.modify_index and brought.instance != instance:
            return Fault(Reason.AGENT_CONFLICT, f"Nomad variable {path} is not the controller's; delete or move it")
    return None


def main_tasks(job: Json | None, group: str) -> tuple[TaskRef, ...]:
    """The main tasks of a group of a user's job."""
    return select_tasks(job, [GroupSelector(name=group)])[0] if job is not None else ()


def destination_of(item: Placed) -> str:
    """The file that a template of an agent's task stands for, "" for one that stands for none."""
    kind, _, rest = item.mark.slot.partition(":")
    return rest.partition(":")[2] if kind == "file" else ""


def sidecar_parts(
    observed: Observed, wishes: Sequence[AgentWish], kept: Sequence[Placed], instance: str
) -> dict[tuple[str, str], TaskPart]:
    """The tasks of the sidecars, by group and task. `kept` are templates that stay as they are."""
    active: dict[str, list[AgentWish]] = {}
    for wish in sorted(wishes, key=lambda wish: wish.key):
        for group in wish.share.groups:
            active.setdefault(group, []).append(wish)
    staying: dict[str, list[Placed]] = {}
    for item in kept:
        if is_sidecar(item.host, instance):
            staying.setdefault(item.group, []).append(item)
    parts: dict[tuple[str, str], TaskPart] = {}
    for group in sorted({*active, *staying}):
        base = _base(observed, group, active.get(group, []), staying.get(group, []), instance)
        for name, (task, templates) in base.items():
            found = list(templates)
            for wish in active.get(group, []):
                blocks = wish.share.blocks if name == AGENT_TASK else wish.share.listed
                found += [(Owner(instance, wish.key), block) for block in blocks]
            found += [
                (item.mark.owner, item.template)
                for item in staying.get(group, [])
                if item.task == name and item.mark.slot not in _BASES
            ]
            parts[group, name] = TaskPart(role="", templates=tuple(found), vault=False, task=task)
    return parts


_Base = dict[str, tuple[Json, list[_Template]]]


def _base(observed: Observed, group: str, wishes: Sequence[AgentWish], kept: Sequence[Placed], instance: str) -> _Base:
    """The tasks of one group's sidecar with what all of its bindings share. That belongs to one of them: to the one
    that has it in the job, as long as that has a part in it."""
    held = [item for item in kept if item.mark.slot in _BASES]
    if any(item.mark.slot == BASE for item in held):
        return _as_placed(held, None)
    before = [item for item in placed_marks(observed.job, instance) if item.group == group and item.mark.slot in _BASES]
    if not wishes:
        # Who had it is going, and who stays is frozen: it stays as it is, and is another's now.
        return _as_placed(before, min(item.mark.owner for item in kept))
    holders = [item.key for item in before if item.mark.slot == BASE]
    keys = [wish.key for wish in wishes]
    owner = Owner(instance, holders[0] if holders and holders[0] in keys else keys[0])
    sidecar = _resolved(observed, group, wishes, kept, instance)
    shared = [*base_blocks(sidecar), *(login_blocks(sidecar) if sidecar.login.method == APPROLE else ())]
    made: _Base = {AGENT_TASK: (agent_task(sidecar), [(owner, block) for block in shared])}
    if sidecar.wait:
        made[WAIT_TASK] = (wait_task(sidecar), [(owner, block) for block in wait_blocks()])
    return made


def _as_placed(items: Iterable[Placed], owner: Owner | None) -> _Base:
    found: _Base = {}
    for item in items:
        template = item.template if owner is None else remarked(item.template, owner)
        _, templates = found.setdefault(item.task, (bare(item.host), []))
        templates.append((owner or item.mark.owner, template))
    return found


def _resolved(
    observed: Observed, group: str, wishes: Sequence[AgentWish], kept: Sequence[Placed], instance: str
) -> Sidecar:
    """The sidecar of a group from what its bindings ask for and the controller's settings."""
    defaults = observed.agents
    agent = next((wish.binding.spec.agent for wish in wishes if wish.binding.spec.agent is not None), Agent())
    variables: dict[str, str] = {}
    for wish in wishes:
        variables |= wish.binding.spec.workload.env
    polls = any(wish.share.polls for wish in wishes) or any(_polls(item) for item in kept)
    seconds = int(agent.render_interval.seconds) if agent.render_interval is not None else _RENDER_SECONDS
    method = method_of(wishes[0].binding)
    listener = agent.listener
    return Sidecar(
        driver=agent.driver.value if agent.driver is not None else defaults.driver,
        image=agent.image or defaults.image,
        command=agent.command or defaults.command,
        args=agent.args or defaults.args,
        user=agent.user or defaults.user,
        cpu=agent.cpu or defaults.cpu,
        memory=agent.memory or defaults.memory,
        memory_max=max(agent.memory_max or defaults.memory_max, 0),
        wait=agent.wait is not False,
        server=_server(defaults.server, variables),
        login=Login(
            method,
            defaults.approle_mount if method == APPROLE else defaults.jwt_mount,
            agent_role(instance, observed.workload, group, method),
        ),
        variable=(variable_path(observed.workload, group) or "") if method == APPROLE else "",
        port=(listener.port or 0) if listener is not None else 0,
        socket=(listener.socket or "") if listener is not None else "",
        render_seconds=max(seconds, 1) if polls else 0,
    )


@dataclass(frozen=True, slots=True)
class AgentLogin:
    """Who logs in with the role of an agent, and whose secrets it may read."""

    group: str
    scope: RoleBinding
    keys: frozenset[BindingKey]
    method: str


def agent_logins(
    observed: Observed, wishes: Sequence[AgentWish], parts: Mapping[tuple[str, str], TaskPart], instance: str
) -> dict[str, AgentLogin]:
    """The roles of agents by name; of a job that is not there yet those that are expected, or there already."""
    found: dict[str, AgentLogin] = {}

    def add(group: str, keys: Iterable[BindingKey], method: str) -> None:
        scope = RoleBinding(observed.workload, group, AGENT_TASK, observed.region, IDENTITY)
        name = agent_role(instance, observed.workload, group, method)
        others = found[name].keys if name in found else frozenset()
        found[name] = AgentLogin(group, scope, others.union(keys), method)

    for (group, name), part in parts.items():
        if name == AGENT_TASK and part.task is not None:
            add(group, (owner.key for owner, _ in part.templates), login_method(part.task))
    if observed.job is None:
        for wish in wishes:
            method = method_of(wish.binding)
            for group in wish.share.groups or _groups_ahead(observed, method, instance):
                add(group, (wish.key,), method)
    return found


def _groups_ahead(observed: Observed, method: str, instance: str) -> list[str]:
    """The groups of a job that is not there yet whose agents have what they log in with: of a job file that was
    injected and is about to be registered."""
    if method == APPROLE:
        return sorted(group for group, brought in observed.brought.items() if is_ahead(brought, instance))
    workload = observed.workload
    before = f"{observed.region}:{workload.namespace}:{workload.job}:"
    after = f":{AGENT_TASK}:{IDENTITY}"
    found: list[str] = []
    for name, body in sorted(observed.roles.items()):
        subject = str((body or {}).get("bound_subject") or "")
        group = subject.removeprefix(before).removesuffix(after)
        if subject == f"{before}{group}{after}" and name == agent_role(instance, workload, group):
            found.append(group)
    return found


def _polls(item: Placed) -> bool:
    """True for a template that stays and reads no version that is pinned."""
    return bool(item.mark.of) and (item.mark.pin is None or not item.mark.pin.version)


def _server(server: Server, variables: Mapping[str, str]) -> Server:
    """Where the agent finds Vault: as `workload.env` says to the tasks, else as the settings say. Who gives another
    address says all about it."""

    def said(name: str) -> str:
        return variables.get(f"VAULT_{name}", "")

    address = said("ADDR")
    base = Server(address) if address and address != server.address else server
    return Server(
        address=address or base.address,
        namespace=said("NAMESPACE") or base.namespace,
        ca_pem="" if said("CACERT") else base.ca_pem,
        ca_cert=said("CACERT") or base.ca_cert,
        tls_server_name=said("TLS_SERVER_NAME") or base.tls_server_name,
        client_cert=said("CLIENT_CERT") or base.client_cert,
        client_key=said("CLIENT_KEY") or base.client_key,
        skip_verify=base.skip_verify,
    )
