"""The specifications of all kinds of secrets: one module each; the field of `SecretEntry` registers it."""

from secretbinding.models.kinds.aws import Aws
from secretbinding.models.kinds.azure import Azure
from secretbinding.models.kinds.base import KindSpec, When
from secretbinding.models.kinds.database import Database, DatabaseCreate
from secretbinding.models.kinds.gcp import Gcp, GcpType
from secretbinding.models.kinds.generic import Capability, Generic
from secretbinding.models.kinds.kv import Kv, KvEngine
from secretbinding.models.kinds.nomad_variable import NomadVariable
from secretbinding.models.kinds.pki import KeyType, Pki, PkiCreate
from secretbinding.models.kinds.ssh import Ssh, SshType
from secretbinding.models.kinds.transit import TokenDelivery, Transit, TransitOperation

__all__ = [
    "Aws",
    "Azure",
    "Capability",
    "Database",
    "DatabaseCreate",
    "Gcp",
    "GcpType",
    "Generic",
    "KeyType",
    "KindSpec",
    "Kv",
    "KvEngine",
    "NomadVariable",
    "Pki",
    "PkiCreate",
    "Ssh",
    "SshType",
    "TokenDelivery",
    "Transit",
    "TransitOperation",
    "When",
]
