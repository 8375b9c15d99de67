"""Several controllers: one works and another takes over, or each has its part; never is anything done twice."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.adapters.kubernetes.leases import KubernetesLeases
from secretbinding.app import Clients, Controller
from secretbinding.sources.files import FilesSource
from tests.support.commandline import environment
from tests.support.kubernetes import Cluster
from tests.support.rights import shipped
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

PACE = {
    "SECRETBINDING_TENANCY": "open",
    "SECRETBINDING_POLL_SECONDS": "0.3",
    "SECRETBINDING_FILES_SECONDS": "0.2",
    "SECRETBINDING_SETTLE_SECONDS": "0",
    "SECRETBINDING_LOG_FORMAT": "text",
}


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack, nomad_rights=shipped("nomad-policy-election.hcl"))


@pytest.fixture
def bindings(tmp_path: Path) -> Path:
    folder = tmp_path / "bindings"
    folder.mkdir()
    return folder


def bind(bindings: Path, name: str, path: str) -> None:
    (bindings / f"{name}.yaml").write_text(yaml.safe_dump(a_manifest(name, name, path)))


class Process:
    """A controller as a process of its own."""

    def __init__(self, world: World, bindings: Path, log: Path, variables: Mapping[str, str]) -> None:
        self.log = log
        settings = world.settings
        servers = {
            "VAULT_ADDR": settings.vault.address,
            "VAULT_TOKEN": settings.vault.token.get_secret_value(),
            "NOMAD_ADDR": settings.nomad.address,
            "NOMAD_TOKEN": settings.nomad.token.get_secret_value(),
        }
        command = [sys.executable, "-m", "secretbinding", "run", "--source", f"files={bindings}"]
        with log.open("wb") as output:
            env = dict(environment(**servers, **PACE, **variables))
            self.child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=output)

    def leads(self, times: int = 1) -> bool:
        return self.log.read_text().count("] leading") >= times

    def has_lost(self) -> bool:
        return "no longer the leader" in self.log.read_text()


@contextmanager
def pair(world: World, bindings: Path, folder: Path, **variables: str) -> Iterator[tuple[Process, Process]]:
    """Two controllers, the first of which leads."""
    with ExitStack() as open_things:
        made: list[Process] = []
        for name in ("first", "second"):
            process = Process(world, bindings, folder / name, variables)
            open_things.callback(process.child.communicate)
            open_things.callback(process.child.kill)
            made.append(process)
            if name == "first":
                wait_until("the first leads", process.leads)
        wait_until("the second runs", lambda: "started" in made[1].log.read_text())
        yield made[0], made[1]


def of_kubernetes(cluster: Cluster, unique: str) -> dict[str, str]:
    cluster.api.create_namespace(unique)
    return {
        "SECRETBINDING_ELECTION": "kubernetes",
        "SECRETBINDING_ELECTION_NAMESPACE": unique,
        "SECRETBINDING_ELECTION_SECONDS": "5",
        "KUBECONFIG": str(cluster.kubeconfig),
    }


def followed(world: World, bindings: Path, folder: Path, name: str, election: Mapping[str, str]) -> float:
    """The leader is killed and a version is written: the seconds until another leads. It is rolled once."""
    world.secret(name, username="app", password="one")
    world.register(a_job(name))
    bind(bindings, name, name)
    with pair(world, bindings, folder, **election) as (first, second):
        wait_until("the job has its secret", lambda: world.seen(name) == ["app one"])
        world.deployed(name)
        killed = time.monotonic()
        first.child.kill()
        world.secret(name, username="app", password="two")
        wait_until("the second leads", second.leads, timeout=40)
        seconds = time.monotonic() - killed
        wait_until("it rolls", lambda: world.seen(name) == ["app two"])
        world.deployed(name)
        assert len(world.versions(name)) == 3, "as registered, with the secret, with its new version"
    return seconds


def test_who_is_killed_is_followed_by_another_within_thirty_seconds_of_nomads_locks(
    world: World, bindings: Path, tmp_path: Path, unique: str
) -> None:
    assert followed(world, bindings, tmp_path, unique, {"SECRETBINDING_ELECTION": "nomad"}) < 30


def test_who_is_killed_is_followed_by_another_within_twenty_seconds_of_leases(
    simulator: Stack, kubernetes_api: Cluster, bindings: Path, tmp_path: Path, unique: str
) -> None:
    # As long as they are when nobody sets anything.
    election = {**of_kubernetes(kubernetes_api, unique), "SECRETBINDING_ELECTION_SECONDS": "10"}
    assert followed(World(simulator), bindings, tmp_path, unique, election) < 20


def test_who_was_kept_from_running_finds_that_another_leads_and_does_nothing_more(
    simulator: Stack, small_kubernetes: Cluster, bindings: Path, tmp_path: Path, unique: str
) -> None:
    world = World(simulator)
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    bind(bindings, unique, unique)
    with pair(world, bindings, tmp_path, **of_kubernetes(small_kubernetes, unique)) as (first, second):
        wait_until("the job has its secret", lambda: world.seen(unique) == ["app one"])
        world.deployed(unique)
        os.kill(first.child.pid, signal.SIGSTOP)
        wait_until("the second leads", second.leads)
        world.secret(unique, username="app", password="two")
        wait_until("it rolls", lambda: world.seen(unique) == ["app two"])
        os.kill(first.child.pid, signal.SIGCONT)
        wait_until("the first has found out", first.has_lost)
        world.secret(unique, username="app", password="three")
        wait_until("it rolls again", lambda: world.seen(unique) == ["app three"])
        world.deployed(unique)
        assert len(world.versions(unique)) == 4
        # A clean end hands over at once.
        second.child.terminate()
        assert second.child.wait(timeout=20) == 0
        wait_until("the first leads again", lambda: first.leads(2), timeout=4)


class Handed:
    """`ports.Leases` whose one lease the test hands from one to another."""

    holder = ""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.seconds = 0.5

    def take(self, name: str) -> bool:
        return Handed.holder == self.identity

    def give(self, name: str) -> None: ...

    def beat(self) -> None: ...

    def beats(self) -> Mapping[str, str]:
        return {}

    def leave(self, identity: str) -> None: ...


def controller(world: World, bindings: Path, leases: Any) -> tuple[Controller, Clients]:
    clients = Clients(world.settings)
    source = FilesSource([str(bindings)], nomad_namespace="default", interval_seconds=0.2)
    return Controller(world.settings, clients, (source,), leases=leases), clients


def test_two_leaders_at_one_moment_register_a_job_once(world: World, bindings: Path, unique: str) -> None:
    """The first is stopped between its last look at the lease and its write, until the second has done the work."""
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    bind(bindings, unique, unique)
    first, clients = controller(world, bindings, Handed("first"))
    second, others = controller(world, bindings, Handed("second"))
    at_the_write, go_on, refused = threading.Event(), threading.Event(), threading.Event()
    register = clients.nomad.register

    def late(*arguments: Any, **named: Any) -> Any:
        at_the_write.set()
        go_on.wait(30)
        try:
            return register(*arguments, **named)
        except Exception:
            refused.set()
            raise

    clients.nomad.register = late  # type: ignore[method-assign]
    Handed.holder = "first"
    first.start()
    try:
        wait_until("the first is about to write", at_the_write.is_set)
        Handed.holder = "second"
        second.start()
        wait_until("the second has done it", lambda: world.seen(unique) == ["app one"])
        world.deployed(unique)
        go_on.set()
        wait_until("the first was refused", refused.is_set)
        wait_until("the first is idle", lambda: first.engine.queue.idle(within=0.1))
        assert len(world.versions(unique)) == 2
    finally:
        go_on.set()
        for each in (first, second):
            each.stop()
        for client in (clients, others):
            client.close()


def test_jobs_are_divided_among_those_who_take_part_and_change_hands_without_a_roll(
    simulator: Stack, small_kubernetes: Cluster, bindings: Path, unique: str
) -> None:
    world = World(simulator, election="kubernetes", shards=8)
    names = [f"{unique}-{number:02}" for number in range(12)]
    world.secret(unique, username="app", password="one")
    for name in names:
        world.register(a_job(name, count=0))
        bind(bindings, name, unique)
    connection = KubernetesConnection(kubeconfig=str(small_kubernetes.kubeconfig), retry_attempts=1)
    made: list[Controller] = []

    def pinned(version: int) -> bool:
        return all(f"?version={version}" in str(world.job(name)) for name in names)

    def registrations() -> Sequence[int]:
        return [world.job(name)["JobModifyIndex"] for name in names]

    def join(stack: ExitStack, identity: str) -> Controller:
        client = KubernetesClient(connection)
        leases = KubernetesLeases(client, namespace="default", instance="default", identity=identity, seconds=1.5)
        joined, clients = controller(world, bindings, leases)
        stack.callback(client.close)
        stack.callback(clients.close)
        stack.callback(joined.stop)
        joined.start()
        made.append(joined)
        return joined

    def held(*parts: int) -> bool:
        assert all(each.keeper is not None for each in made)
        return sorted(len(each.keeper.held()) for each in made if each.keeper) == sorted(parts)

    with ExitStack() as stack:
        join(stack, "one")
        wait_until("all have it", lambda: pinned(1))
        before = registrations()
        join(stack, "two")
        wait_until("each has a half", lambda: held(4, 4))
        last = join(stack, "three")
        wait_until("each has its part", lambda: held(2, 3, 3))
        wait_until("all are idle", lambda: all(each.engine.queue.idle(within=0.1) for each in made))
        assert registrations() == before
        world.secret(unique, username="app", password="two")
        wait_until("all have the new version", lambda: pinned(2))
        assert [len(world.versions(name)) for name in names] == [3] * 12
        before = registrations()
        last.stop()
        made.remove(last)
        wait_until("its part is taken by the others", lambda: held(4, 4))
        wait_until("all are idle", lambda: all(each.engine.queue.idle(within=0.1) for each in made))
        assert registrations() == before
        world.secret(unique, username="app", password="three")
        wait_until("all have the newest version", lambda: pinned(3))
        assert [len(world.versions(name)) for name in names] == [4] * 12
