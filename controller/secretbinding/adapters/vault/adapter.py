"""Policies, roles, KV metadata and the configuration of engines of Vault or OpenBao, as `ports.Vault` asks for them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from hvac.api.auth_methods import JWT, Token
from hvac.api.secrets_engines import KvV2
from hvac.api.system_backend import Health, Policies
from pydantic import SecretStr

from secretbinding.adapters.clocks import ServerClock
from secretbinding.adapters.connection import VaultConnection, token_ends
from secretbinding.adapters.discovery.finding import nodes_of
from secretbinding.adapters.transport import Answer, Call, OnCall, Transport, unexpected
from secretbinding.adapters.vault.approle import AppRoles
from secretbinding.adapters.vault.engines import SecretsEngines
from secretbinding.adapters.vault.faults import NO_ROUTE, judge
from secretbinding.adapters.vault.generation import NewValues
from secretbinding.adapters.vault.remembered import Remembered
from secretbinding.adapters.vault.shapes import data_of, keys_of, mapping
from secretbinding.errors import Denied, NotFound, Rejected
from secretbinding.ports import (
    Json,
    KvMetadata,
    KvVersion,
    LeaseLimits,
    PkiRole,
    SecretId,
    StaticRole,
    StaticUser,
    VaultHealth,
    WrappedSecretId,
)

_MERGE_PATCH = "application/merge-patch+json"
_VERBS = {"patch": "patch", "read": "read", "list": "list", "update": "write", "create": "write", "delete": "delete"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


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
        self._where = f" in namespace {connection.namespace}" if connection.namespace else ""
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
        self._kv_engines: Remembered[str] = Remembered(engine_seconds)
        self._kv_max_versions: Remembered[int] = Remembered(engine_seconds)
        self._engines = SecretsEngines(_Reader(self), engine_seconds)
        self._values = NewValues(_Writer(self))
        self._app_roles = AppRoles(_Writer(self))

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
        raise self._no_mount(
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
        return self._kv_engines.get(mount.strip("/"), self._ask_engine)

    def kv_max_versions(self, mount: str) -> int | None:
        """See `ports.Vault`; remembered for `engine_seconds`, None for half a minute at most."""
        return self._kv_max_versions.get(mount.strip("/"), self._ask_max_versions)

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        """See `ports.Vault`; raises `NotFound` when nothing is mounted at `mount`."""
        mount = mount.strip("/")
        call = self._call("kv_metadata_read", f"read metadata of {mount}/{path}", f"{mount}/metadata/{path}", "read")
        try:
            body = KvV2(adapter=self._hvac(call)).read_secret_metadata(path, mount_point=mount)
        except NotFound as absent:
            self._check_mounted(absent, call, mount)
            return None
        return _metadata(data_of(body, call), self.clock.at_latest(), call)

    def kv_fields(self, mount: str, path: str, version: int) -> Mapping[str, Any] | None:
        """See `ports.Vault`; raises `NotFound` when nothing is mounted at `mount`."""
        mount = mount.strip("/")
        subkeys = f"{mount}/subkeys/{path}"
        call = self._call("kv_subkeys_read", f"read field names of {mount}/{path}", subkeys, "read")
        try:
            body = self._hvac(call).get(url=f"/v1/{quote(subkeys)}", params={"version": version})
        except NotFound as absent:
            self._check_mounted(absent, call, mount)
            return None
        return mapping(data_of(body, call).get("subkeys") or {}, call)

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

    def _ask_engine(self, mount: str) -> str | None:
        path = f"sys/internal/ui/mounts/{mount}"
        call = self._call("mount_read", f"read the kind of mount {mount}", path, "read")
        try:
            found = data_of(self._hvac(call).get(url=f"/v1/{quote(path)}"), call)
        except (Denied, NotFound):
            # It is told only to those who may do something in the mount: with version 1 the controller may nothing.
            return self._ask_tuned_engine(mount)
        if found.get("type") not in ("kv", "generic"):
            return None
        return "v2" if mapping(found.get("options") or {}, call).get("version") == "2" else "v1"

    def _ask_tuned_engine(self, mount: str) -> str | None:
        path = f"sys/mounts/{mount}/tune"
        call = self._call("mount_tune_read", f"read the kind of mount {mount}", path, "read")
        try:
            found = data_of(self._hvac(call).get(url=f"/v1/{quote(path)}"), call)
        except (Denied, NotFound, Rejected):
            return None
        return "v2" if mapping(found.get("options") or {}, call).get("version") == "2" else "v1"

    def _ask_max_versions(self, mount: str) -> int | None:
        path = f"{mount}/config"
        call = self._call("kv_config_read", f"read how many versions mount {mount} keeps", path, "read")
        try:
            found = data_of(self._hvac(call).get(url=f"/v1/{quote(path)}"), call)
        except (Denied, NotFound, Rejected):
            return None
        try:
            return int(found.get("max_versions") or 0)
        except (ValueError, TypeError, OverflowError):
            pass
        raise unexpected("vault", call, "JSON of another shape")

    def _check_mounted(self, absent: NotFound, call: Call, mount: str) -> None:
        if NO_ROUTE in absent.message:
            raise self._no_mount(
                call, f"no secrets engine is mounted at {mount}", "enable it, or correct the binding's mount"
            ) from None

    def _no_mount(self, call: Call, message: str, remedy: str) -> NotFound:
        return NotFound(f"{message}{self._where}", system="vault", operation=call.text, status=404, remedy=remedy)

    def _call(self, label: str, text: str, path: str, *capabilities: str, anonymous: bool = False) -> Call:
        if _CONTROL.search(path) or any(segment in ("", ".", "..") for segment in path.split("/")):
            raise Rejected(
                f"{path!r} is not a path in Vault",
                system="vault",
                operation=label,
                remedy="take out empty segments, dots and control characters",
            )
        needs = " and ".join(f"`{capability}`" for capability in capabilities)
        listed = ", ".join(f'"{capability}"' for capability in capabilities)
        noun = "capability" if len(capabilities) == 1 else "capabilities"
        verb = "update" if capabilities == ("update",) else _VERBS[capabilities[0]]
        return Call(
            label,
            text,
            denied=f"the Vault token may not {verb} {path}{self._where}, which needs {noun} {needs}",
            grant=f'add `path "{path}" {{ capabilities = [{listed}] }}` to its policy',
            anonymous=anonymous,
        )

    def _hvac(self, call: Call) -> "_HvacAdapter":
        return _HvacAdapter(self._transport, call)


class _Writer:
    """How writes of new values ask the adapter."""

    def __init__(self, adapter: VaultAdapter) -> None:
        self._adapter = adapter

    def call(
        self,
        label: str,
        text: str,
        path: str,
        *capabilities: str,
        hidden: tuple[str, ...] = (),
        once: bool = False,
        merge: bool = False,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Call:
        call = self._adapter._call(label, text, path, *capabilities)
        kind = _MERGE_PATCH if merge else call.content_type
        return replace(call, hidden=hidden, repeatable=not once, content_type=kind, headers=headers)

    def send(self, call: Call, method: str, path: str, body: Json | None = None) -> Any:
        return self._adapter._hvac(call).send(method, f"/v1/{quote(path)}", body)


class _Reader:
    """How requests about secrets engines ask the adapter."""

    def __init__(self, adapter: VaultAdapter) -> None:
        self.call = adapter._call
        self.no_mount = adapter._no_mount
        self._hvac = adapter._hvac

    def get(self, call: Call, path: str) -> Any:
        return self._hvac(call).get(url=f"/v1/{quote(path)}")

    def list(self, call: Call, path: str) -> Any:
        return self._hvac(call).list(url=f"/v1/{quote(path)}/")

    def post(self, call: Call, path: str, body: Json) -> Any:
        return self._hvac(call).post(url=f"/v1/{quote(path)}", json=body)

    def delete(self, call: Call, path: str) -> Any:
        return self._hvac(call).delete(url=f"/v1/{quote(path)}")


class _HvacAdapter:
    """What hvac's API classes call, bound to one call: gives the JSON of an answer, or the answer if there is none."""

    __slots__ = ("_call", "_transport")

    def __init__(self, transport: Transport, call: Call) -> None:
        self._transport = transport
        self._call = call

    def get(self, url: str, params: Mapping[str, Any] | None = None, **_: object) -> Any:
        return self._send("GET", url, params, None)

    def list(self, url: str, **_: object) -> Any:
        # As Vault's own client does: proxies do not know the method LIST.
        return self._send("GET", url, {"list": "true"}, None)

    def post(self, url: str, json: Any = None, **_: object) -> Any:
        return self._send("POST", url, None, json)

    def put(self, url: str, json: Any = None, **_: object) -> Any:
        return self._send("PUT", url, None, json)

    def delete(self, url: str, **_: object) -> Any:
        return self._send("DELETE", url, None, None)

    def send(self, method: str, url: str, body: Any) -> Any:
        return self._send(method, url, None, body)

    def _send(self, method: str, url: str, params: Mapping[str, Any] | None, body: Any) -> Any:
        answer: Answer = self._transport.send(self._call, method, url, params=params, body=body)
        return answer.json() if answer.body else answer


def _metadata(body: Mapping[str, Any], now: datetime, call: Call) -> KvMetadata:
    """One secret's metadata. Raises `ServiceError` for another shape."""
    try:
        return KvMetadata(
            current=int(body.get("current_version", 0)),
            versions={
                int(number): _version(int(number), each, now) for number, each in (body.get("versions") or {}).items()
            },
            max_versions=int(body.get("max_versions", 0)),
        )
    except (ValueError, TypeError, AttributeError, OverflowError):
        pass
    raise unexpected("vault", call, "JSON of another shape")


def _version(number: int, body: Mapping[str, Any], now: datetime) -> KvVersion:
    deletion = str(body.get("deletion_time") or "")
    return KvVersion(
        number=number,
        created=str(body.get("created_time", "")),
        deleted=bool(deletion) and datetime.fromisoformat(deletion) <= now,
        destroyed=bool(body.get("destroyed")),
    )


def _moment(text: Any, call: Call) -> datetime | None:
    """A time of Vault's, None when it gives none. Raises `ServiceError` for another shape."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        pass
    raise unexpected("vault", call, "JSON of another shape")
