"""All settings, from the environment: the names that Vault's, OpenBao's and Nomad's own tools use, and our own."""

import ipaddress
import os
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from secretbinding.agent_settings import AgentSettings
from secretbinding.errors import UsageError
from secretbinding.models.key import DEFAULT_CONNECTION
from secretbinding.naming import INSTANCE_PATTERN
from secretbinding.render.agent import AgentDefaults

DEFAULT_VAULT_ADDR = "http://127.0.0.1:8200"
DEFAULT_NOMAD_ADDR = "http://127.0.0.1:4646"
DEFAULT_METRICS_ADDRESS = "127.0.0.1:9464"


def _metrics_address() -> str:
    """An empty variable counts as unset everywhere else; here it says that nothing is to be served."""
    return "" if os.environ.get("SECRETBINDING_METRICS_ADDRESS") == "" else DEFAULT_METRICS_ADDRESS


def _env(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class VaultLogin(StrEnum):
    """How the controller gets its token for Vault: `TOKEN` is one that is given."""

    TOKEN = "token"
    KUBERNETES = "kubernetes"
    NOMAD = "nomad"
    JWT = "jwt"
    APPROLE = "approle"
    CERT = "cert"


class _ServerSettings(BaseSettings):
    """What the settings of every server have."""

    @classmethod
    def variable(cls, field: str) -> str:
        """The variable that sets a field of the default connection."""
        alias = cls.model_fields[field].validation_alias
        return str(alias.choices[0]) if isinstance(alias, AliasChoices) else field

    def place(self, field: str) -> str:
        """Where a field is set, as errors name it."""
        return self.variable(field)


class VaultSettings(_ServerSettings):
    """How to reach Vault or OpenBao. A `VAULT_` name wins over its `BAO_` twin.

    Attributes:
        login: how to get a token. Other than `token`, it goes before any token that is given.
        login_mount: the auth mount; "" for the usual one.
        login_role: the role there; "" for the name that `bootstrap` gives it.
        login_namespace: the namespace of the auth mount; "" for `namespace`.
        login_jwt_file: the signed token to log in with by `kubernetes`, `nomad` or `jwt`.
        login_role_id, login_role_id_file, login_secret_id, login_secret_id_file: for `approle`, each by one of the two.
        login_secret_id_wrapped: what is given as secret ID is the wrapping token of one.
    """

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, populate_by_name=True)

    address: str = Field(DEFAULT_VAULT_ADDR, validation_alias=_env("VAULT_ADDR", "BAO_ADDR"))
    token: SecretStr = Field(SecretStr(""), validation_alias=_env("VAULT_TOKEN", "BAO_TOKEN"))
    token_file: Path | None = Field(None, validation_alias=_env("VAULT_TOKEN_FILE", "BAO_TOKEN_FILE"))
    login: VaultLogin = Field(VaultLogin.TOKEN, validation_alias=_env("SECRETBINDING_VAULT_LOGIN"))
    login_mount: str = Field("", validation_alias=_env("SECRETBINDING_VAULT_LOGIN_MOUNT"))
    login_role: str = Field("", validation_alias=_env("SECRETBINDING_VAULT_LOGIN_ROLE"))
    login_namespace: str = Field("", validation_alias=_env("SECRETBINDING_VAULT_LOGIN_NAMESPACE"))
    login_jwt_file: Path | None = Field(None, validation_alias=_env("SECRETBINDING_VAULT_LOGIN_JWT_FILE"))
    login_role_id: str = Field("", validation_alias=_env("SECRETBINDING_VAULT_LOGIN_ROLE_ID"))
    login_role_id_file: Path | None = Field(None, validation_alias=_env("SECRETBINDING_VAULT_LOGIN_ROLE_ID_FILE"))
    login_secret_id: SecretStr = Field(SecretStr(""), validation_alias=_env("SECRETBINDING_VAULT_LOGIN_SECRET_ID"))
    login_secret_id_file: Path | None = Field(None, validation_alias=_env("SECRETBINDING_VAULT_LOGIN_SECRET_ID_FILE"))
    login_secret_id_wrapped: bool = Field(False, validation_alias=_env("SECRETBINDING_VAULT_LOGIN_SECRET_ID_WRAPPED"))
    namespace: str = Field("", validation_alias=_env("VAULT_NAMESPACE", "BAO_NAMESPACE"))
    ca_cert: str = Field("", validation_alias=_env("VAULT_CACERT", "BAO_CACERT"))
    ca_path: str = Field("", validation_alias=_env("VAULT_CAPATH", "BAO_CAPATH"))
    client_cert: str = Field("", validation_alias=_env("VAULT_CLIENT_CERT", "BAO_CLIENT_CERT"))
    client_key: str = Field("", validation_alias=_env("VAULT_CLIENT_KEY", "BAO_CLIENT_KEY"))
    tls_server_name: str = Field("", validation_alias=_env("VAULT_TLS_SERVER_NAME", "BAO_TLS_SERVER_NAME"))
    skip_verify: bool = Field(False, validation_alias=_env("VAULT_SKIP_VERIFY", "BAO_SKIP_VERIFY"))


class NomadSettings(_ServerSettings):
    """How to reach Nomad. NOMAD_NAMESPACE is only the default for a job's namespace on the command line: Nomad sets it
    inside its own tasks, so it must not narrow anything else."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, populate_by_name=True)

    address: str = Field(DEFAULT_NOMAD_ADDR, validation_alias=_env("NOMAD_ADDR"))
    token: SecretStr = Field(SecretStr(""), validation_alias=_env("NOMAD_TOKEN"))
    token_file: Path | None = Field(None, validation_alias=_env("NOMAD_TOKEN_FILE"))
    region: str = Field("", validation_alias=_env("NOMAD_REGION"))
    namespace: str = Field("default", validation_alias=_env("NOMAD_NAMESPACE"))
    ca_cert: str = Field("", validation_alias=_env("NOMAD_CACERT"))
    ca_path: str = Field("", validation_alias=_env("NOMAD_CAPATH"))
    client_cert: str = Field("", validation_alias=_env("NOMAD_CLIENT_CERT"))
    client_key: str = Field("", validation_alias=_env("NOMAD_CLIENT_KEY"))
    tls_server_name: str = Field("", validation_alias=_env("NOMAD_TLS_SERVER_NAME"))
    skip_verify: bool = Field(False, validation_alias=_env("NOMAD_SKIP_VERIFY"))


class ConsulSettings(_ServerSettings):
    """How to ask Consul where Vault is. Its address is part of Vault's, `consul+http://127.0.0.1:8500/vault`."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, populate_by_name=True)

    address: ClassVar[str] = ""
    token: SecretStr = Field(SecretStr(""), validation_alias=_env("CONSUL_HTTP_TOKEN"))
    token_file: Path | None = Field(None, validation_alias=_env("CONSUL_HTTP_TOKEN_FILE"))
    ca_cert: str = Field("", validation_alias=_env("CONSUL_CACERT"))
    ca_path: str = Field("", validation_alias=_env("CONSUL_CAPATH"))
    client_cert: str = Field("", validation_alias=_env("CONSUL_CLIENT_CERT"))
    client_key: str = Field("", validation_alias=_env("CONSUL_CLIENT_KEY"))
    tls_server_name: str = Field("", validation_alias=_env("CONSUL_TLS_SERVER_NAME"))
    verify: bool = Field(True, validation_alias=_env("CONSUL_HTTP_SSL_VERIFY"))

    @property
    def skip_verify(self) -> bool:
        """The same question, asked as Vault and Nomad ask it."""
        return not self.verify


class ControllerSettings(BaseSettings):
    """The controller's own settings, each as `SECRETBINDING_<NAME>`.

    Attributes:
        instance: which controller owns what carries our mark; two controllers that share a Vault need two names.
        connections: a file of further pairs of Vault and Nomad, which bindings name by `spec.connection`.
        jwt_mount: the auth mount that Nomad's clients log in to (`jwt_auth_backend_path` of their `vault` block).
        workers: how many jobs are worked on at once.
        poll_seconds: how often each distinct secret is looked at.
        audit_listen_anywhere: allow `audit_listen` to be no loopback address; nobody has to prove who he is there.
        audit_listen: where a `socket` audit device of Vault finds us: `host:port` or `unix:/path`.
        audit_file: the file that a `file` audit device of Vault writes; None for no file.
        watch_namespaces: the Kubernetes namespaces whose bindings are seen, separated by commas; empty for all.
        files_seconds: how often the files of `--source files=PATH` are looked at.
        resync_seconds: how often each job is compared with what it should be, changes or not; with more than five jobs
            for each second of it less often, so that five are looked at a second.
        progress_seconds: how often a job with a running deployment is looked at when no event comes.
        settle_seconds: how long changes of secrets settle where a binding does not say (spec.rotation.settle).
        max_rolls: how many jobs may roll for a new secret version at once; 0 for any number.
        max_rolls_per_namespace: the same in one Nomad namespace.
        ungated_rolls: whether groups with `max_parallel` 0, which Nomad replaces all at once, are rolled unasked.
        lease_share: the part of its longest life after which a job's credentials are replaced at the latest; jobs come
            up to a quarter of that earlier, each at its own moment.
        election: how several controllers agree who works: `kubernetes` by Leases, `nomad` by locks on variables; empty
            for one controller alone.
        election_namespace: the Kubernetes or Nomad namespace of these; empty for the own pod's, or `default`.
        election_seconds: how long a lease is held without a sign of life. Nomad takes a lock away after twice that.
        shards: into how many parts the jobs are divided among the controllers; 1 for one that works and others that
            are ready to.
        identity: this controller's name in leases; empty for the host's name and a random part.
        confirm_removals: sources (`nomad`, `kubernetes`, `files`, or `*`), separated by commas, of which many bindings
            at once may be found gone after a start.
        nacp_listen: where the admission proxy NACP asks before a job is registered: `host:port`.
        nacp_listen_anywhere: allow `nacp_listen` to be no loopback address without asking for client certificates.
        nacp_cert, nacp_key: PEM files to speak TLS there.
        nacp_client_ca: who asks there needs a certificate of this authority.
        nacp_refusal: `refuse` ends the registration of a job that a binding cannot be put into, `warn` lets it pass.
        admission_listen: where the Kubernetes API server asks before it takes a binding or a policy: `host:port`; empty
            for nowhere.
        admission_cert, admission_key: PEM files for it, read again when they change; the controller makes a certificate
            itself without them.
        admission_ca: PEM file of who signed the certificate, for a configuration that the controller writes.
        admission_manage: name of the ValidatingWebhookConfiguration that the controller writes; empty where the chart
            or somebody else does.
        admission_service: the Service by which the API server reaches it: `namespace/name` or `namespace/name:port`.
        admission_name: the host by which it does, where there is no Service; the address that is listened on when
            empty.
        tenancy: `policies`: only what a SecretBindingPolicy allows is done. `open`: everything is, for a single team
            that may have every secret which this controller can grant.
        policy_namespace: the Nomad namespace that holds policies, which no tenant may write to; that of NOMAD_NAMESPACE
            when empty, which Nomad sets to the controller's own.
        policy_seconds: how often policies in files are looked at.
        policy_settle_seconds: how long policies have to stay as they are before a change of them counts.
        label_seconds: how often labels of tenants are looked at, where a policy asks for labels.
        purge_grace_seconds: how long tasks of a purged job may still be stopping.
        metrics_address: where metrics and health checks are served: `host:port`; empty for nowhere.
        page: whom the web page on the same port is shown to: `local` to this machine, and so to who may forward the
            port; `on` to whoever reaches the port; `off` to nobody.
        stuck_seconds: how long a worker may be at one job before the process counts as stuck.
        stop_seconds: how long passes under way may take after a signal to stop; shorter than whoever stops it waits.
        log_level: DEBUG, INFO, WARNING or ERROR.
        log_format: `text` or `json`.
    """

    model_config = SettingsConfigDict(
        env_prefix="SECRETBINDING_", extra="ignore", env_ignore_empty=True, populate_by_name=True
    )

    instance: str = "default"
    connections: Path | None = None
    jwt_mount: str = "jwt-nomad"
    workers: Annotated[int, Field(ge=1, le=256)] = 8
    poll_seconds: Annotated[float, Field(gt=0)] = 30.0
    audit_listen_anywhere: bool = False
    audit_listen: str = ""
    audit_file: Path | None = None
    watch_namespaces: str = ""
    files_seconds: Annotated[float, Field(gt=0)] = 2.0
    resync_seconds: Annotated[float, Field(gt=0)] = 300.0
    progress_seconds: Annotated[float, Field(gt=0)] = 5.0
    settle_seconds: Annotated[float, Field(ge=0)] = 10.0
    max_rolls: Annotated[int, Field(ge=0)] = 20
    max_rolls_per_namespace: Annotated[int, Field(ge=0)] = 0
    ungated_rolls: bool = False
    lease_share: Annotated[float, Field(ge=0.1, le=0.9)] = 0.8
    election: Annotated[str, Field(pattern="^(|kubernetes|nomad)$")] = ""
    election_namespace: str = ""
    election_seconds: Annotated[float, Field(ge=5, le=300)] = 10.0
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    identity: Annotated[str, Field(pattern="^(|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$")] = ""
    confirm_removals: str = ""
    nacp_listen_anywhere: bool = False
    nacp_cert: Path | None = None
    nacp_key: Path | None = None
    nacp_client_ca: Path | None = None
    nacp_listen: str = ""
    nacp_refusal: Annotated[str, Field(pattern="^(refuse|warn)$")] = "refuse"
    admission_listen: str = ""
    admission_cert: Path | None = None
    admission_key: Path | None = None
    admission_ca: Path | None = None
    admission_manage: Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$")] = ""
    admission_service: Annotated[str, Field(pattern=r"^([a-z0-9-]+/[a-z0-9-]+(:[0-9]{1,5})?)?$")] = ""
    admission_name: str = ""
    tenancy: Annotated[str, Field(pattern="^(policies|open)$")] = "policies"
    policy_namespace: str = ""
    policy_seconds: Annotated[float, Field(gt=0)] = 2.0
    policy_settle_seconds: Annotated[float, Field(ge=0)] = 3.0
    label_seconds: Annotated[float, Field(gt=0)] = 30.0
    purge_grace_seconds: Annotated[float, Field(ge=0)] = 30.0
    metrics_address: str = Field(default_factory=_metrics_address)
    page: Annotated[str, Field(pattern="^(local|on|off)$")] = "local"
    stuck_seconds: Annotated[float, Field(gt=0)] = 600.0
    stop_seconds: Annotated[float, Field(gt=0)] = 25.0
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"
    log_format: Annotated[str, Field(pattern="^(text|json)$")] = "text"

    @field_validator("instance")
    @classmethod
    def _instance_is_a_label(cls, value: str) -> str:
        if not INSTANCE_PATTERN.match(value):
            raise ValueError("use 1 to 20 lower-case letters, digits and dashes, with a letter or digit at both ends")
        return value

    @field_validator("shards")
    @classmethod
    def _shards_need_an_election(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and not info.data.get("election"):
            raise ValueError("several shards need SECRETBINDING_ELECTION=kubernetes or nomad")
        return value

    @field_validator("audit_listen")
    @classmethod
    def _audit_listen_is_guarded(cls, value: str, info: ValidationInfo) -> str:
        bind = listen_address(value) if value else None
        if isinstance(bind, tuple) and not _is_loopback(bind[0]) and not info.data.get("audit_listen_anywhere"):
            raise ValueError(
                "not a loopback address; whoever reaches it can make the controller read metadata: guard it by a "
                "firewall and set SECRETBINDING_AUDIT_LISTEN_ANYWHERE=true, or use 127.0.0.1:PORT or unix:/path"
            )
        return value

    @field_validator("nacp_listen")
    @classmethod
    def _nacp_listen_is_guarded(cls, value: str, info: ValidationInfo) -> str:
        bind = listen_address(value) if value else None
        if isinstance(bind, Path):
            raise ValueError("write HOST:PORT")
        if (info.data.get("nacp_cert") is None) != (info.data.get("nacp_key") is None):
            raise ValueError("SECRETBINDING_NACP_CERT and SECRETBINDING_NACP_KEY belong together")
        guarded = info.data.get("nacp_cert") is not None and info.data.get("nacp_client_ca") is not None
        if bind is not None and not _is_loopback(bind[0]) and not guarded and not info.data.get("nacp_listen_anywhere"):
            raise ValueError(
                "not a loopback address; whoever reaches it can have policies and roles made for jobs that bindings "
                "name: ask for client certificates (SECRETBINDING_NACP_CERT, _KEY, _CLIENT_CA), or guard it by a "
                "firewall and set SECRETBINDING_NACP_LISTEN_ANYWHERE=true"
            )
        return value

    @property
    def nacp_bind(self) -> tuple[str, int] | None:
        """Where to listen for NACP: host and port."""
        bind = listen_address(self.nacp_listen) if self.nacp_listen else None
        return bind if isinstance(bind, tuple) else None

    @model_validator(mode="after")
    def _admission_is_whole(self) -> Self:
        if self.admission_listen and isinstance(listen_address(self.admission_listen), Path):
            raise ValueError("SECRETBINDING_ADMISSION_LISTEN: write HOST:PORT")
        if (self.admission_cert is None) != (self.admission_key is None):
            raise ValueError("SECRETBINDING_ADMISSION_CERT and SECRETBINDING_ADMISSION_KEY belong together")
        if self.admission_listen and self.admission_cert is None and not self.admission_manage:
            raise ValueError(
                "SECRETBINDING_ADMISSION_LISTEN: nobody would know the certificate that the controller makes; set "
                "SECRETBINDING_ADMISSION_MANAGE, or mount one and set SECRETBINDING_ADMISSION_CERT and _KEY"
            )
        return self

    @property
    def admission_bind(self) -> tuple[str, int] | None:
        """Where to listen for the API server: host and port."""
        bind = listen_address(self.admission_listen) if self.admission_listen else None
        return bind if isinstance(bind, tuple) else None

    @property
    def admission_by(self) -> tuple[str, str, int] | None:
        """Namespace, name and port of the Service by which the API server reaches the controller."""
        if not self.admission_service:
            return None
        place, _, port = self.admission_service.partition(":")
        namespace, _, name = place.partition("/")
        return namespace, name, int(port or 443)

    @field_validator("metrics_address")
    @classmethod
    def _metrics_address_is_tcp(cls, value: str) -> str:
        if value and isinstance(listen_address(value), Path):
            raise ValueError("write HOST:PORT, or nothing to serve no metrics")
        return value

    @property
    def watched(self) -> tuple[str, ...]:
        """The Kubernetes namespaces whose bindings are seen; empty for all."""
        return tuple(name.strip() for name in self.watch_namespaces.split(",") if name.strip())

    @property
    def metrics_bind(self) -> tuple[str, int] | None:
        """Where to serve metrics and health checks: host and port; None for nowhere."""
        bind = listen_address(self.metrics_address) if self.metrics_address else None
        return bind if isinstance(bind, tuple) else None

    @property
    def audit_bind(self) -> tuple[str, int] | Path | None:
        """Where to listen for audit entries: host and port, or the path of a Unix socket."""
        return listen_address(self.audit_listen) if self.audit_listen else None


def listen_address(text: str) -> tuple[str, int] | Path:
    """Host and port of `host:port` (IPv6 in brackets), or the path of `unix:/path`. Raises `ValueError`."""
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:"))
        if not path.is_absolute():
            raise ValueError("write unix: and an absolute path")
        return path
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("write HOST:PORT, or unix: and an absolute path")
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Settings:
    """Everything together, read from the environment once. Raises `errors.UsageError` that names the variable, or the
    place in the file of connections.

    Attributes:
        connection: the name of the pair of servers that `vault` and `nomad` are.
        connections: the further ones, by name.
    """

    def __init__(self) -> None:
        try:
            self.vault = VaultSettings()
            self.nomad = NomadSettings()
            self.consul = ConsulSettings()
            self.controller = ControllerSettings()
            self.agent = AgentSettings()
        except ValidationError as error:
            raise UsageError(_explain(error)) from None
        self.connection = DEFAULT_CONNECTION
        self.connections: Mapping[str, NamedConnection] = {}
        if self.controller.connections is not None:
            from secretbinding.connection_settings import read_connections

            self.connections = read_connections(self.controller.connections, self)

    def of(self, connection: str) -> "Settings":
        """The settings of a connection. Raises `errors.UsageError` when there is none of that name."""
        if connection == self.connection:
            return self
        named = self.connections.get(connection)
        if named is None:
            known = ", ".join([self.connection, *self.connections])
            raise UsageError(
                f"there is no connection {connection!r}",
                remedy=f"name one of {known}, or add it to the file that SECRETBINDING_CONNECTIONS names",
            )
        made = copy(self)
        made.connection, made.connections = connection, {}
        made.vault, made.nomad, made.consul, made.agent = named.vault, named.nomad, named.consul, named.agent
        made.controller = self.controller.model_copy(update={**named.own, "election": "", "connections": None})
        return made

    def agents(self) -> AgentDefaults:
        """What is said of every sidecar. Raises `errors.UsageError`."""
        vault = self.vault
        return self.agent.defaults(
            address=vault.address,
            namespace=vault.namespace,
            ca_cert=vault.ca_cert,
            tls_server_name=vault.tls_server_name,
            skip_verify=vault.skip_verify,
            jwt_mount=self.controller.jwt_mount,
        )


@dataclass(frozen=True, slots=True)
class NamedConnection:
    """A pair of Vault and Nomad besides the default one; `own` are settings of the controller that differ for it."""

    vault: VaultSettings
    nomad: NomadSettings
    consul: ConsulSettings
    agent: AgentSettings
    own: Mapping[str, Any]


def _explain(error: ValidationError) -> str:
    """The first fault, with the variable's name and never its value."""
    first = error.errors(include_input=False, include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if not name:
        # A rule between variables, which names them itself.
        return f"environment variables: {first['msg']}"
    variable = name if name.isupper() else f"SECRETBINDING_{name.upper()}"
    return f"environment variable {variable}: {first['msg']}"
