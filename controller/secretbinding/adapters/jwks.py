"""Signing keys from wherever a Vault's JWT mount has them from."""

from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

from secretbinding.adapters.connection import NomadConnection
from secretbinding.adapters.nomad.admin import key_ids
from secretbinding.adapters.nomad.faults import judge
from secretbinding.adapters.transport import Call, Transport
from secretbinding.errors import UsageError


class KeysAt:
    """Fulfils `ops.ports.Keys` with the TLS settings of a connection to Nomad, whose keys they should be. No token is
    sent: the address is what somebody wrote into Vault."""

    def __init__(self, connection: NomadConnection) -> None:
        self._connection = connection

    def __call__(self, url: str) -> frozenset[str]:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url} is no address of signing keys", remedy="write http(s)://host:port/path")
        address = f"{parts.scheme}://{parts.netloc}"
        connection = replace(self._connection, address=address, token="", retry_seconds=0.0, timeout_seconds=5.0)
        call = Call("keys_read", "read signing keys", anonymous=True)
        transport = Transport(connection, system="nomad", token_header="X-Nomad-Token", headers={}, judge=judge)
        try:
            answer = transport.send(call, "GET", parts.path or "/", params=dict(parse_qsl(parts.query)))
            return key_ids(answer.json(), call)
        finally:
            transport.close()
