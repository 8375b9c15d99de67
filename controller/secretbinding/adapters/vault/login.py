"""The ways to log in to Vault: what each reads, and what it sends."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from secretbinding.errors import ServiceError, Unavailable
from secretbinding.ports import Json

Unwrap = Callable[[str, str], str]
"""`(wrapping token, creation path)`: the secret ID in it, opened once. Raises `errors.ServiceError` subclasses."""


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """What is posted to `auth/<mount>/login`. `hidden`: the secrets in it, which no text may repeat."""

    body: Json = field(repr=False)
    hidden: tuple[str, ...] = field(default=(), repr=False)


class LoginMethod(Protocol):
    """One way to log in, to a mount under a role. Files are read anew at each login."""

    @property
    def name(self) -> str:
        """What logs and errors call it, such as `kubernetes`."""

    @property
    def mount(self) -> str:
        """The auth mount."""

    @property
    def role(self) -> str:
        """The role; "" for none, or one that is not known by a name."""

    @property
    def remedy(self) -> str:
        """What to check when Vault refuses."""

    @property
    def certified(self) -> bool:
        """Whether the TLS connection itself is what proves who we are."""

    def request(self, unwrap: Unwrap) -> LoginRequest:
        """What to send now. Raises `errors.ServiceError` subclasses when it cannot be read."""

    def stamp(self) -> object:
        """Equal while the files that are read are the same: after a refusal, others are worth a try at once."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value from the environment, or from a file, in which white space around it does not count."""

    value: str = field(default="", repr=False)
    path: Path | None = None

    def read(self, what: str) -> str:
        """The value. Raises `Unavailable` when its file cannot be read or is empty: it may come."""
        if self.path is None:
            return self.value
        try:
            found = self.path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as problem:
            why = (problem.strerror or "").lower() if isinstance(problem, OSError) else "it is no ASCII text"
            raise _unread(f"the {what} in {self.path} cannot be read ({why})") from None
        if not found:
            raise _unread(f"the {what} in {self.path} is empty")
        return found

    def stamp(self) -> object:
        """Changes with the file."""
        if self.path is None:
            return None
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _unread(message: str) -> ServiceError:
    return Unavailable(
        message, system="vault", operation="log in", remedy="check that it is there and that the controller may read it"
    )


@dataclass(frozen=True, slots=True)
class JwtLogin:
    """By a signed token in a file: a Kubernetes service account's (`kubernetes`), or a Nomad workload identity (`jwt`).

    Both are replaced in their file long before they end, by kubelet and by Nomad's client.
    """

    name: str
    mount: str
    role: str
    token: Given
    certified: bool = False

    @property
    def remedy(self) -> str:
        return f"check the role {self.role} of auth/{self.mount}, and what the token in {self.token.path} is bound to"

    def request(self, unwrap: Unwrap) -> LoginRequest:
        token = self.token.read("token to log in with")
        return LoginRequest({"role": self.role, "jwt": token}, (token,))

    def stamp(self) -> object:
        return self.token.stamp()


@dataclass(slots=True)
class AppRoleLogin:
    """By a role ID and a secret ID. With `wrapped` the secret ID's place holds a wrapping token, which is opened once;
    what was in it is kept in memory alone, until another wrapping token takes its place."""

    mount: str
    role: str
    role_id: Given
    secret_id: Given
    wrapped: bool = False
    name: str = "approle"
    certified: bool = False
    _opened: tuple[str, str] = field(default=("", ""), repr=False)

    @property
    def remedy(self) -> str:
        return f"check role ID and secret ID of auth/{self.mount}, and whether the secret ID has ended or is used up"

    def request(self, unwrap: Unwrap) -> LoginRequest:
        role_id, secret_id = self.role_id.read("role ID"), self.secret_id.read("secret ID")
        if self.wrapped:
            if self._opened[0] != secret_id:
                self._opened = (secret_id, unwrap(secret_id, f"auth/{self.mount}/role/{self.role}/secret-id"))
            secret_id = self._opened[1]
        return LoginRequest({"role_id": role_id, "secret_id": secret_id}, (secret_id,))

    def stamp(self) -> object:
        return self.role_id.stamp(), self.secret_id.stamp()


@dataclass(frozen=True, slots=True)
class CertLogin:
    """By the client certificate of the TLS connection (`VAULT_CLIENT_CERT`). Without `role`, any role whose rules the
    certificate meets."""

    mount: str
    role: str
    certificate: Path
    name: str = "cert"
    certified: bool = True

    @property
    def remedy(self) -> str:
        return f"check what the roles of auth/{self.mount} accept, and that nothing between here and Vault ends TLS"

    def request(self, unwrap: Unwrap) -> LoginRequest:
        return LoginRequest({"name": self.role} if self.role else {})

    def stamp(self) -> object:
        return Given(path=self.certificate).stamp()
