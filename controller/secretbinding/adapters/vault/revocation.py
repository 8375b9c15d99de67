"""Tokens of other people, by accessor: what only `revoke` needs, and no controller may."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hvac.api.auth_methods import AppRole, Token

from secretbinding.adapters.vault.listing import ListingVaultAdapter
from secretbinding.adapters.vault.shapes import data_of, keys_of
from secretbinding.errors import Denied, NotFound, Rejected


@dataclass(frozen=True, slots=True)
class LoginToken:
    """A token as its accessor shows it: never the token itself. `role` is that of the login, `name` whose it is."""

    accessor: str
    path: str
    role: str
    name: str
    ttl_seconds: int


class RevokingVaultAdapter(ListingVaultAdapter):
    """The Vault adapter with a look at all tokens."""

    def accessors(self) -> Sequence[str]:
        """The accessors of all tokens of the namespace (`LIST auth/token/accessors`, which needs `sudo`)."""
        call = self._call("accessors_list", "list accessors of tokens", "auth/token/accessors", "list", "sudo")
        try:
            return keys_of(Token(adapter=self._hvac(call)).list_accessors(), call)
        except NotFound:
            return ()

    def list_app_roles(self, mount: str) -> Sequence[str]:
        """The AppRoles of an auth mount, none when nothing is enabled there (`LIST auth/<mount>/role`)."""
        call = self._call("app_role_list", f"list AppRoles of {mount}", f"auth/{mount}/role", "list")
        try:
            return keys_of(AppRole(adapter=self._hvac(call)).list_roles(mount_point=mount), call)
        except NotFound:
            return ()

    def token_of(self, accessor: str) -> LoginToken | None:
        """What an accessor shows; None for a token that has ended meanwhile."""
        call = self._call(
            "accessor_lookup", "look up a token by its accessor", "auth/token/lookup-accessor", "create", "update"
        )
        try:
            data = data_of(Token(adapter=self._hvac(call)).lookup_accessor(accessor), call)
        except Denied as error:
            # Vault answers the same for an accessor that is not there; that we may ask at all, the first one shows.
            if "invalid accessor" in error.message:
                return None
            raise
        except (NotFound, Rejected):
            return None
        meta = data.get("meta")
        known: Mapping[str, Any] = meta if isinstance(meta, Mapping) else {}
        return LoginToken(
            accessor,
            str(data.get("path", "")),
            # A login by AppRole calls it so.
            str(known.get("role") or known.get("role_name") or ""),
            str(data.get("display_name", "")),
            int(data.get("ttl") or 0),
        )

    def revoke_accessor(self, accessor: str) -> None:
        """Revoke a token and what hangs on it; one that has ended is success."""
        call = self._call(
            "accessor_revoke",
            f"revoke the token with accessor {accessor}",
            "auth/token/revoke-accessor",
            "create",
            "update",
        )
        try:
            Token(adapter=self._hvac(call)).revoke_accessor(accessor)
        except (NotFound, Rejected):
            return
