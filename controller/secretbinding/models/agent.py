"""`spec.agent`: the Vault Agent sidecar of delivery Agent, and what a binding with that delivery can ask for."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from secretbinding.models.base import Fault, Model, Rule, mapping, objects
from secretbinding.models.secrets import KINDS, destinations, kind_of
from secretbinding.models.text import Never, Text
from secretbinding.models.types import BREAKING, UNSEEN, Bounds, Command, Duration

AGENT_TASK = "vault-agent"
"""The task of a group that runs the agent."""
WAIT_TASK = "vault-agent-wait"
"""The task that holds back the main tasks until the agent has rendered their files."""

SHARED = "../alloc/"
IN_MEMORY = f"../{AGENT_TASK}/secrets/"
_NEVER = (f"{SHARED}data", f"{SHARED}logs")
_NO_PATH = re.compile(r"/\.{0,2}(/|$)")
_OWN_FILES = "vault_token, api.sock, nomad_*.jwt and approle/ are the agent's own"
_AGENT = "has(self.delivery) && self.delivery == 'Agent'"
_GIVE_NOTHING = tuple(name for name, model in KINDS.items() if not model.gives_fields)
_NOT_OF_VAULT = tuple(name for name, model in KINDS.items() if not model.of_vault)


class AgentDriver(StrEnum):
    """Drivers whose configuration is known, in Nomad's own words."""

    DOCKER = "docker"
    PODMAN = "podman"
    EXEC = "exec"
    RAW_EXEC = "raw_exec"


ImageName = Annotated[
    str,
    Text(
        "image",
        r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$",
        remedy="write an image with its tag or digest, such as openbao/openbao:2.2.0",
        max_length=256,
    ),
]
UserName = Annotated[
    str,
    Text(
        "user",
        r"^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
        remedy="write a name or a number, or `user:group` where the driver takes it",
        max_length=64,
    ),
]
SocketPath = Annotated[
    str,
    Text(
        "socket",
        f"^\\.\\./alloc/[^{UNSEEN}{BREAKING}\\x24]+$",
        says="is not below ../alloc/",
        remedy="write a plain path that all tasks of the group see, such as ../alloc/vault.sock",
        max_length=64,
        bad=UNSEEN + BREAKING + "\\x24",
        never=(
            Never(
                r"/\.{0,2}(/|$)",
                "must not end with `/`, nor have an empty, `.` or `..` segment",
                "write a plain path, such as ../alloc/vault.sock",
            ),
        ),
    ),
]


def _one_address(obj: Mapping[str, Any]) -> Iterator[Fault]:
    given = [name for name in ("port", "socket") if obj.get(name) is not None]
    if len(given) == 2:
        yield Fault(("socket",), "both port and socket are set")
    elif not given:
        yield Fault((), "neither port nor socket is set")


class Listener(Model):
    """Where the tasks of the group reach the agent, which then speaks to Vault with its own token, and caches."""

    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """A TCP port on 127.0.0.1 of the group's network. Without a network of its own that is the node's, where every
    process may use it."""
    socket: SocketPath | None = None
    """A Unix socket below ../alloc/, which the tasks of the group share."""

    rules = (
        Rule(
            message="port and socket exclude each other, and one of them is needed",
            remedy="set exactly one of port, socket",
            cel="has(self.port) != has(self.socket)",
            check=_one_address,
        ),
    )


class Agent(Model):
    """The sidecar of each group; what is left out is as the controller's settings have it."""

    driver: AgentDriver | None = None
    """Nomad's driver for it."""
    image: ImageName | None = None
    """The image, for docker and podman."""
    command: Command | None = None
    """The program: `bao` or `vault`, or a path of it."""
    args: Annotated[tuple[Command, ...], Field(max_length=16)] = ()
    """Further arguments, such as -log-level=debug."""
    user: UserName | None = None
    """The user that it runs as."""
    cpu: Annotated[int, Field(ge=1, le=100000)] | None = None
    """Processor time in MHz."""
    memory: Annotated[int, Field(ge=10, le=1048576)] | None = None
    """Memory in MiB."""
    memory_max: Annotated[int, Field(ge=10, le=1048576)] | None = None
    """Memory in MiB that it may have where the node has it to spare, where Nomad allows that."""
    listener: Listener | None = None
    """Lets the tasks of the group speak to Vault through the agent."""
    render_interval: Annotated[Duration, Bounds("1s", "24h")] | None = None
    """How often the agent reads secrets without a lease again: those with strategy Native, KV v1, generic. 5m when
    left out."""
    wait: bool | None = None
    """Whether the main tasks start only when their files are there; true when left out."""

    rules = (
        Rule(
            message="memoryMax is less than memory",
            remedy="make memoryMax at least memory",
            cel="!has(self.memory) || !has(self.memoryMax) || self.memory <= self.memoryMax",
            field=".memoryMax",
            check=lambda obj: _memory(obj),
        ),
    )


def _memory(obj: Mapping[str, Any]) -> Iterator[Fault]:
    least, most = obj.get("memory"), obj.get("memoryMax")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield Fault(("memoryMax",), f"memoryMax {most} is less than memory {least}")


def by_agent(spec: Mapping[str, Any]) -> bool:
    """True for a raw specification with delivery Agent."""
    return spec.get("delivery") == "Agent"


def _agent_alone(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("agent") is not None and not by_agent(obj):
        yield Fault(("agent",), "agent needs delivery Agent")


def _no_variables(obj: Mapping[str, Any]) -> Iterator[Fault]:
    for index, entry in objects(obj.get("secrets")) if by_agent(obj) else ():
        for name in ("env", "envFrom"):
            if entry.get(name) not in (None, {}):
                yield Fault(("secrets", index, name), "delivery Agent gives files only, no variables")
                break


def _places(obj: Mapping[str, Any]) -> Iterator[Fault]:
    agent = by_agent(obj)
    for index, entry in objects(obj.get("secrets")):
        for at, destination in destinations(entry):
            place = ("secrets", index, "files", at, "destination")
            if agent and not destination.startswith((SHARED, IN_MEMORY)):
                yield Fault(place, f"destination `{destination}` is not seen by both the agent and the tasks")
            elif not agent and destination.startswith(IN_MEMORY):
                yield Fault(place, f"destination `{destination}` needs delivery Agent")


def _shared_by_agents_only(obj: Mapping[str, Any]) -> Iterator[Fault]:
    for index, entry in objects(obj.get("secrets")) if not by_agent(obj) else ():
        for at, destination in destinations(entry):
            # Of these is told what is wrong with them in any case.
            told = destination.startswith(_NEVER) or _NO_PATH.search(destination.removeprefix(".."))
            if destination.startswith(SHARED) and not told:
                place = ("secrets", index, "files", at, "destination")
                yield Fault(
                    place, f"destination `{destination}` is shared by all tasks, and Nomad's file API serves it"
                )


def _whole_groups(obj: Mapping[str, Any]) -> Iterator[Fault]:
    for index, group in objects(mapping(obj.get("workload")).get("groups")) if by_agent(obj) else ():
        if group.get("tasks") is not None:
            yield Fault(
                ("workload", "groups", index, "tasks"), "with delivery Agent all tasks of a group see the files"
            )


def _changes(obj: Mapping[str, Any]) -> Iterator[Fault]:
    for index, entry in objects(obj.get("secrets")) if by_agent(obj) else ():
        if entry.get("changeMode") in ("Restart", "Signal"):
            yield Fault(
                ("secrets", index, "changeMode"),
                f"the agent cannot do what changeMode {entry['changeMode']} says to another task",
            )
        if entry.get("splay") is not None:
            yield Fault(("secrets", index, "splay"), "splay has no meaning with delivery Agent")


def _through_the_agent(obj: Mapping[str, Any]) -> Iterator[Fault]:
    listener = mapping(obj.get("agent")).get("listener")
    for index, entry in objects(obj.get("secrets")) if by_agent(obj) else ():
        kind = kind_of(entry)
        if kind in _NOT_OF_VAULT:
            yield Fault(("secrets", index, kind), f"the agent cannot read {kind}, which is not Vault's")
        elif kind in _GIVE_NOTHING and listener is None:
            yield Fault(("secrets", index, kind), f"tasks could not use {kind}: the agent has no listener")
        elif kind in _GIVE_NOTHING and mapping(entry.get(kind)).get("token") == "Env":
            yield Fault(("secrets", index, kind, "token"), "with delivery Agent tasks use the agent's listener")


_FILES = "!has(s.files) || s.files.all(f, {})"
_PLACED = " || ".join(f"f.destination.startsWith('{place}')" for place in (SHARED, IN_MEMORY))

AGENT_RULES = (
    Rule(
        message="agent needs delivery Agent",
        remedy="set delivery to Agent, or leave out agent",
        cel=f"!has(self.agent) || ({_AGENT})",
        field=".agent",
        check=_agent_alone,
    ),
    Rule(
        message="delivery Agent gives files only: the environment of a task is made before its secrets are there",
        remedy="write a file of format Dotenv or Shell and let the task read it, or use delivery Template",
        cel=f"!({_AGENT}) || self.secrets.all(s, (!has(s.env) || s.env.size() == 0) && !has(s.envFrom))",
        field=".secrets",
        check=_no_variables,
    ),
    Rule(
        message=f"with delivery Agent a file lies below {SHARED} or {IN_MEMORY}, and there only",
        remedy=f"write {SHARED}secrets/NAME, which all tasks of the group see, or {IN_MEMORY}NAME for the memory of"
        f" the agent's task, whatever the driver allows; {_OWN_FILES}",
        cel=f"({_AGENT}) ? self.secrets.all(s, {_FILES.format(_PLACED)})"
        f" : self.secrets.all(s, {_FILES.format(f'!f.destination.startsWith({IN_MEMORY!r})')})",
        field=".secrets",
        check=_places,
    ),
    Rule(
        message=f"{SHARED} is shared by all tasks of an allocation, and Nomad's file API serves it",
        remedy="write secrets/NAME, a file of each task that reads it, or use delivery Agent",
        cel=f"({_AGENT}) || self.secrets.all(s, {_FILES.format(f'!f.destination.startsWith({SHARED!r})')})",
        field=".secrets",
        check=_shared_by_agents_only,
    ),
    Rule(
        message="with delivery Agent all tasks of a group see the files",
        remedy="name the group without tasks",
        cel=f"!({_AGENT}) || !has(self.workload.groups) || self.workload.groups.all(g, !has(g.tasks))",
        field=".workload.groups",
        check=_whole_groups,
    ),
    Rule(
        message="the agent can neither restart nor signal another task, nor spread changes",
        remedy="use strategy Rolling, which starts new allocations, or changeMode Noop or Script (a command beside"
        " the agent), without splay",
        cel=f"!({_AGENT}) || self.secrets.all(s, (!has(s.changeMode) || s.changeMode in ['Noop', 'Script'])"
        " && !has(s.splay))",
        field=".secrets",
        check=_changes,
    ),
    Rule(
        message=f"{', '.join(_NOT_OF_VAULT)} is nothing that the agent can read, and {', '.join(_GIVE_NOTHING)} needs"
        " its listener",
        remedy="put the entry into a binding with delivery Template, or set agent.listener",
        cel=f"!({_AGENT}) || self.secrets.all(s, "
        + " && ".join(f"!has(s.{kind})" for kind in _NOT_OF_VAULT)
        + "".join(
            f" && (!has(s.{kind}) || (has(self.agent) && has(self.agent.listener)"
            f" && (!has(s.{kind}.token) || s.{kind}.token != 'Env')))"
            for kind in _GIVE_NOTHING
        )
        + ")",
        field=".secrets",
        check=_through_the_agent,
    ),
)
"""Rules of the specification."""
