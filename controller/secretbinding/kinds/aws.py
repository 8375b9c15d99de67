"""Credentials of an AWS engine: a user for each lease, or temporary credentials of a role."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from secretbinding.errors import Denied
from secretbinding.kinds.base import (
    RENEW,
    Changes,
    Pin,
    Reading,
    Right,
    SecretState,
    Subject,
    denied,
    not_found,
    seconds_of,
    spec_of,
)
from secretbinding.models.binding import Aws, SecretEntry
from secretbinding.ports import Json, Vault

# https://developer.hashicorp.com/vault/api-docs/secret/aws: temporary credentials live an hour where nobody says.
_STS_SECONDS = 3600.0
_IAM_USER = "iam_user"
_USER_FIELDS: Mapping[str, Any] = {"access_key": None, "secret_key": None}
# `session_token` is the newer name of `security_token`, which all versions have.
_STS_FIELDS: Mapping[str, Any] = {**_USER_FIELDS, "security_token": None, "session_token": None}
# https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html
_CREDENTIALS_FILE = (
    "[default]\n"
    "aws_access_key_id = {{ .Data.access_key }}\n"
    "aws_secret_access_key = {{ .Data.secret_key }}\n"
    '{{ with index .Data "security_token" }}aws_session_token = {{ . }}\n{{ end }}'
)


class AwsKind:
    """The `aws` entry."""

    name = "aws"
    changes: Changes | None = Changes(re.compile(r"roles/(?P<name>.+)"), ("/roles/",))

    def subject(self, entry: SecretEntry) -> Subject | None:
        spec = spec_of(entry, Aws)
        return Subject(self.name, spec.mount, spec.role, f"{spec.sts} {spec.ttl or ''} {spec.max_ttl or ''}")

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        spec = spec_of(entry, Aws)
        try:
            role = vault.read_engine_config(f"{spec.mount}/roles/{spec.role}")
            if role is None:
                return not_found(self.name, entry, f"{spec.mount} has no role {spec.role}", "role")
            user = not spec.sts and _type(role) == _IAM_USER
            seconds = spec.max_ttl.seconds if spec.max_ttl is not None else 0.0
            seconds = seconds or (_user_seconds(spec, vault) if user else _sts_seconds(spec, role))
        except Denied as error:
            if spec.max_ttl is None:
                return denied(self.name, error)
            return SecretState(engine=self.name, fields={0: _STS_FIELDS}, lease_seconds=spec.max_ttl.seconds)
        return SecretState(engine=self.name, fields={0: _USER_FIELDS if user else _STS_FIELDS}, lease_seconds=seconds)

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        spec = spec_of(entry, Aws)
        if spec.sts:
            # Temporary credentials cannot be renewed.
            return (Right(f"{spec.mount}/sts/{spec.role}", ("update",) if _arguments(spec) else ("read",)),)
        return (Right(f"{spec.mount}/creds/{spec.role}", ("read",)), RENEW)

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        spec = spec_of(entry, Aws)
        path = f"{spec.mount}/{'sts' if spec.sts else 'creds'}/{spec.role}"
        return Reading(path, ".Data", polls=True, leased=True, arguments=_arguments(spec), default=_CREDENTIALS_FILE)


def _type(role: Json) -> str:
    """The role's `credential_type`; of several, as older roles can have, what `creds` gives."""
    listed = role.get("credential_types")
    several = [str(item) for item in listed] if isinstance(listed, list) else []
    return _IAM_USER if _IAM_USER in several else str(role.get("credential_type") or "".join(several[:1]))


def _user_seconds(spec: Aws, vault: Vault) -> float:
    """`<mount>/config/lease` rules users; where it is not set, the mount's own limits do."""
    lease = vault.read_engine_config(f"{spec.mount}/config/lease") or {}
    limits = vault.mount_limits(spec.mount)
    return seconds_of(lease.get("lease_max")) or (limits.max_ttl if limits is not None else 0.0)


def _sts_seconds(spec: Aws, role: Json) -> float:
    asked = spec.ttl.seconds if spec.ttl is not None else 0.0
    wanted = asked or seconds_of(role.get("default_sts_ttl")) or _STS_SECONDS
    return min(filter(None, (wanted, seconds_of(role.get("max_sts_ttl")))))


def _arguments(spec: Aws) -> tuple[str, ...]:
    """What is asked of `<mount>/sts/<role>`."""
    asked = {
        "role_arn": spec.role_arn or "",
        "role_session_name": spec.session_name or "",
        "ttl": f"{int(spec.ttl.seconds)}s" if spec.ttl is not None else "",
    }
    return tuple(f"{name}={value}" for name, value in asked.items() if value)
