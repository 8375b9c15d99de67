"""How the parts of the Vault adapter ask: what a request is for, what it needs, and the way there."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from secretbinding.adapters.transport import Answer, Call, Transport, unexpected
from secretbinding.adapters.vault.shapes import mapping
from secretbinding.errors import NotFound, Rejected
from secretbinding.ports import Json

_MERGE_PATCH = "application/merge-patch+json"
_VERBS = {"patch": "patch", "read": "read", "list": "list", "update": "write", "create": "write", "delete": "delete"}
_NO_CONTENT = 204
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Asker:
    """Thread-safe. Every method that sends raises `errors.ServiceError` subclasses.

    Args:
        namespace: the Vault namespace that every request goes to, "" for none; said in errors.
    """

    def __init__(self, transport: Transport, namespace: str) -> None:
        self._transport = transport
        self._where = f" in namespace {namespace}" if namespace else ""

    def call(
        self,
        label: str,
        text: str,
        path: str,
        *capabilities: str,
        anonymous: bool = False,
        hidden: tuple[str, ...] = (),
        once: bool = False,
        merge: bool = False,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Call:
        """What a request to `path` is for, and what it needs: `hidden` are values that no text may show, `once` means
        that it is not sent again when its answer was lost, `merge` that its body is a merge patch. Raises `Rejected`
        for a path that Vault cannot have."""
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
            hidden=hidden,
            repeatable=not once,
            content_type=_MERGE_PATCH if merge else "application/json",
            headers=headers,
        )

    def no_mount(self, call: Call, message: str, remedy: str) -> NotFound:
        """The error for a mount that is not there."""
        return NotFound(f"{message}{self._where}", system="vault", operation=call.text, status=404, remedy=remedy)

    def hvac(self, call: Call) -> "HvacAdapter":
        """What hvac's API classes take for their adapter, bound to one call."""
        return HvacAdapter(self._transport, call)

    def get(self, call: Call, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON of the answer."""
        return self.hvac(call).get(url=f"/v1/{quote(path)}", params=params)

    def list(self, call: Call, path: str) -> Any:
        """The JSON of the answer to a listing."""
        return self.hvac(call).list(url=f"/v1/{quote(path)}/")

    def send(self, call: Call, method: str, path: str, body: Json | None = None) -> Any:
        """The JSON of the answer to a write, or whatever the method is."""
        return self.hvac(call).send(method, f"/v1/{quote(path)}", body)


class HvacAdapter:
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
        if method != "GET" and answer.status_code != _NO_CONTENT:
            # Whatever says 200 to a write and is not Vault has written nothing.
            told = mapping(answer.json(), self._call)
            if not isinstance(told.get("data"), dict | None) or not isinstance(told.get("auth"), dict | None):
                raise unexpected("vault", self._call, "JSON of another shape")
        return answer.json() if answer.body else answer
