"""What a session asks Vault about its tokens. No token is sent but the one that a call is about."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import quote

from secretbinding.adapters.connection import VaultConnection
from secretbinding.adapters.discovery.finding import nodes_of
from secretbinding.adapters.transport import Call, OnCall, Transport, unexpected
from secretbinding.adapters.vault.faults import judge
from secretbinding.adapters.vault.login import LoginMethod
from secretbinding.adapters.vault.shapes import data_of, mapping
from secretbinding.errors import Denied, NotFound, Rejected, SecretBindingError, ServiceError

_HEADER = "X-Vault-Token"
_LACKS = "1 error occurred"
"""How Vault and OpenBao begin a 403 to a token that is alive and lacks the right; to one that they do not know they say
`permission denied` alone, and newer Vaults `2 errors occurred` with `invalid token` (tried on OpenBao 2.7.2)."""


class Found(Enum):
    """What a look at a token found."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Life:
    """A token and how long it lives.

    Attributes:
        ttl_seconds: from the answer on; 0 for one that never ends.
        renewable: whether a renewal may lengthen it.
    """

    token: str = field(repr=False)
    ttl_seconds: float
    renewable: bool
    accessor: str = ""
    policies: tuple[str, ...] = ()


class TokenCalls:
    """The requests, over connections of their own, so that a renewal never waits for work."""

    def __init__(self, connection: VaultConnection, login_namespace: str, on_call: OnCall | None) -> None:
        self._login_namespace = login_namespace
        self._transport = Transport(
            connection,
            system="vault",
            token_header=_HEADER,
            headers={"X-Vault-Request": "true"},
            judge=_judge,
            on_call=on_call,
            nodes=nodes_of(connection),
        )

    def log_in(self, method: LoginMethod) -> Life:
        """A new token. Raises `Denied` when Vault refuses, other `ServiceError`s when it cannot be asked."""
        request = method.request(self._unwrap)
        role = f" with role {method.role}" if method.role else ""
        call = self._call(
            "login",
            f"log in by {method.name} at auth/{method.mount}{role}",
            self._login_namespace,
            hidden=request.hidden,
            denied=f"Vault refused our login by {method.name} at auth/{method.mount}{role}",
            grant=method.remedy,
        )
        if method.certified:
            # A connection that is open still shows the certificate that was there when it began.
            self._transport.reconnect()
        try:
            answer = self._transport.send(call, "POST", f"/v1/auth/{quote(method.mount)}/login", body=request.body)
        except (NotFound, Rejected) as error:
            raise Denied(
                f"{call.denied} (HTTP {error.status})",
                system="vault",
                operation=call.text,
                status=error.status,
                remedy=method.remedy,
            ) from None
        return _life(mapping(mapping(answer.json(), call).get("auth"), call), call)

    def look(self, token: str) -> Found:
        """Whether Vault knows the token."""
        call = self._call("token_lookup", "look up its own token", self._login_namespace, token)
        try:
            self._transport.send(call, "GET", "/v1/auth/token/lookup-self")
        except Denied as error:
            return Found.ALIVE if error.message == _LACKING else Found.DEAD
        except SecretBindingError:
            return Found.UNKNOWN
        return Found.ALIVE

    def learn(self, token: str) -> Life | None:
        """How long a token lives; None when it cannot be told. Raises `Denied` when Vault does not know it."""
        call = self._call("token_lookup", "look up its own token", self._login_namespace, token)
        try:
            data = data_of(mapping(self._transport.send(call, "GET", "/v1/auth/token/lookup-self").json(), call), call)
        except Denied as error:
            if error.message == _LACKING:
                return None
            raise
        return Life(
            token=token,
            ttl_seconds=_number(data.get("ttl"), call) if data.get("expire_time") else 0.0,
            renewable=bool(data.get("renewable")),
        )

    def renew(self, token: str) -> Life:
        """Renew a token. Raises `Denied` or `Rejected` when Vault will not, other errors when it cannot now."""
        call = self._call("token_renew", "renew its own token", self._login_namespace, token)
        answer = self._transport.send(call, "POST", "/v1/auth/token/renew-self", body={})
        return _life(mapping(mapping(answer.json(), call).get("auth"), call), call)

    def revoke(self, token: str) -> None:
        """Revoke a token, if that can be done; else it ends by itself."""
        call = self._call("token_revoke", "revoke its own token", self._login_namespace, token)
        with contextlib.suppress(SecretBindingError):
            self._transport.send(call, "POST", "/v1/auth/token/revoke-self", body={})

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def _unwrap(self, token: str, creation_path: str) -> str:
        """Open a wrapped secret ID, after a look at what is in it. Raises `Denied` when it is not what it should be."""
        looking = self._call("wrapping_lookup", "look up the wrapping token", self._login_namespace, hidden=(token,))
        try:
            body = self._transport.send(looking, "POST", "/v1/sys/wrapping/lookup", body={"token": token}).json()
        except (Denied, Rejected, NotFound) as error:
            raise _spent(error) from None
        made_at = str(data_of(mapping(body, looking), looking).get("creation_path", ""))
        if made_at != creation_path:
            raise Denied(
                f"the wrapped secret ID was not made at {creation_path}",
                system="vault",
                operation="open the wrapped secret ID",
                remedy="do not use it: find out who put it there, and make a new one",
            )
        opening = self._call("unwrap", "open the wrapped secret ID", self._login_namespace, token)
        try:
            opened = self._transport.send(opening, "POST", "/v1/sys/wrapping/unwrap", body={}).json()
        except (Denied, Rejected, NotFound) as error:
            raise _spent(error) from None
        found = data_of(mapping(opened, opening), opening).get("secret_id")
        if not isinstance(found, str) or not found:
            raise unexpected("vault", opening, "JSON of another shape")
        return found

    def _call(
        self,
        label: str,
        text: str,
        namespace: str,
        token: str = "",
        *,
        hidden: tuple[str, ...] = (),
        denied: str = "",
        grant: str = "",
    ) -> Call:
        headers = (("X-Vault-Namespace", namespace),) if namespace else ()
        return Call(
            label,
            text,
            denied=denied or f"the Vault token may not {text}",
            grant=grant,
            repeatable=label in ("token_lookup", "token_renew", "wrapping_lookup"),
            anonymous=True,
            hidden=(*hidden, token) if token else hidden,
            headers=(*headers, (_HEADER, token)) if token else headers,
        )


_LACKING = "the Vault token lacks a right to look after itself"


def _judge(call: Call, status: int, text: str) -> ServiceError:
    """As for any call, but that what a refused login says is never repeated, and two 403s are told apart."""
    if call.label == "login" and status in (400, 401, 403):
        return Denied(
            f"{call.denied} (HTTP {status})", system="vault", operation=call.text, status=status, remedy=call.grant
        )
    if status == 403 and call.label == "token_lookup" and _LACKS in text and "invalid token" not in text:
        return Denied(_LACKING, system="vault", operation=call.text, status=status)
    return judge(call, status, text)


def _spent(error: ServiceError) -> ServiceError:
    return Denied(
        "the wrapped secret ID cannot be opened: its time is over, or it has been opened before",
        system="vault",
        operation="open the wrapped secret ID",
        status=error.status,
        remedy="make a new one; when nobody of yours opened it, somebody else did: revoke that secret ID",
    )


def _life(auth: Mapping[str, Any], call: Call) -> Life:
    token = auth.get("client_token")
    if not isinstance(token, str) or not token:
        raise unexpected("vault", call, "JSON of another shape")
    policies = auth.get("policies")
    return Life(
        token=token,
        ttl_seconds=_number(auth.get("lease_duration"), call),
        renewable=bool(auth.get("renewable")),
        accessor=str(auth.get("accessor") or ""),
        policies=tuple(map(str, policies)) if isinstance(policies, list) else (),
    )


def _number(value: Any, call: Call) -> float:
    if isinstance(value, int | float):
        return float(value)
    raise unexpected("vault", call, "JSON of another shape")
