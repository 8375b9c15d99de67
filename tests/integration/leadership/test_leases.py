"""Leases of two controllers, by Kubernetes Leases and by locks on Nomad variables: one suite for both ways."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from secretbinding.adapters.connection import NomadConnection
from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.adapters.kubernetes.leases import KubernetesLeases
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.adapters.nomad.leases import SHORTEST_SECONDS, NomadLeases
from secretbinding.errors import Denied, Unreachable
from secretbinding.ports import Leases
from tests.support.kubernetes import Cluster
from tests.support.rights import controller_tokens, shipped
from tests.support.servers import Stack
from tests.support.world import wait_until

Make = Callable[[str], Leases]

WAYS = (
    "small_kubernetes",
    pytest.param("real_kubernetes", marks=pytest.mark.real_kubernetes),
    "simulator",
    pytest.param("real_nomad", marks=pytest.mark.real_nomad),
)


@pytest.fixture(params=WAYS)
def make(request: pytest.FixtureRequest, unique: str) -> Iterator[Make]:
    """Makes the leases of a controller of that name, all of one instance."""
    server = request.getfixturevalue(request.param)
    with ExitStack() as open_things:
        if isinstance(server, Cluster):
            server.api.create_namespace(unique)
            connection = KubernetesConnection(kubeconfig=str(server.kubeconfig), timeout_seconds=5.0, retry_attempts=1)

            def of_kubernetes(identity: str) -> Leases:
                client = KubernetesClient(connection)
                open_things.callback(client.close)
                return KubernetesLeases(client, namespace=unique, instance="test", identity=identity, seconds=1.0)

            yield of_kubernetes
        else:

            def of_nomad(identity: str) -> Leases:
                rights = shipped("nomad-policy-election.hcl")
                token = controller_tokens(server, "default", "", rights)[1]
                adapter = NomadAdapter(NomadConnection(address=server.address, token=token))
                open_things.callback(adapter.close)
                seconds = SHORTEST_SECONDS
                return NomadLeases(adapter, namespace="default", instance=unique, identity=identity, seconds=seconds)

            yield of_nomad


def test_one_has_it_until_it_gives_it_back(make: Make) -> None:
    one, other = make("one"), make("other")
    assert one.take("leader")
    assert not other.take("leader")
    assert one.take("leader"), "to hold on to it"
    assert other.take("shard-1-of-2"), "names are apart"
    one.give("leader")
    assert other.take("leader")
    assert not one.take("leader")
    one.give("leader")
    assert other.take("leader"), "giving back what is another's does nothing"


def test_what_is_not_renewed_is_taken_after_its_time_and_is_lost_to_who_had_it(make: Make) -> None:
    one, other = make("one"), make("other")
    begun = time.monotonic()
    assert one.take("leader")
    wait_until("it is taken over", lambda: other.take("leader"), timeout=2 * one.seconds + 5)
    assert time.monotonic() - begun >= one.seconds, "not before its time"
    assert not one.take("leader")
    assert other.take("leader")


def test_who_takes_part_is_told_by_beats_and_who_left_is_not(make: Make) -> None:
    one, other = make("one"), make("other")
    one.beat()
    other.beat()
    before = one.beats()
    assert set(before) == {"one", "other"}
    assert other.beats() == before
    one.beat()
    after = one.beats()
    assert after["one"] != before["one"]
    assert after["other"] == before["other"]
    one.leave("other")
    one.leave("nobody")
    assert set(one.beats()) == {"one"}
    other.beat()
    assert set(one.beats()) == {"one", "other"}


def test_a_lost_answer_costs_nothing(small_kubernetes: Cluster, tmp_path: Path) -> None:
    """The lease was renewed, but by the answer it was not: the next look finds it ours."""
    connection = KubernetesConnection(
        kubeconfig=str(small_kubernetes.kubeconfig), timeout_seconds=0.5, retry_attempts=1
    )
    client = KubernetesClient(connection)
    other = KubernetesLeases(client, namespace="default", instance="test", identity="other", seconds=30.0)
    one = KubernetesLeases(client, namespace="default", instance="test", identity="one", seconds=30.0)
    assert one.take("leader")
    written = client.read_lease("default", "secretbinding-test-leader")
    assert written is not None
    # Somebody has written it since, as a renewal does whose answer is lost.
    client.write_lease({**written, "spec": {**written["spec"], "renewTime": "2030-01-01T00:00:00.000000Z"}})
    assert one.take("leader")
    assert not other.take("leader")
    client.close()


def test_a_right_that_is_missing_is_named(stack: Stack, unique: str) -> None:
    token = controller_tokens(stack, "default")[1]
    adapter = NomadAdapter(NomadConnection(address=stack.address, token=token))
    leases = NomadLeases(adapter, namespace="default", instance=unique, identity="one", seconds=10.0)
    with pytest.raises(Denied, match=f"nomad-vault/leases/{unique}/leader"):
        leases.take("leader")
    adapter.close()


def test_a_server_that_is_away_is_told_as_such() -> None:
    adapter = NomadAdapter(NomadConnection(address="http://127.0.0.1:1", retry_seconds=0.1))
    leases = NomadLeases(adapter, namespace="default", instance="x", identity="one", seconds=10.0)
    with pytest.raises(Unreachable):
        leases.take("leader")
    adapter.close()
