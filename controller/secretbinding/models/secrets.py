"""The secrets of a binding: where each comes from in Vault, and as what the tasks see it."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Any

from pydantic import Field

from secretbinding.models import template_rules
from secretbinding.models.base import Fault, Model, Rule, mapping, objects, unique
from secretbinding.models.text import compile_re2, quoted
from secretbinding.models.types import (
    OWN_API_IN_PATH,
    OWN_API_SAYS,
    BarePath,
    CertificateName,
    Command,
    Delimiter,
    Destination,
    DnsLabel,
    Duration,
    EnvMap,
    Id32,
    IpAddress,
    Mount,
    Permissions,
    PositiveDuration,
    SignalName,
    TemplateText,
    Uri,
    VaultPath,
    VaultRole,
)

KINDS = ("kv", "database", "pki", "generic")
MAX_FILES = 8
MAX_SECRETS = 32


class KvEngine(StrEnum):
    """The version of a KV secrets engine."""

    V1 = "v1"
    V2 = "v2"


class Capability(StrEnum):
    """What a policy allows on a path, in Vault's own words (`sudo` and `deny` cannot be granted by a binding)."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    LIST = "list"


class ChangeMode(StrEnum):
    """What Nomad does with a task whose rendered secret changed (strategy Native)."""

    RESTART = "Restart"
    SIGNAL = "Signal"
    SCRIPT = "Script"
    NOOP = "Noop"


class FileFormat(StrEnum):
    """How a file shows the fields of a secret when no template is given."""

    DOTENV = "Dotenv"
    JSON = "Json"
    YAML = "Yaml"
    PROPERTIES = "Properties"
    SHELL = "Shell"


def _no_version_of_v1(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("engine") == KvEngine.V1 and obj.get("version") is not None:
        yield Fault(("version",), "a KV v1 secret has no versions")


def _own_api_of_v1(obj: Mapping[str, Any]) -> Iterator[Fault]:
    path = obj.get("path")
    if obj.get("engine") == KvEngine.V1 and isinstance(path, str) and compile_re2(OWN_API_IN_PATH).search(path):
        yield Fault(("path",), f"path {quoted(path)} {OWN_API_SAYS}")


class Kv(Model):
    """A secret of a KV engine."""

    mount: Mount
    """Mount of the KV engine, without slashes at the ends."""
    path: VaultPath
    """Path of the secret below the mount, without `data/`."""
    engine: KvEngine | None = None
    """Version of the engine; found out when left out."""
    version: Annotated[int, Field(ge=1, le=2147483647)] | None = None
    """Freeze the secret at this version."""

    rules = (
        Rule(
            message="a KV v1 secret has no versions",
            remedy="leave out version, or set engine to v2",
            cel="!(has(self.engine) && self.engine == 'v1' && has(self.version))",
            field=".version",
            check=_no_version_of_v1,
        ),
        # Between mount and path of a v1 secret there is no `data/`, and a stated engine is not looked up.
        Rule(
            message=f"path {OWN_API_SAYS}",
            remedy="leave out engine, so that the mount is looked up",
            cel=f"!(has(self.engine) && self.engine == 'v1' && self.path.matches('{OWN_API_IN_PATH}'))",
            field=".path",
            check=_own_api_of_v1,
        ),
    )


def _one_role(obj: Mapping[str, Any]) -> Iterator[Fault]:
    given = [name for name in ("role", "staticRole") if obj.get(name) is not None]
    if len(given) == 2:
        yield Fault(("staticRole",), "both role and staticRole are set")
    elif not given:
        yield Fault((), "neither role nor staticRole is set")


class Database(Model):
    """Credentials of a database secrets engine."""

    mount: Mount
    """Mount of the database engine."""
    role: VaultRole | None = None
    """A role that makes a new user for each lease."""
    static_role: VaultRole | None = None
    """A static role: one user, whose password Vault rotates."""

    rules = (
        Rule(
            message="role and staticRole exclude each other, and one of them is needed",
            remedy="set exactly one of role, staticRole",
            cel="has(self.role) != has(self.staticRole)",
            check=_one_role,
        ),
    )


def _addresses(obj: Mapping[str, Any]) -> Iterator[Fault]:
    listed = obj.get("ipSans")
    for index, text in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(text, str):
            try:
                ip_address(text)
            except ValueError:
                yield Fault(("ipSans", index), f"{quoted(text)} is no IP address")


class Pki(Model):
    """A certificate of a PKI engine."""

    mount: Mount
    """Mount of the PKI engine."""
    role: VaultRole
    """Role of the PKI engine that issues the certificate."""
    common_name: CertificateName
    """Common name of the certificate."""
    ttl: PositiveDuration | None = None
    """Lifetime of the certificate; the role's own when left out."""
    alt_names: Annotated[tuple[CertificateName, ...], Field(max_length=64)] = ()
    """Further host names."""
    ip_sans: Annotated[tuple[IpAddress, ...], Field(max_length=64)] = ()
    """IP addresses of the certificate."""
    uri_sans: Annotated[tuple[Uri, ...], Field(max_length=64)] = ()
    """URIs of the certificate."""

    rules = (Rule(message="an IP address does not parse", remedy="write an IPv4 or IPv6 address", check=_addresses),)


class Generic(Model):
    """Anything that a path of any secrets engine answers with."""

    mount: Mount
    """Mount of the secrets engine."""
    path: BarePath
    """Path below the mount."""
    capabilities: Annotated[
        tuple[Capability, ...],
        Field(min_length=1, max_length=6, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = (Capability.READ,)
    """What the job's policy allows on the path."""
    max_ttl: Annotated[PositiveDuration | None, Field(alias="maxTTL")] = None
    """Longest lifetime of a lease of this path, where Vault does not tell; decides when the job is rolled ahead."""

    rules = (
        Rule(
            message="a capability is given twice",
            remedy="give each capability once",
            check=lambda obj: _twice(obj.get("capabilities")),
        ),
    )


def _twice(listed: object) -> Iterator[Fault]:
    seen: list[object] = []
    for index, item in enumerate(listed if isinstance(listed, list) else ()):
        if item in seen:
            yield Fault(("capabilities", index), f"capability {quoted(str(item))} is given twice")
        seen.append(item)


class FileTarget(Model):
    """A file with the secret, in the task's directories."""

    destination: Destination
    """Where the file goes: below secrets/, local/ or ../alloc/ of each task."""
    perms: Permissions | None = None
    """Permissions in octal, in quotes: "0600"."""
    uid: Id32 | None = None
    """Owner of the file."""
    gid: Id32 | None = None
    """Group of the file."""
    template: TemplateText | None = None
    """A consul-template text, passed through to Nomad."""
    left_delimiter: Delimiter | None = None
    """Replaces `{{` in the template."""
    right_delimiter: Delimiter | None = None
    """Replaces `}}` in the template."""
    format: FileFormat | None = None
    """How to write the fields when there is no template; the usual form of the kind when left out."""

    rules = (
        Rule(
            message="template and format exclude each other",
            remedy="set one of template, format",
            cel="!(has(self.template) && has(self.format))",
            field=".format",
            check=template_rules.template_or_format,
        ),
        Rule(
            message="leftDelimiter, rightDelimiter and template belong together",
            remedy="set both delimiters with a template, or none",
            cel="has(self.leftDelimiter) == has(self.rightDelimiter)"
            " && (!has(self.leftDelimiter) || has(self.template))",
            field=".leftDelimiter",
            check=template_rules.delimiters,
        ),
        Rule(message="template does not parse", remedy="mend the template", check=template_rules.parses),
        Rule(
            message="template calls a function that does not exist",
            remedy="correct its name",
            check=template_rules.calls_what_there_is,
        ),
    )


class ChangeScript(Model):
    """A script that Nomad runs in the task when the rendered secret changed."""

    command: Command
    """The executable, as the task sees it."""
    args: Annotated[tuple[Command, ...], Field(max_length=32)] = ()
    """Its arguments."""
    timeout: PositiveDuration | None = None
    """How long it may run."""
    fail_on_error: bool = False
    """Whether a failure of the script kills the task."""


def _one_kind(obj: Mapping[str, Any]) -> Iterator[Fault]:
    given = [kind for kind in KINDS if obj.get(kind) is not None]
    if len(given) > 1:
        yield Fault((given[1],), f"an entry is one secret, but {' and '.join(given)} are set")
    elif not given:
        yield Fault((), "no kind of secret is set")


def _a_target(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if not obj.get("env") and not obj.get("files"):
        yield Fault((), "neither env nor files is set, so no task would see the secret")


def _change_signal(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if (obj.get("changeMode") == ChangeMode.SIGNAL) != (obj.get("changeSignal") is not None):
        yield Fault(("changeSignal",), "changeSignal and changeMode Signal belong together")


def _change_script(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if (obj.get("changeMode") == ChangeMode.SCRIPT) != (obj.get("changeScript") is not None):
        yield Fault(("changeScript",), "changeScript and changeMode Script belong together")


def _no_signal_for_env(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("changeMode") == ChangeMode.SIGNAL and obj.get("env"):
        yield Fault(("changeMode",), "a signal does not change the environment of a running task")


class SecretEntry(Model):
    """One secret: exactly one of kv, database, pki, generic, and at least one of env, files."""

    name: DnsLabel
    """Name of the entry, unique in the binding."""
    kv: Kv | None = None
    """A secret of a KV engine."""
    database: Database | None = None
    """Credentials of a database engine."""
    pki: Pki | None = None
    """A certificate of a PKI engine."""
    generic: Generic | None = None
    """A path of any engine."""
    env: EnvMap | None = None
    """Environment variables: name of the variable, and the field of the secret that it gets."""
    files: Annotated[
        tuple[FileTarget, ...],
        Field(
            max_length=MAX_FILES,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["destination"]},
        ),
    ] = ()
    """Files with the secret."""
    change_mode: ChangeMode | None = None
    """What Nomad does when the rendered secret changed, with strategy Native."""
    change_signal: SignalName | None = None
    """The signal of changeMode Signal."""
    change_script: ChangeScript | None = None
    """The script of changeMode Script."""
    splay: Duration | None = None
    """Spread the changes of several tasks over this time."""

    rules = (
        Rule(
            message="an entry is exactly one kind of secret",
            remedy="set exactly one of kv, database, pki, generic",
            cel="[has(self.kv), has(self.database), has(self.pki), has(self.generic)].exists_one(x, x)",
            check=_one_kind,
        ),
        Rule(
            message="neither env nor files is set, so no task would see the secret",
            remedy="set env or files",
            cel="(has(self.env) && self.env.size() > 0) || (has(self.files) && self.files.size() > 0)",
            check=_a_target,
        ),
        Rule(
            message="changeSignal and changeMode Signal belong together",
            remedy="set both or none",
            cel="(has(self.changeMode) && self.changeMode == 'Signal') == has(self.changeSignal)",
            field=".changeSignal",
            check=_change_signal,
        ),
        Rule(
            message="changeScript and changeMode Script belong together",
            remedy="set both or none",
            cel="(has(self.changeMode) && self.changeMode == 'Script') == has(self.changeScript)",
            field=".changeScript",
            check=_change_script,
        ),
        Rule(
            message="a signal does not change the environment of a running task",
            remedy="use files instead of env, or another changeMode",
            cel="!(has(self.changeMode) && self.changeMode == 'Signal' && has(self.env) && self.env.size() > 0)",
            field=".changeMode",
            check=_no_signal_for_env,
        ),
        unique("files", "destination"),
    )

    @property
    def kind_name(self) -> str:
        """`kv`, `database`, `pki` or `generic`."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def source(self) -> Kv | Database | Pki | Generic:
        """The one kind that is set."""
        found = self.kv or self.database or self.pki or self.generic
        assert found is not None  # the rule "exactly one kind" holds for every instance
        return found


def env_names(entry: Mapping[str, Any]) -> Iterator[str]:
    """The names of the variables that a raw entry sets."""
    return (name for name in mapping(entry.get("env")) if isinstance(name, str))


def destinations(entry: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Index and destination of the files of a raw entry."""
    for index, target in objects(entry.get("files")):
        if isinstance(destination := target.get("destination"), str):
            yield index, destination
