"""Access by an SSH engine: a certificate of each allocation's own, or a one-time password."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from secretbinding.errors import Denied
from secretbinding.kinds.base import (
    Changes,
    Fault,
    Pin,
    Reading,
    Right,
    SecretState,
    Subject,
    denied,
    not_found,
    seconds_of,
    spec_of,
    standing_limits,
)
from secretbinding.models.binding import SecretEntry, Ssh
from secretbinding.models.kinds import SshType
from secretbinding.models.reasons import Reason
from secretbinding.ports import LeaseLimits, Vault

_PATHS = {SshType.ISSUE: "issue", SshType.SIGN: "sign", SshType.ONE_TIME_PASSWORD: "creds"}
# What `key_type` of a role (`<mount>/roles/<name>`) has to be.
_ROLE_TYPES = {SshType.ISSUE: "ca", SshType.SIGN: "ca", SshType.ONE_TIME_PASSWORD: "otp"}
_FIELDS: Mapping[SshType, Mapping[str, Any]] = {
    SshType.ISSUE: dict.fromkeys(("serial_number", "signed_key", "private_key", "private_key_type")),
    SshType.SIGN: dict.fromkeys(("serial_number", "signed_key")),
    SshType.ONE_TIME_PASSWORD: dict.fromkeys(("key", "key_type", "username", "ip", "port")),
}
# What `ssh -i` wants: the private key; the certificate alone, which goes beside a key that is there; the password.
_DEFAULTS = {
    SshType.ISSUE: "{{ .Data.private_key }}",
    SshType.SIGN: "{{ .Data.signed_key }}",
    SshType.ONE_TIME_PASSWORD: "{{ .Data.key }}",
}


class SshKind:
    """The `ssh` entry."""

    name = "ssh"
    changes: Changes | None = Changes(re.compile(r"roles/(?P<name>.+)"), ("/roles/",))

    def subject(self, entry: SecretEntry) -> Subject | None:
        spec = spec_of(entry, Ssh)
        return Subject(self.name, spec.mount, spec.role, f"{spec.type} {spec.ttl or ''}")

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        spec = spec_of(entry, Ssh)
        try:
            role = vault.read_engine_config(f"{spec.mount}/roles/{spec.role}")
            if role is None:
                return not_found(self.name, entry, f"{spec.mount} has no role {spec.role}", "role")
            own = LeaseLimits(seconds_of(role.get("ttl")), seconds_of(role.get("max_ttl")))
            limits = standing_limits(own, vault, spec.mount)
        except Denied as error:
            return denied(self.name, error)
        fields = {0: _FIELDS[spec.type]}
        if role.get("key_type", _ROLE_TYPES[spec.type]) != _ROLE_TYPES[spec.type]:
            message = f"role {spec.role} of {spec.mount} is of key_type {role['key_type']}, which gives no {spec.type}"
            return SecretState(engine=self.name, fault=Fault(Reason.SECRET_UNREADABLE, message))
        if spec.type is SshType.ONE_TIME_PASSWORD:
            return SecretState(engine=self.name, fields=fields, lease_seconds=limits.max_ttl)
        wanted = spec.ttl.seconds if spec.ttl is not None else limits.ttl
        lease = min(filter(None, (wanted, limits.max_ttl)), default=0.0)
        return SecretState(engine=self.name, fields=fields, lease_seconds=lease)

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        spec = spec_of(entry, Ssh)
        return (Right(f"{spec.mount}/{_PATHS[spec.type]}/{spec.role}", ("update",)),)

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        """A certificate has no lease: Nomad, reading again, would ask for another every few minutes. It is asked for
        once in the life of an allocation, which is replaced before the certificate ends."""
        spec = spec_of(entry, Ssh)
        password = spec.type is SshType.ONE_TIME_PASSWORD
        return Reading(
            f"{spec.mount}/{_PATHS[spec.type]}/{spec.role}",
            ".Data",
            polls=password or pin is None,
            leased=password,
            arguments=_arguments(spec),
            followed=not password,
            default=_DEFAULTS[spec.type],
        )


def _arguments(spec: Ssh) -> tuple[str, ...]:
    """What is asked of the engine, in the parameters of its paths; never nothing, since that would be a read."""
    asked = {
        "public_key": spec.public_key or "",
        "ip": spec.ip or "",
        "username": spec.username or "",
        "valid_principals": ",".join(spec.valid_principals),
        "cert_type": "" if spec.type is SshType.ONE_TIME_PASSWORD else (spec.cert_type or "user"),
        "key_type": spec.key_type or "",
        "key_bits": str(spec.key_bits or ""),
        "ttl": f"{int(spec.ttl.seconds)}s" if spec.ttl is not None else "",
    }
    return tuple(f"{name}={value}" for name, value in asked.items() if value)
