"""Credentials of a service principal, by an Azure engine."""

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
    standing_limits,
)
from secretbinding.models.binding import Azure, SecretEntry
from secretbinding.ports import LeaseLimits, Vault

_FIELDS: Mapping[int, Mapping[str, Any]] = {0: {"client_id": None, "client_secret": None}}
_BOTH = '{"client_id":{{ .Data.client_id | toJSON }},"client_secret":{{ .Data.client_secret | toJSON }}}\n'


class AzureKind:
    """The `azure` entry."""

    name = "azure"
    changes: Changes | None = Changes(re.compile(r"roles/(?P<name>.+)"), ("/roles/",))

    def subject(self, entry: SecretEntry) -> Subject | None:
        spec = spec_of(entry, Azure)
        return Subject(self.name, spec.mount, spec.role, str(spec.max_ttl or ""))

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        spec = spec_of(entry, Azure)
        own = spec.max_ttl.seconds if spec.max_ttl is not None else 0.0
        try:
            role = vault.read_engine_config(f"{spec.mount}/roles/{spec.role}")
            if role is None:
                return not_found(self.name, entry, f"{spec.mount} has no role {spec.role}", "role")
            limits = LeaseLimits(seconds_of(role.get("ttl")), seconds_of(role.get("max_ttl")))
            seconds = own or standing_limits(limits, vault, spec.mount).max_ttl
        except Denied as error:
            if not own:
                return denied(self.name, error)
            seconds = own
        return SecretState(engine=self.name, fields=_FIELDS, lease_seconds=seconds)

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        spec = spec_of(entry, Azure)
        return (Right(f"{spec.mount}/creds/{spec.role}", ("read",)), RENEW)

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        spec = spec_of(entry, Azure)
        return Reading(f"{spec.mount}/creds/{spec.role}", ".Data", polls=True, leased=True, default=_BOTH)
