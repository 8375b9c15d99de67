"""Ports of tasks: free ones on loopback, as a group's network asks for them."""

import threading
from collections.abc import Mapping
from typing import Any

from secretbinding.devstack.processes import free_ports

Json = dict[str, Any]
HOST_IP = "127.0.0.1"


class PortsTaken:
    """Remembers which ports were given out, so that two tasks that start together do not get the same one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given: set[int] = set()

    def next(self) -> int:
        """A port that is free now and was never given out before."""
        with self._lock:
            while True:
                (port,) = free_ports(1)
                if port not in self._given:
                    self._given.add(port)
                    return port


def networks_of(group: Mapping[str, Any], taken: PortsTaken) -> tuple[list[Json] | None, list[Json] | None]:
    """`Networks` and `Ports` of an allocation's shared resources; None for both without a network."""
    networks: list[Json] = []
    ports: list[Json] = []
    for network in group["Networks"] or []:
        dynamic = [{**port, "Value": taken.next()} for port in network.get("DynamicPorts") or []]
        reserved = list(network.get("ReservedPorts") or [])
        networks.append({**network, "DynamicPorts": dynamic or None, "IP": HOST_IP})
        ports += [{"HostIP": HOST_IP, "Label": port["Label"], "Value": port["Value"]} for port in (*reserved, *dynamic)]
    return networks or None, ports or None


def ports_of(row: Mapping[str, Any]) -> dict[str, int]:
    """The ports of an allocation by label."""
    shared = row["AllocatedResources"]["Shared"]
    return {str(port["Label"]): int(port["Value"]) for port in shared["Ports"] or []}
