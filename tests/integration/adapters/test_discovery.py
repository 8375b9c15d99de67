"""Vault is found by SRV records and in Consul's catalogue, again when its node is gone, and by its own name in TLS."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from secretbinding.adapters import tls
from secretbinding.adapters.connection import ConsulConnection, TokenFile, VaultConnection
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.connections import vault_connection
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.processes import free_ports
from secretbinding.errors import Denied, Unavailable, Unreachable
from secretbinding.settings import Settings
from tests.support.discovery import Consul, DnsServer, consul_server, dns_server
from tests.support.world import wait_until

from .misbehaving import misbehaving, reply
from .test_tls import POLICY, server_context

NAME = "_vault._tcp.service.consul"
TARGET = "one.node.dc1.consul"
Connect = Callable[..., VaultAdapter]


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with dns_server() as running:
        running.hosts = {TARGET: "127.0.0.1"}
        yield running


@pytest.fixture
def consul() -> Iterator[Consul]:
    with consul_server() as running:
        yield running


@pytest.fixture
def connect() -> Iterator[Connect]:
    made: list[VaultAdapter] = []

    def make(address: str, **options: object) -> VaultAdapter:
        made.append(VaultAdapter(VaultConnection(**{"address": address, "connect_timeout_seconds": 1.0, **options})))
        return made[-1]

    yield make
    for adapter in made:
        adapter.close()


@pytest.fixture
def second(tmp_path: Path) -> Iterator[OpenBao]:
    """Another node of the service; it knows nothing of the first, so that a test sees which one answers."""
    with OpenBao(tmp_path / "second") as server:
        server.put_policy("which", "# second")
        yield server


@pytest.fixture
def first(bao: OpenBao) -> OpenBao:
    bao.put_policy("which", "# first")
    return bao


def port_of(address: str) -> int:
    return urlsplit(address).port or 0


def unused() -> int:
    (port,) = free_ports(1)
    return port


def test_vault_is_found_by_its_srv_record(dns: DnsServer, first: OpenBao, connect: Connect) -> None:
    dns.services[NAME] = [(1, 1, port_of(first.address), TARGET)]
    vault = connect(f"srv+http://{NAME}?dns={dns.address}", token=first.root_token)
    assert vault.read_policy("which") == "# first"
    assert vault.read_policy("absent") is None
    assert dns.asked == [(NAME, "SRV")], "one look for both calls"


def test_a_server_that_does_not_tell_the_addresses_is_asked_for_them(
    dns: DnsServer, first: OpenBao, connect: Connect
) -> None:
    dns.tells_hosts = False
    dns.services["active.vault.service.consul"] = [(1, 1, port_of(first.address), TARGET)]
    vault = connect(f"srv+http://active.vault.service.consul?dns={dns.address}", token=first.root_token)
    assert vault.read_policy("which") == "# first"
    assert (TARGET, "A") in dns.asked


def test_records_of_the_lowest_priority_are_used_first_and_the_next_when_they_fail(
    dns: DnsServer, first: OpenBao, connect: Connect
) -> None:
    dns.services[NAME] = [(20, 1, port_of(first.address), TARGET), (10, 1, unused(), TARGET)]
    vault = connect(f"srv+http://{NAME}?dns={dns.address}", token=first.root_token)
    assert vault.read_policy("which") == "# first"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (None, "there is no _vault._tcp.service.consul"),
        ([], "has no SRV records"),
        ([(1, 1, 8200, "")], "name no host"),
    ],
)
def test_what_dns_does_not_know_is_told_with_what_to_check(
    dns: DnsServer, connect: Connect, records: list[tuple[int, int, int, str]] | None, message: str
) -> None:
    dns.hosts[""] = "127.0.0.1"
    dns.tells_hosts = False
    if records is not None:
        dns.services[NAME] = records
    vault = connect(f"srv+http://{NAME}?dns={dns.address}", retry_seconds=0.0)
    with pytest.raises(Unreachable, match=f"Vault cannot be found: .*{message}.*check VAULT_ADDR"):
        vault.read_policy("app")


def test_a_dns_server_that_is_silent_is_told(dns: DnsServer, connect: Connect) -> None:
    dns.silent = True
    vault = connect(f"srv+http://{NAME}?dns={dns.address}", retry_seconds=0.0)
    with pytest.raises(Unreachable, match="no DNS server answered"):
        vault.read_policy("app")


def test_vault_is_found_in_consul_by_service_and_tag(consul: Consul, first: OpenBao, connect: Connect) -> None:
    consul.put("vault", ("127.0.0.1", unused()), tags=("standby",))
    consul.put("vault", ("127.0.0.1", unused()), tags=("active",), passing=False)
    consul.put("vault", ("127.0.0.1", port_of(first.address)), tags=("active",))
    address = f"consul+http://{consul.address}/vault?tag=active&dc=dc1&scheme=http"
    vault = connect(address, token=first.root_token, retry_seconds=0.0)
    assert vault.read_policy("which") == "# first"
    ((service, query),) = consul.asked
    assert service == "vault"
    assert query == {"passing": "true", "stale": "true", "tag": "active", "dc": "dc1"}


def test_a_login_goes_to_the_node_that_was_found(
    consul: Consul, first: OpenBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = first.api
    api.put("/v1/sys/auth/found-approle", {"type": "approle"}).expect(200, 204)
    api.put("/v1/auth/found-approle/role/controller", {"token_policies": ["found"]}).expect(200, 204)
    first.put_policy("found", 'path "sys/policies/acl/which" {\n  capabilities = ["read"]\n}\n')
    role = api.get("/v1/auth/found-approle/role/controller/role-id").expect().json()["data"]["role_id"]
    secret = api.put("/v1/auth/found-approle/role/controller/secret-id", {}).expect().json()["data"]["secret_id"]
    consul.put("vault", ("127.0.0.1", port_of(first.address)))
    for name, value in {
        "VAULT_ADDR": f"consul+http://{consul.address}/vault?scheme=http",
        "VAULT_TOKEN": "",
        "SECRETBINDING_VAULT_LOGIN": "approle",
        "SECRETBINDING_VAULT_LOGIN_MOUNT": "found-approle",
        "SECRETBINDING_VAULT_LOGIN_ROLE": "controller",
        "SECRETBINDING_VAULT_LOGIN_ROLE_ID": role,
        "SECRETBINDING_VAULT_LOGIN_SECRET_ID": secret,
    }.items():
        monkeypatch.setenv(name, value)
    vault = VaultAdapter(vault_connection(Settings(), 2))
    try:
        assert vault.read_policy("which") == "# first"
    finally:
        vault.close()


def test_a_new_active_node_is_found_when_the_old_one_is_gone(
    consul: Consul, first: OpenBao, second: OpenBao, connect: Connect
) -> None:
    consul.put("vault", ("127.0.0.1", port_of(second.address)), tags=("active",))
    vault = connect(f"consul+http://{consul.address}/vault?tag=active&scheme=http", token=first.root_token)
    assert vault.read_policy("which") == "# second"
    second.stop()
    consul.instances.clear()
    consul.put("vault", ("127.0.0.1", port_of(first.address)), tags=("active",))
    assert vault.read_policy("which") == "# first", "within the retries of one call"


def test_a_node_that_stepped_down_and_redirects_is_left(consul: Consul, first: OpenBao, connect: Connect) -> None:
    """What a standby does that cannot forward: `Location` names the active node, but the catalogue decides."""
    with misbehaving() as standby:
        standby.script = [reply(307, None, Location="http://198.51.100.1:8200/v1/sys/policies/acl/which")]
        consul.put("vault", ("127.0.0.1", port_of(standby.address)), ("127.0.0.1", port_of(first.address)))
        vault = connect(f"consul+http://{consul.address}/vault?scheme=http", token=first.root_token)
        vault.write_policy("which", "# written once")
        assert first.api.get("/v1/sys/policies/acl/which").json()["data"]["policy"] == "# written once"
        assert len(standby.requests) == 1


@pytest.mark.parametrize(
    ("status", "says", "nodes"),
    [
        (502, "bad gateway", 2),
        (500, "local node not active but active cluster node not found", 2),
        (500, "internal error", 1),
        (429, "rate limit", 1),
    ],
)
def test_an_error_that_is_about_the_node_has_the_next_call_go_to_another(
    consul: Consul, connect: Connect, status: int, says: str, nodes: int
) -> None:
    with misbehaving() as one, misbehaving() as other:
        for node in (one, other):
            node.script = [reply(status, {"errors": [says]})]
        consul.put("vault", ("127.0.0.1", port_of(one.address)), ("127.0.0.1", port_of(other.address)))
        vault = connect(f"consul+http://{consul.address}/vault?scheme=http", retry_seconds=0.0)
        for _ in range(2):
            with pytest.raises(Unavailable):
                vault.read_policy("which")
        assert sum(bool(node.requests) for node in (one, other)) == nodes


def test_a_sealed_node_is_left_where_there_is_another(consul: Consul, first: OpenBao, connect: Connect) -> None:
    with misbehaving() as sealed:
        sealed.script = [reply(503, {"errors": ["Vault is sealed"]})]
        consul.put("vault", ("127.0.0.1", port_of(sealed.address)), ("127.0.0.1", port_of(first.address)))
        vault = connect(f"consul+http://{consul.address}/vault?scheme=http", token=first.root_token)
        assert vault.read_policy("which") == "# first"


def test_the_token_for_consul_goes_to_consul_alone(consul: Consul, first: OpenBao, connect: Connect) -> None:
    consul.token = "consul-token"
    with misbehaving() as node:
        node.script = [reply(200, POLICY)]
        consul.put("vault", ("127.0.0.1", port_of(node.address)))
        address = f"consul+http://{consul.address}/vault?scheme=http"
        vault = connect(address, token="vault-token", consul=ConsulConnection(token="consul-token"))
        vault.read_policy("which")
        headers = {name.lower(): value for name, value in node.requests[0].headers.items()}
    assert headers["x-vault-token"] == "vault-token"
    assert "x-consul-token" not in headers


def test_a_token_that_may_not_see_the_service_is_hinted_at(consul: Consul, connect: Connect) -> None:
    consul.token = "consul-token"
    consul.put("vault", ("127.0.0.1", 8200))
    vault = connect(f"consul+http://{consul.address}/vault?tag=active", retry_seconds=0.0)
    with pytest.raises(Unreachable, match=r"no healthy service vault \(tag active\).*CONSUL_HTTP_TOKEN"):
        vault.read_policy("app")


@pytest.mark.parametrize(("status", "message"), [(403, "may not list"), (500, "cannot list"), (400, "refused to list")])
def test_what_consul_refuses_is_told(consul: Consul, connect: Connect, status: int, message: str) -> None:
    consul.refuses = status
    vault = connect(f"consul+http://{consul.address}/vault", retry_seconds=0.0)
    with pytest.raises(Unreachable, match=f"Vault cannot be found: .*Consul.* {message}"):
        vault.read_policy("app")


def test_a_consul_that_is_away_is_told(connect: Connect) -> None:
    vault = connect(f"consul+http://127.0.0.1:{unused()}/vault", retry_seconds=0.0)
    with pytest.raises(Unreachable, match=r"Vault cannot be found: no answer from Consul at .*VAULT_ADDR"):
        vault.read_policy("app")


@pytest.mark.parametrize("body", [{"a": 1}, ["vault"], [{"Node": {}, "Service": {}}], "text"])
def test_an_answer_that_is_no_list_of_instances_is_told(connect: Connect, body: object) -> None:
    with misbehaving() as other:
        other.script = [reply(200, body)]
        vault = connect(f"consul+{other.address}/vault", retry_seconds=0.0)
        with pytest.raises(Unreachable, match="no list of instances"):
            vault.read_policy("app")


def test_an_answer_of_vault_that_no_other_node_would_give_leaves_the_node_in_use(
    consul: Consul, first: OpenBao, connect: Connect
) -> None:
    consul.put("vault", ("127.0.0.1", port_of(first.address)))
    vault = connect(f"consul+http://{consul.address}/vault?scheme=http", token="wrong")
    for _ in range(3):
        with pytest.raises(Denied):
            vault.read_policy("which")
    assert len(consul.asked) == 1


@pytest.mark.parametrize(
    ("service", "named", "override", "trusted"),
    [
        ("vault", "vault.service.consul", "", True),
        ("vault", "127.0.0.1", "", False),
        ("vault", "other.service.consul", "", False),
        ("vault", "other.service.consul", "other.service.consul", True),
    ],
)
def test_the_certificate_is_the_services_whatever_the_nodes_address_is(
    consul: Consul, connect: Connect, tmp_path: Path, service: str, named: str, override: str, trusted: bool
) -> None:
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    with misbehaving(server_context(authority, named)) as node:
        node.script = [reply(200, POLICY)]
        consul.put(service, ("127.0.0.1", port_of(node.address)))
        address = f"consul+http://{consul.address}/{service}"
        vault = connect(address, ca_cert=str(ca), tls_server_name=override, retry_seconds=0.0)
        if trusted:
            assert vault.read_policy("app") == "text"
        else:
            with pytest.raises(Unreachable, match=r"node 127\.0\.0\.1:\d+, \(its TLS certificate is for another name"):
                vault.read_policy("app")
            assert node.requests == [], "no token was sent"


def test_the_certificate_is_the_one_of_the_name_in_the_srv_record_too(
    dns: DnsServer, connect: Connect, tmp_path: Path
) -> None:
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    with misbehaving(server_context(authority, "vault.service.consul")) as node:
        node.script = [reply(200, POLICY)]
        dns.services[NAME] = [(1, 1, port_of(node.address), TARGET)]
        vault = connect(f"srv+https://{NAME}?dns={dns.address}", ca_cert=str(ca))
        assert vault.read_policy("app") == "text"


def trusts(vault: VaultAdapter) -> bool:
    try:
        return vault.read_policy("app") == "text"
    except Unreachable as error:
        if "not trusted" not in str(error):
            raise
        return False


def test_a_service_found_by_its_srv_record_is_trusted_by_the_ca_file_that_is_there_now(
    dns: DnsServer, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.05)
    old, new = trustme.CA(), trustme.CA()
    ca = tmp_path / "ca.pem"
    old.cert_pem.write_to_path(ca)
    with (
        misbehaving(server_context(old, "vault.service.consul")) as one,
        misbehaving(server_context(new, "vault.service.consul")) as other,
    ):
        one.script = other.script = [reply(200, POLICY)]
        dns.services[NAME] = [(10, 1, port_of(one.address), TARGET), (20, 1, port_of(other.address), TARGET)]
        vault = connect(f"srv+https://{NAME}?dns={dns.address}", ca_cert=str(ca), retry_seconds=0.0)
        assert trusts(vault)
        assert (len(one.requests), len(other.requests)) == (1, 0)
        new.cert_pem.write_to_path(ca)
        wait_until("the other node, of the new authority, answers", lambda: trusts(vault) and bool(other.requests))
        before = len(one.requests)
        old.cert_pem.write_to_path(ca)
        del dns.services[NAME][1]
        wait_until(
            "the first node, of the old one, answers again", lambda: trusts(vault) and len(one.requests) > before
        )


def test_a_ca_file_that_is_half_written_keeps_no_other_node_from_taking_over(
    consul: Consul, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.0)
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    with (
        misbehaving(server_context(authority, "vault.service.consul")) as one,
        misbehaving(server_context(authority, "vault.service.consul")) as other,
    ):
        one.script = [reply(200, POLICY), reply(503, {"errors": ["Vault is sealed"]})]
        other.script = [reply(200, POLICY)]
        consul.put("vault", ("127.0.0.1", port_of(one.address)), ("127.0.0.1", port_of(other.address)))
        vault = connect(f"consul+http://{consul.address}/vault", ca_cert=str(ca))
        assert vault.read_policy("app") == "text"
        ca.write_text("-----BEGIN CERTIFICATE-----\n")
        assert vault.read_policy("app") == "text"
        assert (len(one.requests), len(other.requests)) == (2, 1)


class Replaced:
    """A token file that is replaced while a request with the old token is under way."""

    def __init__(self, source: TokenFile, path: Path) -> None:
        self._source = source
        self._path = path

    def __call__(self) -> str:
        return self._source()

    def refused(self, token: str) -> bool:
        self._path.write_text("after")
        return self._source.refused(token)


def test_a_token_that_was_replaced_is_tried_on_the_node_that_was_found(
    consul: Consul, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("before")
    token = TokenFile(tmp_path / "token")
    with misbehaving() as node:
        node.script = [reply(200, POLICY), reply(403, {"errors": ["permission denied"]}), reply(200, POLICY)]
        consul.put("vault", ("127.0.0.1", port_of(node.address)))
        vault = connect(f"consul+http://{consul.address}/vault?scheme=http", token=Replaced(token, tmp_path / "token"))
        assert [vault.read_policy("app") for _ in range(2)] == ["text", "text"]
        sent = [{name.lower(): value for name, value in one.headers.items()}["x-vault-token"] for one in node.requests]
    assert sent == ["before", "before", "after"]
    assert len(consul.asked) == 1


def test_the_end_of_a_client_closes_what_it_asks_consul_over(consul: Consul, first: OpenBao, connect: Connect) -> None:
    consul.put("vault", ("127.0.0.1", port_of(first.address)))
    vault = connect(f"consul+http://{consul.address}/vault?scheme=http", token=first.root_token)
    assert vault.read_policy("which") == "# first"
    assert consul.connections == 1
    vault.close()
    wait_until("Consul has no connection left", lambda: consul.connections == 0)
