"""How the parts of the Nomad adapter ask: python-nomad's API classes on our own transport."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from secretbinding.adapters.transport import Answer, Call, Transport


class Asker:
    """Thread-safe. `region` is the one that requests go to, "" for that of the server."""

    def __init__(self, transport: Transport, region: str) -> None:
        self._transport = transport
        self._region = region

    def api(self, kind: Callable[..., Any], call: Call, *, wait_seconds: float = 0.0) -> Any:
        """One of python-nomad's API classes, bound to one call. What it sends raises `errors.ServiceError`
        subclasses."""
        session = _Session(self._transport, call, wait_seconds)
        return kind(address="", session=session, region=self._region or None)


class _Session:
    """What python-nomad's API classes use of a requests session, bound to one call."""

    __slots__ = ("_call", "_transport", "_wait_seconds")

    def __init__(self, transport: Transport, call: Call, wait_seconds: float) -> None:
        self._transport = transport
        self._call = call
        self._wait_seconds = wait_seconds

    def get(self, *, url: str, params: Mapping[str, Any], **_: object) -> Answer:
        return self._transport.send(self._call, "GET", url, params=params, wait_seconds=self._wait_seconds)

    def post(self, *, url: str, params: Mapping[str, Any], json: Any, **_: object) -> Answer:
        return self._transport.send(self._call, "POST", url, params=params, body=json)

    def put(self, *, url: str, params: Mapping[str, Any], json: Any, **_: object) -> Answer:
        return self._transport.send(self._call, "PUT", url, params=params, body=json)

    def delete(self, *, url: str, params: Mapping[str, Any], **_: object) -> Answer:
        return self._transport.send(self._call, "DELETE", url, params=params)


def quoted(text: str) -> str:
    """One URL segment. Nomad's router takes a bare `.` or `..` for a step in the path."""
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")
