"""`revoke`: end the tokens that tasks got by a role, by their accessors."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated

import typer

from secretbinding.cli.connect import read_settings
from secretbinding.cli.console import emit
from secretbinding.cli.options import Connection, DryRun
from secretbinding.errors import UsageError
from secretbinding.naming import name_prefix

if TYPE_CHECKING:
    from secretbinding.adapters.vault.revocation import LoginToken, RevokingVaultAdapter

_THREADS = 8


def revoke(
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="NAME", help="The role that the tokens were got by. May be repeated."),
    ] = None,
    deleted: Annotated[
        bool,
        typer.Option("--deleted", help="All roles of this instance that are not there any more."),
    ] = False,
    connection: Connection = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRun = False,
) -> int:
    """Revoke the Vault tokens that Nomad's tasks, or their agents, got by a role of a binding.

    A token loses what a binding gave it when the binding's policy is deleted: nothing has to be revoked for that. What
    goes on until the token ends is its leases (database users, cloud credentials) and the token itself. This ends both.

    The controller may not do this, and must not: it needs rights over the tokens of everybody
    (deploy/vault-policy-revoke.hcl). Run it with a token of your own. A task that runs and whose token is revoked is
    ended or restarted by Nomad.

    Examples:

      secretbinding revoke --deleted --dry-run

      secretbinding revoke --role nsb.default.payments.4x7c2k3wq6yd5j7m2n4p6r8t2v
    """
    if bool(role) == deleted:
        raise UsageError("whose tokens is not said", remedy="give either --role or --deleted")
    from secretbinding.adapters.vault.revocation import RevokingVaultAdapter
    from secretbinding.connections import vault_connection

    settings = read_settings(connection)
    prefix = name_prefix(settings.controller.instance)
    for name in role or ():
        if not name.startswith(prefix):
            raise UsageError(
                f"{name} is no role of instance {settings.controller.instance}",
                remedy=f"its roles begin with {prefix}; SECRETBINDING_INSTANCE names another instance",
            )
    mounts = (settings.controller.jwt_mount.strip("/"), settings.agents().approle_mount)
    vault = RevokingVaultAdapter(vault_connection(settings, _THREADS))
    try:
        there: dict[str, frozenset[str]] = {}
        if deleted:
            jwt, approle = mounts
            there = {jwt: frozenset(vault.list_jwt_roles(jwt)), approle: frozenset(vault.list_app_roles(approle))}
        found = [
            token
            for token in _tokens(vault)
            if (mount := _mount(token)) in mounts
            and token.role.startswith(prefix)
            and (token.role not in there[mount] if deleted else token.role in (role or ()))
        ]
        for token in found:
            emit(f"- token {token.accessor} of role {token.role}, {token.ttl_seconds} s left")
        if not found:
            emit("no token is there")
        if dry_run or not found or not _agreed(yes, len(found)):
            return 0
        for token in found:
            vault.revoke_accessor(token.accessor)
        emit(f"{len(found)} token(s) revoked")
        return 0
    finally:
        vault.close()


def _mount(token: "LoginToken") -> str:
    """The auth mount that a token was got from by a login, "" for another one."""
    beginning, end = "auth/", "/login"
    path = token.path
    return path[len(beginning) : -len(end)] if path.startswith(beginning) and path.endswith(end) else ""


def _tokens(vault: "RevokingVaultAdapter") -> "Sequence[LoginToken]":
    with ThreadPoolExecutor(_THREADS) as pool:
        return [token for token in pool.map(vault.token_of, vault.accessors()) if token is not None]


def _agreed(yes: bool, count: int) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to agree", remedy="give --yes, or --dry-run to see what would be done")
    if not typer.confirm(f"Revoke {count} token(s)?"):
        raise typer.Abort
    return True
