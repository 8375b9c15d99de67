"""Credentials of a database engine: a user for each lease, or one whose password Vault rotates."""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from secretbinding.errors import Denied
from secretbinding.kinds.base import (
    RENEW,
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
from secretbinding.models.binding import Database, SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.naming import PREFIX
from secretbinding.ports import LeaseLimits, StaticUser, Vault

_FIELDS: Mapping[int, Mapping[str, Any]] = {0: {"username": None, "password": None}}
# A static role's answer has the time to its rotation besides, another one at each look.
_OFFERS = ("password", "username")
_BOTH = '{"password":{{ .Data.password | toJSON }},"username":{{ .Data.username | toJSON }}}\n'
# Shown for a static role whose password is still the one that it was created with.
_NEVER_ROTATED = "initial"


class DatabaseKind:
    """The `database` entry."""

    name = "database"
    changes: Changes | None = Changes(
        re.compile(r"(?:static-roles|rotate-role|roles)/(?P<name>.+)"), ("/static-roles/", "/rotate-role/", "/roles/")
    )

    def subject(self, entry: SecretEntry) -> Subject | None:
        spec = spec_of(entry, Database)
        if spec.static_role is not None:
            return Subject(self.name, spec.mount, spec.static_role, "static")
        return Subject(self.name, spec.mount, spec.role or "")

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        spec = spec_of(entry, Database)
        try:
            if spec.create is not None:
                return _made(entry, spec, vault)
            state = _static(spec, vault) if spec.static_role is not None else _dynamic(spec, vault)
        except Denied as error:
            return denied(self.name, error)
        if state is not None:
            return state
        field, role = ("staticRole", spec.static_role) if spec.static_role is not None else ("role", spec.role)
        return not_found(self.name, entry, f"{spec.mount} has no {field} {role}", field)

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        spec = spec_of(entry, Database)
        if spec.static_role is not None:
            return (Right(f"{spec.mount}/static-creds/{spec.static_role}", ("read",)),)
        return (Right(f"{spec.mount}/creds/{spec.role}", ("read",)), RENEW)

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        spec = spec_of(entry, Database)
        role = self.engine_role(entry)
        made = role.digest if role is not None else ""
        if spec.static_role is not None:
            path = f"{spec.mount}/static-creds/{spec.static_role}"
            return Reading(path, ".Data", polls=True, followed=True, default=_BOTH, offers=_OFFERS, made=made)
        path = f"{spec.mount}/creds/{spec.role}"
        return Reading(path, ".Data", polls=True, leased=True, default=_BOTH, offers=_OFFERS, made=made)

    def engine_role(self, entry: SecretEntry) -> EngineRole | None:
        """Body as `POST <mount>/roles/<name>` and `POST <mount>/static-roles/<name>` take it."""
        spec = spec_of(entry, Database)
        made = spec.create
        if made is None:
            return None
        if made.username is not None:
            body = {
                "db_name": made.connection,
                "username": made.username,
                "rotation_period": int(made.rotation_period.seconds) if made.rotation_period is not None else 0,
                "rotation_statements": list(made.rotation_statements),
            }
            return EngineRole(f"{spec.mount}/static-roles/{spec.static_role}", body, told_later=True)
        body = {
            "db_name": made.connection,
            "creation_statements": list(made.creation_statements),
            "revocation_statements": list(made.revocation_statements),
            "rollback_statements": list(made.rollback_statements),
            "renew_statements": list(made.renew_statements),
            "default_ttl": int(made.default_ttl.seconds) if made.default_ttl is not None else 0,
            "max_ttl": int(made.max_ttl.seconds) if made.max_ttl is not None else 0,
        }
        return EngineRole(f"{spec.mount}/roles/{spec.role}", body)


def takes_a_user(entry: SecretEntry) -> bool:
    """True when the entry has a static role made, which takes over a user of the database."""
    source = entry.source
    return isinstance(source, Database) and source.create is not None and source.create.static


def rival_fault(entry: SecretEntry, state: SecretState, vault: Vault, going: Set[str]) -> Fault | None:
    """Why the static role of an entry may not be: another role of the same connection stands for its user, and each
    would make the other's password worthless. Who is there first keeps the user; of two that are there the one by hand,
    else the first by name. `going` are paths of roles that the binding had before. Raises `errors.ServiceError`
    subclasses.
    """
    spec = spec_of(entry, Database)
    if spec.create is None or spec.create.username is None or spec.static_role is None:
        return None
    own = spec.static_role
    user = StaticUser(spec.create.connection, spec.create.username)
    place = f"spec.secrets[{entry.name}].database.create"
    try:
        users = vault.static_users(spec.mount)
    except Denied as error:
        # What is there has its user already.
        return None if state.made is not None else Fault(Reason.PERMISSION_DENIED, f"{error}, for {place}")
    others = [
        name
        for name, found in sorted(users.items())
        if found == user and name != own and f"{spec.mount.strip('/')}/static-roles/{name}" not in going
    ]
    if state.made is not None:
        others = [name for name in others if not name.startswith(f"{PREFIX}.") or name < own]
    if not others:
        return None
    message = (
        f"user {user.username} of connection {user.connection} belongs to static role {others[0]} of {spec.mount} "
        f"already, and of two roles each makes the other's password worthless; read that one by staticRole, or name "
        f"another user in {place}.username"
    )
    return Fault(Reason.ROLE_CONFLICT, message)


def _made(entry: SecretEntry, spec: Database, vault: Vault) -> SecretState:
    """The state of a role that is ours to make: what it lives by is what the binding says."""
    role = DatabaseKind().engine_role(entry)
    there = vault.read_engine_config(role.path) if role is not None else None
    if spec.create is None or spec.create.static:
        state = (_static(spec, vault) if there is not None else None) or SecretState(
            engine="database", fields=_FIELDS, revision=Pin(0, ""), invalidates=True
        )
    else:
        greatest = spec.create.max_ttl.seconds if spec.create.max_ttl is not None else 0.0
        limits = standing_limits(LeaseLimits(max_ttl=greatest), vault, spec.mount)
        state = SecretState(engine="database", fields=_FIELDS, lease_seconds=limits.max_ttl)
    return replace(state, made=there)


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
