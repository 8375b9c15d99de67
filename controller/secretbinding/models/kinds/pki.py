"""The `pki` entry: a certificate of a PKI engine, and the role that issues it where the binding makes it."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Any, Self

from pydantic import Field

from secretbinding.models.base import Fault, Model, Rule
from secretbinding.models.kinds.base import KindSpec, longer
from secretbinding.models.text import quoted
from secretbinding.models.types import CertificateName, IpAddress, Mount, PositiveDuration, Uri, VaultRole


class KeyType(StrEnum):
    """The kind of a certificate's key, in Vault's own words."""

    RSA = "rsa"
    EC = "ec"
    ED25519 = "ed25519"


# The sizes that Vault takes; 0 stands for its choice.
_KEY_BITS = {KeyType.RSA: (2048, 3072, 4096), KeyType.EC: (224, 256, 384, 521), KeyType.ED25519: ()}


def _key_bits(obj: Mapping[str, Any]) -> Iterator[Fault]:
    kind, bits = obj.get("keyType", "rsa"), obj.get("keyBits")
    if kind in tuple(KeyType) and isinstance(bits, int) and bits not in _KEY_BITS[KeyType(kind)]:
        sizes = ", ".join(str(size) for size in _KEY_BITS[KeyType(kind)])
        has = f"{sizes} bits" if sizes else "no size"
        yield Fault(("keyBits",), f"a key of type {kind} has {has}")


def _sizes_cel() -> str:
    of = [f"(!has(self.keyType) || self.keyType == 'rsa') && self.keyBits in {list(_KEY_BITS[KeyType.RSA])}"]
    of.append(f"has(self.keyType) && self.keyType == 'ec' && self.keyBits in {list(_KEY_BITS[KeyType.EC])}")
    return "!has(self.keyBits) || " + " || ".join(f"({text})" for text in of)


class PkiCreate(Model):
    """The role of the PKI engine that is made for this entry. What is not allowed here, the role does not issue."""

    issuer: VaultRole | None = None
    """Name or ID of the issuer; the engine's default when left out."""
    allowed_domains: Annotated[tuple[CertificateName, ...], Field(max_length=64)] = ()
    """Domains that the role issues for."""
    allow_subdomains: bool = False
    """Whether it issues for what is below them."""
    allow_bare_domains: bool = False
    """Whether it issues for the domains themselves."""
    allow_glob_domains: bool = False
    """Whether `*` in the domains stands for any characters."""
    allow_wildcard_certificates: bool = False
    """Whether it issues certificates for `*.<domain>`."""
    allow_ip_sans: bool = False
    """Whether it issues for IP addresses."""
    allowed_uri_sans: Annotated[tuple[Uri, ...], Field(max_length=64)] = ()
    """URIs that it issues for; `*` stands for any characters."""
    ttl: PositiveDuration | None = None
    """Lifetime of a certificate for which none is asked; the mount's own when left out."""
    max_ttl: Annotated[PositiveDuration | None, Field(alias="maxTTL")] = None
    """Greatest lifetime of a certificate; the mount's own when left out."""
    key_type: KeyType = KeyType.RSA
    """Kind of the key."""
    key_bits: Annotated[int, Field(ge=1, le=16384)] | None = None
    """Size of the key; Vault's choice when left out."""
    server_auth: bool = True
    """Whether a server may show the certificate."""
    client_auth: bool = True
    """Whether a client may show the certificate."""

    rules = (
        Rule(
            message="ttl is longer than maxTTL",
            remedy="make ttl at most maxTTL",
            cel="!has(self.ttl) || !has(self.maxTTL) || duration(self.ttl) <= duration(self.maxTTL)",
            field=".ttl",
            check=lambda obj: longer(obj, "ttl", "maxTTL"),
        ),
        Rule(
            message="keyBits does not fit keyType",
            remedy="leave out keyBits, or use a size that Vault knows",
            cel=_sizes_cel(),
            field=".keyBits",
            check=_key_bits,
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


def _role_or_create(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("role") is not None and obj.get("create") is not None:
        yield Fault(("create",), "both role and create are set")
    elif obj.get("role") is None and obj.get("create") is None:
        yield Fault((), "neither role nor create is set")


class Pki(KindSpec):
    """A certificate of a PKI engine."""

    mount: Mount
    """Mount of the PKI engine."""
    role: VaultRole | None = None
    """Role of the PKI engine that issues the certificate."""
    create: PkiCreate | None = None
    """Have the role made, kept and deleted with the binding; its name follows from the binding and this entry."""
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

    rules = (
        Rule(
            message="role and create exclude each other, and one of them is needed",
            remedy="set exactly one of role, create",
            cel="has(self.role) != has(self.create)",
            check=_role_or_create,
        ),
        Rule(message="an IP address does not parse", remedy="write an IPv4 or IPv6 address", check=_addresses),
    )

    def identity(self) -> list[Any]:
        return [self.mount, self.role, self.common_name]

    def made_of(self) -> list[Any]:
        return ["pki", self.mount] if self.create is not None else []

    def named(self, role: str) -> Self:
        return self if self.create is None else self.model_copy(update={"role": role})
