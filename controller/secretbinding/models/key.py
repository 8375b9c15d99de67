"""The two identities everything else is indexed by: a binding, and the Nomad job it works on."""

from dataclasses import dataclass

DEFAULT_CONNECTION = "default"
"""The connection of whoever names none."""


@dataclass(frozen=True, slots=True, order=True)
class BindingKey:
    """One SecretBinding.

    `source` is `kubernetes`, `nomad` or `files`; `tenant` is the namespace that the binding lives in (a Kubernetes
    namespace, a Nomad namespace, or the manifest's `metadata.namespace`); `name` is `metadata.name`.
    """

    source: str
    tenant: str
    name: str

    def __str__(self) -> str:
        return f"{self.source}/{self.tenant}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class WorkloadKey:
    """One Nomad job, the unit of reconciliation.

    `connection` names the configured pair of Nomad and Vault; `region` is "" for the connection's own region.
    """

    connection: str
    region: str
    namespace: str
    job: str

    def __str__(self) -> str:
        place = "/".join(part for part in (self.connection, self.region, self.namespace) if part)
        return f"{place}/{self.job}"
