"""A small DNS server and a small Consul, on loopback, which know where services are."""

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

_INDEX = "7"


class DnsServer:
    """Answers queries over UDP from its tables.

    Attributes:
        services: name to SRV records: priority, weight, port, target.
        hosts: target to IPv4 address.
        tells_hosts: the addresses of targets come with the SRV records.
        silent: it does not answer.
        asked: names and types, as they were asked for.
    """

    def __init__(self) -> None:
        self.services: dict[str, list[tuple[int, int, int, str]]] = {}
        self.hosts: dict[str, str] = {}
        self.tells_hosts = True
        self.silent = False
        self.asked: list[tuple[str, str]] = []
        self.address = ""

    def answer(self, wire: bytes) -> bytes:
        """The reply to a query; NXDOMAIN for what is in no table."""
        import dns.message
        import dns.rcode
        import dns.rdatatype
        import dns.rrset

        query = dns.message.from_wire(wire)
        name, kind = query.question[0].name.to_text(), query.question[0].rdtype
        bare = name.rstrip(".")
        self.asked.append((bare, dns.rdatatype.to_text(kind)))
        reply = dns.message.make_response(query)
        if kind == dns.rdatatype.SRV and bare in self.services:
            rows = [f"{priority} {weight} {port} {host}." for priority, weight, port, host in self.services[bare]]
            if rows:
                reply.answer.append(dns.rrset.from_text(name, 0, "IN", "SRV", *rows))
            for _, _, _, host in self.services[bare] if self.tells_hosts else ():
                reply.additional.append(dns.rrset.from_text(f"{host}.", 0, "IN", "A", self.hosts[host]))
        elif bare in self.hosts:
            if kind == dns.rdatatype.A:
                reply.answer.append(dns.rrset.from_text(name, 0, "IN", "A", self.hosts[bare]))
        elif bare not in self.services:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply.to_wire()


@contextmanager
def dns_server() -> Iterator[DnsServer]:
    """A running one; skips visibly without dnspython."""
    pytest.importorskip("dns", reason="no dnspython: SRV records are not tested")
    tables = DnsServer()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            wire, sock = self.request
            if not tables.silent:
                sock.sendto(tables.answer(wire), self.client_address)

    with _serving(socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler)) as port:
        tables.address = f"127.0.0.1:{port}"
        yield tables


class Consul:
    """Serves `/v1/health/service/:service`, and what a Nomad client asks of its Consul agent: that it is there, tokens
    for workload identities, and the registration of services.

    Attributes:
        instances: service to its instances as Consul lists them, tags and health included.
        token: the token to ask with; a request with another sees nothing, as in Consul.
        refuses: a status to answer with, 0 for none.
        asked: service and query of each request.
        connections: how many are open now.
        logins: the names of the auth methods that Nomad logged in with.
        registered: what Nomad registered, by ID.
    """

    def __init__(self) -> None:
        self.instances: dict[str, list[dict[str, Any]]] = {}
        self.token = ""
        self.refuses = 0
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.logins: list[str] = []
        self.registered: dict[str, dict[str, Any]] = {}
        self.address = ""

    def put(self, service: str, *nodes: tuple[str, int], tags: tuple[str, ...] = (), passing: bool = True) -> None:
        """Register further instances of a service."""
        for host, port in nodes:
            check = {"CheckID": "vault:sealed", "Status": "passing" if passing else "critical"}
            self.instances.setdefault(service, []).append(
                {
                    "Node": {"Node": "one", "Address": host, "Datacenter": "dc1"},
                    "Service": {"Service": service, "Tags": list(tags), "Address": "", "Port": port},
                    "Checks": [check],
                }
            )

    def listed(self, service: str, query: dict[str, str]) -> list[dict[str, Any]]:
        """The instances that a query selects."""
        return [
            row
            for row in self.instances.get(service, [])
            if ("passing" not in query or all(check["Status"] == "passing" for check in row["Checks"]))
            and ("tag" not in query or query["tag"] in row["Service"]["Tags"])
            and query.get("dc", "dc1") == "dc1"
        ]

    def agent(self, path: str) -> Any:
        """The answer to a GET of a Nomad agent; None for what there is not."""
        known = {
            "self": {
                "Config": {"Datacenter": "dc1", "NodeName": "one", "Server": True, "Version": "1.20.0"},
                "DebugConfig": {"GRPCPort": -1, "GRPCTLSPort": -1},
                "Member": {"Tags": {"build": "1.20.0:1"}},
                "Stats": {"license": {}},
            },
            "services": {
                key: {"ID": key, "Service": one["Name"], "Tags": one.get("Tags"), "Port": one.get("Port")}
                for key, one in self.registered.items()
            },
            "checks": {},
            # Nomad asks whether a new token has reached the agent.
            "/v1/acl/token/self": {"AccessorID": "1"},
        }
        return known.get(path.removeprefix("/v1/agent/"))

    def take(self, path: str, body: Any) -> Any:
        """The answer to a PUT or POST of a Nomad agent."""
        if path == "/v1/acl/login":
            self.logins.append(body["AuthMethod"])
            return {"AccessorID": "1", "SecretID": f"token-{len(self.logins)}", "AuthMethod": body["AuthMethod"]}
        if path == "/v1/agent/service/register":
            self.registered[body["ID"]] = body
        elif path.startswith("/v1/agent/service/deregister/"):
            self.registered.pop(path.rpartition("/")[2], None)
        return {}


@contextmanager
def consul_server() -> Iterator[Consul]:
    """A running one."""
    catalogue, closing, counting = Consul(), threading.Event(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with counting:
                catalogue.connections += 1
            try:
                super().handle()
            finally:
                with counting:
                    catalogue.connections -= 1

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path.startswith(("/v1/agent/", "/v1/acl/token/self")):
                found = catalogue.agent(url.path)
                self.answer(404 if found is None else 200, found)
                return
            head, _, service = url.path.rpartition("/")
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            catalogue.asked.append((service, query))
            may = not catalogue.token or self.headers.get("X-Consul-Token", "") == catalogue.token
            if query.get("index") == _INDEX:
                # A blocking query: nothing ever changes while one waits.
                closing.wait(5.0)
            status = catalogue.refuses or (200 if head == "/v1/health/service" else 404)
            self.answer(status, catalogue.listed(service, query) if may else [])

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(200, catalogue.take(urlsplit(self.path).path, json.loads(body) if body else None))

        do_POST = do_PUT  # noqa: N815

        def answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("X-Consul-Index", _INDEX)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        catalogue.address = f"127.0.0.1:{port}"
        try:
            yield catalogue
        finally:
            closing.set()


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
