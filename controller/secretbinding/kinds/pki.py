"""Certificates of a PKI engine: each allocation gets its own, which ends, and the issuer may change."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from secretbinding.errors import Denied
from secretbinding.kinds.base import Changes, Fault, Pin, Reading, Right, SecretState, Subject, standing_limits
from secretbinding.models.binding import Pki, SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.ports import Vault

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
        spec = _spec(entry)
        return Subject(self.name, spec.mount, spec.role, str(spec.ttl.seconds) if spec.ttl is not None else "")

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        spec = _spec(entry)
        try:
            role = vault.pki_role(spec.mount, spec.role)
            if role is None:
                message = f"{spec.mount} has no role {spec.role}; make it, or mend spec.secrets[{entry.name}].pki.role"
                return SecretState(engine=self.name, fault=Fault(Reason.SECRET_NOT_FOUND, message))
            issuer = vault.pki_issuer(spec.mount, role.issuer)
            limits = standing_limits(role.limits, vault, spec.mount)
        except Denied as error:
            return SecretState(engine=self.name, fault=Fault(Reason.PERMISSION_DENIED, str(error)))
        if issuer is None:
            message = f"{spec.mount} has no issuer {role.issuer}, which role {spec.role} issues with"
            return SecretState(engine=self.name, fault=Fault(Reason.SECRET_NOT_FOUND, message))
        wanted = spec.ttl.seconds if spec.ttl is not None else limits.ttl
        return SecretState(
            engine=self.name,
            fields=_FIELDS,
            revision=Pin(0, issuer),
            lease_seconds=min(filter(None, (wanted, limits.max_ttl)), default=0.0),
        )

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        spec = _spec(entry)
        return (Right(f"{spec.mount}/issue/{spec.role}", ("update",)),)

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        spec = _spec(entry)
        return Reading(
            f"{spec.mount}/issue/{spec.role}", ".Data", polls=True, arguments=_arguments(spec), default=_BUNDLE
        )


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


def _spec(entry: SecretEntry) -> Pki:
    if entry.pki is None:
        raise ValueError(f"secret {entry.name} has no pki part")
    return entry.pki
