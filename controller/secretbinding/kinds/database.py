"""Credentials of a database engine: a user for each lease, or one whose password Vault rotates."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from secretbinding.errors import Denied
from secretbinding.kinds.base import RENEW, Fault, Pin, Reading, Right, SecretState, standing_limits
from secretbinding.models.binding import Database, SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.ports import Vault

_FIELDS: Mapping[int, Mapping[str, Any]] = {0: {"username": None, "password": None}}
_BOTH = '{"password":{{ .Data.password | toJSON }},"username":{{ .Data.username | toJSON }}}\n'
# Shown for a static role whose password is still the one that it was created with.
_NEVER_ROTATED = "initial"


class DatabaseKind:
    """The `database` entry."""

    name = "database"

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        spec = _spec(entry)
        try:
            state = _static(spec, vault) if spec.static_role is not None else _dynamic(spec, vault)
        except Denied as error:
            return SecretState(engine=self.name, fault=Fault(Reason.PERMISSION_DENIED, str(error)))
        if state is not None:
            return state
        field, role = ("staticRole", spec.static_role) if spec.static_role is not None else ("role", spec.role)
        message = f"{spec.mount} has no {field} {role}; make it, or mend spec.secrets[{entry.name}].database.{field}"
        return SecretState(engine=self.name, fault=Fault(Reason.SECRET_NOT_FOUND, message))

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        spec = _spec(entry)
        if spec.static_role is not None:
            return (Right(f"{spec.mount}/static-creds/{spec.static_role}", ("read",)),)
        return (Right(f"{spec.mount}/creds/{spec.role}", ("read",)), RENEW)

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        spec = _spec(entry)
        if spec.static_role is not None:
            path = f"{spec.mount}/static-creds/{spec.static_role}"
            return Reading(path, ".Data", polls=True, followed=True, default=_BOTH)
        return Reading(f"{spec.mount}/creds/{spec.role}", ".Data", polls=True, leased=True, default=_BOTH)


def _static(spec: Database, vault: Vault) -> SecretState | None:
    role = vault.static_role(spec.mount, spec.static_role or "")
    if role is None:
        return None
    rotated = role.rotated or _NEVER_ROTATED
    return SecretState(
        engine="database",
        fields=_FIELDS,
        revision=Pin(0, rotated),
        invalidates=True,
        next_change=_next(rotated, role.period_seconds),
    )


def _dynamic(spec: Database, vault: Vault) -> SecretState | None:
    role = vault.database_role(spec.mount, spec.role or "")
    if role is None:
        return None
    return SecretState(
        engine="database", fields=_FIELDS, lease_seconds=standing_limits(role, vault, spec.mount).max_ttl
    )


def _next(rotated: str, period_seconds: float) -> datetime | None:
    """When Vault rotates the password by itself; None when that goes by a schedule, or is not known."""
    try:
        last = datetime.fromisoformat(rotated[:19]).replace(tzinfo=UTC)
    except ValueError:
        return None
    return last + timedelta(seconds=period_seconds) if period_seconds > 0 else None


def _spec(entry: SecretEntry) -> Database:
    if entry.database is None:
        raise ValueError(f"secret {entry.name} has no database part")
    return entry.database
