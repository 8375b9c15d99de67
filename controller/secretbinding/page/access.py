"""Who may see the page. Pure."""

import ipaddress
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit


class Access(StrEnum):
    """Whom the page is shown to.

    `LOCAL`: who asks from this machine by its own address, as people do who have a shell here, or the right to forward
    a port (`kubectl port-forward`). `ON`: who reaches the port. `OFF`: nobody.
    """

    LOCAL = "local"
    ON = "on"
    OFF = "off"


# A proxy beside the process, of a service mesh for one, asks from this machine for somebody else.
_BY_PROXY = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_VIA", "HTTP_X_ENVOY_INTERNAL")
_OWN = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})


def is_local(environment: Mapping[str, Any]) -> bool:
    """True for a request (a WSGI environment) that comes from this machine, through no proxy, and names this machine as
    its host: a page of somebody else's whose name leads here (DNS rebinding) names itself."""
    if str(environment.get("REMOTE_ADDR") or "") not in _OWN:
        return False
    if any(environment.get(name) for name in _BY_PROXY):
        return False
    return _names_this_machine(str(environment.get("HTTP_HOST") or ""))


def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
