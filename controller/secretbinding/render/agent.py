"""The configuration of the Vault Agent sidecar, and what it renders, as templates that Nomad writes into its task.

The agent's templates are written by Nomad's, which must not read them as its own: they stand there with delimiters
that occur nowhere in them, so that to Nomad they are plain text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from secretbinding.models.agent import IN_MEMORY, SHARED, AgentDriver
from secretbinding.models.key import BindingKey
from secretbinding.models.template_syntax import check
from secretbinding.models.templates import TemplateSyntaxError
from secretbinding.naming import stable_digest
from secretbinding.render.template import Change, TemplateBlock
from secretbinding.render.text import go_string, hcl_string

IDENTITY = "vault"
"""Name of the agent's workload identity; Nomad writes it to `secrets/nomad_vault.jwt`."""
JWT = "jwt"
APPROLE = "approle"
APPROLE_FOLDER = "approle"
CONFIGURATION = "local/agent/conf"
_TEMPLATES = "local/agent/templates"
_WAIT = "local/wait"
BASE = "agent"
"""The slot of the configuration that all bindings of a group share: a task with it is the agent's."""
BASE_OF_WAIT = "agent-wait"
CA = "agent-ca"
"""The slot of the certificates that Vault is trusted by."""
_CA_FILE = "local/agent/ca.pem"
# consul-template's functions that would let a template run programs and write files where the agent runs.
_DENIED = ("plugin", "writeToFile")
_RETRIES = 12
_NEVER_SECONDS = 8760 * 3600


@dataclass(frozen=True, slots=True)
class _Path:
    """A path below a directory that only the node knows, which Nomad's template puts in."""

    variable: str
    below: str


@dataclass(frozen=True, slots=True)
class _Octal:
    digits: str


_Row = str | int | bool | tuple[str, ...] | _Path | _Octal
_Rows = Mapping[str, _Row]


@dataclass(frozen=True, slots=True)
class Server:
    """Where the agent finds Vault. Paths are as the agent sees them; `ca_pem` goes into a file of its own."""

    address: str
    namespace: str = ""
    ca_pem: str = field(default="", repr=False)
    ca_cert: str = ""
    tls_server_name: str = ""
    client_cert: str = ""
    client_key: str = ""
    skip_verify: bool = False


@dataclass(frozen=True, slots=True)
class Login:
    """How the agent logs in: `jwt` by its workload identity, or `approle`. `mount` without `auth/`."""

    method: str
    mount: str
    role: str


@dataclass(frozen=True, slots=True)
class Sidecar:
    """All that is decided about the agent of one group.

    Attributes:
        cpu: MHz; memory, memory_max: MiB, 0 for no maximum of its own.
        wait: the main tasks start only when their files are there.
        port, socket: where the tasks reach it, 0 and "" for nowhere. The socket is a path below `../alloc/`.
        render_seconds: how often secrets without a lease are read again; 0 for never, as far as the agent can.
        variable: the Nomad variable that brings an AppRole's secret-ids.
    """

    driver: str
    image: str
    command: str
    args: tuple[str, ...]
    user: str
    cpu: int
    memory: int
    memory_max: int
    wait: bool
    server: Server
    login: Login
    port: int = 0
    socket: str = ""
    render_seconds: int = 300
    variable: str = ""

    def meaning(self) -> list[Any]:
        """All of it as JSON values, in a fixed order."""
        server = self.server
        return [
            [self.driver, self.image, self.command, list(self.args), self.user],
            [self.cpu, self.memory, self.memory_max, self.wait, self.port, self.socket, self.render_seconds],
            [server.address, server.namespace, stable_digest(server.ca_pem) if server.ca_pem else "", server.ca_cert],
            [server.tls_server_name, server.client_cert, server.client_key, server.skip_verify],
            [self.login.method, self.login.mount, self.login.role, self.variable],
        ]


def base_blocks(sidecar: Sidecar) -> tuple[TemplateBlock, ...]:
    """What the agent needs whatever it renders: login, listener, and where Vault is."""
    blocks = [_written(BASE, f"{CONFIGURATION}/agent.hcl", _base_text(sidecar), reads=tuple(sidecar.meaning()))]
    if sidecar.server.ca_pem:
        blocks.append(_written(CA, _CA_FILE, [sidecar.server.ca_pem], reads=(sidecar.server.ca_pem,)))
    return tuple(blocks)


def wait_blocks() -> tuple[TemplateBlock, ...]:
    """What the waiting task needs whatever it waits for."""
    return (_written(BASE_OF_WAIT, "local/wait.sh", [_WAIT_SCRIPT], reads=()),)


_WAIT_SCRIPT = """\
# Ends when every file that is listed below wait/ is there.
for list in "$NOMAD_TASK_DIR"/wait/*; do
  while IFS= read -r file; do
    until [ -e "$file" ]; do sleep 0.2; done
  done < "$list"
done
"""


def file_blocks(key: BindingKey, inner: Sequence[TemplateBlock]) -> tuple[TemplateBlock, ...]:
    """What the agent's task gets for the files of one binding. `inner` are the templates as Nomad itself would render
    them (`render.template.secret_blocks`): each text in a file, and one configuration that names them."""
    files = [block for block in inner if block.call]
    others = [block for block in inner if not block.call]
    texts = [_text_block(key, block) for block in files]
    if not files:
        return tuple(others)
    stanzas: list[str | _Path] = []
    for block, text in zip(files, texts, strict=True):
        stanzas.extend(_template_stanza(block, text.destination))
    reads = tuple(
        [text.destination, block.destination, block.perms, block.uid, block.gid, *block.delimiters, block.change.script]
        for block, text in zip(files, texts, strict=True)
    )
    return (*texts, _written("agent-templates", f"{CONFIGURATION}/{_place(key)}.hcl", stanzas, reads=reads), *others)


def list_block(key: BindingKey, inner: Sequence[TemplateBlock]) -> TemplateBlock:
    """The files of one binding that the main tasks wait for, as the waiting task sees them."""
    wanted = [block.destination for block in inner if block.call]
    lines: list[str | _Path] = []
    for destination in wanted:
        place = _seen(destination)
        if place.variable == "NOMAD_SECRETS_DIR":
            # The agent's own directory, seen from the waiting task's.
            place = _Path("NOMAD_TASK_DIR", f"/../{destination}")
        lines.extend([place, "\n"])
    return _written("agent-files", f"{_WAIT}/{_place(key)}", lines, reads=tuple(wanted), plain=True)


def unsound_written(block: TemplateBlock) -> str:
    """Why Nomad would not write a text of the agent's as it is, `""` when it would: its delimiters are chosen so that
    it holds none of Nomad's actions."""
    left, right = block.delimiters
    try:
        actions = check(f"{left}/* mark */{right}{block.body}", left, right)
    except TemplateSyntaxError as error:
        return f"{block.destination} cannot be written: {error.message}"
    if block.of and len(actions) != 1:
        return f"the delimiters {left} and {right} occur in {block.destination}"
    return ""


def _text_block(key: BindingKey, block: TemplateBlock) -> TemplateBlock:
    """One template of the agent's as a file of its task."""
    name = f"{_place(key)}/{stable_digest(block.slot)}.tmpl"
    return replace(
        _written(block.slot, f"{_TEMPLATES}/{name}", [block.body], reads=block.reads), of=block.of, pin=block.pin
    )


def _place(key: BindingKey) -> str:
    """A name for a binding's own files, which no other binding's equals."""
    return stable_digest([key.source, key.tenant, key.name])


def _written(
    slot: str, destination: str, parts: Iterable[str | _Path], *, reads: tuple[Any, ...], plain: bool = False
) -> TemplateBlock:
    """A file that Nomad writes once. Paths are put in as JSON texts, or, `plain`, as they are."""
    parts = tuple(parts)
    left, right = delimiters_for(part for part in parts if isinstance(part, str))
    body = "".join(part if isinstance(part, str) else _action(part, left, right, plain=plain) for part in parts)
    return TemplateBlock(
        slot=slot,
        body=body,
        destination=destination,
        env=False,
        once=True,
        change=Change(),
        delimiters=(left, right),
        reads=reads,
    )


def delimiters_for(texts: Iterable[str]) -> tuple[str, str]:
    """Delimiters of which neither occurs in any of the texts: what Nomad looks for is the left one."""
    text = "\0".join(texts)
    number = 0
    while True:
        mark = "%" if number == 0 else f"%{number}"
        left, right = f"<{mark}", f"{mark}>"
        if left not in text and right not in text:
            return left, right
        number += 1


def _action(path: _Path, left: str, right: str, *, plain: bool) -> str:
    shown = "" if plain else " | toJSON"
    return f"{left} print (env {go_string(path.variable)}) {go_string(path.below)}{shown} {right}"


def _seen(destination: str) -> _Path:
    """Where a file of a binding is, as the agent sees it."""
    if destination.startswith(IN_MEMORY):
        return _Path("NOMAD_SECRETS_DIR", "/" + destination.removeprefix(IN_MEMORY))
    return _Path("NOMAD_ALLOC_DIR", "/" + destination.removeprefix(SHARED))


def _secret_file(name: str) -> _Path:
    return _Path("NOMAD_SECRETS_DIR", f"/{name}")


def _base_text(sidecar: Sidecar) -> list[str | _Path]:
    server, login = sidecar.server, sidecar.login
    vault: dict[str, _Row] = {"address": server.address}
    if server.ca_pem or server.ca_cert:
        vault["ca_cert"] = _task_file(_CA_FILE) if server.ca_pem else server.ca_cert
    for name in ("tls_server_name", "client_cert", "client_key"):
        if getattr(server, name):
            vault[name] = getattr(server, name)
    if server.skip_verify:
        vault["tls_skip_verify"] = True
    if login.method == APPROLE:
        config: _Rows = {
            "role_id_file_path": _secret_file(f"{APPROLE_FOLDER}/role_id"),
            "secret_id_file_path": _secret_file(f"{APPROLE_FOLDER}/secret_id"),
            "secret_id_response_wrapping_path": f"auth/{login.mount}/role/{login.role}/secret-id",
            "remove_secret_id_file_after_reading": False,
        }
    else:
        config = {
            "path": _secret_file(f"nomad_{IDENTITY}.jwt"),
            "role": login.role,
            "remove_jwt_after_reading": False,
        }
    sink: _Rows = {"path": _secret_file("vault_token"), "mode": _Octal("0600")}
    parts: list[str | _Path] = []
    parts += _block("vault", vault, inner=_block("retry", {"num_retries": _RETRIES}))
    method = _block(
        f'method "{login.method}"',
        {"mount_path": f"auth/{login.mount}", "max_backoff": "30s"},
        inner=_block("config", config, equals=True),
    )
    parts += _block("auto_auth", {}, inner=[*method, *_block('sink "file"', {}, inner=_block("config", sink, True))])
    parts += _block(
        "template_config",
        {
            "exit_on_retry_failure": True,
            "static_secret_render_interval": f"{sidecar.render_seconds or _NEVER_SECONDS}s",
        },
    )
    if sidecar.port or sidecar.socket:
        parts += _block("cache", {})
        parts += _block("api_proxy", {"use_auto_auth_token": True})
        where: _Rows = {"address": f"127.0.0.1:{sidecar.port}", "tls_disable": True}
        if sidecar.socket:
            # A socket's path may be 107 bytes long. A process on the node itself begins in its task's directory.
            path: _Row = sidecar.socket if sidecar.driver == AgentDriver.RAW_EXEC else _seen(sidecar.socket)
            where = {"address": path, "socket_mode": "0666", "tls_disable": True}
        parts += _block('listener "unix"' if sidecar.socket else 'listener "tcp"', where)
    return parts


def _template_stanza(block: TemplateBlock, source: str) -> list[str | _Path]:
    left, right = block.delimiters
    rows: dict[str, _Row] = {
        "source": _task_file(source),
        "destination": _seen(block.destination),
        "perms": block.perms,
        "error_on_missing_key": True,
        "sandbox_path": _task_file("local"),
        "function_denylist": _DENIED,
    }
    if (left, right) != ("{{", "}}"):
        rows["left_delimiter"], rows["right_delimiter"] = left, right
    if block.uid >= 0:
        rows["user"] = str(block.uid)
    if block.gid >= 0:
        rows["group"] = str(block.gid)
    script = block.change.script
    inner: list[str | _Path] = []
    if script is not None:
        command = (str(script["Command"]), *(str(item) for item in script["Args"]))
        inner = _block("exec", {"command": command, "timeout": f"{int(script['Timeout']) / 1_000_000_000:g}s"})
    return _block("template", rows, inner=inner)


def _task_file(destination: str) -> _Path:
    return _Path("NOMAD_TASK_DIR", destination.removeprefix("local"))


def _block(name: str, rows: _Rows, equals: bool = False, *, inner: Sequence[str | _Path] = ()) -> list[str | _Path]:
    """A block of HCL: its rows, and what stands inside it after them."""
    parts: list[str | _Path] = [f"{name} {'= ' if equals else ''}{{\n"]
    for key, value in rows.items():
        parts += [f"  {key} = ", *_value(value), "\n"]
    at_start = True
    for part in inner:
        parts.append(_indented(part, at_start) if isinstance(part, str) else part)
        at_start = isinstance(part, str) and part.endswith("\n")
    return [*parts, "}\n"]


def _indented(text: str, at_start: bool) -> str:
    lines = text.split("\n")
    shown = [f"  {line}" if line and (number or at_start) else line for number, line in enumerate(lines)]
    return "\n".join(shown)


def _value(value: _Row) -> list[str | _Path]:
    if isinstance(value, _Path):
        return [value]
    if isinstance(value, _Octal):
        return [value.digits]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, int):
        return [str(value)]
    if isinstance(value, str):
        return [hcl_string(value)]
    return [f"[{', '.join(hcl_string(item) for item in value)}]"]


@dataclass(frozen=True, slots=True)
class AgentDefaults:
    """What the controller's settings say of every sidecar.

    Attributes:
        cpu: MHz; memory, memory_max: MiB, 0 for no maximum of its own.
        server: where agents find Vault, which may be elsewhere for them than for the controller.
        jwt_mount, approle_mount: the auth mounts, without `auth/`.
        allowed: which of `driver`, `image`, `command`, `args`, `user`, `script` a binding may choose. They are run on
            Nomad's clients by the controller's right to register jobs, which whoever writes bindings need not have.
    """

    driver: str = "docker"
    image: str = "openbao/openbao:2.2.0"
    command: str = "bao"
    args: tuple[str, ...] = ()
    user: str = ""
    cpu: int = 50
    memory: int = 128
    memory_max: int = 0
    server: Server = field(default_factory=lambda: Server("http://127.0.0.1:8200"))
    jwt_mount: str = "jwt-nomad"
    approle_mount: str = "approle-nomad"
    allowed: frozenset[str] = frozenset()
