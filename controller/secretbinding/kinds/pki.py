"""Certificates of a PKI engine: each allocation gets its own, which ends, and the issuer may change."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from secretbinding.errors import Denied
from secretbinding.kinds.base import (
    Changes,
    EngineRole,
    Fault,
    Pin,
    Reading,
    Right,
    SecretState,
    Subject,
    denied,
    not_found,
    spec_of,
    standing_limits,
)
from secretbinding.models.binding import Pki, SecretEntry
from secretbinding.models.kinds import KeyType, PkiCreate
from secretbinding.models.reasons import Reason
from secretbinding.ports import Json, LeaseLimits, PkiRole, Vault

# `ca_chain` is a list, which no variable can hold.
_FIELDS: Mapping[int, Mapping[str, Any]] = {
    0: {
        "certificate": None,
        "private_key": None,
        "private_key_type": None,
        "issuing_ca": None,
        "serial_number": None,
        "expiration": None,
        "ca_chain": {},
    }
}
_DEFAULT_ISSUER = "default"
# What the engine puts in for 0, and shows from then on.
_KEY_BITS = {KeyType.RSA: 2048, KeyType.EC: 256, KeyType.ED25519: 0}
# What no binding says and what makes other certificates of a role, as a write that names none of it leaves it: who may
# be named in them, what for and for how long they are good, and whether the engine remembers them.
_UNTOUCHED: Mapping[str, Any] = {
    "allow_globs_in_identity_templates": False,
    "allowed_serial_numbers": [],
    "allowed_uri_sans_template": False,
    "allowed_user_ids": [],
    "basic_constraints_valid_for_non_ca": False,
    "cn_validations": ["email", "hostname"],
    "country": [],
    "ext_key_usage": [],
    "ext_key_usage_oids": [],
    "key_usage": ["DigitalSignature", "KeyAgreement", "KeyEncipherment"],
    "locality": [],
    "no_store": False,
    "not_after": "",
    "not_before": "",
    "organization": [],
    "ou": [],
    "policy_identifiers": [],
    "postal_code": [],
    "province": [],
    "street_address": [],
}
# Certificate, chain, key: the order in which servers want them in one file.
_BUNDLE = '{{ .Data.certificate }}\n{{ range index .Data "ca_chain" }}{{ . }}\n{{ end }}{{ .Data.private_key }}\n'


class PkiKind:
    """The `pki` entry."""

    name = "pki"
    # What lies below an issuer issues certificates, and is asked for all the time.
    changes: Changes | None = Changes(
        re.compile(
            r"roles/(?P<name>.+)|root|root/(?:generate|rotate|replace)(?:/.+)?|issuers/.+|issuer/[^/]+"
            r"|config/(?:issuers|ca)|intermediate/set-signed"
        ),
        ("/roles/", "/root", "/issuers/", "/issuer/", "/config/", "/intermediate/set-signed"),
    )

    def subject(self, entry: SecretEntry) -> Subject | None:
        spec = spec_of(entry, Pki)
        return Subject(self.name, spec.mount, spec.role or "", str(spec.ttl.seconds) if spec.ttl is not None else "")

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        spec = spec_of(entry, Pki)
        made = self.engine_role(entry)
        try:
            there = vault.read_engine_config(made.path) if made is not None else None
            role = _of(spec.create) if spec.create is not None else vault.pki_role(spec.mount, spec.role or "")
            if role is None:
                return not_found(self.name, entry, f"{spec.mount} has no role {spec.role}", "role")
            issuer = vault.pki_issuer(spec.mount, role.issuer)
            limits = standing_limits(role.limits, vault, spec.mount)
        except Denied as error:
            return denied(self.name, error)
        if issuer is None:
            message = f"{spec.mount} has no issuer {role.issuer}, which role {spec.role} issues with"
            return SecretState(engine=self.name, fault=Fault(Reason.SECRET_NOT_FOUND, message))
        wanted = spec.ttl.seconds if spec.ttl is not None else limits.ttl
        return SecretState(
            engine=self.name,
            fields=_FIELDS,
            revision=Pin(0, issuer),
            lease_seconds=min(filter(None, (wanted, limits.max_ttl)), default=0.0),
            made=there,
        )

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        spec = spec_of(entry, Pki)
        return (Right(f"{spec.mount}/issue/{spec.role}", ("update",)),)

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        spec = spec_of(entry, Pki)
        role = self.engine_role(entry)
        return Reading(
            f"{spec.mount}/issue/{spec.role}",
            ".Data",
            polls=True,
            arguments=_arguments(spec),
            default=_BUNDLE,
            made=role.digest if role is not None else "",
        )

    def engine_role(self, entry: SecretEntry) -> EngineRole | None:
        """Body as `POST <mount>/roles/<name>` takes it. Everything that widens what a role issues is set, so that a
        change of it is seen."""
        spec = spec_of(entry, Pki)
        made = spec.create
        if made is None:
            return None
        body: Json = {
            "issuer_ref": made.issuer or _DEFAULT_ISSUER,
            "allowed_domains": sorted(made.allowed_domains),
            "allow_subdomains": made.allow_subdomains,
            "allow_bare_domains": made.allow_bare_domains,
            "allow_glob_domains": made.allow_glob_domains,
            "allow_wildcard_certificates": made.allow_wildcard_certificates,
            "allow_ip_sans": made.allow_ip_sans,
            "allowed_uri_sans": sorted(made.allowed_uri_sans),
            "ttl": int(made.ttl.seconds) if made.ttl is not None else 0,
            "max_ttl": int(made.max_ttl.seconds) if made.max_ttl is not None else 0,
            "key_type": made.key_type.value,
            "key_bits": made.key_bits or _KEY_BITS[made.key_type],
            "server_flag": made.server_auth,
            "client_flag": made.client_auth,
            "allow_any_name": False,
            "allow_localhost": False,
            "allowed_domains_template": False,
            "allowed_other_sans": [],
            "enforce_hostnames": True,
            "require_cn": True,
            "code_signing_flag": False,
            "email_protection_flag": False,
        }
        return EngineRole(f"{spec.mount}/roles/{spec.role}", body, untouched=_UNTOUCHED)


def _of(made: PkiCreate) -> PkiRole:
    """The role as it will be."""
    ttl, greatest = (value.seconds if value is not None else 0.0 for value in (made.ttl, made.max_ttl))
    return PkiRole(LeaseLimits(ttl, greatest), made.issuer or _DEFAULT_ISSUER)


def _arguments(spec: Pki) -> tuple[str, ...]:
    """What is asked of the engine, in the parameters of `<mount>/issue/<role>`."""
    asked = {
        "common_name": spec.common_name,
        "ttl": f"{int(spec.ttl.seconds)}s" if spec.ttl is not None else "",
        "alt_names": ",".join(spec.alt_names),
        "ip_sans": ",".join(spec.ip_sans),
        "uri_sans": ",".join(spec.uri_sans),
    }
    return tuple(f"{name}={value}" for name, value in asked.items() if value)
