"""The protocols that adapters fulfil for `bootstrap` and `doctor`, apart from the engine's, which stay small.

Every method raises `errors.ServiceError` subclasses: `Denied` where the right is missing, `NotFound` only where said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from secretbinding.ports import Json


@dataclass(frozen=True, slots=True)
class Clock:
    """What a server's `Date` header said, and when the request was sent and answered by our own clock.

    All three are seconds since 1970; `server` is a whole second, cut off. 0 when the answer had no such header.
    """

    sent: float
    received: float
    server: float


@dataclass(frozen=True, slots=True)
class Issued:
    """A credential that was just made. `value` is shown nowhere but where it is written to.

    Attributes:
        wrapped: the value is a wrapping token, which gives out the credential once.
        accessor: what it can be revoked by, without knowing it.
        ttl_seconds: how long it lives; 0 for ever.
    """

    value: str = field(repr=False)
    wrapped: bool = False
    accessor: str = ""
    ttl_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class AuthMount:
    """One row of `sys/auth`. `plugin` is the version of what runs it, such as `v2.4.1+builtin.bao`."""

    type: str
    description: str = ""
    accessor: str = ""
    plugin: str = ""


@dataclass(frozen=True, slots=True)
class AuditDevice:
    """One row of `sys/audit`. Of its options only the address or the file's path is kept."""

    type: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class VaultToken:
    """`auth/token/lookup-self`, without the token itself. `ttl_seconds` 0 and no `expires` mean: for ever."""

    policies: tuple[str, ...] = ()
    ttl_seconds: float = 0.0
    period_seconds: float = 0.0
    explicit_max_ttl_seconds: float = 0.0
    creation_ttl_seconds: float = 0.0
    renewable: bool = False
    orphan: bool = True
    num_uses: int = 0
    type: str = "service"
    expires: bool = False
    path: str = ""

    @property
    def is_root(self) -> bool:
        return "root" in self.policies


@dataclass(frozen=True, slots=True)
class VaultLeader:
    """`sys/leader`. Without high availability the one server is the leader."""

    ha_enabled: bool
    address: str = ""

    @property
    def known(self) -> bool:
        return not self.ha_enabled or bool(self.address)


class VaultAdmin(Protocol):
    """What only `bootstrap` and `doctor` ask of Vault or OpenBao. Paths have no leading slash and no `v1/`."""

    def measured_clock(self) -> Clock:
        """The server's clock, by the headers of `sys/health`."""

    def leader(self) -> VaultLeader:
        """`sys/leader`, which needs no token."""

    def read_policy(self, name: str) -> str | None:
        """The text of an ACL policy, None when there is none."""

    def write_policy(self, name: str, text: str) -> None:
        """Create or replace an ACL policy."""

    def auth_mounts(self) -> Mapping[str, AuthMount]:
        """All auth mounts (`sys/auth`) by path, without the trailing slash."""

    def enable_auth(self, path: str, kind: str, description: str) -> None:
        """Enable an auth method; `Rejected` when something is there already."""

    def describe_auth(self, path: str, description: str) -> None:
        """Give an auth mount another description (`sys/auth/<path>/tune`)."""

    def read(self, path: str) -> Json | None:
        """The `data` of any path of configuration; None on 404."""

    def write(self, path: str, body: Json) -> None:
        """Write a path of configuration; `NotFound` when nothing is mounted there."""

    def list(self, path: str) -> Sequence[str]:
        """Keys below a path; empty on 404."""

    def audit_devices(self) -> Mapping[str, AuditDevice]:
        """All audit devices (`sys/audit`, which needs `sudo`) by path."""

    def own_token(self) -> VaultToken:
        """What the connection's token is."""

    def own_capabilities(self, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """What the connection's token may do on each path (`sys/capabilities-self`); `root` or `deny` alone."""

    def probe_login(self, mount: str, role: str, token: str) -> str:
        """Log in at a JWT mount with a token that cannot be right. Gives the server's refusal in its own words."""

    def create_token(self, role: str, display_name: str, *, wrap_seconds: int = 0) -> Issued:
        """A token of a token role (`auth/token/create/<role>`)."""

    def role_id(self, mount: str, role: str) -> str:
        """The role ID of an AppRole."""

    def create_secret_id(self, mount: str, role: str, *, wrap_seconds: int = 0) -> Issued:
        """A secret ID of an AppRole."""


@dataclass(frozen=True, slots=True)
class VaultBlock:
    """A `vault` block of a Nomad agent's configuration, from `/v1/agent/self`. The token in it is never kept."""

    name: str
    enabled: bool
    address: str
    jwt_mount: str
    namespace: str = ""
    role: str = ""
    has_token: bool = False
    identity_audiences: tuple[str, ...] | None = None
    """The audiences of its `default_identity`; None when it has none."""


@dataclass(frozen=True, slots=True)
class NomadAgent:
    """What an agent tells of itself (`/v1/agent/self`, which needs `agent:read`)."""

    version: str
    is_server: bool
    is_client: bool
    acl_enabled: bool
    tls_http: bool
    region: str
    vaults: tuple[VaultBlock, ...] = ()
    oidc_issuer: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One row of `/v1/nodes` (which needs `node:read`)."""

    id: str
    name: str
    status: str
    eligible: bool
    version: str
    drain: bool = False


@dataclass(frozen=True, slots=True)
class AclPolicy:
    """A Nomad ACL policy. `rules` is its HCL, `parsed` what Nomad reads in it (`RulesJSON`).

    `job` is (namespace, job, group, task) of the workload that it is attached to, with `""` for what is left out.
    """

    name: str
    rules: str
    description: str = ""
    parsed: Json = field(default_factory=dict)
    job: tuple[str, str, str, str] = ("", "", "", "")


@dataclass(frozen=True, slots=True)
class NomadToken:
    """`/v1/acl/token/self` or a row of `/v1/acl/tokens`, without the secret. `type` is `management` or `client`."""

    accessor: str
    name: str
    type: str
    policies: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    expires: str = ""


class NomadAdmin(Protocol):
    """What only `bootstrap` and `doctor` ask of Nomad."""

    def measured_clock(self) -> Clock:
        """The server's clock, by the headers of `/v1/status/leader`. Raises `NoLeader` without one."""

    def leader(self) -> str:
        """The leader's address; raises `NoLeader` when there is none."""

    def agent(self) -> NomadAgent:
        """The agent that answers."""

    def nodes(self) -> Sequence[Node]:
        """All client nodes."""

    def nodes_without(self, attribute: str) -> Sequence[Node]:
        """The client nodes that do not have an attribute."""

    def nodes_with_other(self, attribute: str, value: str) -> Sequence[Node]:
        """The client nodes that have an attribute with another value. Raises `ValueError` for a value that cannot
        stand in an expression."""

    def signing_keys(self) -> frozenset[str]:
        """The IDs of the keys that sign workload identities (`/.well-known/jwks.json`)."""

    def issuer(self) -> str | None:
        """The issuer that Nomad's OIDC discovery names; None when discovery is not enabled."""

    def acl_enabled(self) -> bool:
        """Whether Nomad has ACLs."""

    def own_token(self) -> NomadToken | None:
        """What the connection's token is; None when Nomad has no ACLs."""

    def acl_policies(self) -> Sequence[str]:
        """Names of the ACL policies that the token may see."""

    def acl_policy(self, name: str) -> AclPolicy | None:
        """An ACL policy; None when there is none."""

    def write_acl_policy(self, policy: AclPolicy) -> None:
        """Create or replace an ACL policy."""

    def acl_tokens(self) -> Sequence[NomadToken]:
        """All ACL tokens (needs a management token)."""

    def create_token(self, name: str, policies: Sequence[str]) -> Issued:
        """A client token of the connection's region."""


class Keys(Protocol):
    """Reads a JWKS document from wherever it is."""

    def __call__(self, url: str) -> frozenset[str]:
        """The IDs of the keys; raises `errors.ServiceError` subclasses."""
