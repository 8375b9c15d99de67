"""Which product a Vault server is: HashiCorp Vault and OpenBao take audit devices in different ways. Pure."""

from collections.abc import Mapping
from enum import StrEnum

from secretbinding.ops.ports import AuthMount


class Product(StrEnum):
    """A server that speaks Vault's API."""

    VAULT = "HashiCorp Vault"
    OPENBAO = "OpenBao"
    UNKNOWN = "Vault or OpenBao"


def product_of(mounts: Mapping[str, AuthMount] | None) -> Product:
    """The product, by what runs its token auth method (`running_plugin_version` in `sys/auth`, Vault 1.12+); None for
    mounts that could not be read."""
    plugin = mounts["token"].plugin if mounts is not None and "token" in mounts else ""
    if plugin.endswith("builtin.bao"):
        return Product.OPENBAO
    return Product.VAULT if plugin.endswith("builtin.vault") else Product.UNKNOWN
