"""Nodes from SRV records (RFC 2782), the addresses of their targets from the same DNS server."""

import importlib.util
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from secretbinding.adapters.discovery.address import SrvAddress
from secretbinding.adapters.discovery.nodes import Node
from secretbinding.errors import Unreachable, UsageError

if TYPE_CHECKING:
    import dns.message
    import dns.resolver

_CANNOT = "Vault cannot be found: "


class SrvRecords:
    """Calling it gives the nodes, by priority, those of one priority in an order that their weights make likely.

    Args:
        chance: a number from 0 to 1, below 1.

    Raises `UsageError` when the library is missing; a call raises `Unreachable`.
    """

    def __init__(
        self, address: SrvAddress, *, timeout_seconds: float, chance: Callable[[], float] = random.random
    ) -> None:
        if importlib.util.find_spec("dns") is None:
            raise UsageError("looking up SRV records needs dnspython", remedy="install it, or give another VAULT_ADDR")
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._chance = chance

    def __call__(self) -> Sequence[Node]:
        import dns.exception
        import dns.resolver

        name = self._address.name
        try:
            answer = self._resolver().resolve(name, "SRV", search=False, lifetime=self._timeout_seconds)
        except dns.resolver.NoResolverConfiguration:
            why = "the system names no DNS server"
        except dns.resolver.NXDOMAIN:
            why = f"there is no {name}"
        except dns.resolver.NoAnswer:
            why = f"{name} has no SRV records"
        except dns.resolver.LifetimeTimeout:
            why = f"no DNS server answered for {name}"
        except (dns.exception.DNSException, OSError):
            why = f"no DNS server could answer for {name}"
        else:
            found = self._nodes(answer)
            if found:
                return found
            why = f"the SRV records of {name} name no host"
        raise Unreachable(
            f"{_CANNOT}{why}",
            system="vault",
            operation=f"look up {name}",
            remedy="check VAULT_ADDR, its ?dns=, and that a healthy Vault is registered",
        )

    def _resolver(self) -> "dns.resolver.Resolver":
        import dns.resolver

        if self._address.dns is None:
            return dns.resolver.Resolver()
        host, port = self._address.dns
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [host], port
        return resolver

    def _nodes(self, answer: "dns.resolver.Answer") -> list[Node]:
        rows = [
            (int(row.priority), int(row.weight), row.target.to_text(omit_final_dot=True), int(row.port))
            for row in answer
            if row.target.labels != (b"",) and row.port
        ]
        # A weight makes it likely to be early (Efraimidis and Spirakis); 0 comes last of its priority.
        rows.sort(key=lambda row: (row[0], -(self._chance() ** (1 / row[1])) if row[1] else 0.0))
        return [
            Node(host, port, priority)
            for priority, _, target, port in rows
            for host in self._hosts(target, answer.response)
        ]

    def _hosts(self, target: str, response: "dns.message.Message") -> list[str]:
        """The addresses of a target: of the answer itself, else of the server that was named, else for the system to
        look up."""
        import dns.exception
        import dns.rdatatype

        kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
        told = [
            record.to_text()
            for rows in response.additional
            if rows.rdtype in kinds and rows.name.to_text(omit_final_dot=True).lower() == target.lower()
            for record in rows
        ]
        if told or self._address.dns is None:
            return told or [target]
        found: list[str] = []
        for kind in kinds:
            try:
                rows = self._resolver().resolve(target, kind, search=False, lifetime=self._timeout_seconds)
            except (dns.exception.DNSException, OSError):
                continue
            found += [record.to_text() for record in rows]
        return found
