"""Nodes from Consul's catalogue: the instances of a service whose checks pass.

`GET /v1/health/service/:service?passing`, https://developer.hashicorp.com/consul/api-docs/health
"""

from collections.abc import Sequence
from urllib.parse import quote

from secretbinding.adapters.connection import ConsulConnection
from secretbinding.adapters.discovery.address import ConsulAddress
from secretbinding.adapters.discovery.nodes import Node
from secretbinding.adapters.transport import Call, Transport, unexpected
from secretbinding.errors import Denied, Rejected, ServiceError, Unavailable, Unreachable

_CALL = Call("consul_service_read", "list the healthy instances of a service")
_CHECK = "check VAULT_ADDR and that a healthy Vault is registered under this name and tag"
_RIGHTS = "give a token with service:read and node:read in CONSUL_HTTP_TOKEN"


class ConsulService:
    """Calling it gives the instances in Consul's order, the nearest first. Raises `UsageError`; a call raises
    `ServiceError` of the system `vault`: it is Vault that is not found."""

    def __init__(self, address: ConsulAddress, connection: ConsulConnection) -> None:
        self._address = address
        self._transport = Transport(
            connection, system="consul", token_header="X-Consul-Token", headers={}, judge=_judge
        )

    def __call__(self) -> Sequence[Node]:
        try:
            # A server without a leader answers with what it knows; it is checked by connecting anyway.
            asked = {"passing": "true", "stale": "true", **dict(self._address.asked)}
            answer = self._transport.send(
                _CALL, "GET", f"/v1/health/service/{quote(self._address.service)}", params=asked
            )
            found = _nodes(answer.json())
        except ServiceError as error:
            remedy = error.remedy.replace("CONSUL_ADDR", "the address of Consul in VAULT_ADDR")
            raise self._not_found(error.message, remedy) from None
        if not found:
            raise self._not_found(
                f"Consul at {self._address.consul} lists no healthy {self._name}",
                f"{_CHECK}; if it is, {_RIGHTS}: Consul leaves out what a token may not read",
            )
        return found

    def close(self) -> None:
        """Close all idle connections."""
        self._transport.close()

    @property
    def _name(self) -> str:
        asked = ", ".join(f"{name} {value}" for name, value in self._address.asked)
        return f"service {self._address.service}" + (f" ({asked})" if asked else "")

    def _not_found(self, why: str, remedy: str) -> Unreachable:
        return Unreachable(
            f"Vault cannot be found: {why}",
            system="vault",
            operation=f"look up service {self._address.service}",
            remedy=remedy,
        )


def _nodes(body: object) -> list[Node]:
    """Raises `ServiceError` for an answer of another shape. A service without an address of its own has its node's."""
    try:
        rows = [
            (row["Service"].get("Address") or row["Node"]["Address"], row["Service"]["Port"]) for row in _list(body)
        ]
    except (TypeError, KeyError, AttributeError):
        raise unexpected("consul", _CALL, "something that is no list of instances") from None
    return [
        Node(host, port) for host, port in rows if isinstance(host, str) and isinstance(port, int) and host and port
    ]


def _list(body: object) -> list[dict[str, dict[str, object]]]:
    if not isinstance(body, list):
        raise TypeError
    return body


def _judge(call: Call, status: int, text: str) -> ServiceError:
    about = {"system": "consul", "operation": call.text}
    if status in (401, 403):
        return Denied(f"the Consul token may not {call.text}", **about, status=status, remedy=_RIGHTS)
    if status >= 500 or status == 429:
        return Unavailable(
            f"Consul cannot {call.text} now (HTTP {status})", **about, status=status, remedy="see its log"
        )
    return Rejected(f"Consul refused to {call.text} (HTTP {status})", **about, status=status, remedy=_CHECK)
