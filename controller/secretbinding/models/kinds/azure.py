"""The `azure` entry: a service principal's credentials of an Azure engine."""

from typing import Annotated, Any

from pydantic import Field

from secretbinding.models.kinds.base import KindSpec
from secretbinding.models.types import Mount, PositiveDuration, VaultRole


class Azure(KindSpec):
    """Credentials of a service principal, by an Azure secrets engine."""

    mount: Mount
    """Mount of the Azure engine."""
    role: VaultRole
    """Role of the Azure engine."""
    max_ttl: Annotated[PositiveDuration | None, Field(alias="maxTTL")] = None
    """Longest lifetime of the credentials, where the engine does not tell; decides when the job is rolled ahead."""

    def identity(self) -> list[Any]:
        return [self.mount, self.role]
