"""Vault and OpenBao: the adapter that fulfils `ports.Vault` with hvac's API classes over the lean transport."""

from secretbinding.adapters.vault.adapter import VaultAdapter

__all__ = ["VaultAdapter"]
