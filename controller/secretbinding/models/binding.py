"""SecretBinding: which Vault secrets a Nomad job gets, and how. The one source of truth for the CRD and all checks."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from secretbinding.models.agent import AGENT_RULES, Agent, AgentDriver, Listener, by_agent
from secretbinding.models.approle import APP_ROLE_ALONE, AppRole
from secretbinding.models.base import Fault, Model, Rule, mapping, objects, unique
from secretbinding.models.files import FileFormat, FileTarget
from secretbinding.models.generation import GENERATE_RULES, Generate, SecretIdOf
from secretbinding.models.kinds import (
    Aws,
    Azure,
    Capability,
    Database,
    Gcp,
    Generic,
    Kv,
    KvEngine,
    NomadVariable,
    Pki,
    Ssh,
    Transit,
)
from secretbinding.models.rotation import Rotation, Schedule, Strategy, TimeZone, Window, WindowKind
from secretbinding.models.secrets import (
    CHANGE_MODE_CHOSEN,
    MAX_SECRETS,
    ChangeMode,
    ChangeScript,
    EnvFrom,
    SecretEntry,
    destinations,
    env_names,
    token_lasts,
    token_lasts_cel,
)
from secretbinding.models.types import (
    DnsLabel,
    GroupName,
    JobId,
    NomadNamespace,
    PositiveDuration,
    Region,
    TaskName,
    ValueMap,
    duration_seconds,
)
from secretbinding.models.variable_access import OWN_VARIABLES

__all__ = [
    "API_VERSION",
    "KIND",
    "Agent",
    "AgentDriver",
    "AppRole",
    "Auth",
    "AuthMethod",
    "Aws",
    "Azure",
    "Capability",
    "ChangeMode",
    "ChangeScript",
    "Database",
    "DeletionPolicy",
    "Delivery",
    "EnvFrom",
    "FileFormat",
    "FileTarget",
    "Gcp",
    "Generate",
    "Generic",
    "GroupSelector",
    "Kv",
    "KvEngine",
    "Listener",
    "Metadata",
    "NomadVariable",
    "Pki",
    "Rotation",
    "Schedule",
    "SecretBinding",
    "SecretEntry",
    "SecretIdOf",
    "Spec",
    "Ssh",
    "Strategy",
    "TimeZone",
    "Transit",
    "Window",
    "WindowKind",
    "Workload",
]

GROUP = "nomad-vault.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "SecretBinding"


class Delivery(StrEnum):
    """What renders the secrets."""

    TEMPLATE = "Template"
    AGENT = "Agent"


class AuthMethod(StrEnum):
    """How the job logs in to Vault."""

    JWT = "JWT"
    APP_ROLE = "AppRole"


class DeletionPolicy(StrEnum):
    """What becomes of the job's secrets when the binding is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


class GroupSelector(Model):
    """A task group of the job, and which of its tasks get the secrets."""

    name: GroupName
    """Name of the task group."""
    tasks: (
        Annotated[
            tuple[TaskName, ...],
            Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """Names of tasks; the main tasks of the group (those without a lifecycle) when left out."""

    rules = (
        Rule(
            message="a task is named twice",
            remedy="name each task once",
            check=lambda obj: _tasks_twice(obj.get("tasks")),
        ),
    )


def _tasks_twice(listed: object) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, name in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(name, str):
            if name in seen:
                yield Fault(("tasks", index), f"task `{name}` is named twice")
            seen.add(name)


class Workload(Model):
    """The Nomad job that gets the secrets."""

    job: JobId
    """ID of the job. It may come later than the binding."""
    namespace: NomadNamespace | None = None
    """Nomad namespace of the job; where it is left out, the source of the binding decides."""
    region: Region | None = None
    """Nomad region of the job; the connection's own when left out."""
    groups: (
        Annotated[
            tuple[GroupSelector, ...],
            Field(
                min_length=1,
                max_length=64,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
            ),
        ]
        | None
    ) = None
    """Which groups and tasks get the secrets; the main tasks of every group when left out."""
    env: ValueMap = Field(default_factory=dict)
    """Further environment variables for the tasks, such as VAULT_ADDR. Not for secrets."""

    rules = (unique("groups", "name"),)


def _auth_times(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("tokenPeriod") is not None:
        for name in ("tokenTTL", "tokenMaxTTL"):
            if obj.get(name) is not None:
                yield Fault((name,), f"tokenPeriod and {name} exclude each other")


def _ttl_below_max(obj: Mapping[str, Any]) -> Iterator[Fault]:
    first, greatest = (duration_seconds(obj.get(name)) for name in ("tokenTTL", "tokenMaxTTL"))
    if first is not None and greatest is not None and first > greatest:
        yield Fault(("tokenTTL",), "tokenTTL is longer than tokenMaxTTL")


class Auth(Model):
    """How the job's tasks log in to Vault, and how long their tokens live."""

    method: AuthMethod = AuthMethod.JWT
    """JWT: Nomad's workload identity. AppRole: only with delivery Agent."""
    token_period: PositiveDuration | None = None
    """Period of a periodic token. Where no time is given: 30m for tokens that Nomad renews, else as long as Vault
    allows."""
    token_ttl: Annotated[PositiveDuration | None, Field(alias="tokenTTL")] = None
    """First lifetime of a token that is not periodic."""
    token_max_ttl: Annotated[PositiveDuration | None, Field(alias="tokenMaxTTL")] = None
    """Greatest lifetime of a token that is not periodic. A task is killed when it is reached; an agent logs in anew."""
    app_role: AppRole | None = None
    """Limits of the role, with method AppRole."""

    rules = (
        APP_ROLE_ALONE,
        Rule(
            message="tokenPeriod excludes tokenTTL and tokenMaxTTL",
            remedy="set tokenPeriod, or tokenTTL and tokenMaxTTL, not both",
            cel="!(has(self.tokenPeriod) && (has(self.tokenTTL) || has(self.tokenMaxTTL)))",
            field=".tokenPeriod",
            check=_auth_times,
        ),
        Rule(
            message="tokenTTL is longer than tokenMaxTTL",
            remedy="make tokenTTL at most tokenMaxTTL",
            cel="!has(self.tokenTTL) || !has(self.tokenMaxTTL)"
            " || duration(self.tokenTTL) <= duration(self.tokenMaxTTL)",
            field=".tokenTTL",
            check=_ttl_below_max,
        ),
    )


def _variable_once(obj: Mapping[str, Any]) -> Iterator[Fault]:
    first: dict[str, str] = dict.fromkeys(mapping(mapping(obj.get("workload")).get("env")), "workload.env")
    for index, entry in objects(obj.get("secrets")):
        for name in env_names(entry):
            if name in first:
                yield Fault(
                    ("secrets", index, "env", name), f"env variable `{name}` is set twice, first by {first[name]}"
                )
            else:
                first[name] = f"secrets[{index}]"


def _destination_once(obj: Mapping[str, Any]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for index, entry in objects(obj.get("secrets")):
        for at, destination in destinations(entry):
            place = ("secrets", index, "files", at, "destination")
            if first.get(destination, index) != index:
                yield Fault(place, f"destination `{destination}` is used twice, first by secrets[{first[destination]}]")
            first.setdefault(destination, index)
    for index, entry in objects(obj.get("secrets")):
        for at, destination in destinations(entry):
            parts = destination.split("/")
            for end in range(2, len(parts)):
                if (parent := "/".join(parts[:end])) in first:
                    yield Fault(
                        ("secrets", index, "files", at, "destination"),
                        f"destination `{destination}` needs the directory `{parent}`, "
                        f"which is a file of secrets[{first[parent]}]",
                    )


def _approle_needs_agent(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if mapping(obj.get("auth")).get("method") == AuthMethod.APP_ROLE and obj.get("delivery") != Delivery.AGENT:
        yield Fault(("auth", "method"), "method AppRole needs delivery Agent")


def _tokens_that_end(obj: Mapping[str, Any]) -> Iterator[Fault]:
    auth = mapping(obj.get("auth"))
    given = next((name for name in ("tokenMaxTTL", "tokenTTL") if auth.get(name) is not None), None)
    if given is None or by_agent(obj):
        return
    native = mapping(obj.get("rotation")).get("strategy") == Strategy.NATIVE
    for index, entry in objects(obj.get("secrets")):
        if native or token_lasts(entry):
            yield Fault(
                ("auth", given), f"{given} ends the tasks that use secrets[{index}], which Nomad goes on reading"
            )
            return


class Spec(Model):
    """Which secrets, for which job, brought there how."""

    workload: Workload
    """The Nomad job that gets the secrets."""
    connection: DnsLabel | None = None
    """Named connection (a pair of Nomad and Vault) of the controller; `default` when left out."""
    secrets: Annotated[
        tuple[SecretEntry, ...],
        Field(
            min_length=1,
            max_length=MAX_SECRETS,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    """The secrets."""
    delivery: Delivery = Delivery.TEMPLATE
    """Template: Nomad's template block. Agent: a Vault Agent sidecar."""
    agent: Agent | None = None
    """The sidecar, with delivery Agent."""
    auth: Auth = Auth()
    """How the job logs in to Vault."""
    rotation: Rotation = Rotation()
    """How a new version of a secret reaches the running job."""
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE
    """Delete: the job is given back as it was, policy and role go. Retain: all stays as it is."""
    suspend: bool = False
    """Freeze what this binding contributes, as it is."""

    rules = (
        Rule(
            message="workload.job, workload.namespace, workload.region and connection are immutable",
            remedy="delete this SecretBinding and create another",
            cel="self.workload.job == oldSelf.workload.job"
            " && has(self.workload.__namespace__) == has(oldSelf.workload.__namespace__)"
            " && (!has(self.workload.__namespace__)"
            " || self.workload.__namespace__ == oldSelf.workload.__namespace__)"
            " && has(self.workload.region) == has(oldSelf.workload.region)"
            " && (!has(self.workload.region) || self.workload.region == oldSelf.workload.region)"
            " && has(self.connection) == has(oldSelf.connection)"
            " && (!has(self.connection) || self.connection == oldSelf.connection)",
            field=".workload",
        ),
        unique("secrets", "name"),
        Rule(
            message="an env variable is set by two secrets",
            remedy="give each variable one source",
            cel="self.secrets.all(a, !has(a.env)"
            " || a.env.all(k, self.secrets.exists_one(b, has(b.env) && k in b.env)))",
            field=".secrets",
            check=_variable_once,
        ),
        Rule(
            message="an env variable is set by workload.env and by a secret",
            remedy="give each variable one source",
            cel="!has(self.workload.env) || self.secrets.all(a, !has(a.env)"
            " || a.env.all(k, !(k in self.workload.env)))",
            field=".secrets",
        ),
        Rule(
            message="a destination is used by two secrets",
            remedy="give each file its own destination",
            cel="self.secrets.all(a, !has(a.files) || a.files.all(f, self.secrets.exists_one(b, has(b.files)"
            " && b.files.exists(g, g.destination == f.destination))))",
            field=".secrets",
            check=_destination_once,
        ),
        Rule(
            message="method AppRole needs delivery Agent",
            remedy="set delivery to Agent, or leave out auth.method",
            cel="!has(self.auth) || !has(self.auth.method) || self.auth.method != 'AppRole'"
            " || (has(self.delivery) && self.delivery == 'Agent')",
            field=".auth",
            check=_approle_needs_agent,
        ),
        # A task whose token ends is killed while Nomad goes on reading for it, whatever the change mode (tried). An
        # agent logs in again.
        Rule(
            message="tokenTTL and tokenMaxTTL end the tasks that use secrets which Nomad goes on reading, or a right"
            " of their own (every kind but kv of version 2, nomadVariable and SSH certificates; strategy Native)",
            remedy="use tokenPeriod: such a token lives as long as its task",
            cel="!has(self.auth) || !(has(self.auth.tokenTTL) || has(self.auth.tokenMaxTTL))"
            " || (has(self.delivery) && self.delivery == 'Agent')"
            " || !((has(self.rotation) && has(self.rotation.strategy) && self.rotation.strategy == 'Native')"
            f" || self.secrets.exists(s, {token_lasts_cel('s')}))",
            field=".auth",
            check=_tokens_that_end,
        ),
        *AGENT_RULES,
        OWN_VARIABLES,
        CHANGE_MODE_CHOSEN,
        *GENERATE_RULES,
    )


class Metadata(Model):
    """What is read of Kubernetes' ObjectMeta; other fields of it are ignored."""

    model_config = ConfigDict(extra="ignore")

    name: DnsLabel
    namespace: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    generation: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] = ()


class SecretBinding(Model):
    """Gives a Nomad job its secrets from Vault: policy, login role, and templates in the job."""

    api_version: Literal["nomad-vault.io/v1alpha1"] = "nomad-vault.io/v1alpha1"
    kind: Literal["SecretBinding"] = "SecretBinding"
    metadata: Metadata
    spec: Spec

    def to_manifest(self) -> dict[str, Any]:
        """The manifest as JSON holds it; parsing it again gives an equal binding."""
        return {"apiVersion": self.api_version, "kind": self.kind, **self.to_json()}
