"""While a server refuses, loses answers, forgets or lies, no job is changed wrongly; when it ends, all is as it should
be, with no further job version."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from secretbinding import app
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from secretbinding.engine.reconciler import Pace
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.sources import nomad as source
from secretbinding.watch import nomad_events
from tests.support.meddling import Meddler, Meddling, Rule, Seen, meddling, refusing
from tests.support.servers import Stack
from tests.support.world import NAMESPACE, World, a_job, a_manifest, wait_until

pytestmark = pytest.mark.xdist_group("faults")

_PATIENCE = 90.0


@dataclass(frozen=True)
class Trouble:
    """What one of the servers does; with `still`, no job can be registered meanwhile, so that none may be. It counts
    as met after so many requests."""

    server: str
    rule: Rule
    still: bool = False
    meets: int = 3


def always(what: Meddling) -> Rule:
    return lambda seen: what


def at_writes(what: Meddling) -> Rule:
    return lambda seen: what if seen.writes else None


def at(method: str, part: str, what: Meddling) -> Rule:
    return lambda seen: what if seen.method == method and part in seen.path else None


def now_and_then(what: Meddling) -> Rule:
    """Every second request."""
    count = 0

    def rule(seen: Seen) -> Meddling | None:
        nonlocal count
        count += 1
        return what if count % 2 else None

    return rule


def streams(name: str, lines: Callable[[bytes], Iterable[bytes]]) -> Rule:
    return lambda seen: Meddling(name, lines=lines) if seen.streams else None


def once_each(what: Meddling) -> Rule:
    """The answer to each kind of write is lost the first three times."""
    lost: dict[str, int] = {}

    def rule(seen: Seen) -> Meddling | None:
        kind = f"{seen.method} {'/'.join(seen.path.split('/')[:4])}"
        if not seen.writes or lost.get(kind, 0) >= 3:
            return None
        lost[kind] = lost.get(kind, 0) + 1
        return what

    return rule


def _reversed(pending: list[bytes], line: bytes) -> Iterable[bytes]:
    pending.append(line)
    if len(pending) < 3 and line.strip() != b"{}":
        return ()
    found, pending[:] = pending[::-1], []
    return found


_LOST = Meddling("lost", cut=True, forward=True)
_NO_LEADER = refusing("no leader", 500, "rpc error: No cluster leader")
_MOVED = refusing("moved", 500, "Enforcing job modify index 1: job exists with conflicting index: 2")
_EMPTY = Meddling("empty", body=b"[]")
TROUBLES = {
    "Vault is sealed": Trouble("vault", always(refusing("sealed", 503, '{"errors": ["Vault is sealed"]}')), still=True),
    "Vault limits requests": Trouble(
        "vault", now_and_then(refusing("429", 429, '{"errors": ["rate limit quota exceeded"]}', Retry_After="1"))
    ),
    "Vault fails": Trouble("vault", always(refusing("500", 500, '{"errors": ["internal error"]}')), still=True),
    "Vault is not there": Trouble("vault", always(Meddling("gone", cut=True)), still=True),
    "Vault is slow": Trouble("vault", always(Meddling("slow", delay_seconds=0.4))),
    "Vault lets nobody do anything": Trouble(
        "vault", always(refusing("denied", 403, '{"errors": ["permission denied"]}')), still=True
    ),
    "Vault refuses writes": Trouble("vault", at_writes(refusing("denied", 403, '{"errors": ["permission denied"]}'))),
    "Vault's lists come back empty": Trouble(
        "vault",
        lambda seen: (
            refusing("empty", 404, '{"errors": []}') if seen.method == "LIST" or "metadata" in seen.path else None
        ),
    ),
    "Vault's answers to writes are lost": Trouble("vault", once_each(_LOST)),
    "Nomad has no leader": Trouble("nomad", always(_NO_LEADER), still=True),
    "Nomad is not there": Trouble("nomad", always(Meddling("gone", cut=True)), still=True),
    "Nomad lets nobody do anything": Trouble("nomad", always(refusing("denied", 403, "Permission denied")), still=True),
    "Nomad's lists come back empty": Trouble(
        "nomad", lambda seen: _EMPTY if seen.method == "GET" and seen.path == "/v1/vars" else None
    ),
    "Nomad says that jobs have moved at every write": Trouble("nomad", at("POST", "/v1/jobs", _MOVED), still=True),
    "Nomad's answers to writes are lost": Trouble("nomad", once_each(_LOST)),
    "Nomad's event stream brings nothing": Trouble("nomad", streams("silent", lambda line: ()), meets=1),
    "Nomad's event stream repeats itself": Trouble("nomad", streams("twice", lambda line: (line, line)), meets=1),
    "Nomad's event stream is out of order": Trouble("nomad", streams("mixed", partial(_reversed, [])), meets=1),
    "Nomad's event stream is cut again and again": Trouble(
        "nomad", lambda seen: Meddling("cut", cut=True) if seen.streams else None, meets=1
    ),
}


class Site:
    """A controller that works all the time, with a proxy before each server."""

    def __init__(self, world: World, vault: Meddler, nomad: Meddler) -> None:
        self.world = world
        self.proxies = {"vault": vault, "nomad": nomad}
        world.settings.vault = world.settings.vault.model_copy(update={"address": vault.address})
        world.settings.nomad = world.settings.nomad.model_copy(update={"address": nomad.address})

    def begin(self, trouble: Trouble) -> Meddler:
        proxy = self.proxies[trouble.server]
        proxy.met.clear()
        proxy.rule = trouble.rule
        proxy.cut_streams()
        return proxy

    def end(self) -> None:
        for proxy in self.proxies.values():
            proxy.rule = None
            proxy.cut_streams()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory: Path = tmp_path_factory.mktemp("faults")
    with (
        pytest.MonkeyPatch.context() as patch,
        OpenBao(directory / "openbao") as vault,
        Simulator(directory / "nomad", vault_address=vault.address, acl=True) as server,
        meddling(vault.address) as before_vault,
        meddling(server.address) as before_nomad,
    ):
        # What waits for minutes in the field waits for moments here.
        patch.setattr(app, "Pace", partial(Pace, backoff_seconds=0.1, backoff_max_seconds=0.5, missing_seconds=1.0))
        patch.setattr(source, "_RETRY_MAX_SECONDS", 0.5)
        patch.setattr(nomad_events, "_RETRY_MAX_SECONDS", 0.5)
        vault.enable_jwt(server.address)
        stack = Stack(server.kind, server.address, server.api, server.token, vault, server.region)
        # Without its events, a change of a job is found by the look at all jobs.
        made = Site(World(stack, resync_seconds=3.0), before_vault, before_nomad)
        clients = app.Clients(made.world.settings)
        # What was hidden for a while brings no new index: it is seen when the list is asked for anew.
        bindings = source.NomadSource(clients.nomad, (NAMESPACE,), wait_seconds=2.0)
        with made.world.running(bindings):
            yield made
        clients.close()


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
def test_nothing_is_changed_wrongly_meanwhile_and_all_is_well_afterwards(
    site: Site, trouble: Trouble, unique: str
) -> None:
    world = site.world
    steady, rolled, later, leaving = (f"{unique}-{word}" for word in ("steady", "rolled", "later", "leaving"))
    for name in (steady, rolled, later, leaving):
        world.secret(name, username="app", password="1")
        world.register(a_job(name, count=0))
    for name in (steady, rolled, leaving):
        world.bind(a_manifest(name, name, name))
    for name in (steady, rolled, leaving):
        world.await_reason(name, Reason.READY, timeout=_PATIENCE)
        world.await_reason(name, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY, timeout=_PATIENCE)
    before = {name: int(world.job(name)["Version"]) for name in (steady, rolled, later, leaving)}

    proxy = site.begin(trouble)
    try:
        world.secret(rolled, username="app", password="2")
        world.bind(a_manifest(later, later, later))
        world.unbind(leaving)
        wait_until("it has met the fault", lambda: proxy.met.total() >= trouble.meets, _PATIENCE)
        for name in (steady, rolled):
            assert "nsb." in str(world.job(name)), f"{name} has lost its share"
            assert world.policies(having=name), f"{name} has lost its rights"
        assert int(world.job(steady)["Version"]) == before[steady]
        if trouble.still:
            assert {name: int(world.job(name)["Version"]) for name in before} == before
    finally:
        site.end()

    wait_until("the new version is there", lambda: "?version=2" in str(world.job(rolled)), _PATIENCE)
    world.await_reason(rolled, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY, timeout=_PATIENCE)
    world.await_reason(later, Reason.READY, timeout=_PATIENCE)
    wait_until("what left is gone", lambda: not world.policies(having=leaving), _PATIENCE)
    wait_until("its status, too", lambda: world.status(leaving) is None, _PATIENCE)
    assert "nsb." not in str(world.job(leaving))
    assert not world.roles(having=leaving)
    wanted = {steady: 0, rolled: 1, later: 1, leaving: 1}
    assert {name: int(world.job(name)["Version"]) - number for name, number in before.items()} == wanted
