"""The kinds of secrets: one module each, and one line here that registers it."""

from collections.abc import Mapping, Sequence

from secretbinding.kinds.aws import AwsKind
from secretbinding.kinds.azure import AzureKind
from secretbinding.kinds.base import (
    Changes,
    EngineRole,
    Fault,
    Kind,
    Pin,
    Reading,
    Right,
    RoleMaker,
    SecretState,
    Subject,
    Use,
)
from secretbinding.kinds.database import DatabaseKind
from secretbinding.kinds.gcp import GcpKind
from secretbinding.kinds.generic import GenericKind
from secretbinding.kinds.kv import KvKind
from secretbinding.kinds.nomad_variable import NomadVariableKind
from secretbinding.kinds.pki import PkiKind
from secretbinding.kinds.ssh import SshKind
from secretbinding.kinds.transit import TransitKind
from secretbinding.models.binding import SecretBinding, SecretEntry
from secretbinding.naming import Owner, engine_role_name
from secretbinding.ports import Nomad, Vault

KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        KvKind(),
        DatabaseKind(),
        PkiKind(),
        SshKind(),
        AwsKind(),
        GcpKind(),
        AzureKind(),
        TransitKind(),
        NomadVariableKind(),
        GenericKind(),
    )
}

__all__ = [
    "KINDS",
    "Changes",
    "EngineRole",
    "Fault",
    "Kind",
    "Pin",
    "Reading",
    "Right",
    "SecretState",
    "Subject",
    "Use",
    "engine_role",
    "look",
    "with_role_names",
]


def look(entry: SecretEntry, vault: Vault, nomad: Nomad, namespace: str, versions: Sequence[int] = ()) -> SecretState:
    """What can be known of a secret without its values, wherever it is kept; `namespace` is the job's. Raises
    `errors.ServiceError` subclasses."""
    kind = KINDS[entry.kind_name]
    if isinstance(kind, NomadVariableKind):
        return kind.observe_in(entry, nomad, namespace)
    return kind.observe(entry, vault, versions)


def engine_role(entry: SecretEntry) -> EngineRole | None:
    """The role of a secrets engine that is made for an entry (`create`), None where it names one that is there."""
    kind = KINDS[entry.kind_name]
    return kind.engine_role(entry) if isinstance(kind, RoleMaker) else None


def with_role_names(binding: SecretBinding, owner: Owner) -> SecretBinding:
    """The binding with the names of the roles that are made for it, each in the field that names one otherwise. Not a
    manifest any more: there, a role and `create` exclude each other."""
    secrets = tuple(_named(entry, owner) for entry in binding.spec.secrets)
    if all(new is old for new, old in zip(secrets, binding.spec.secrets, strict=True)):
        return binding
    return binding.model_copy(update={"spec": binding.spec.model_copy(update={"secrets": secrets})})


def _named(entry: SecretEntry, owner: Owner) -> SecretEntry:
    made_of = entry.source.made_of()
    return entry.named(engine_role_name(owner, entry.name, made_of)) if made_of else entry
