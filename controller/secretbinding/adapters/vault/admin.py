"""Auth mounts, configuration, tokens and audit devices of Vault or OpenBao, as `ops.ports.VaultAdmin` asks for them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from hvac.api.auth_methods import AppRole, Token
from hvac.api.system_backend import Audit, Auth, Capabilities, Leader

from secretbinding.adapters.transport import Answer, Call, Transport, unexpected
from secretbinding.adapters.vault.listing import ListingVaultAdapter
from secretbinding.adapters.vault.shapes import data_of, keys_of, mapping
from secretbinding.errors import NotFound, ServiceError
from secretbinding.ops.ports import AuditDevice, AuthMount, Clock, Issued, VaultLeader, VaultToken
from secretbinding.ports import Json

_ALL_ANSWER = {"standbyok": "true", "perfstandbyok": "true", "sealedcode": 200, "uninitcode": 200}


class VaultAdminAdapter(ListingVaultAdapter):
    """The Vault adapter with what only `bootstrap` and `doctor` need. See `ops.ports.VaultAdmin`."""

    def measured_clock(self) -> Clock:
        call = Call("health", "read its health", anonymous=True)
        return clock_of(self._transport, call, "/v1/sys/health", _ALL_ANSWER)

    def leader(self) -> VaultLeader:
        call = Call("leader_read", "read its leader", anonymous=True)
        body = mapping(Leader(adapter=self._hvac(call)).read_leader_status(), call)
        return VaultLeader(bool(body.get("ha_enabled")), str(body.get("leader_address") or ""))

    def auth_mounts(self) -> Mapping[str, AuthMount]:
        call = self._call("auth_list", "list auth methods", "sys/auth", "read")
        rows = data_of(Auth(adapter=self._hvac(call)).list_auth_methods(), call)
        return {
            path.rstrip("/"): AuthMount(
                str(row.get("type", "")),
                str(row.get("description") or ""),
                str(row.get("accessor", "")),
                str(row.get("running_plugin_version") or ""),
            )
            for path, row in rows.items()
            if isinstance(row, Mapping)
        }

    def enable_auth(self, path: str, kind: str, description: str) -> None:
        needed = ("create", "update", "sudo")
        call = self._call("auth_enable", f"enable auth method {kind} at {path}", f"sys/auth/{path}", *needed)
        Auth(adapter=self._hvac(call)).enable_auth_method(kind, description=description, path=path)

    def describe_auth(self, path: str, description: str) -> None:
        call = self._call("auth_tune", f"describe auth mount {path}", f"sys/auth/{path}/tune", "update", "sudo")
        Auth(adapter=self._hvac(call)).tune_auth_method(path, description=description)

    def read(self, path: str) -> Json | None:
        call = self._call("path_read", f"read {path}", path, "read")
        try:
            return data_of(self._hvac(call).get(url=f"/v1/{quote(path)}"), call)
        except NotFound:
            return None

    def write(self, path: str, body: Json) -> None:
        call = self._call("path_write", f"write {path}", path, "create", "update")
        self._hvac(call).post(url=f"/v1/{quote(path)}", json=body)

    def list(self, path: str) -> Sequence[str]:
        call = self._call("path_list", f"list {path}", path, "list")
        try:
            return keys_of(self._hvac(call).list(url=f"/v1/{quote(path)}"), call)
        except NotFound:
            return ()

    def audit_devices(self) -> Mapping[str, AuditDevice]:
        call = self._call("audit_list", "list audit devices", "sys/audit", "read", "sudo")
        rows = data_of(Audit(adapter=self._hvac(call)).list_enabled_audit_devices(), call)
        return {path.rstrip("/"): _device(row) for path, row in rows.items() if isinstance(row, Mapping)}

    def own_token(self) -> VaultToken:
        call = self._call("token_lookup", "look up its own token", "auth/token/lookup-self", "read")
        data = data_of(Token(adapter=self._hvac(call)).lookup_self(), call)
        try:
            return _token(data)
        except (TypeError, ValueError):
            pass
        raise unexpected("vault", call, "JSON of another shape")

    def own_capabilities(self, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        path = "sys/capabilities-self"
        call = self._call("capabilities_read", "ask what its own token may do", path, "update")
        data = data_of(Capabilities(adapter=self._hvac(call)).get_capabilities(list(paths)), call)
        found = {asked: data.get(asked) for asked in paths}
        if not all(isinstance(row, list) for row in found.values()):
            raise unexpected("vault", call, "JSON of another shape")
        return {asked: frozenset(map(str, row or ())) for asked, row in found.items()}

    def probe_login(self, mount: str, role: str, token: str) -> str:
        path = f"auth/{mount}/login"
        call = replace(self._call("login_probe", f"log in at {mount}", path, "update"), anonymous=True)
        try:
            self._hvac(call).post(url=f"/v1/{quote(path)}", json={"role": role, "jwt": token})
        except ServiceError as refusal:
            if not refusal.status:
                raise
            return refusal.message
        return ""

    def create_token(self, role: str, display_name: str, *, wrap_seconds: int = 0) -> Issued:
        path = f"auth/token/create/{role}"
        call = _wrapping(self._call("token_create", f"make a token of role {role}", path, "update"), wrap_seconds)
        body = Token(adapter=self._hvac(call)).create(role_name=role, display_name=display_name)
        return _issued(body, call, "auth", "client_token", "accessor", "lease_duration")

    def role_id(self, mount: str, role: str) -> str:
        path = f"auth/{mount}/role/{role}/role-id"
        call = self._call("role_id_read", f"read the role ID of {role}", path, "read")
        return str(data_of(AppRole(adapter=self._hvac(call)).read_role_id(role, mount_point=mount), call)["role_id"])

    def create_secret_id(self, mount: str, role: str, *, wrap_seconds: int = 0) -> Issued:
        path = f"auth/{mount}/role/{role}/secret-id"
        call = _wrapping(self._call("secret_id_create", f"make a secret ID of {role}", path, "update"), wrap_seconds)
        body = AppRole(adapter=self._hvac(call)).generate_secret_id(role, mount_point=mount)
        return _issued(body, call, "data", "secret_id", "secret_id_accessor", "secret_id_ttl")


def clock_of(transport: Transport, call: Call, path: str, params: Mapping[str, Any]) -> Clock:
    """The `Date` of one answer, and our own clock before and after."""
    sent = time.time()
    answer: Answer = transport.send(call, "GET", path, params=params)
    received = time.time()
    try:
        server = parsedate_to_datetime(answer.headers.get("Date") or "").timestamp()
    except (TypeError, ValueError):
        server = 0.0
    return Clock(sent, received, server)


def _wrapping(call: Call, seconds: int) -> Call:
    """The call with its answer response-wrapped; such a call is never repeated: each would make a credential."""
    headers = (("X-Vault-Wrap-TTL", f"{seconds}s"),) if seconds else ()
    return replace(call, headers=headers, repeatable=False)


def _issued(body: Any, call: Call, part: str, value: str, accessor: str, ttl: str) -> Issued:
    answer = mapping(body, call)
    wrap = answer.get("wrap_info")
    if isinstance(wrap, Mapping) and isinstance(wrap.get("token"), str):
        return Issued(wrap["token"], True, str(wrap.get("wrapped_accessor") or ""), float(wrap.get("ttl") or 0))
    found = mapping(answer.get(part), call)
    if not isinstance(found.get(value), str):
        raise unexpected("vault", call, "JSON of another shape")
    return Issued(found[value], False, str(found.get(accessor) or ""), float(found.get(ttl) or 0))


def _device(row: Mapping[str, Any]) -> AuditDevice:
    options = row.get("options")
    known = options if isinstance(options, Mapping) else {}
    target = known.get("file_path") or known.get("path") or known.get("address") or known.get("uri") or ""
    return AuditDevice(str(row.get("type", "")), str(target))


def _token(data: Mapping[str, Any]) -> VaultToken:
    """Raises `TypeError` or `ValueError` for another shape."""
    return VaultToken(
        policies=tuple(str(name) for name in (*(data.get("policies") or ()), *(data.get("identity_policies") or ()))),
        ttl_seconds=float(data.get("ttl") or 0),
        period_seconds=float(data.get("period") or 0),
        explicit_max_ttl_seconds=float(data.get("explicit_max_ttl") or 0),
        creation_ttl_seconds=float(data.get("creation_ttl") or 0),
        renewable=bool(data.get("renewable")),
        orphan=bool(data.get("orphan")),
        num_uses=int(data.get("num_uses") or 0),
        type=str(data.get("type", "")),
        expires=bool(data.get("expire_time")),
        path=str(data.get("path", "")),
    )
