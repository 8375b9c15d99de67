"""SecretBindingPolicy: which tenants may give which secrets to which jobs. One source of truth for its CRD too."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from secretbinding.models.base import Fault, Model, Rule, objects
from secretbinding.models.binding import API_VERSION, AuthMethod, Capability, Delivery, Metadata
from secretbinding.models.functions import is_function
from secretbinding.models.kinds import NomadVariable
from secretbinding.models.secrets import KINDS
from secretbinding.models.text import Names, Text, quoted
from secretbinding.models.types import BREAKING, UNSEEN, PositiveDuration

POLICY_KIND = "SecretBindingPolicy"
TENANT = "{{tenant}}"

_MOST = 64
_SET = {"x-kubernetes-list-type": "set"}


def _braces(text: str) -> str | None:
    rest = text.replace(TENANT, "")
    return f"pattern {quoted(text)} has braces other than {TENANT}" if "{" in rest or "}" in rest else None


_PATTERN_BAD = f"{UNSEEN}\"'`\\\\"
PATTERN = Text(
    "pattern",
    f"^([^{_PATTERN_BAD}{{}}]|\\{{\\{{tenant\\}}\\}})+$",
    says=f"has quotes, backslashes, control characters, or braces other than {TENANT}",
    remedy=f"write the text itself, with * for any characters and {TENANT} for the tenant's name",
    max_length=512,
    test=_braces,
)
Pattern = Annotated[str, PATTERN]
Patterns = Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=_MOST, json_schema_extra=_SET)]
SomePatterns = Annotated[tuple[Pattern, ...], Field(max_length=_MOST, json_schema_extra=_SET)]

_LABEL = Text(
    "label",
    r"^[A-Za-z0-9]([A-Za-z0-9_./-]*[A-Za-z0-9])?$",
    says="is no label's name",
    remedy="write the label as the namespace has it",
    max_length=317,
)
_LABEL_VALUE = Text(
    "label value", f"^[^{UNSEEN}{BREAKING}]*$", remedy="write the value as the namespace has it", min_length=0
)
Labels = Annotated[dict[str, Annotated[str, _LABEL_VALUE]], Names(_LABEL, 16)]
_FUNCTION = Text(
    "function",
    r"^[A-Za-z][A-Za-z0-9_]*$",
    remedy="name a function of Nomad's templates, such as key or service",
    max_length=64,
)


class Effect(StrEnum):
    """What a policy does with what it matches."""

    ALLOW = "Allow"
    DENY = "Deny"


class SourceKind(StrEnum):
    """A source of bindings."""

    KUBERNETES = "kubernetes"
    NOMAD = "nomad"
    FILES = "files"


class SecretKind(StrEnum):
    """A kind of secret, by the name of its field in a binding."""

    KV = "kv"
    DATABASE = "database"
    PKI = "pki"
    SSH = "ssh"
    AWS = "aws"
    GCP = "gcp"
    AZURE = "azure"
    TRANSIT = "transit"
    NOMAD_VARIABLE = "nomadVariable"
    GENERIC = "generic"


class Choice(StrEnum):
    """What a binding may choose that reaches beyond its own secrets: programs that Nomad's clients run by the
    controller's right to register jobs; where an agent logs in, and who may speak to Vault through it, with the rights
    of all bindings of the group."""

    DRIVER = "driver"
    IMAGE = "image"
    COMMAND = "command"
    ARGS = "args"
    USER = "user"
    SCRIPT = "script"
    SERVER = "server"
    LISTENER = "listener"


class TenantSelector(Model):
    """Tenants: all that is given has to be so."""

    sources: Annotated[tuple[SourceKind, ...], Field(max_length=3, json_schema_extra=_SET)] = ()
    """Where the bindings come from; any source when left out."""
    names: SomePatterns = ()
    """Names of tenants: a Kubernetes namespace, a Nomad namespace, or what a directory of files is configured as."""
    labels: Labels = Field(default_factory=dict)
    """Labels of the Kubernetes namespace, or metadata of the Nomad namespace."""

    rules = (
        Rule(
            message="names or labels are needed",
            remedy='set names or labels; names: ["*"] is every tenant',
            cel="(has(self.names) && self.names.size() > 0) || (has(self.labels) && self.labels.size() > 0)",
            check=lambda obj: _needed(obj, "names", "labels"),
        ),
    )


def _needed(obj: Mapping[str, Any], *names: str) -> Iterator[Fault]:
    if not any(obj.get(name) for name in names):
        yield Fault((), f"neither {' nor '.join(names)} is set")


class WorkloadSelector(Model):
    """Jobs: all that is given has to be so."""

    namespaces: Patterns
    """Nomad namespaces of the jobs."""
    jobs: SomePatterns = ()
    """IDs of the jobs; any when left out."""
    regions: SomePatterns = ()
    """Nomad regions; any when left out."""
    connections: SomePatterns = ()
    """Connections that a binding may name. When left out: with Allow only the default one, with Deny any."""
    drivers: SomePatterns = ()
    """Drivers of the tasks that get the secrets, each of them; any when left out."""


class CreateRules(Model):
    """Roles that a binding may have made (`create`). What a database role makes its users with is SQL that runs with
    the rights of the connection."""

    connections: SomePatterns = ()
    """Connections of a database engine."""
    users: SomePatterns = ()
    """Users that are there already, for static roles."""
    domains: SomePatterns = ()
    """Domains of a PKI role."""
    uris: SomePatterns = ()
    """URIs of a PKI role."""
    ip_sans: bool = False
    """Whether a PKI role may issue for IP addresses."""
    issuers: SomePatterns = ()
    """Issuers that a PKI role may name; only the engine's default when left out."""
    max_ttl: Annotated[PositiveDuration | None, Field(alias="maxTTL")] = None
    """Greatest lifetime that the role may give; a binding has to set its own then."""


class GenerateRules(Model):
    """New values that a binding may have made (`rotation.generate`): of fields of a KV secret, and passwords of static
    roles, always; of the rest what is named."""

    secret_ids_of: SomePatterns = ()
    """AppRoles that a secret-id may be asked of: mount, a slash, and the role."""
    roots: SomePatterns = ()
    """Database connections whose root password may be made anew."""


class SecretRules(Model):
    """Secrets by where they are."""

    kinds: Annotated[tuple[SecretKind, ...], Field(max_length=len(SecretKind), json_schema_extra=_SET)] = ()
    """Kinds of secrets; every kind of Vault's but generic when left out."""
    mounts: SomePatterns = ()
    """Mounts of the engines, as a binding writes them."""
    paths: SomePatterns = ()
    """Below the mount: the path, role or key that a binding names (of a KV secret without `data/`); the path of a Nomad
    variable. Roles that are made have no name yet: for them the mount counts."""
    capabilities: Annotated[tuple[Capability, ...], Field(max_length=len(Capability), json_schema_extra={**_SET})] = ()
    """What the job's policy may allow there; when left out: what the kind needs, and for generic only read."""
    create: CreateRules | None = None
    """Whether a binding may have roles made there, and which."""
    generate: GenerateRules | None = None
    """Whether a binding may have new values made there, and of what."""

    rules = (
        Rule(
            message="mounts and paths are needed",
            remedy='set mounts (a rule for nomadVariable alone has none) and paths; paths: ["*"] is everything',
            cel="has(self.paths) && self.paths.size() > 0 && ((has(self.mounts) && self.mounts.size() > 0)"
            " || (has(self.kinds) && self.kinds == ['nomadVariable']))",
            check=lambda obj: _mounts_and_paths(obj),
        ),
    )


def _mounts_and_paths(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if not obj.get("paths"):
        yield Fault((), "paths is not set")
    if not obj.get("mounts") and obj.get("kinds") != ["nomadVariable"]:
        yield Fault((), "mounts is not set")


class AuthRules(Model):
    """How jobs may log in."""

    methods: Annotated[tuple[AuthMethod, ...], Field(max_length=len(AuthMethod), json_schema_extra=_SET)] = ()
    """Ways to log in; only JWT when left out."""
    max_ttl: Annotated[PositiveDuration | None, Field(alias="maxTTL")] = None
    """The longest tokenPeriod, tokenTTL or tokenMaxTTL; a binding has to set one of them then."""


class TemplateRules(Model):
    """What templates of users may call besides what only works on values, and reads of the binding's own secrets."""

    functions: Annotated[tuple[Annotated[str, _FUNCTION], ...], Field(max_length=_MOST, json_schema_extra=_SET)] = ()
    """Further functions, such as `key` or `service`. `secret` among them lets a template compute the path that it
    reads; where the path is written out, it counts as a secret of the binding."""

    rules = (
        Rule(
            message="a function is not known",
            remedy="name functions of Nomad's templates",
            check=lambda obj: _unknown(obj),
        ),
    )


def _unknown(obj: Mapping[str, Any]) -> Iterator[Fault]:
    listed = obj.get("functions")
    for index, name in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(name, str) and not is_function(name):
            yield Fault(("functions", index), f"there is no function {quoted(name)}")


_ONLY_OF_ALLOW = ("auth", "delivery", "choices", "templates", "adopt", "retain")


def _complete(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("effect") == Effect.DENY:
        for name in _ONLY_OF_ALLOW:
            if obj.get(name):
                yield Fault((name,), f"{name} says what is allowed, and effect is Deny")
        for index, rule in objects(obj.get("secrets")):
            for name in ("capabilities", "create", "generate"):
                if rule.get(name) not in (None, []):
                    yield Fault(("secrets", index, name), f"{name} says what is allowed, and effect is Deny")
    else:
        for name in ("workloads", "secrets"):
            if not obj.get(name):
                yield Fault((), f"{name} is not set")


class PolicySpec(Model):
    """Who may give what to which jobs. What is asked for is allowed when one policy allows all of it, and none denies
    it."""

    effect: Effect = Effect.ALLOW
    """Allow, or Deny: what a policy with Deny matches is refused, whatever the others allow."""
    tenants: Annotated[tuple[TenantSelector, ...], Field(min_length=1, max_length=_MOST)]
    """Whose bindings; any of the list."""
    workloads: Annotated[tuple[WorkloadSelector, ...], Field(max_length=_MOST)] = ()
    """Which jobs may get the secrets; any of the list. With Deny, all when left out."""
    secrets: Annotated[tuple[SecretRules, ...], Field(max_length=_MOST)] = ()
    """Which secrets; any of the list. With Deny, all when left out."""
    auth: AuthRules = AuthRules()
    """How the jobs may log in."""
    delivery: Annotated[tuple[Delivery, ...], Field(max_length=len(Delivery), json_schema_extra=_SET)] = ()
    """How the secrets may be brought to the jobs; only Template when left out."""
    choices: Annotated[tuple[Choice, ...], Field(max_length=len(Choice), json_schema_extra=_SET)] = ()
    """What bindings may choose that runs programs: driver, image, command, args and user of an agent's sidecar; script:
    changeMode Script. Of an agent besides: server, its Vault by VAULT_ variables; listener, who speaks to Vault through
    it. The controller's own settings limit the sidecar besides."""
    templates: TemplateRules = TemplateRules()
    """What templates of users may call."""
    adopt: bool = False
    """Whether a binding may take over what is in the job by hand."""
    retain: bool = False
    """Whether a binding may have deletionPolicy Retain: what it leaves behind, no policy reaches any more."""

    rules = (
        Rule(
            message="workloads and secrets are needed with effect Allow; effect Deny has only tenants, workloads and"
            " secrets with kinds, mounts and paths",
            remedy="say which jobs and which secrets, or leave out what says what is allowed",
            cel="(has(self.effect) && self.effect == 'Deny') ? ("
            "(!has(self.auth) || ((!has(self.auth.methods) || self.auth.methods.size() == 0)"
            " && !has(self.auth.maxTTL)))"
            " && (!has(self.delivery) || self.delivery.size() == 0)"
            " && (!has(self.choices) || self.choices.size() == 0)"
            " && (!has(self.templates) || !has(self.templates.functions) || self.templates.functions.size() == 0)"
            " && (!has(self.adopt) || !self.adopt) && (!has(self.retain) || !self.retain)"
            " && (!has(self.secrets) || self.secrets.all(s, !has(s.create) && !has(s.generate)"
            " && (!has(s.capabilities) || s.capabilities.size() == 0)))"
            ") : (has(self.workloads) && self.workloads.size() > 0 && has(self.secrets) && self.secrets.size() > 0)",
            check=_complete,
        ),
    )


class SecretBindingPolicy(Model):
    """Says which tenants may give which secrets to which jobs, within which limits. Several add up; a Deny wins."""

    api_version: Literal["nomad-vault.io/v1alpha1"] = "nomad-vault.io/v1alpha1"
    kind: Literal["SecretBindingPolicy"] = "SecretBindingPolicy"
    metadata: Metadata
    spec: PolicySpec

    def to_manifest(self) -> dict[str, Any]:
        """The manifest as JSON holds it; parsing it again gives an equal policy."""
        return {"apiVersion": API_VERSION, "kind": POLICY_KIND, **self.to_json()}


OF_VAULT = tuple(kind for kind in SecretKind if KINDS[kind.value] is not NomadVariable)
