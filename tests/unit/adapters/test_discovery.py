"""Addresses that are looked up say what, where and by which name; nodes are kept while they answer."""

from collections.abc import Sequence

import pytest

from secretbinding.adapters.connection import NomadConnection, VaultConnection, check
from secretbinding.adapters.discovery import ConsulAddress, SrvAddress, discovered, plain_address
from secretbinding.adapters.discovery.nodes import Node, Nodes
from secretbinding.errors import Unreachable, UsageError

ONE, TWO, THREE = Node("10.0.0.1", 8200), Node("10.0.0.2", 8200), Node("10.0.0.3", 8200, priority=5)


@pytest.mark.parametrize(
    ("text", "found", "name"),
    [
        (
            "srv+https://_vault._tcp.service.consul",
            SrvAddress("https", "_vault._tcp.service.consul"),
            "vault.service.consul",
        ),
        (
            "srv+http://_vault._active.service.consul/",
            SrvAddress("http", "_vault._active.service.consul"),
            "active.vault.service.consul",
        ),
        (
            "srv+https://active.vault.service.consul?dns=127.0.0.1:8600",
            SrvAddress("https", "active.vault.service.consul", dns=("127.0.0.1", 8600)),
            "active.vault.service.consul",
        ),
        (
            "srv+https://_vault._tcp.example.com./proxied/?dns=[::1]",
            SrvAddress("https", "_vault._tcp.example.com", "/proxied", ("::1", 53)),
            "vault.example.com",
        ),
        (
            "consul+http://127.0.0.1:8500/vault?tag=active&scheme=http",
            ConsulAddress("http", "http://127.0.0.1:8500", "vault", (("tag", "active"),)),
            "vault.service.consul",
        ),
        (
            "consul+https://consul.example.com/vault-eu?dc=eu",
            ConsulAddress("https", "https://consul.example.com", "vault-eu", (("dc", "eu"),)),
            "vault-eu.service.consul",
        ),
    ],
)
def test_an_address_says_what_is_looked_up_and_whose_certificate_is_expected(
    text: str, found: SrvAddress | ConsulAddress, name: str
) -> None:
    read = discovered(text)
    assert read == found
    assert read is not None
    assert read.server_name == name
    assert plain_address(text) == f"{found.scheme}://{name}:8200"
    check(VaultConnection(address=text), "vault")


@pytest.mark.parametrize("text", ["http://vault.service.consul:8200", "https://active.vault.service.consul:8200"])
def test_a_name_in_an_ordinary_address_is_left_to_the_system(text: str) -> None:
    assert discovered(text) is None
    assert plain_address(text) == text
    check(VaultConnection(address=text), "vault")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("srv+https://", "no name to look up"),
        ("srv+https://vault..consul", "no name to look up"),
        ("srv+https://_vault._tcp.service.consul:8200", "a port, which an SRV record gives"),
        ("srv+https://_vault._tcp.service.consul:port", "is not a URL"),
        ("srv+https://name.consul?dns=consul.example.com", "no IP address and port"),
        ("srv+https://name.consul?dns=127.0.0.1:99999", "no IP address and port"),
        ("srv+https://name.consul?tag=active", "a parameter other than dns"),
        ("srv+https://name.consul?dns=127.0.0.1&dns=127.0.0.2", "a parameter twice"),
        ("srv+https://name.consul#dns", "a fragment"),
        ("consul+http://127.0.0.1:8500", "no service in it"),
        ("consul+http://127.0.0.1:8500/v1/vault", "no service in it"),
        ("consul+http:///vault", "names no Consul"),
        ("consul+http://127.0.0.1:8500/vault?scheme=tcp", "neither http nor https"),
        ("consul+http://127.0.0.1:8500/vault?tag=", "is empty"),
        ("consul+http://user:opensesame@127.0.0.1:8500/vault", "a user or password"),
        (
            "consul+http://127.0.0.1:8500/vault?token=opensesame",
            "a parameter other than tag, dc, ns, partition, scheme",
        ),
    ],
)
def test_an_address_that_can_never_be_looked_up_is_a_usage_error_that_repeats_no_value(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        check(VaultConnection(address=text), "vault")
    assert "opensesame" not in str(caught.value)
    assert caught.value.remedy


def test_only_vault_is_looked_up() -> None:
    with pytest.raises(UsageError, match="address of Nomad is not a URL"):
        check(NomadConnection(address="srv+http://_nomad._tcp.service.consul"), "nomad")


class Catalogue:
    """What is found, and how often it was looked for; time as the test sets it."""

    def __init__(self, *found: Node) -> None:
        self.found: Sequence[Node] = found
        self.looks = 0
        self.time = 1000.0
        self.nodes = Nodes(self.look, lambda: self.time)

    def look(self) -> Sequence[Node]:
        self.looks += 1
        if not self.found:
            raise Unreachable("nothing is found", system="vault")
        return self.found


def test_the_first_node_is_kept_while_it_answers_and_is_listed() -> None:
    catalogue = Catalogue(ONE, TWO)
    assert [catalogue.nodes.current() for _ in range(3)] == [ONE] * 3
    assert catalogue.looks == 1
    catalogue.found = (TWO, ONE)
    catalogue.time += 31
    assert catalogue.nodes.current() == ONE
    assert catalogue.looks == 2


def test_a_node_that_is_listed_no_more_is_left_within_half_a_minute() -> None:
    catalogue = Catalogue(ONE)
    catalogue.nodes.current()
    catalogue.found = (TWO,)
    catalogue.time += 29
    assert catalogue.nodes.current() == ONE
    catalogue.time += 2
    assert catalogue.nodes.current() == TWO


def test_after_a_failure_it_is_looked_again_and_another_node_is_preferred() -> None:
    catalogue = Catalogue(ONE, TWO)
    catalogue.time += 5
    catalogue.nodes.failed(catalogue.nodes.current())
    assert catalogue.nodes.current() == TWO
    catalogue.time += 5
    catalogue.nodes.failed(TWO)
    assert catalogue.nodes.current() == ONE, "the one that failed longest ago"


def test_a_thousand_failures_at_once_are_one_look() -> None:
    catalogue = Catalogue(ONE)
    for _ in range(1000):
        catalogue.nodes.failed(catalogue.nodes.current())
    assert catalogue.looks == 1
    catalogue.time += 0.5
    catalogue.nodes.failed(catalogue.nodes.current())
    catalogue.nodes.current()
    assert catalogue.looks == 2


def test_a_late_failure_of_a_node_that_was_left_changes_nothing() -> None:
    catalogue = Catalogue(ONE, TWO)
    catalogue.nodes.failed(catalogue.nodes.current())
    assert catalogue.nodes.current() == TWO
    catalogue.nodes.failed(ONE)
    assert catalogue.nodes.current() == TWO


def test_nodes_of_a_lower_priority_serve_while_the_others_fail_and_no_longer() -> None:
    catalogue = Catalogue(ONE, THREE)
    catalogue.nodes.failed(catalogue.nodes.current())
    assert catalogue.nodes.current() == THREE
    catalogue.time += 31
    assert catalogue.nodes.current() == ONE


def test_when_nothing_can_be_looked_up_the_known_nodes_stay_in_use() -> None:
    catalogue = Catalogue(ONE, TWO)
    catalogue.nodes.current()
    catalogue.found = ()
    catalogue.time += 31
    assert catalogue.nodes.current() == ONE
    catalogue.nodes.failed(ONE)
    assert catalogue.nodes.current() == TWO


def test_a_service_that_was_never_found_is_an_error_each_time() -> None:
    catalogue = Catalogue()
    for _ in range(2):
        with pytest.raises(Unreachable, match="nothing is found"):
            catalogue.nodes.current()
