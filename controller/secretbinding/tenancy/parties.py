"""Whose binding it is, and which job gets its secrets."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from secretbinding.models.key import DEFAULT_CONNECTION


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose binding it is.

    Attributes:
        source: `kubernetes`, `nomad` or `files`.
        name: the namespace, or what the directory of files is configured as.
        labels: None when they are not known; then nobody has any, and nobody lacks any either.
    """

    source: str
    name: str
    labels: Mapping[str, str] | None = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"


@dataclass(frozen=True, slots=True)
class Target:
    """The job that gets the secrets. `drivers` of its tasks that do; None while the job is not known. `connection` is
    the one by which its Nomad, and Vault, are reached."""

    namespace: str
    job: str
    region: str = ""
    drivers: frozenset[str] | None = None
    connection: str = DEFAULT_CONNECTION

    @property
    def title(self) -> str:
        """For people."""
        place = "" if self.connection == DEFAULT_CONNECTION else f" of connection {self.connection}"
        return f"job {self.namespace}/{self.job}{place}"
