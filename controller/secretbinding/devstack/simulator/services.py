"""Networks and services of a group, in the form in which Nomad stores and returns them."""

import copy
from collections.abc import Mapping
from typing import Any

from secretbinding.devstack.simulator.durations import nanoseconds

Json = dict[str, Any]

_SERVICE: Json = {
    "Address": "",
    "AddressMode": "auto",
    "CanaryMeta": None,
    "CanaryTags": None,
    "Cluster": "default",
    "Connect": None,
    "EnableTagOverride": False,
    "Identity": None,
    "Kind": "",
    "Meta": None,
    "Name": "",
    "OnUpdate": "require_healthy",
    "PortLabel": "",
    "Provider": "consul",
    "TaggedAddresses": None,
    "Tags": None,
    "TaskName": "",
    "Weights": None,
}
_CHECK: Json = {
    "AddressMode": "",
    "Args": None,
    "Body": "",
    "CheckRestart": None,
    "Command": "",
    "Expose": False,
    "FailuresBeforeCritical": 0,
    "FailuresBeforeWarning": 0,
    "GRPCService": "",
    "GRPCUseTLS": False,
    "Header": None,
    "InitialStatus": "",
    "Interval": 0,
    "Method": "",
    "Name": "",
    "Notes": "",
    "OnUpdate": "require_healthy",
    "Path": "",
    "PortLabel": "",
    "Protocol": "",
    "SuccessBeforePassing": 0,
    "TLSServerName": "",
    "TLSSkipVerify": False,
    "TaskName": "",
    "Timeout": 0,
    "Type": "",
}


def canonical_services(sent: Mapping[str, Any], namespace: str) -> list[Json] | None:
    """The services of a group or task; None without any."""
    return [_service(one, namespace) for one in sent.get("Services") or []] or None


def canonical_networks(sent: Mapping[str, Any]) -> list[Json] | None:
    """The networks of a group; None without any."""
    return [_network(one) for one in sent.get("Networks") or []] or None


def _service(sent: Mapping[str, Any], namespace: str) -> Json:
    checks = [_overlaid(check, _CHECK) for check in sent.get("Checks") or []]
    for check in checks:
        check["Interval"], check["Timeout"] = nanoseconds(check["Interval"]), nanoseconds(check["Timeout"])
    return {**_overlaid(sent, _SERVICE), "Checks": checks or None, "Namespace": namespace}


def _network(sent: Mapping[str, Any]) -> Json:
    network: Json = {"Mode": sent.get("Mode") or "host"}
    for kind in ("DynamicPorts", "ReservedPorts"):
        if sent.get(kind):
            network[kind] = [{"HostNetwork": "default", **port} for port in sent[kind]]
    return network


def _overlaid(sent: Mapping[str, Any], defaults: Mapping[str, Any]) -> Json:
    given = {name: value for name, value in sent.items() if name in defaults and value not in (None, {}, [])}
    return {**copy.deepcopy(dict(defaults)), **copy.deepcopy(given)}
