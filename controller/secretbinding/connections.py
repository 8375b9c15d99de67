"""From settings to connections: addresses, tokens and logins, with errors that name the environment variable."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from secretbinding.adapters.connection import ConsulConnection, NomadConnection, TokenFile, VaultConnection
from secretbinding.adapters.discovery import plain_address
from secretbinding.adapters.transport import OnCall
from secretbinding.adapters.vault.login import AppRoleLogin, CertLogin, Given, JwtLogin, LoginMethod
from secretbinding.adapters.vault.session import VaultSession
from secretbinding.errors import UsageError
from secretbinding.models.key import DEFAULT_CONNECTION
from secretbinding.ops.rights import Scope
from secretbinding.settings import ConsulSettings, NomadSettings, Settings, VaultLogin, VaultSettings

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_IDENTITY = "nomad_vault.jwt"
"""What Nomad calls the file of an identity named `vault`, in the task's secrets directory."""
_VARIABLE = re.compile(r"\b[A-Z][A-Z_]+[A-Z]\b")


def vault_connection(
    settings: Settings, workers: int, *, on_call: OnCall | None = None, keep: bool = False
) -> VaultConnection:
    """The connection to Vault that the settings ask for. A login happens at the first request; with `keep` a token that
    is given is renewed, too. Whoever closes the adapter ends the session. Raises `UsageError`."""
    own = settings.vault
    consul = ConsulConnection(**_common(settings.consul, workers), token=_given(settings.consul))
    plain = VaultConnection(**_common(own, workers), namespace=own.namespace, consul=consul)
    method = login_method(settings)
    given = _given(own)
    if method is None and not (keep and given):
        return replace(plain, token=given)
    session = VaultSession(
        plain, login=method, login_namespace=own.login_namespace, token=given, on_call=on_call, keep=True
    )
    return replace(plain, token=session)


@contextmanager
def blamed_on(settings: Settings) -> Iterator[None]:
    """Let a `UsageError` about the servers name the settings of this connection. What is checked further down knows
    variables only, and those are the default connection's."""
    try:
        yield
    except UsageError as error:
        if settings.connection == DEFAULT_CONNECTION:
            raise
        places = _places(settings)
        message, remedy = (
            _VARIABLE.sub(lambda found: places.get(found[0], found[0]), text) for text in (error.message, error.remedy)
        )
        raise UsageError(f"connection {settings.connection}: {message}", remedy=remedy) from None


def _places(settings: Settings) -> dict[str, str]:
    """Where the connection's file sets what a variable sets for the default one."""
    servers = (settings.vault, settings.nomad, settings.consul)
    found = {own.variable(field): own.place(field) for own in servers for field in type(own).model_fields}
    # Consul's address is a part of Vault's.
    return {**found, "CONSUL_ADDR": settings.vault.place("address")}


def nomad_connection(settings: NomadSettings, workers: int) -> NomadConnection:
    """The connection to Nomad that the settings ask for. A token file is read again whenever it changes."""
    return NomadConnection(
        **_common(settings, workers), token=_given(settings), region=settings.region, long_pool_size=64
    )


def login_method(settings: Settings) -> LoginMethod | None:
    """How to log in to Vault; None for a token that is given. Raises `UsageError` that names the variable."""
    own = settings.vault
    mount = own.login_mount.strip("/")
    role = own.login_role or Scope(instance=settings.controller.instance).name
    match own.login:
        case VaultLogin.TOKEN:
            return None
        case VaultLogin.KUBERNETES:
            return JwtLogin(
                "kubernetes", mount or "kubernetes", role, Given(path=own.login_jwt_file or _SERVICE_ACCOUNT)
            )
        case VaultLogin.NOMAD:
            path = own.login_jwt_file or _identity_file(own)
            return JwtLogin("jwt", mount or settings.controller.jwt_mount, role, Given(path=path))
        case VaultLogin.JWT:
            if own.login_jwt_file is None:
                raise UsageError(
                    f"{own.place('login_jwt_file')} is not set",
                    remedy="set it to the file with the token to log in with",
                )
            return JwtLogin("jwt", mount or "jwt", role, Given(path=own.login_jwt_file))
        case VaultLogin.APPROLE:
            return AppRoleLogin(
                mount or "approle",
                role,
                _either(own, "login_role_id", own.login_role_id, own.login_role_id_file),
                _either(own, "login_secret_id", own.login_secret_id.get_secret_value(), own.login_secret_id_file),
                own.login_secret_id_wrapped,
            )
        case VaultLogin.CERT:
            if not plain_address(own.address).startswith("https:") or not own.client_cert:
                raise UsageError(
                    f"{own.place('login')} is cert, and there is no TLS with a client certificate",
                    remedy=f"set {own.place('client_cert')} and {own.place('client_key')}, and {own.place('address')} "
                    "to https://",
                )
            return CertLogin(mount or "cert", own.login_role, Path(own.client_cert))


def _identity_file(own: VaultSettings) -> Path:
    secrets = os.environ.get("NOMAD_SECRETS_DIR", "")
    if not secrets:
        raise UsageError(
            f"{own.place('login')} is nomad, and this is no task of Nomad's",
            remedy=f"set {own.place('login_jwt_file')} to the file of the identity, or run as a Nomad task",
        )
    return Path(secrets) / _IDENTITY


def _either(own: VaultSettings, name: str, value: str, path: Path | None) -> Given:
    if bool(value) == (path is not None):
        raise UsageError(
            f"{own.place('login')} is approle, which needs one of {own.place(name)} and {own.place(f'{name}_file')}",
            remedy="set one of the two",
        )
    return Given(value, path)


def _given(settings: VaultSettings | NomadSettings | ConsulSettings) -> TokenFile | str:
    return TokenFile(settings.token_file) if settings.token_file else settings.token.get_secret_value()


def _common(settings: VaultSettings | NomadSettings | ConsulSettings, workers: int) -> dict[str, Any]:
    return {
        "address": settings.address,
        "ca_cert": settings.ca_cert,
        "ca_path": settings.ca_path,
        "client_cert": settings.client_cert,
        "client_key": settings.client_key,
        "tls_server_name": settings.tls_server_name,
        "skip_verify": settings.skip_verify,
        "pool_size": workers + 2,
    }
