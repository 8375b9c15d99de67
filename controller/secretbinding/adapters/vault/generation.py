"""Writes that make new values: no value that is there is read, and none that is made is kept."""

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from secretbinding.adapters.transport import Call, unexpected
from secretbinding.adapters.vault.asking import Asker
from secretbinding.adapters.vault.faults import KV_PATCH, NO_ROUTE, PASSWORD_ROTATIONS
from secretbinding.adapters.vault.shapes import data_of
from secretbinding.errors import Conflict, NotFound, Rejected
from secretbinding.ports import Json, SecretId

_STALE = "check-and-set parameter did not match"


class NewValues:
    """Fulfils the part of `ports.Vault` that has new values made."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def password(self, policy: str) -> SecretStr:
        """`sys/policies/password/<policy>/generate`."""
        path = f"sys/policies/password/{policy}/generate"
        call = self._asker.call("password_generate", f"have password policy {policy} make a value", path, "read")
        try:
            found = data_of(self._asker.send(call, "GET", path), call)
        except NotFound:
            message = f"Vault has no password policy {policy}"
            remedy = "make it, or mend passwordPolicy"
            raise NotFound(message, system="vault", operation=call.text, status=404, remedy=remedy) from None
        return SecretStr(_text(found, "password", call))

    def patch_kv(self, mount: str, path: str, fields: Mapping[str, SecretStr], *, seen: int) -> int:
        """A merge patch of `<mount>/data/<path>` over version `seen`; the first version when that is 0.

        Raises `Conflict` when the secret is at another version, or when that version is gone or deleted.
        """
        data = f"{mount.strip('/')}/data/{path}"
        values = {name: value.get_secret_value() for name, value in fields.items()}
        first = seen == 0
        call = self._asker.call(
            "kv_create" if first else KV_PATCH,
            f"write a new version of {mount}/{path}",
            data,
            "create" if first else "patch",
            hidden=tuple(values.values()),
            once=True,
            merge=not first,
        )
        body: Json = {"options": {"cas": seen}, "data": values}
        try:
            found = data_of(self._asker.send(call, "POST" if first else "PATCH", data, body), call)
        except (NotFound, Rejected) as error:
            if NO_ROUTE in error.message or (isinstance(error, Rejected) and _STALE not in error.message):
                raise
            message = f"{mount}/{path} was changed meanwhile"
            raise Conflict(message, system="vault", operation=call.text, status=error.status) from None
        return int(found.get("version") or 0)

    def rotate_static_role(self, mount: str, name: str) -> None:
        """`<mount>/rotate-role/<name>`."""
        path = f"{mount.strip('/')}/rotate-role/{name}"
        call = self._asker.call(
            PASSWORD_ROTATIONS[0], f"rotate static role {name} of {mount}", path, "update", once=True
        )
        self._asker.send(call, "POST", path)

    def rotate_root(self, mount: str, connection: str) -> None:
        """`<mount>/rotate-root/<connection>`."""
        path = f"{mount.strip('/')}/rotate-root/{connection}"
        text = f"rotate the root password of connection {connection} of {mount}"
        call = self._asker.call(PASSWORD_ROTATIONS[1], text, path, "update", once=True)
        self._asker.send(call, "POST", path)

    def secret_id(self, mount: str, role: str) -> SecretId:
        """`auth/<mount>/role/<role>/secret-id`."""
        path = f"auth/{mount.strip('/')}/role/{role}/secret-id"
        text = f"make a secret-id of AppRole {role} of {mount}"
        call = self._asker.call("secret_id_make", text, path, "update", once=True)
        try:
            found = data_of(self._asker.send(call, "POST", path, {}), call)
        except NotFound:
            message = f"Vault has no AppRole {role} at {mount}"
            raise NotFound(
                message, system="vault", operation=call.text, status=404, remedy="make it, or mend secretIdOf"
            ) from None
        return SecretId(SecretStr(_text(found, "secret_id", call)), _text(found, "secret_id_accessor", call))

    def drop_secret_id(self, mount: str, role: str, accessor: str) -> None:
        """`auth/<mount>/role/<role>/secret-id-accessor/destroy`."""
        path = f"auth/{mount.strip('/')}/role/{role}/secret-id-accessor/destroy"
        call = self._asker.call("secret_id_drop", f"destroy a secret-id of AppRole {role} of {mount}", path, "update")
        self._asker.send(call, "POST", path, {"secret_id_accessor": accessor})


def _text(found: Mapping[str, Any], name: str, call: Call) -> str:
    """A text of an answer; an empty value must never be written in a secret's place. Raises `ServiceError`."""
    text = found.get(name)
    if isinstance(text, str) and text:
        return text
    raise unexpected("vault", call, f"no {name}")
