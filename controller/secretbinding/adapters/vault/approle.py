"""AppRoles and wrapped secret-ids: no secret-id is ever seen here, only the tokens that they are wrapped in."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr

from secretbinding.adapters.transport import unexpected
from secretbinding.adapters.vault.asking import Asker
from secretbinding.adapters.vault.faults import NO_ROUTE
from secretbinding.adapters.vault.shapes import data_of, mapping
from secretbinding.errors import Denied, NotFound, Rejected
from secretbinding.ports import Json, WrappedSecretId

_REMEDY = "enable approle auth there, for the controller alone, or set SECRETBINDING_AGENT_APPROLE_MOUNT"


class AppRoles:
    """Fulfils the part of `ports.Vault` that is about AppRoles."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def read(self, mount: str, name: str) -> Json | None:
        """`auth/<mount>/role/<name>`."""
        path = _path(mount, name)
        call = self._asker.call("app_role_read", f"read AppRole {name} of {mount}", path, "read")
        try:
            return data_of(self._asker.send(call, "GET", path), call)
        except NotFound:
            return None

    def write(self, mount: str, name: str, body: Json) -> None:
        """Raises `NotFound` when no auth method is enabled at the mount."""
        path = _path(mount, name)
        call = self._asker.call("app_role_write", f"write AppRole {name} of {mount}", path, "create", "update")
        try:
            self._asker.send(call, "POST", path, body)
            return
        except NotFound as error:
            status = error.status
        message = f"no auth method is enabled at {mount}"
        raise NotFound(message, system="vault", operation=call.text, status=status, remedy=_REMEDY)

    def delete(self, mount: str, name: str) -> None:
        """Deleting what is not there is success."""
        path = _path(mount, name)
        call = self._asker.call("app_role_delete", f"delete AppRole {name} of {mount}", path, "delete")
        try:
            self._asker.send(call, "DELETE", path)
        except NotFound:
            return

    def wrapped_secret_id(self, mount: str, role: str, seconds: int) -> WrappedSecretId:
        """`auth/<mount>/role/<role>/secret-id` with `X-Vault-Wrap-TTL`."""
        path = f"{_path(mount, role)}/secret-id"
        text = f"make a wrapped secret-id of AppRole {role} of {mount}"
        wrap = (("X-Vault-Wrap-TTL", f"{seconds}s"),)
        call = self._asker.call("secret_id_wrap", text, path, "update", once=True, headers=wrap)
        info = mapping(mapping(self._asker.send(call, "POST", path, {}), call).get("wrap_info"), call)
        token, accessor, created = (info.get(name) for name in ("token", "wrapped_accessor", "creation_time"))
        if not (isinstance(token, str) and token and isinstance(accessor, str) and accessor):
            raise unexpected("vault", call, "no wrapping token")
        try:
            expires = datetime.fromisoformat(str(created)) + timedelta(seconds=int(info.get("ttl") or 0))
        except (ValueError, TypeError):
            raise unexpected("vault", call, "JSON of another shape") from None
        return WrappedSecretId(SecretStr(token), accessor, expires)

    def is_sealed(self, token: SecretStr, mount: str, role: str) -> bool:
        """`sys/wrapping/lookup`, which everybody may ask."""
        path = "sys/wrapping/lookup"
        value = token.get_secret_value()
        call = self._asker.call("wrapping_lookup", "look up a wrapping token", path, "update", hidden=(value,))
        try:
            found = data_of(self._asker.send(call, "POST", path, {"token": value}), call)
        except (Rejected, Denied, NotFound):
            return False
        # In a namespace it may begin with that.
        return f"/{found.get('creation_path')}".endswith(f"/{_path(mount, role)}/secret-id")

    def secret_id_uses(self, mount: str, role: str, accessor: str) -> int | None:
        """`auth/<mount>/role/<role>/secret-id-accessor/lookup`."""
        path = f"{_path(mount, role)}/secret-id-accessor/lookup"
        call = self._asker.call("secret_id_lookup", f"look up a secret-id of AppRole {role} of {mount}", path, "update")
        try:
            found: Mapping[str, Any] = data_of(
                self._asker.send(call, "POST", path, {"secret_id_accessor": accessor}), call
            )
        except NotFound as error:
            if NO_ROUTE in error.message:
                raise
            return None
        return int(found.get("secret_id_num_uses") or 0)


def _path(mount: str, name: str) -> str:
    return f"auth/{mount.strip('/')}/role/{name}"
