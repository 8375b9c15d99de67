"""The addresses that say how to find a server instead of where it is."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit

from secretbinding.errors import UsageError

_SRV = ("srv+http", "srv+https")
_CONSUL = ("consul+http", "consul+https")
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_SERVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?\Z")
_ASKED = ("tag", "dc", "ns", "partition")
_EXAMPLE_SRV = "write srv+https://_vault._tcp.service.consul, and ?dns=127.0.0.1:8600 for another DNS server"
_EXAMPLE_CONSUL = "write consul+http://127.0.0.1:8500/vault?tag=active"
DEFAULT_VAULT_PORT = 8200


@dataclass(frozen=True, slots=True)
class SrvAddress:
    """`srv+http(s)://<name>[/<path>][?dns=<ip>[:<port>]]`: hosts and ports are in the name's SRV records (RFC 2782).

    Attributes:
        scheme: what the server speaks, `http` or `https`.
        name: what is looked up, such as `_vault._tcp.service.consul` or `active.vault.service.consul`.
        dns: IP address and port of the DNS server to ask; None for those of the system.
        prefix: the path before every path of the API, where a proxy wants one.
    """

    scheme: str
    name: str
    prefix: str = ""
    dns: tuple[str, int] | None = None

    @property
    def server_name(self) -> str:
        """The service's name, for which its certificate is. Consul's form of RFC 2782 is `_service._tag`, with `tcp`
        or `udp` for any tag: `_vault._tcp.service.consul` is `vault.service.consul`, `_vault._active.service.consul`
        is `active.vault.service.consul`."""
        service, _, rest = self.name.partition(".")
        protocol, _, domain = rest.partition(".")
        if not (service.startswith("_") and protocol.startswith("_") and domain):
            return self.name
        tag = protocol[1:]
        return ".".join([*([] if tag.lower() in ("tcp", "udp") else [tag]), service[1:], domain])


@dataclass(frozen=True, slots=True)
class ConsulAddress:
    """`consul+http(s)://<host>[:<port>]/<service>[?tag=&dc=&ns=&partition=&scheme=]`: healthy instances in Consul.

    Attributes:
        scheme: what the service speaks, `https` unless `scheme=http` is given.
        consul: where Consul's HTTP API is, `http(s)://host:port`.
        service: the service's name in Consul.
        asked: further parameters of Consul's `/v1/health/service/:service`.
    """

    scheme: str
    consul: str
    service: str
    asked: tuple[tuple[str, str], ...] = ()

    @property
    def prefix(self) -> str:
        """No path comes before those of the API."""
        return ""

    @property
    def server_name(self) -> str:
        """The service's name in Consul's DNS, for which its certificate is."""
        return f"{self.service}.service.consul"


def discovered(address: str) -> SrvAddress | ConsulAddress | None:
    """What an address asks to be looked up; None for an ordinary one. Raises `UsageError`."""
    kind = address.partition("://")[0].lower()
    if kind not in (*_SRV, *_CONSUL):
        return None
    example = _EXAMPLE_SRV if kind in _SRV else _EXAMPLE_CONSUL
    try:
        url = urlsplit(address)
        port = url.port
        parameters = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
    except ValueError:
        raise UsageError("VAULT_ADDR is not a URL", remedy=example) from None
    if url.username is not None or url.password is not None:
        raise UsageError("VAULT_ADDR holds a user or password", remedy="give tokens by themselves")
    if url.fragment or len(dict(parameters)) != len(parameters):
        raise UsageError("VAULT_ADDR holds a fragment, or a parameter twice", remedy=example)
    if kind in _SRV:
        return _srv(url, port, dict(parameters))
    return _consul(url, dict(parameters))


def plain_address(address: str) -> str:
    """An ordinary address for programs that cannot look one up: the service's name, at Vault's usual port."""
    found = discovered(address)
    return address if found is None else f"{found.scheme}://{found.server_name}:{DEFAULT_VAULT_PORT}"


def _srv(url: SplitResult, port: int | None, parameters: dict[str, str]) -> SrvAddress:
    name = (url.hostname or "").rstrip(".")
    if not _NAME.match(name):
        raise UsageError("VAULT_ADDR has no name to look up", remedy=_EXAMPLE_SRV)
    if port is not None:
        raise UsageError("VAULT_ADDR has a port, which an SRV record gives", remedy=_EXAMPLE_SRV)
    dns = parameters.pop("dns", None)
    _nothing_else(parameters, "dns", _EXAMPLE_SRV)
    server = _dns_server(dns) if dns is not None else None
    return SrvAddress(url.scheme.partition("+")[2], name, url.path.rstrip("/"), server)


def _dns_server(text: str) -> tuple[str, int]:
    host, port = urlsplit(f"//{text}").hostname, 53
    try:
        port = urlsplit(f"//{text}").port or port
        return str(ipaddress.ip_address(host or "")), port
    except ValueError:
        raise UsageError("dns in VAULT_ADDR is no IP address and port", remedy=_EXAMPLE_SRV) from None


def _consul(url: SplitResult, parameters: dict[str, str]) -> ConsulAddress:
    service = url.path.strip("/")
    if not url.hostname or not _SERVICE.match(service):
        raise UsageError("VAULT_ADDR names no Consul, or no service in it", remedy=_EXAMPLE_CONSUL)
    scheme = parameters.pop("scheme", "https")
    if scheme not in ("http", "https"):
        raise UsageError("scheme in VAULT_ADDR is neither http nor https", remedy=_EXAMPLE_CONSUL)
    asked = tuple((name, parameters.pop(name)) for name in _ASKED if name in parameters)
    _nothing_else(parameters, ", ".join((*_ASKED, "scheme")), _EXAMPLE_CONSUL)
    if not all(value for _, value in asked):
        raise UsageError("a parameter of VAULT_ADDR is empty", remedy=_EXAMPLE_CONSUL)
    return ConsulAddress(scheme, f"{url.scheme.partition('+')[2]}://{url.netloc}", service, asked)


def _nothing_else(parameters: dict[str, str], known: str, example: str) -> None:
    """A value is not repeated: it may be a token."""
    if parameters:
        raise UsageError(f"VAULT_ADDR has a parameter other than {known}", remedy=example)
