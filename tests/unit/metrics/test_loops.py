"""`/healthz` finds a watch, a source or an election that hangs, and does not mind a server that is away."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

import pytest

from secretbinding.engine.policies import PolicyBoard
from secretbinding.engine.store import Store
from secretbinding.errors import Unreachable
from secretbinding.leadership import Callbacks, Keeper
from secretbinding.loops import Loop
from secretbinding.metrics.parts import Parts
from secretbinding.sources.base import Sink, SourceItem
from secretbinding.sources.kubernetes import KubernetesSource
from secretbinding.sources.nomad import NomadSource
from secretbinding.sources.policies import NomadPolicies
from secretbinding.sources.policies.labels import LabelBook
from secretbinding.watch.nomad_events import NomadEventWatcher
from secretbinding.watch.secrets import SecretWatcher
from secretbinding.watch.variables import VariableWatcher
from tests.support import builders as make
from tests.support.metrics import get
from tests.support.world import wait_until
from tests.unit.metrics.parts import Fakes

STUCK_SECONDS = 0.3


class Server:
    """Vault, Nomad and what holds the leases. It is away, or whoever asks it hangs until the test is over."""

    identity, seconds = "me", 0.1

    def __init__(self, *, hangs: bool) -> None:
        self.over = threading.Event()
        self.asked = 0
        self._hangs = hangs

    def _ask(self, *_: object, **__: object) -> Any:
        self.asked += 1
        if self._hangs:
            self.over.wait(60)
        raise Unreachable("it is away", system="nomad")

    def __getattr__(self, name: str) -> Any:
        return self._ask


class Looping(Protocol):
    """What is looked at."""

    threads: Sequence[threading.Thread]
    loops: Sequence[Loop]

    def stop(self) -> None: ...


def nobody(*_: object) -> None:
    """Told of something, and does nothing."""


def a_store() -> Store:
    store = Store()
    one_task = make.spec(workload={"job": "web", "namespace": "default", "groups": [{"name": "g", "tasks": ["t"]}]})
    variable = make.binding(make.kv(), make.nomad_variable(path="nomad/jobs/web"), one_task, job="web")
    store.upsert(SourceItem(make.key("web"), variable, "default"))
    return store


def secrets(server: Any) -> Looping:
    return cast(Looping, SecretWatcher(server, a_store(), nobody, interval_seconds=0.05))


def variables(server: Any) -> Looping:
    return cast(Looping, VariableWatcher(server, a_store(), nobody, interval_seconds=0.02))


def events(server: Any) -> Looping:
    watch = NomadEventWatcher(server, a_store(), nobody, nobody, namespaces_seconds=0.05, quiet_seconds=0.0)
    return cast(Looping, watch)


def election(server: Any) -> Looping:
    return cast(Looping, Keeper(server, total=2, callbacks=Callbacks(nobody, nobody, lambda of: False)))


def policies(server: Any) -> Looping:
    source = NomadPolicies(server, "default", wait_seconds=0.0)
    source.start(PolicyBoard(["nomad"]))
    return source


def labels(server: Any) -> Looping:
    return cast(Looping, LabelBook({"nomad": server.namespaces}, lambda: True, interval_seconds=0.05))


class OfSource:
    """A source as something with loops."""

    def __init__(self, server: Any) -> None:
        self._source = NomadSource(server, ("default",), wait_seconds=0.0)
        self._source.start(cast(Sink, None))
        self.stop = self._source.stop

    @property
    def threads(self) -> Sequence[threading.Thread]:
        return self._source.pulse().threads

    @property
    def loops(self) -> Sequence[Loop]:
        return self._source.pulse().loops


class OfKubernetes(OfSource):
    """The same of a cluster's custom resources."""

    def __init__(self, server: Any) -> None:
        self._source = KubernetesSource(server)
        self._source.start(cast(Sink, None))
        self.stop = self._source.stop


WATCHES: dict[str, Callable[[Any], Any]] = {
    "secret-watch": secrets,
    "nomad-variables": variables,
    "nomad-events-default": events,
    "leadership": election,
    "policies-nomad": policies,
    "labels": labels,
    "variables-default": OfSource,
    "kubernetes-source": OfKubernetes,
}


@pytest.fixture(params=[pytest.param(True, id="hangs"), pytest.param(False, id="away")])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(hangs=request.param)
    yield made
    made.over.set()


@pytest.mark.parametrize("name", WATCHES)
def test_a_loop_that_hangs_fails_the_health_check_and_one_whose_server_is_away_does_not(
    server: Server, name: str
) -> None:
    watch = WATCHES[name](server)
    fakes = Fakes("nomad", stuck_seconds=STUCK_SECONDS)
    own: Parts = fakes.parts
    object.__setattr__(own, "rules", (watch,))
    fakes.monitoring.start()
    try:
        if not isinstance(watch, OfSource | NomadPolicies):
            watch.start()
        wait_until("it has asked", lambda: server.asked > 0)
        if server._hangs:
            told = f"failed loops stuck for longer than 0 s: {name}"
            wait_until("it is late", lambda: told in get(fakes.monitoring.address, "/healthz").text)
            assert get(fakes.monitoring.address, "/healthz").status == 503
            assert (
                'secretbinding_health_check_failing{check="loops"} 1.0'
                in get(fakes.monitoring.address, "/metrics").text
            )
        else:
            own_loop = next(loop for loop in watch.loops if loop.name == name)
            before = own_loop.turns
            wait_until("it comes round", lambda: own_loop.turns > before)
            assert own_loop.late_seconds() < STUCK_SECONDS
    finally:
        server.over.set()
        watch.stop()
        fakes.monitoring.stop()


def test_a_turn_that_ended_by_a_surprise_does_not_count() -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise LookupError("a surprise")

    watch = SecretWatcher(cast(Any, Broken()), a_store(), nobody, interval_seconds=0.02)
    watch.start()
    try:
        wait_until("no turn has come to its end", lambda: watch.loops[0].late_seconds() > STUCK_SECONDS)
        assert all(thread.is_alive() for thread in watch.threads)
    finally:
        watch.stop()


def test_a_loop_is_late_from_the_moment_on_at_which_its_next_turn_was_due() -> None:
    now = [100.0]
    loop = Loop("one", clock=lambda: now[0])
    assert loop.late_seconds() == 0, "it has not begun"
    loop.turned(30)
    now[0] = 125
    assert loop.late_seconds() == 0
    now[0] = 142
    assert loop.late_seconds() == 12
    loop.turned()
    assert loop.late_seconds() == 0
