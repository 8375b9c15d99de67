"""The controller's own rights on both sides: one list, which its policies are rendered from. Pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from textwrap import wrap

from secretbinding.errors import UsageError
from secretbinding.naming import INSTANCE_PATTERN, mark_json, name_prefix, read_mark_json, stable_digest
from secretbinding.ops.engines import ENGINES, Line
from secretbinding.render.text import is_plain_path

_HEADER = "# secretbinding "
_PART = "controller"
_WIDTH = 116
_NOMAD_VARIABLE = re.compile(r"[a-zA-Z0-9\-_~/]{1,127}\*?\Z")
_NOMAD_NAMESPACE = re.compile(r"[a-zA-Z0-9*-]{1,128}\Z")
# Names below which a probe lies: no object of ours ever has them.
_PROBE = "doctor"


@dataclass(frozen=True, slots=True, order=True)
class Mount:
    """A secrets engine that bindings may use. `kind` is that of the binding's entries, such as `kv`; with `makes` they
    may have roles made for them (`create`)."""

    kind: str
    path: str
    makes: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What the rights are for.

    Attributes:
        instance: the controller's instance; it owns what begins with `nsb.<instance>.`.
        jwt_mount: the auth mount that Nomad's clients log in to.
        mounts: the secrets engines that bindings may use.
        nomad_namespaces: the Nomad namespaces that bindings may name; `*` and patterns such as `team-*` are allowed.
        nomad_variables: Nomad variables that bindings may take values from, or patterns such as `nomad/jobs/*`.
        election: whether several controllers agree by locks on Nomad variables.
    """

    instance: str = "default"
    jwt_mount: str = "jwt-nomad"
    mounts: tuple[Mount, ...] = (Mount("kv", "secret"),)
    nomad_namespaces: tuple[str, ...] = ("*",)
    nomad_variables: tuple[str, ...] = ()
    election: bool = False

    def __post_init__(self) -> None:
        """Raises `UsageError` for what must not stand in a policy."""
        if not INSTANCE_PATTERN.match(self.instance):
            raise UsageError(
                f"{self.instance!r} is no name of an instance",
                remedy="use 1 to 20 lower-case letters, digits and dashes, with a letter or digit at both ends",
            )
        for path in (self.jwt_mount, *(mount.path for mount in self.mounts)):
            if not is_plain_path(path) or any(part in ("", ".", "..") for part in path.split("/")):
                raise UsageError(f"{path!r} is no mount", remedy="write it as Vault shows it, such as `secret`")
        for mount in self.mounts:
            if mount.kind not in ENGINES:
                raise UsageError(f"no engine is of kind {mount.kind!r}", remedy=f"use one of {', '.join(ENGINES)}")
            if mount.makes and not ENGINES[mount.kind].makes:
                raise UsageError(f"no roles are made in a {mount.kind} engine", remedy="leave it out")
        for namespace in self.nomad_namespaces:
            if not _NOMAD_NAMESPACE.match(namespace):
                raise UsageError(f"{namespace!r} is no Nomad namespace", remedy="use letters, digits, - and *")
        if not self.nomad_namespaces:
            raise UsageError("no Nomad namespace is given", remedy="name at least one, or *")
        for variable in self.nomad_variables:
            if not _NOMAD_VARIABLE.match(variable):
                raise UsageError(
                    f"{variable!r} is no path of a Nomad variable",
                    remedy="use letters, digits, -_~/ and a * at the end",
                )

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """The paths of the mounts of a kind."""
        return tuple(mount.path for mount in self.mounts if mount.kind == kind)

    @property
    def name(self) -> str:
        """What the controller's policies, roles and tokens are called on both sides. It lies outside of the prefix
        that the controller may write itself."""
        return "secretbinding" if self.instance == "default" else f"secretbinding-{self.instance}"


@dataclass(frozen=True, slots=True)
class VaultRight:
    """One path of the controller's Vault policy.

    Attributes:
        why: what it is for: the comment above it.
        probe: a path that it covers, to ask `sys/capabilities-self` about.
        without: what does not work without it; `""` when nothing works without it.
    """

    path: str
    capabilities: tuple[str, ...]
    why: str
    probe: str
    without: str = ""


@dataclass(frozen=True, slots=True)
class VariableRight:
    """One path of Nomad variables, in each namespace of the scope."""

    path: str
    capabilities: tuple[str, ...]
    why: str
    without: str = ""

    @property
    def probe(self) -> str:
        """A variable that it covers."""
        return self.path.replace("*", _PROBE)


NAMESPACE_CAPABILITIES = {
    "list-jobs": "find the children of periodic and parameterized jobs, and jobs that come after their binding",
    "read-job": "read jobs, their versions, deployments and allocations, and follow events",
    "submit-job": "register and plan jobs, tag versions whose deployment failed",
    "parse-job": "read job files in HCL (`inject`, `doctor --job-file`); leave it out for the controller alone",
}
"""What the controller does in a Nomad namespace, by capability."""

OPTIONAL_CAPABILITIES = frozenset({"parse-job"})

VARIABLES = (
    VariableRight(
        "nomad-vault/bindings/*",
        ("list", "read"),
        "Bindings, which tenants write (source `nomad`).",
        "the source `nomad` finds no bindings",
    ),
    VariableRight(
        "nomad-vault/requests/*",
        ("list", "read"),
        "Requests to rotate, which tenants write.",
        "requests to rotate are not seen",
    ),
    VariableRight(
        "nomad-vault/status/*",
        ("list", "read", "write", "destroy"),
        "Statuses, which the controller writes and tenants only read.",
        "no status can be written",
    ),
    VariableRight(
        "nomad-vault/policies/*",
        ("list", "read"),
        "Policies (SecretBindingPolicy), looked for in the controller's own namespace only. No tenant writes there.",
        "policies in Nomad variables are not known, and nothing is allowed",
    ),
)

# What the controller never needs: each is a way to a value, or to more rights.
_FORBIDDEN = (
    ("sys/policies/acl/{name}", ("update", "create", "delete", "sudo"), "it could widen its own policy"),
    ("sys/policies/acl/" + _PROBE, ("update", "create", "delete", "sudo"), "it could change policies of other people"),
    ("auth/{jwt}/role/{name}", ("update", "create", "delete", "sudo"), "it could widen its own login role"),
    ("auth/{jwt}/config", ("update", "create", "delete", "sudo"), "it could trust other keys than Nomad's"),
    ("auth/token/create", ("update", "create", "sudo"), "it could make tokens"),
    ("auth/token/revoke-accessor", ("update", "create", "sudo"), "it could end the tokens of everybody"),
    ("sys/auth/" + _PROBE, ("update", "create", "delete", "sudo"), "it could enable login methods"),
    ("sys/mounts/" + _PROBE, ("update", "create", "delete", "sudo"), "it could mount and unmount secrets engines"),
)


@dataclass(frozen=True, slots=True)
class Excess:
    """A path on which the controller's token should have none of these capabilities, and what they would allow."""

    path: str
    capabilities: tuple[str, ...]
    means: str


def vault_rights(scope: Scope) -> tuple[VaultRight, ...]:
    """Everything that the controller may do in Vault. No path here gives a secret's value."""
    prefix, jwt = name_prefix(scope.instance), scope.jwt_mount
    every = ("create", "read", "update", "delete")
    rights = [
        VaultRight(
            f"sys/policies/acl/{prefix}*",
            every,
            "The ACL policies of this instance; their names all begin with its prefix.",
            f"sys/policies/acl/{prefix}{_PROBE}",
        ),
        VaultRight(
            "sys/policies/acl",
            ("list",),
            "Names of all policies: to find those whose binding is gone.",
            "sys/policies/acl",
            "policies whose binding is gone stay behind",
        ),
        VaultRight(
            f"auth/{jwt}/role/{prefix}*",
            every,
            "The login roles of this instance.",
            f"auth/{jwt}/role/{prefix}{_PROBE}",
        ),
        VaultRight(
            "sys/internal/ui/mounts/*",
            ("read",),
            "Whether a KV mount has version 1 or 2. Leave it out when every binding says `engine`.",
            f"sys/internal/ui/mounts/{_PROBE}",
            "bindings have to say `engine`",
        ),
    ]
    return (*rights, *engine_rights(scope), *_OWN_TOKEN)


def engine_rights(scope: Scope) -> Iterator[VaultRight]:
    """What the controller may do in the secrets engines."""
    for mount in scope.mounts:
        engine = ENGINES[mount.kind]
        for line in (*engine.lines, *(engine.makes if mount.makes else ())):
            yield _filled(line, mount.path, name_prefix(scope.instance))


def _filled(line: Line, mount: str, prefix: str) -> VaultRight:
    path, why, probe, without = (
        text.replace("{mount}", mount).replace("{prefix}", prefix)
        for text in (line.path, line.why, line.probe, line.without)
    )
    return VaultRight(path, line.capabilities, why, probe, without)


_OWN_TOKEN = (
    VaultRight(
        "auth/token/lookup-self",
        ("read",),
        "When the controller's own token ends: for a metric, and for doctor.",
        "auth/token/lookup-self",
        "neither the metric nor doctor can tell when the token ends",
    ),
    VaultRight(
        "auth/token/renew-self",
        ("update",),
        "Keep it alive.",
        "auth/token/renew-self",
        "the token ends when its time is over",
    ),
    VaultRight(
        "auth/token/revoke-self",
        ("update",),
        "Leave no token behind at the end of a process that logged in by itself.",
        "auth/token/revoke-self",
        "tokens of logins live on until their time is over",
    ),
    VaultRight(
        "sys/capabilities-self",
        ("update",),
        "What it may do, for doctor.",
        "sys/capabilities-self",
        "doctor cannot tell what the token may do",
    ),
)


REVOKING = (
    VaultRight("auth/token/accessors", ("list", "sudo"), "Accessors of all tokens.", "auth/token/accessors"),
    VaultRight(
        "auth/token/lookup-accessor",
        ("create", "update"),
        "By which role a token was got.",
        "auth/token/lookup-accessor",
    ),
    VaultRight("auth/token/revoke-accessor", ("create", "update"), "Revoke it.", "auth/token/revoke-accessor"),
    VaultRight(
        "auth/jwt-nomad/role", ("list",), "Which roles are there still, for `--deleted`.", "auth/jwt-nomad/role"
    ),
    VaultRight(
        "auth/approle-nomad/role", ("list",), "The same of agents that log in by AppRole.", "auth/approle-nomad/role"
    ),
)
"""What `revoke` may do: a person's rights, which no controller has."""


def vault_excess(scope: Scope) -> tuple[Excess, ...]:
    """What the controller's token must not be able to do."""
    fields = {"name": scope.name, "jwt": scope.jwt_mount}
    found = [Excess(path.format(**fields), capabilities, means) for path, capabilities, means in _FORBIDDEN]
    for mount in scope.mounts:
        for path, capabilities, means in ENGINES[mount.kind].secrets:
            found.append(Excess(path.replace("{mount}", mount.path), capabilities, means))
    return tuple(found)


def vault_policy(scope: Scope) -> str:
    """The controller's Vault policy in HCL, each path explained. The first line is our mark."""
    blocks = [block(right) for right in vault_rights(scope)]
    head = (
        f'# What the controller may do in Vault or OpenBao, for instance "{scope.instance}" and the auth mount '
        f'"{scope.jwt_mount}".\n# No path here gives a secret\'s value.\n'
    )
    return marked(scope.instance, "\n".join([head, *blocks]))


def nomad_policy(scope: Scope) -> str:
    """The controller's Nomad ACL policy in HCL, each line explained. The first line is our mark."""
    head = (
        f'# What the controller may do in Nomad, for instance "{scope.instance}": one block for each namespace that\n'
        '# bindings may name, "*" for all of them.\n'
    )
    blocks = [_namespace(namespace, variable_rights(scope)) for namespace in scope.nomad_namespaces]
    return marked(scope.instance, "\n".join([head, *blocks]))


ELECTION = (
    VariableRight(
        "nomad-vault/leases/*",
        ("read", "write"),
        "Locks by which several controllers agree who works.",
        "no controller works where SECRETBINDING_ELECTION is nomad",
    ),
    VariableRight(
        "nomad-vault/members/*",
        ("list", "read", "write", "destroy"),
        "Which controllers take part, where jobs are divided among them.",
        "no controller works where SECRETBINDING_SHARDS is more than 1",
    ),
)
"""What an election by locks on Nomad variables needs besides."""


def variable_rights(scope: Scope) -> tuple[VariableRight, ...]:
    """The Nomad variables that the controller reads and writes, in each namespace of the scope."""
    why = "Variables that bindings take values from: that they are there and when they changed, never their values."
    lost = "bindings of nomadVariable are held"
    own = (*VARIABLES, *(ELECTION if scope.election else ()))
    return (*own, *(VariableRight(path, ("list",), why, lost) for path in scope.nomad_variables))


def variables_block(namespace: str, variables: Iterable[VariableRight]) -> str:
    """One namespace of a Nomad policy with variables alone, explained."""
    return "\n".join([f'namespace "{namespace}" {{', *_variables(variables), "}", ""])


def _namespace(namespace: str, variables: Iterable[VariableRight]) -> str:
    lines = [f'namespace "{namespace}" {{', "  capabilities = ["]
    for capability, why in NAMESPACE_CAPABILITIES.items():
        lines += [f"    # {why[0].upper()}{why[1:]}.", f'    "{capability}",']
    return "\n".join([*lines, "  ]", "", *_variables(variables), "}", ""])


def _variables(variables: Iterable[VariableRight]) -> list[str]:
    lines = ["  variables {"]
    for right in variables:
        lines += [f"    # {line}" for line in wrap(right.why, _WIDTH - 4)]
        lines += [f'    path "{right.path}" {{', f"      capabilities = [{_quoted(right.capabilities)}]", "    }"]
    return [*lines, "  }"]


def marked(instance: str, body: str) -> str:
    """A policy's text with our mark as its first line; `body` in the mark is a digest of what follows."""
    fields = {"instance": instance, "part": _PART, "body": stable_digest(body)}
    return f"{_HEADER}{mark_json(fields)}\n{body}"


@dataclass(frozen=True, slots=True)
class PolicyMark:
    """What the mark of a policy that `bootstrap` writes says. `intact` is false when somebody edited the text."""

    instance: str
    intact: bool


def read_mark(text: str) -> PolicyMark | None:
    """The mark of a policy's text; None when it is not one that `bootstrap` wrote."""
    head, _, body = text.partition("\n")
    fields = read_mark_json(head.removeprefix(_HEADER)) if head.startswith(_HEADER) else None
    if fields is None or fields.get("part") != _PART:
        return None
    return PolicyMark(str(fields.get("instance", "")), fields.get("body") == stable_digest(body))


def block(right: VaultRight) -> str:
    """One path of a Vault policy, explained."""
    lines = [f"# {line}" for line in wrap(right.why, _WIDTH)]
    return "\n".join([*lines, f'path "{right.path}" {{', f"  capabilities = [{_quoted(right.capabilities)}]", "}", ""])


def _quoted(capabilities: Iterable[str]) -> str:
    return ", ".join(f'"{capability}"' for capability in capabilities)
