"""Services, Connect and networks of a job file, whose blocks lie in one another (Nomad's `api/services.go`)."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from secretbinding.devstack.simulator.hcl.syntax import Block, HclError

Json = dict[str, Any]
Attributes = Callable[[Block], Json]
"""Reads the arguments of a block, with names and durations as the API has them."""
Plain = Callable[[Any], Any]
"""Resolves the names in a value."""

_ONE: Mapping[str, Mapping[str, str]] = {
    "service": {"check_restart": "CheckRestart", "connect": "Connect", "identity": "Identity", "weights": "Weights"},
    "check": {"check_restart": "CheckRestart"},
    "connect": {"sidecar_service": "SidecarService", "sidecar_task": "SidecarTask"},
    "sidecar_service": {"proxy": "Proxy"},
    "sidecar_task": {"resources": "Resources", "logs": "LogConfig"},
    "proxy": {"expose": "Expose", "transparent_proxy": "TransparentProxy"},
    "upstreams": {"mesh_gateway": "MeshGateway"},
    "network": {"dns": "DNS"},
}
_MANY: Mapping[str, Mapping[str, str]] = {
    "service": {"check": "Checks"},
    "sidecar_task": {"identity": "Identities", "volume_mount": "VolumeMounts"},
    "proxy": {"upstreams": "Upstreams"},
    "expose": {"path": "Paths"},
}
_MAPS: Mapping[str, Mapping[str, str]] = {
    "service": {"meta": "Meta", "canary_meta": "CanaryMeta", "tagged_addresses": "TaggedAddresses"},
    "check": {"header": "Header"},
    "sidecar_service": {"meta": "Meta"},
    "sidecar_task": {"config": "Config", "env": "Env", "meta": "Meta"},
    "proxy": {"config": "Config"},
    "upstreams": {"config": "Config"},
}
_LABELS = {"service": "PortLabel", "check": "PortLabel"}


def read_nested(block: Block, attributes: Attributes, plain: Plain) -> Json:
    """A `service`, a `network`, or a block inside one. Raises `HclError` for blocks outside the simulator's subset."""
    result = attributes(block)
    if block.kind in _LABELS and "Port" in result:
        result[_LABELS[block.kind]] = result.pop("Port")
    if block.kind in _LABELS and "Task" in result:
        result["TaskName"] = result.pop("Task")
    for inner in block.body.blocks:
        if block.kind == "network" and inner.kind == "port":
            kind, port = _port(inner, attributes)
            result.setdefault(kind, []).append(port)
        elif inner.kind in (ones := _ONE.get(block.kind, {})):
            result[ones[inner.kind]] = read_nested(inner, attributes, plain)
        elif inner.kind in (many := _MANY.get(block.kind, {})):
            result.setdefault(many[inner.kind], []).append(read_nested(inner, attributes, plain))
        elif inner.kind in (maps := _MAPS.get(block.kind, {})):
            result[maps[inner.kind]] = {key: plain(value) for key, value in inner.body.attributes.items()}
        else:
            raise HclError(f"line {inner.line}: {inner.kind} blocks are outside the simulator's subset of job files")
    return result


def api_name(name: str) -> str | None:
    """The API's name of an argument that does not follow from its letters; None for all others."""
    found = re.fullmatch(r"(tls|grpc)_(.*)", name)
    if found is None:
        return None
    rest = {"use_tls": "UseTLS"}.get(found[2]) or "".join(word.capitalize() for word in found[2].split("_"))
    return found[1].upper() + rest


def _port(block: Block, attributes: Attributes) -> tuple[str, Json]:
    if len(block.labels) != 1:
        raise HclError(f"line {block.line}: a port has one label, its name")
    port = {{"Static": "Value"}.get(name, name): value for name, value in attributes(block).items()}
    return ("ReservedPorts" if port.get("Value") else "DynamicPorts"), {"Label": block.labels[0], **port}
