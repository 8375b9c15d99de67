"""The `database` entry: credentials of a database engine, and the role that gives them where the binding makes it."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Field

from secretbinding.models.base import Fault, Model, Rule
from secretbinding.models.kinds.base import KindSpec, longer
from secretbinding.models.kinds.types import DatabaseUser, RotationPeriod, Statements
from secretbinding.models.types import Mount, PositiveDuration, VaultRole

_OF_DYNAMIC = ("creationStatements", "revocationStatements", "rollbackStatements", "renewStatements",
               "defaultTTL", "maxTTL")  # fmt: skip
_OF_STATIC = ("username", "rotationPeriod", "rotationStatements")


def _one_sort(obj: Mapping[str, Any]) -> Iterator[Fault]:
    dynamic = [name for name in _OF_DYNAMIC if obj.get(name)]
    static = [name for name in _OF_STATIC if obj.get(name)]
    if dynamic and static:
        yield Fault((static[0],), f"{dynamic[0]} is for a role that makes users, {static[0]} for a static role")
    elif not obj.get("creationStatements") and obj.get("username") is None:
        yield Fault((), "neither creationStatements nor username is set")
    elif static and (obj.get("username") is None or obj.get("rotationPeriod") is None):
        missing = "username" if obj.get("username") is None else "rotationPeriod"
        yield Fault((), f"a static role needs {missing}")


class DatabaseCreate(Model):
    """The role of the database engine that is made for this entry: one that makes users, or a static one."""

    connection: VaultRole
    """Name of the engine's connection (`<mount>/config/<connection>`), which has to allow the role."""
    creation_statements: Statements = ()
    """Statements that make a user; `{{name}}`, `{{password}}` and `{{expiration}}` stand for what Vault puts in."""
    revocation_statements: Statements = ()
    """Statements that remove a user; the engine's own when left out."""
    rollback_statements: Statements = ()
    """Statements that clean up after a creation that failed."""
    renew_statements: Statements = ()
    """Statements that prolong a user."""
    default_ttl: Annotated[PositiveDuration | None, Field(alias="defaultTTL")] = None
    """First lifetime of a user; the mount's own when left out."""
    max_ttl: Annotated[PositiveDuration | None, Field(alias="maxTTL")] = None
    """Greatest lifetime of a user, renewals included; the mount's own when left out."""
    username: DatabaseUser | None = None
    """A user that is in the database already: makes a static role, which rotates its password at once."""
    rotation_period: RotationPeriod | None = None
    """How often Vault rotates the password of a static role."""
    rotation_statements: Statements = ()
    """Statements that change the password; the engine's own when left out."""

    rules = (
        Rule(
            message="a role makes users (creationStatements) or is static (username and rotationPeriod)",
            remedy="set creationStatements, or username with rotationPeriod",
            cel="(has(self.creationStatements) && self.creationStatements.size() > 0) != has(self.username)"
            " && has(self.username) == has(self.rotationPeriod)"
            " && (has(self.username) || !has(self.rotationStatements) || self.rotationStatements.size() == 0)"
            " && (!has(self.username) || !(has(self.defaultTTL) || has(self.maxTTL)"
            " || (has(self.revocationStatements) && self.revocationStatements.size() > 0)"
            " || (has(self.rollbackStatements) && self.rollbackStatements.size() > 0)"
            " || (has(self.renewStatements) && self.renewStatements.size() > 0)))",
            check=_one_sort,
        ),
        Rule(
            message="defaultTTL is longer than maxTTL",
            remedy="make defaultTTL at most maxTTL",
            cel="!has(self.defaultTTL) || !has(self.maxTTL) || duration(self.defaultTTL) <= duration(self.maxTTL)",
            field=".defaultTTL",
            check=lambda obj: longer(obj, "defaultTTL", "maxTTL"),
        ),
    )

    @property
    def static(self) -> bool:
        """True for a static role."""
        return self.username is not None


def _one_role(obj: Mapping[str, Any]) -> Iterator[Fault]:
    given = [name for name in ("role", "staticRole", "create") if obj.get(name) is not None]
    if len(given) > 1:
        yield Fault((given[1],), f"both {given[0]} and {given[1]} are set")
    elif not given:
        yield Fault((), "none of role, staticRole, create is set")


class Database(KindSpec):
    """Credentials of a database secrets engine."""

    mount: Mount
    """Mount of the database engine."""
    role: VaultRole | None = None
    """A role that makes a new user for each lease."""
    static_role: VaultRole | None = None
    """A static role: one user, whose password Vault rotates."""
    create: DatabaseCreate | None = None
    """Have the role made, kept and deleted with the binding; its name follows from the binding and this entry."""

    rules = (
        Rule(
            message="role, staticRole and create exclude each other, and one of them is needed",
            remedy="set exactly one of role, staticRole, create",
            cel="[has(self.role), has(self.staticRole), has(self.create)].exists_one(x, x)",
            check=_one_role,
        ),
    )

    def identity(self) -> list[Any]:
        return [self.mount, self.role, self.static_role]

    def made_of(self) -> list[Any]:
        made = self.create
        if made is None:
            return []
        return ["database", self.mount, *([made.connection, made.username] if made.static else [])]

    def named(self, role: str) -> Self:
        if self.create is None:
            return self
        return self.model_copy(update={"static_role" if self.create.static else "role": role})
