"""The `ssh` entry: a signed certificate, or a one-time password, of an SSH engine."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from secretbinding.models.base import Fault, Rule
from secretbinding.models.kinds.base import KindSpec, When
from secretbinding.models.kinds.pki import KeyType
from secretbinding.models.kinds.types import SshPrincipal, SshPublicKey
from secretbinding.models.types import IpAddress, Mount, PositiveDuration, VaultRole


class SshType(StrEnum):
    """What is asked of the engine."""

    ISSUE = "Issue"
    SIGN = "Sign"
    ONE_TIME_PASSWORD = "OneTimePassword"


class SshCertificateType(StrEnum):
    """Whom a certificate stands for, in Vault's own words."""

    USER = "user"
    HOST = "host"


# The fields that only some types have, by type; the first one of each is needed there.
_NEEDED = {SshType.SIGN: "publicKey", SshType.ONE_TIME_PASSWORD: "ip"}
_ONLY = {
    "publicKey": (SshType.SIGN,),
    "ip": (SshType.ONE_TIME_PASSWORD,),
    "username": (SshType.ONE_TIME_PASSWORD,),
    "keyType": (SshType.ISSUE,),
    "keyBits": (SshType.ISSUE,),
    "validPrincipals": (SshType.ISSUE, SshType.SIGN),
    "certType": (SshType.ISSUE, SshType.SIGN),
    "ttl": (SshType.ISSUE, SshType.SIGN),
}


def _fields_of_type(obj: Mapping[str, Any]) -> Iterator[Fault]:
    kind = obj.get("type", "Issue")
    if kind not in tuple(SshType):
        return
    for name, types in _ONLY.items():
        if obj.get(name) is not None and kind not in types:
            yield Fault((name,), f"{name} is for type {' and '.join(types)}, not for {kind}")
    needed = _NEEDED.get(SshType(kind))
    if needed is not None and obj.get(needed) is None:
        yield Fault((), f"type {kind} needs {needed}")


def _fields_cel() -> str:
    of = "(has(self.type) ? self.type : 'Issue')"
    only = [f"(!has(self.{name}) || {of} in {[str(kind) for kind in types]})" for name, types in _ONLY.items()]
    needed = [f"({of} != '{kind}' || has(self.{name}))" for kind, name in _NEEDED.items()]
    return " && ".join([*only, *needed])


class Ssh(KindSpec):
    """Access by an SSH engine: a certificate with its key, a certificate for a key that is there, or a password."""

    token_lasts = When(
        "has({0}.type) && {0}.type == 'OneTimePassword'", lambda spec: spec.get("type") == SshType.ONE_TIME_PASSWORD
    )
    ever_new = When(
        "(!has({0}.type) || {0}.type != 'OneTimePassword')",
        lambda spec: spec.get("type") != SshType.ONE_TIME_PASSWORD,
    )

    mount: Mount
    """Mount of the SSH engine."""
    role: VaultRole
    """Role of the SSH engine."""
    type: SshType = SshType.ISSUE
    """Issue: a new key and its certificate. Sign: a certificate for publicKey. OneTimePassword: one for ip."""
    public_key: SshPublicKey | None = None
    """The key that is signed, as in `id_ed25519.pub`."""
    valid_principals: Annotated[tuple[SshPrincipal, ...], Field(max_length=32)] = ()
    """Users or hosts that the certificate is for; the role's own when left out."""
    cert_type: SshCertificateType | None = None
    """user or host; user when left out."""
    key_type: KeyType | None = None
    """Kind of the new key; rsa when left out."""
    key_bits: Annotated[int, Field(ge=1, le=16384)] | None = None
    """Size of the new key; Vault's choice when left out."""
    ttl: PositiveDuration | None = None
    """Lifetime of the certificate; the role's own when left out."""
    ip: IpAddress | None = None
    """Address of the host that the password is for."""
    username: SshPrincipal | None = None
    """User that the password is for; the role's own when left out."""

    rules = (
        Rule(
            message="a field does not fit the type: Sign needs publicKey, OneTimePassword needs ip,"
            " username is for it, keyType and keyBits are for Issue, the rest is for certificates",
            remedy="set the fields of one type",
            cel=_fields_cel(),
            check=_fields_of_type,
        ),
    )

    def identity(self) -> list[Any]:
        return [
            self.mount, self.role, self.type, self.public_key, list(self.valid_principals), self.ip, self.username,
        ]  # fmt: skip
