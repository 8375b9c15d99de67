"""What `bootstrap` is asked for, as one value. Pure."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from secretbinding.errors import UsageError
from secretbinding.naming import PREFIX
from secretbinding.ops.rights import Scope
from secretbinding.render.text import is_plain_path

JWKS_PATH = "/.well-known/jwks.json"

AGENT_PERIOD_SECONDS = 3600
"""How long a token lives that the controller can get anew by itself, unless it is renewed."""

TOKEN_PERIOD_SECONDS = 768 * 3600
"""How long a token lives that the controller can only renew: Vault's own longest life of a token by default."""


_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,126}\Z")


class Login(StrEnum):
    """How the controller gets its token for Vault."""

    TOKEN = "token"
    NOMAD = "nomad"
    KUBERNETES = "kubernetes"
    APPROLE = "approle"


@dataclass(frozen=True, slots=True)
class Target:
    """The state that is asked for.

    Attributes:
        scope: the controller's instance and what its rights are for.
        jwks_url: where Vault gets Nomad's signing keys from; "" when `oidc_discovery_url` is given.
        oidc_discovery_url: Nomad's `server.oidc_issuer`, where its OIDC discovery is served.
        nomad_issuer: what Nomad signs as issuer, "" for nothing; None when it is not known.
        ca_pem: the certificates that Vault trusts there; "" for the system's.
        default_role: a role for tasks whose `vault` block names none; "" for none.
        login: how the controller logs in to Vault.
        extra_policies: further Vault policies that its token gets, made by somebody else.
        token_period_seconds: how long its token lives after each renewal; 0 for what suits `login`.
        job_namespace, job: the controller's own Nomad job, for `Login.NOMAD`.
        kubernetes_mount, kubernetes_host, kubernetes_ca_pem: the Kubernetes auth mount, and the API server's address
            and certificates when Vault has yet to be told; without certificates Vault takes those of its own pod.
        service_account: namespace and name of the controller's service account.
        approle_mount: the AppRole auth mount.
        nomad_acl: whether Nomad has ACLs.
    """

    scope: Scope = field(default_factory=Scope)
    jwks_url: str = ""
    oidc_discovery_url: str = ""
    nomad_issuer: str | None = None
    ca_pem: str = field(default="", repr=False)
    default_role: str = ""
    login: Login = Login.TOKEN
    extra_policies: tuple[str, ...] = ()
    token_period_seconds: int = 0
    job_namespace: str = "default"
    job: str = "secretbinding"
    kubernetes_mount: str = "kubernetes"
    kubernetes_host: str = ""
    kubernetes_ca_pem: str = field(default="", repr=False)
    service_account: tuple[str, str] = ("secretbinding", "secretbinding")
    approle_mount: str = "approle"
    nomad_acl: bool = True

    def __post_init__(self) -> None:
        """Raises `UsageError` for what cannot be made."""
        if bool(self.jwks_url) == bool(self.oidc_discovery_url):
            raise UsageError("Nomad's keys come from a JWKS URL or by OIDC discovery", remedy="give one of the two")
        for url in (self.jwks_url, self.oidc_discovery_url, self.kubernetes_host):
            parts = urlsplit(url)
            if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None):
                raise UsageError(f"{url!r} is no URL", remedy="write http(s)://host:port/path")
        for mount in (self.kubernetes_mount, self.approle_mount):
            if not is_plain_path(mount) or any(part in ("", ".", "..") for part in mount.split("/")):
                raise UsageError(f"{mount!r} is no mount", remedy="write it as Vault shows it, such as `approle`")
        role = self.default_role
        if role and (not _PLAIN.match(role) or role != role.lower()):
            raise UsageError(f"{role!r} is no name of a role", remedy="use lower-case letters, digits, -, _ and .")
        if role == self.scope.name or role.startswith(f"{PREFIX}."):
            raise UsageError(f"the role {role} is the controller's own", remedy="name the default role otherwise")
        for policy in self.extra_policies:
            if not _PLAIN.match(policy) or policy in ("root", "default", self.scope.name):
                raise UsageError(f"{policy!r} is no policy to add", remedy="name one that you have made")
        for what, name in (
            ("job ID", self.job),
            ("Nomad namespace", self.job_namespace),
            ("Kubernetes namespace", self.service_account[0]),
            ("service account", self.service_account[1]),
        ):
            if not _PLAIN.match(name):
                raise UsageError(f"{name!r} is no {what} for the controller", remedy="use letters, digits and -")

    @property
    def keys_url(self) -> str:
        """The one of both URLs that is given."""
        return self.jwks_url or self.oidc_discovery_url

    @property
    def period_seconds(self) -> int:
        """`token_period_seconds`, or what stands for 0."""
        usual = TOKEN_PERIOD_SECONDS if self.login is Login.TOKEN else AGENT_PERIOD_SECONDS
        return self.token_period_seconds or usual

    @property
    def role_path(self) -> str:
        """The path of the role by which the controller gets its token."""
        mounts = {
            Login.NOMAD: f"auth/{self.scope.jwt_mount}/role/",
            Login.KUBERNETES: f"auth/{self.kubernetes_mount}/role/",
            Login.APPROLE: f"auth/{self.approle_mount}/role/",
            Login.TOKEN: "auth/token/roles/",
        }
        return mounts[self.login] + self.scope.name
