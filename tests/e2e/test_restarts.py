"""Starting, stopping, killing and failing over the whole controller, on both Nomads with a real OpenBao."""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from secretbinding.app import Clients, Controller
from secretbinding.models.key import WorkloadKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.sources.nomad import NomadSource
from secretbinding.status import Pass
from tests.support.commandline import environment, servers_of
from tests.support.servers import Stack
from tests.support.world import NAMESPACE, World, a_job, a_manifest, forget_bindings, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

_MANY = 30
_WRITES = {
    "vault": ("write_policy", "delete_policy", "write_jwt_role", "delete_jwt_role"),
    "nomad": ("register", "evaluate", "tag_version", "untag_version", "write_variable", "delete_variable"),
}


class Killed(BaseException):
    """No handler of errors takes it."""


class Watched:
    """A controller whose every write is counted, and which dies at the one that `stops` names by its number, before or
    after it took effect. What is dead writes no more."""

    def __init__(self, world: World, stops: Callable[[int, str], bool] = lambda number, when: False) -> None:
        self.writes: Counter[str] = Counter()
        self.passes: Counter[str] = Counter()
        self.dead = False
        self._stops = stops
        self._count = 0
        self._clients = Clients(world.settings)
        for adapter, names in ((self._clients.vault, _WRITES["vault"]), (self._clients.nomad, _WRITES["nomad"])):
            for name in names:
                setattr(adapter, name, self._watched(name, getattr(adapter, name)))
        source = NomadSource(self._clients.nomad, (NAMESPACE,))
        self._controller = Controller(world.settings, self._clients, (source,), on_pass=self._passed)

    def start(self) -> "Watched":
        self._controller.start()
        return self

    def stop(self) -> None:
        self._controller.stop()
        self._clients.close()

    def idle(self) -> bool:
        """Nothing is due for a while."""
        return self._controller.engine.queue.idle(within=0.5)

    def _passed(self, workload: WorkloadKey, found: Pass, seconds: float) -> None:
        self.passes[workload.job] += 1

    def _watched(self, name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        def do(*arguments: Any, **named: Any) -> Any:
            self._count += 1
            number = self._count
            self._die(number, "before")
            result = write(*arguments, **named)
            self.writes[name] += 1
            self._die(number, "after")
            return result

        return do

    def _die(self, number: int, when: str) -> None:
        self.dead = self.dead or self._stops(number, when)
        if self.dead:
            raise Killed


@contextmanager
def running(world: World, stops: Callable[[int, str], bool] = lambda number, when: False) -> Iterator[Watched]:
    controller = Watched(world, stops).start()
    try:
        yield controller
    finally:
        controller.stop()


@pytest.fixture
def world(stack: Stack, unique: str) -> World:
    """A world with an instance of its own, and without the bindings that other tests have left."""
    forget_bindings(stack)
    return World(stack, instance=unique[:20].strip("-"))


def test_restarts_write_nothing_and_what_changed_meanwhile_rolls_once(world: World, unique: str) -> None:
    names = [f"{unique}-{number:02}" for number in range(_MANY)]
    shared, own = names[:10], names[10:]
    for name in names:
        world.secret(name, username="app", password="one")
        world.register(a_job(name, count=0))
        world.bind(a_manifest(name, name, names[0] if name in shared else name))
    with running(world):
        for name in names:
            world.await_reason(name, Reason.READY)
            world.await_reason(name, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
    before = versions(world, names)

    with running(world) as again:
        settled(again, names)
    assert dict(again.writes) == {}

    for name in (names[0], *own):
        world.secret(name, username="app", password="two")
    world.secret(own[0], username="app", password="three")
    both = a_manifest(own[1], own[1], own[1], env={"DB_PASS": "password"})
    world.bind(both)
    with running(world) as back:
        for name in names:
            wanted = "?version=3" if name == own[0] else "?version=2"
            wait_until(f"{name} is rolled", lambda name=name, wanted=wanted: wanted in str(world.job(name)))
            world.await_reason(name, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        settled(back, names)
    assert versions(world, names) == {name: number + 1 for name, number in before.items()}
    assert back.writes["register"] == _MANY
    assert set(back.writes) == {"register", "write_variable"}
    # At most: it waits for a look at all jobs, it rolls, it has rolled, and one more where both came at once.
    assert back.writes["write_variable"] <= 4 * _MANY

    with running(world) as once_more:
        settled(once_more, names)
    assert dict(once_more.writes) == {}


def versions(world: World, names: list[str]) -> dict[str, int]:
    return {name: int(world.job(name)["Version"]) for name in names}


def settled(controller: Watched, names: list[str]) -> None:
    """Wait until the controller has looked at all jobs, and has nothing to do."""
    wait_until("all are looked at", lambda: set(names) <= set(controller.passes))
    wait_until("nothing is due", controller.idle)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_controller_that_dies_at_any_write_of_a_roll_leaves_what_the_next_one_finishes(
    world: World, unique: str, when: str
) -> None:
    world.secret(unique, username="app", password="1")
    world.register(a_job(unique, count=0))
    world.bind(a_manifest(unique, unique, unique))
    with running(world):
        world.await_reason(unique, Reason.READY)
    at, kills = 0, 0
    while kills == at:
        at += 1
        before = int(world.job(unique)["Version"])
        newest = world.secret(unique, username="app", password=str(at + 1))

        def rolled(newest: int = newest) -> bool:
            return f"?version={newest}" in str(world.job(unique))

        with running(world, lambda number, moment, at=at: (number, moment) == (at, when)) as doomed:
            wait_until("it dies, or is done", lambda: doomed.dead or (rolled() and doomed.idle()))
        kills += doomed.dead
        with running(world) as heir:
            wait_until("it is rolled", rolled)
            world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
            settled(heir, [unique])
        assert int(world.job(unique)["Version"]) == before + 1, f"killed {when} write {at}"
    assert kills >= 3


def test_a_process_that_is_killed_right_after_a_registration_is_followed_by_one_that_registers_nothing(
    world: World, unique: str
) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.bind(a_manifest(unique, unique, unique))
    instance = {"SECRETBINDING_INSTANCE": world.settings.controller.instance, "SECRETBINDING_POLL_SECONDS": "0.3"}
    own = {**instance, "SECRETBINDING_SETTLE_SECONDS": "0", "SECRETBINDING_METRICS_ADDRESS": ""}
    own["SECRETBINDING_TENANCY"] = "open"
    command = [sys.executable, "-m", "secretbinding", "run", "--source", "nomad"]
    with running(world):
        world.await_reason(unique, Reason.READY)
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
    before = int(world.job(unique)["Version"])
    child = subprocess.Popen(command, env=dict(environment(**servers_of(world.stack), **own)))
    try:
        world.secret(unique, username="app", password="two")
        wait_until("it has registered", lambda: int(world.job(unique)["Version"]) == before + 1)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    with running(world) as heir:
        wait_until("the task sees it", lambda: world.seen(unique) == ["app two"])
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        settled(heir, [unique])
    assert int(world.job(unique)["Version"]) == before + 1
    assert heir.writes["register"] == 0


def test_a_controller_that_takes_over_in_the_middle_of_a_roll_follows_it_to_its_end(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique, count=3))
    world.bind(a_manifest(unique, unique, unique))
    with running(world) as first:
        world.await_reason(unique, Reason.READY)
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        before = int(world.job(unique)["Version"])
        first.writes.clear()
        world.secret(unique, username="app", password="two")
        wait_until("the first one sees it", lambda: "app two" in world.seen(unique))
        assert world.deployment(unique)["Status"] == "running"
    with running(world) as second:
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        settled(second, [unique])
    assert sorted(world.seen(unique)) == ["app two"] * 3
    assert int(world.job(unique)["Version"]) == before + 1
    assert (first.writes["register"], second.writes["register"]) == (1, 0)


def test_two_controllers_of_one_instance_at_once_register_a_new_version_once(world: World, unique: str) -> None:
    """As for a moment when one takes over and the other does not know yet."""
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique, count=2))
    world.bind(a_manifest(unique, unique, unique))
    with running(world) as first:
        world.await_reason(unique, Reason.READY)
        with running(world) as second:
            settled(second, [unique])
            before = int(world.job(unique)["Version"])
            first.writes.clear()
            for password in ("two", "three", "four"):
                world.secret(unique, username="app", password=password)
                wait_until("both see it", lambda password=password: world.seen(unique) == [f"app {password}"] * 2)
                world.deployed(unique)
            wait_until("both are idle", lambda: first.idle() and second.idle())
    assert int(world.job(unique)["Version"]) == before + 3
    assert first.writes["register"] + second.writes["register"] == 3
