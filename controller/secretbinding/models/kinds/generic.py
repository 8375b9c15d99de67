"""The `generic` entry: any path of any secrets engine."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from secretbinding.models.base import Rule
from secretbinding.models.kinds.base import KindSpec, given_twice
from secretbinding.models.types import BarePath, Mount, PositiveDuration


class Capability(StrEnum):
    """What a policy allows on a path, in Vault's own words (`sudo` and `deny` cannot be granted by a binding)."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    LIST = "list"


class Generic(KindSpec):
    """Anything that a path of any secrets engine answers with."""

    mount: Mount
    """Mount of the secrets engine."""
    path: BarePath
    """Path below the mount."""
    capabilities: Annotated[
        tuple[Capability, ...],
        Field(min_length=1, max_length=6, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = (Capability.READ,)
    """What the job's policy allows on the path."""
    max_ttl: Annotated[PositiveDuration | None, Field(alias="maxTTL")] = None
    """Longest lifetime of a lease of this path, where Vault does not tell; decides when the job is rolled ahead."""

    rules = (
        Rule(
            message="a capability is given twice",
            remedy="give each capability once",
            check=lambda obj: given_twice(obj, "capabilities", "capability"),
        ),
    )

    def identity(self) -> list[Any]:
        return [self.mount, self.path]
