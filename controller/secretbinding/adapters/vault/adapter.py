"""Policies, roles, KV metadata and the configuration of engines of Vault or OpenBao, as `ports.Vault` asks for them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from hvac.api.auth_methods import JWT, Token
from hvac.api.system_backend import Health, Policies
from pydantic import SecretStr

from secretbinding.adapters.clocks import ServerClock
from secretbinding.adapters.connection import VaultConnection, token_ends
from secretbinding.adapters.discovery.finding import nodes_of
from secretbinding.adapters.transport import Call, OnCall, Transport, unexpected
from secretbinding.adapters.vault.approle import AppRoles
from secretbinding.adapters.vault.asking import Asker
from secretbinding.adapters.vault.engines import SecretsEngines
from secretbinding.adapters.vault.faults import judge
from secretbinding.adapters.vault.generation import NewValues
from secretbinding.adapters.vault.kv import KvSecrets
from secretbinding.adapters.vault.shapes import data_of, keys_of, mapping
from secretbinding.errors import Denied, NotFound
from secretbinding.ports import (
    Json,
    KvMetadata,
    LeaseLimits,
    PkiRole,
    SecretId,
    StaticRole,
    StaticUser,
    VaultHealth,
    WrappedSecretId,
)


class VaultAdapter:
    """Fulfils `ports.Vault`. Thread-safe: one for all workers. Every method raises `errors.ServiceError` subclasses.

    Args:
        connection: where and how; `UsageError` when it can never work.
        on_call: told about each attempt, for metrics.
        engine_seconds: how long the kind of a KV mount, how many versions it keeps, and the lifetimes that a mount
            sets, are remembered.
        now: our own wall clock; how far Vault's is from it is told by its answers.
    """

    def __init__(
        self,
        connection: VaultConnection,
        *,
        on_call: OnCall | None = None,
        engine_seconds: float = 300.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        headers = {"X-Vault-Request": "true"}
        if connection.namespace:
            headers["X-Vault-Namespace"] = connection.namespace
        self.clock = ServerClock(now)
        self._token = connection.token
        self._transport = Transport(
            connection,
            system="vault",
            token_header="X-Vault-Token",
            headers=headers,
            judge=judge,
            on_call=on_call,
            clock=self.clock,
            nodes=nodes_of(connection),
        )
        self._asker = Asker(self._transport, connection.namespace)
        self._call = self._asker.call
        self._hvac = self._asker.hvac
        self._kv = KvSecrets(self._asker, engine_seconds, self.clock.at_latest)
        self._engines = SecretsEngines(self._asker, engine_seconds)
        self._values = NewValues(self._asker)
        self._app_roles = AppRoles(self._asker)

    def __repr__(self) -> str:
        return f"VaultAdapter({self._transport!r})"

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def health(self) -> VaultHealth:
        call = Call("health", "read its health", anonymous=True)
        body = Health(adapter=self._hvac(call)).read_health_status(
            standby_ok=True,
            active_code=200,
            standby_code=200,
            dr_secondary_code=200,
            performance_standby_code=200,
            sealed_code=200,
            uninit_code=200,
            method="GET",
        )
        health = mapping(body, call)
        return VaultHealth(
            initialized=bool(health.get("initialized")),
            sealed=bool(health.get("sealed")),
            standby=bool(health.get("standby")),
            version=str(health.get("version", "")),
            cluster=str(health.get("cluster_name", "")),
        )

    def token_expiry(self) -> datetime | None:
        """When the own token ends unless it is renewed (`expire_time` of `auth/token/lookup-self`); None for one that
        never does. The answer holds the token itself, of which nothing is kept."""
        call = self._call("token_lookup", "look up its own token", "auth/token/lookup-self", "read")
        try:
            data = data_of(Token(adapter=self._hvac(call)).lookup_self(), call)
        except Denied:
            ends = token_ends(self._token)
            if ends is None:
                raise
            return ends
        return _moment(data.get("expire_time"), call)

    def read_policy(self, name: str) -> str | None:
        call = self._call("policy_read", f"read policy {name}", f"sys/policies/acl/{name}", "read")
        try:
            body = Policies(adapter=self._hvac(call)).read_acl_policy(name)
        except NotFound:
            return None
        return str(data_of(body, call).get("policy", ""))

    def write_policy(self, name: str, text: str) -> None:
        call = self._call("policy_write", f"write policy {name}", f"sys/policies/acl/{name}", "update")
        # hvac quotes the name in every policy method but this one.
        Policies(adapter=self._hvac(call)).create_or_update_acl_policy(quote(name), text)

    def delete_policy(self, name: str) -> None:
        call = self._call("policy_delete", f"delete policy {name}", f"sys/policies/acl/{name}", "delete")
        try:
            Policies(adapter=self._hvac(call)).delete_acl_policy(name)
        except NotFound:
            return

    def list_policies(self) -> Sequence[str]:
        call = self._call("policy_list", "list policies", "sys/policies/acl", "list")
        try:
            return keys_of(Policies(adapter=self._hvac(call)).list_acl_policies(), call)
        except NotFound:
            return ()

    def read_jwt_role(self, mount: str, name: str) -> Json | None:
        mount = mount.strip("/")
        call = self._call("role_read", f"read role {name} of {mount}", f"auth/{mount}/role/{name}", "read")
        try:
            return data_of(JWT(adapter=self._hvac(call)).read_role(name, path=mount), call)
        except NotFound:
            return None

    def write_jwt_role(self, mount: str, name: str, body: Json) -> None:
        mount = mount.strip("/")
        path = f"auth/{mount}/role/{name}"
        call = self._call("role_write", f"write role {name} of {mount}", path, "create", "update")
        try:
            # hvac's create_role insists on redirect URIs and adds fields of its own.
            self._hvac(call).post(url=f"/v1/{quote(path)}", json=body)
            return
        except NotFound:
            pass
        raise self._asker.no_mount(
            call, f"no auth method is enabled at {mount}", "enable jwt auth there, or set SECRETBINDING_JWT_MOUNT"
        )

    def delete_jwt_role(self, mount: str, name: str) -> None:
        mount = mount.strip("/")
        call = self._call("role_delete", f"delete role {name} of {mount}", f"auth/{mount}/role/{name}", "delete")
        try:
            JWT(adapter=self._hvac(call)).delete_role(name, path=mount)
        except NotFound:
            return

    def list_jwt_roles(self, mount: str) -> Sequence[str]:
        mount = mount.strip("/")
        call = self._call("role_list", f"list roles of {mount}", f"auth/{mount}/role", "list")
        try:
            return keys_of(JWT(adapter=self._hvac(call)).list_roles(path=mount), call)
        except NotFound:
            return ()

    def kv_engine(self, mount: str) -> str | None:
        """`v1`, `v2` or None; remembered for `engine_seconds`, None for half a minute at most."""
        return self._kv.engine(mount)

    def kv_max_versions(self, mount: str) -> int | None:
        """See `ports.Vault`; remembered for `engine_seconds`, None for half a minute at most."""
        return self._kv.max_versions(mount)

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        """See `ports.Vault`; raises `NotFound` when nothing is mounted at `mount`."""
        return self._kv.metadata(mount, path)

    def kv_fields(self, mount: str, path: str, version: int) -> Mapping[str, Any] | None:
        """See `ports.Vault`; raises `NotFound` when nothing is mounted at `mount`."""
        return self._kv.fields(mount, path, version)

    def static_role(self, mount: str, name: str) -> StaticRole | None:
        """See `ports.Vault`; raises `NotFound` when no database engine is mounted at `mount`."""
        return self._engines.static_role(mount, name)

    def database_role(self, mount: str, name: str) -> LeaseLimits | None:
        """See `ports.Vault`; raises `NotFound` when no database engine is mounted at `mount`."""
        return self._engines.database_role(mount, name)

    def pki_role(self, mount: str, name: str) -> PkiRole | None:
        """See `ports.Vault`; raises `NotFound` when no PKI engine is mounted at `mount`."""
        return self._engines.pki_role(mount, name)

    def pki_issuer(self, mount: str, issuer: str) -> str | None:
        """See `ports.Vault`; raises `NotFound` when no PKI engine is mounted at `mount`."""
        return self._engines.pki_issuer(mount, issuer)

    def read_engine_config(self, path: str) -> Json | None:
        """See `ports.Vault`; raises `NotFound` when nothing that has such a path is mounted there."""
        return self._engines.read_config(path)

    def static_users(self, mount: str) -> Mapping[str, StaticUser]:
        """See `ports.Vault`."""
        return self._engines.static_users(mount)

    def write_engine_role(self, path: str, body: Json) -> None:
        """See `ports.Vault`; raises `NotFound` when nothing that has such a path is mounted there."""
        self._engines.write_role(path, body)

    def delete_engine_role(self, path: str) -> None:
        """See `ports.Vault`."""
        self._engines.delete_role(path)

    def generate_password(self, policy: str) -> SecretStr:
        """See `ports.Vault`; raises `NotFound` when there is no such policy."""
        return self._values.password(policy)

    def new_secret_id(self, mount: str, role: str) -> SecretId:
        """See `ports.Vault`; raises `NotFound` when there is no such role."""
        return self._values.secret_id(mount, role)

    def drop_secret_id(self, mount: str, role: str, accessor: str) -> None:
        """See `ports.Vault`."""
        self._values.drop_secret_id(mount, role, accessor)

    def present(self) -> datetime:
        """See `ports.Vault`."""
        return self.clock.now()

    def read_app_role(self, mount: str, name: str) -> Json | None:
        """See `ports.Vault`."""
        return self._app_roles.read(mount, name)

    def write_app_role(self, mount: str, name: str, body: Json) -> None:
        """See `ports.Vault`; raises `NotFound` when no auth method is enabled at the mount."""
        self._app_roles.write(mount, name, body)

    def delete_app_role(self, mount: str, name: str) -> None:
        """See `ports.Vault`."""
        self._app_roles.delete(mount, name)

    def wrapped_secret_id(self, mount: str, role: str, seconds: int) -> WrappedSecretId:
        """See `ports.Vault`."""
        return self._app_roles.wrapped_secret_id(mount, role, seconds)

    def is_sealed(self, token: SecretStr, mount: str, role: str) -> bool:
        """See `ports.Vault`."""
        return self._app_roles.is_sealed(token, mount, role)

    def secret_id_uses(self, mount: str, role: str, accessor: str) -> int | None:
        """See `ports.Vault`."""
        return self._app_roles.secret_id_uses(mount, role, accessor)

    def patch_kv(self, mount: str, path: str, fields: Mapping[str, SecretStr], *, seen: int) -> int:
        """See `ports.Vault`."""
        return self._values.patch_kv(mount, path, fields, seen=seen)

    def rotate_static_role(self, mount: str, name: str) -> None:
        """See `ports.Vault`."""
        self._values.rotate_static_role(mount, name)

    def rotate_root(self, mount: str, connection: str) -> None:
        """See `ports.Vault`."""
        self._values.rotate_root(mount, connection)

    def mount_limits(self, mount: str) -> LeaseLimits | None:
        """See `ports.Vault`; remembered for `engine_seconds`, None for half a minute at most."""
        return self._engines.mount_limits(mount)


def _moment(text: Any, call: Call) -> datetime | None:
    """A time of Vault's, None when it gives none. Raises `ServiceError` for another shape."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        pass
    raise unexpected("vault", call, "JSON of another shape")
