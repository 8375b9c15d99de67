"""The controller's own rights on both sides: one list, which its policies are rendered from. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from secretbinding.errors import UsageError
from secretbinding.naming import INSTANCE_PATTERN, mark_json, name_prefix, read_mark_json, stable_digest
from secretbinding.render.text import is_plain_path

_HEADER = "# secretbinding "
_PART = "controller"
_NOMAD_NAMESPACE = re.compile(r"[a-zA-Z0-9*-]{1,128}\Z")
# Names below which a probe lies: no object of ours ever has them.
_PROBE = "doctor"


@dataclass(frozen=True, slots=True)
class Scope:
    """What the rights are for.

    Attributes:
        instance: the controller's instance; it owns what begins with `nsb.<instance>.`.
        jwt_mount: the auth mount that Nomad's clients log in to.
        kv_mounts, database_mounts, pki_mounts: the secrets engines that bindings may use.
        nomad_namespaces: the Nomad namespaces that bindings may name; `*` and patterns such as `team-*` are allowed.
    """

    instance: str = "default"
    jwt_mount: str = "jwt-nomad"
    kv_mounts: tuple[str, ...] = ("secret",)
    database_mounts: tuple[str, ...] = ("database",)
    pki_mounts: tuple[str, ...] = ("pki",)
    nomad_namespaces: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        """Raises `UsageError` for what must not stand in a policy."""
        if not INSTANCE_PATTERN.match(self.instance):
            raise UsageError(
                f"{self.instance!r} is no name of an instance",
                remedy="use 1 to 20 lower-case letters, digits and dashes, with a letter or digit at both ends",
            )
        for mount in (self.jwt_mount, *self.kv_mounts, *self.database_mounts, *self.pki_mounts):
            parts = mount.split("/")
            if not is_plain_path(mount) or any(part in ("", ".", "..") for part in parts):
                raise UsageError(f"{mount!r} is no mount", remedy="write it as Vault shows it, such as `secret`")
        for namespace in self.nomad_namespaces:
            if not _NOMAD_NAMESPACE.match(namespace):
                raise UsageError(f"{namespace!r} is no Nomad namespace", remedy="use letters, digits, - and *")
        if not self.nomad_namespaces:
            raise UsageError("no Nomad namespace is given", remedy="name at least one, or *")

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
)

# What the controller never needs: each is a way to a value, or to more rights.
_FORBIDDEN = (
    ("sys/policies/acl/{name}", ("update", "create", "delete", "sudo"), "it could widen its own policy"),
    ("sys/policies/acl/" + _PROBE, ("update", "create", "delete", "sudo"), "it could change policies of other people"),
    ("auth/{jwt}/role/{name}", ("update", "create", "delete", "sudo"), "it could widen its own login role"),
    ("auth/{jwt}/config", ("update", "create", "delete", "sudo"), "it could trust other keys than Nomad's"),
    ("auth/token/create", ("update", "create", "sudo"), "it could make tokens"),
    ("sys/auth/" + _PROBE, ("update", "create", "delete", "sudo"), "it could enable login methods"),
    ("sys/mounts/" + _PROBE, ("update", "create", "delete", "sudo"), "it could mount and unmount secrets engines"),
)
_VALUES = (
    ("kv", "{mount}/data/" + _PROBE, "it could read secret values"),
    ("database", "{mount}/creds/" + _PROBE, "it could take database credentials"),
    ("database", "{mount}/static-creds/" + _PROBE, "it could read passwords of static roles"),
    ("pki", "{mount}/issue/" + _PROBE, "it could issue certificates"),
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
            "Whether a KV mount has version 1 or 2, and how long what a mount gives out lives.",
            f"sys/internal/ui/mounts/{_PROBE}",
            "bindings have to say `engine`, and leases that only their mount limits are not renewed ahead of time",
        ),
    ]
    for mount in scope.kv_mounts:
        rights += _kv(mount)
    for mount in scope.database_mounts:
        rights += _database(mount)
    for mount in scope.pki_mounts:
        rights += _pki(mount)
    return (*rights, *_OWN_TOKEN)


def _kv(mount: str) -> list[VaultRight]:
    return [
        VaultRight(
            f"{mount}/metadata/*",
            ("read",),
            f"KV mount `{mount}`: versions of secrets, never values.",
            f"{mount}/metadata/{_PROBE}",
            f"secrets of {mount} are not rolled",
        ),
        VaultRight(
            f"{mount}/subkeys/*",
            ("read",),
            "Field names of a version, so that one that lacks a field is not rolled.",
            f"{mount}/subkeys/{_PROBE}",
            f"secrets of {mount} are not rolled",
        ),
        VaultRight(
            f"{mount}/detailed-metadata/*",
            ("list",),
            "The versions of all secrets of a folder at once. OpenBao only; without it each is read by itself.",
            f"{mount}/detailed-metadata/{_PROBE}",
            "each secret is read by itself",
        ),
    ]


def _database(mount: str) -> list[VaultRight]:
    lost = f"database roles of {mount} cannot be used"
    return [
        VaultRight(
            f"{mount}/static-roles/*",
            ("read",),
            f"Database mount `{mount}`: when a static role was rotated, never its password.",
            f"{mount}/static-roles/{_PROBE}",
            lost,
        ),
        VaultRight(
            f"{mount}/roles/*",
            ("read",),
            "How long the credentials of a dynamic role live.",
            f"{mount}/roles/{_PROBE}",
            lost,
        ),
    ]


def _pki(mount: str) -> list[VaultRight]:
    return [
        VaultRight(
            f"{mount}/roles/*",
            ("read",),
            f"PKI mount `{mount}`: how long certificates live, and who issues them. The issuer itself is public.",
            f"{mount}/roles/{_PROBE}",
            f"certificates of {mount} cannot be used",
        )
    ]


_OWN_TOKEN = (
    VaultRight(
        "auth/token/lookup-self",
        ("read",),
        "The controller's own token: how long it lives.",
        "auth/token/lookup-self",
        "doctor cannot tell how long the token lives",
    ),
    VaultRight(
        "auth/token/renew-self",
        ("update",),
        "Keep it alive: Nomad's client, Vault Agent and `vault token renew` do.",
        "auth/token/renew-self",
        "the token ends when its time is over",
    ),
    VaultRight(
        "sys/capabilities-self",
        ("update",),
        "What it may do, for doctor.",
        "sys/capabilities-self",
        "doctor cannot tell what the token may do",
    ),
)


def vault_excess(scope: Scope) -> tuple[Excess, ...]:
    """What the controller's token must not be able to do."""
    fields = {"name": scope.name, "jwt": scope.jwt_mount}
    found = [Excess(path.format(**fields), capabilities, means) for path, capabilities, means in _FORBIDDEN]
    mounts = {"kv": scope.kv_mounts, "database": scope.database_mounts, "pki": scope.pki_mounts}
    for kind, path, means in _VALUES:
        capabilities = ("update", "create", "sudo") if kind == "pki" else ("read", "sudo")
        found += [Excess(path.format(mount=mount), capabilities, means) for mount in mounts[kind]]
    return tuple(found)


def vault_policy(scope: Scope) -> str:
    """The controller's Vault policy in HCL, each path explained. The first line is our mark."""
    blocks = [f"# {right.why}\n{_path(right.path, right.capabilities)}" for right in vault_rights(scope)]
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
    blocks = [_namespace(namespace) for namespace in scope.nomad_namespaces]
    return marked(scope.instance, "\n".join([head, *blocks]))


def _namespace(namespace: str) -> str:
    lines = [f'namespace "{namespace}" {{', "  capabilities = ["]
    for capability, why in NAMESPACE_CAPABILITIES.items():
        lines += [f"    # {why[0].upper()}{why[1:]}.", f'    "{capability}",']
    lines += ["  ]", "", "  variables {"]
    for right in VARIABLES:
        lines += [
            f"    # {right.why}",
            f'    path "{right.path}" {{',
            f"      capabilities = [{_quoted(right.capabilities)}]",
            "    }",
        ]
    return "\n".join([*lines, "  }", "}", ""])


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


def _path(path: str, capabilities: Sequence[str]) -> str:
    return f'path "{path}" {{\n  capabilities = [{_quoted(capabilities)}]\n}}\n'


def _quoted(capabilities: Iterable[str]) -> str:
    return ", ".join(f'"{capability}"' for capability in capabilities)
