"""Connections with what only `bootstrap` and `doctor` need. What is heavy to import is imported only here."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from secretbinding.settings import NomadSettings, Settings, VaultLogin, VaultSettings

if TYPE_CHECKING:
    from secretbinding.adapters.nomad.admin import NomadAdminAdapter
    from secretbinding.adapters.vault.admin import VaultAdminAdapter
    from secretbinding.ops.ports import Keys

_WORKERS = 4
_HURRY: Mapping[str, Any] = {"timeout_seconds": 10.0, "retry_seconds": 1.0, "retry_attempts": 2}


@dataclass(frozen=True, slots=True)
class Servers:
    """One adapter for each server, with all rights of their tokens, and a reader of signing keys."""

    vault: "VaultAdminAdapter"
    nomad: "NomadAdminAdapter"
    keys: "Keys"


@contextmanager
def servers(settings: Settings, *, patient: bool = True) -> Iterator[Servers]:
    """Connections to Vault and Nomad, closed at the end. Without patience a server that is away is not tried for long.
    Raises `errors.UsageError` for settings that cannot work."""
    from secretbinding.adapters.jwks import KeysAt
    from secretbinding.adapters.nomad.admin import NomadAdminAdapter
    from secretbinding.adapters.vault.admin import VaultAdminAdapter
    from secretbinding.connections import nomad_connection, vault_connection

    of_vault, of_nomad = vault_connection(settings, _WORKERS), nomad_connection(settings.nomad, _WORKERS)
    if not patient:
        of_vault, of_nomad = replace(of_vault, **_HURRY), replace(of_nomad, **_HURRY)
    vault, nomad = VaultAdminAdapter(of_vault), NomadAdminAdapter(of_nomad)
    try:
        yield Servers(vault, nomad, KeysAt(of_nomad))
    finally:
        vault.close()
        nomad.close()


def with_tokens(settings: Settings, *, vault: str | None = None, nomad: str | None = None) -> Settings:
    """The same settings with other tokens; None leaves one as it is."""
    made = copy(settings)
    made.vault = settings.vault if vault is None else _with_vault_token(settings.vault, vault)
    made.nomad = settings.nomad if nomad is None else _with_nomad_token(settings.nomad, nomad)
    return made


def _with_vault_token(settings: VaultSettings, token: str) -> VaultSettings:
    return settings.model_copy(update={"token": SecretStr(token), "token_file": None, "login": VaultLogin.TOKEN})


def _with_nomad_token(settings: NomadSettings, token: str) -> NomadSettings:
    return settings.model_copy(update={"token": SecretStr(token), "token_file": None})
