"""What a Google Cloud engine gives: access tokens that live an hour, or keys of service accounts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from secretbinding.errors import Denied
from secretbinding.kinds.base import (
    RENEW,
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
from secretbinding.models.binding import Gcp, SecretEntry
from secretbinding.models.kinds import GcpType
from secretbinding.models.reasons import Reason
from secretbinding.ports import LeaseLimits, Vault

# https://developer.hashicorp.com/vault/api-docs/secret/gcp: "have a static TTL of an hour".
_TOKEN_SECONDS = 3600.0
_FIELDS: Mapping[GcpType, Mapping[str, Any]] = {
    GcpType.TOKEN: dict.fromkeys(("token", "token_ttl", "expires_at_seconds")),
    GcpType.KEY: dict.fromkeys(("private_key_data", "key_algorithm", "key_type")),
}
_SECRET_TYPES = {GcpType.TOKEN: "access_token", GcpType.KEY: "service_account_key"}
# A key comes as a credentials file in base64, for GOOGLE_APPLICATION_CREDENTIALS.
_DEFAULTS = {GcpType.TOKEN: "{{ .Data.token }}", GcpType.KEY: "{{ .Data.private_key_data | base64Decode }}"}


class GcpKind:
    """The `gcp` entry."""

    name = "gcp"
    changes: Changes | None = Changes(
        re.compile(r"(?P<name>(?:roleset|static-account|impersonated-account)/[^/]+)|config"),
        ("/roleset/", "/static-account/", "/impersonated-account/", "/config"),
    )

    def subject(self, entry: SecretEntry) -> Subject | None:
        spec = spec_of(entry, Gcp)
        variables = bool(entry.env) or entry.env_from is not None
        return Subject(self.name, spec.mount, spec.account, f"{spec.type} {variables} {spec.max_ttl or ''}")

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        spec = spec_of(entry, Gcp)
        fields = {0: _FIELDS[spec.type]}
        try:
            account = vault.read_engine_config(f"{spec.mount}/{spec.account}")
            if account is None:
                return not_found(self.name, entry, f"{spec.mount} has no {spec.account}", _field(spec))
            kind = account.get("secret_type")
            if kind not in (None, "", _SECRET_TYPES[spec.type]):
                message = f"{spec.account} of {spec.mount} has secret_type {kind}, which gives no {spec.type}"
                return SecretState(engine=self.name, fault=Fault(Reason.SECRET_UNREADABLE, message))
            seconds = _seconds(entry, spec, vault)
        except Denied as error:
            if spec.type is GcpType.KEY and spec.max_ttl is None:
                return denied(self.name, error)
            seconds = spec.max_ttl.seconds if spec.max_ttl is not None else _token_seconds(entry)
        return SecretState(engine=self.name, fields=fields, lease_seconds=seconds)

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        spec = spec_of(entry, Gcp)
        if spec.type is GcpType.TOKEN:
            return (Right(f"{spec.mount}/{spec.account}/token", ("read",)),)
        return (Right(f"{spec.mount}/{spec.account}/key", ("update",) if _arguments(spec) else ("read",)), RENEW)

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        """A token has no lease: Nomad asks for another every few minutes. A file has a fresh one so, without a restart;
        variables cannot change in a running task, whose job is rolled before they end."""
        spec = spec_of(entry, Gcp)
        token = spec.type is GcpType.TOKEN
        return Reading(
            f"{spec.mount}/{spec.account}/{'token' if token else 'key'}",
            ".Data",
            polls=True,
            leased=not token,
            arguments=_arguments(spec),
            followed=token,
            default=_DEFAULTS[spec.type],
        )


def _seconds(entry: SecretEntry, spec: Gcp, vault: Vault) -> float:
    if spec.type is GcpType.TOKEN:
        return _token_seconds(entry)
    if spec.max_ttl is not None:
        return spec.max_ttl.seconds
    config = vault.read_engine_config(f"{spec.mount}/config") or {}
    own = LeaseLimits(seconds_of(config.get("ttl")), seconds_of(config.get("max_ttl")))
    return standing_limits(own, vault, spec.mount).max_ttl


def _token_seconds(entry: SecretEntry) -> float:
    """How long a token in the environment is good; 0 where all are in files, which are kept fresh."""
    return _TOKEN_SECONDS if entry.env or entry.env_from is not None else 0.0


def _arguments(spec: Gcp) -> tuple[str, ...]:
    return (f"ttl={int(spec.ttl.seconds)}s",) if spec.ttl is not None else ()


def _field(spec: Gcp) -> str:
    if spec.roleset is not None:
        return "roleset"
    return "staticAccount" if spec.static_account is not None else "impersonatedAccount"
