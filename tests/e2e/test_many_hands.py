"""Two controllers, a person and a GitOps tool on the same jobs: nobody's work is lost, nothing is done twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from secretbinding.models.reasons import ConditionType, Reason
from tests.support.hands import History, Person, again_and_again, edit_of, insisting, pins_of
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

_PATIENCE = 90.0
_EDITS = 6


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """On servers of its own: jobs change all the time."""
    with (
        OpenBao(tmp_path / "openbao") as vault,
        Simulator(tmp_path / "nomad", vault_address=vault.address, acl=True) as server,
    ):
        vault.enable_jwt(server.address)
        yield World(Stack(server.kind, server.address, server.api, server.token, vault, server.region))


def test_no_edit_is_lost_nothing_is_registered_twice_and_the_fight_is_told(world: World, unique: str) -> None:
    edited, fought = [f"{unique}-{number}" for number in range(2)], f"{unique}-fought"
    file = a_job(fought, count=0)
    for name in (*edited, fought):
        world.secret(name, username="app", password="1")
        world.register(a_job(name, count=0))
        world.bind(a_manifest(name, name, name))
    history, person = History(world, edited), Person(world, edited)
    newest = dict.fromkeys(edited, 1)

    def rotate() -> None:
        for name in edited:
            newest[name] = world.secret(name, username="app", password="next")

    with world.running(), world.running():
        for name in (*edited, fought):
            world.await_reason(name, Reason.READY, timeout=_PATIENCE)
        with again_and_again(0.25, history.look), again_and_again(0.6, person.edit, rotate):
            with again_and_again(0.2, insisting(world, file)):
                world.await_reason(fought, Reason.GITOPS_CONFLICT, ConditionType.JOB_SYNCED, timeout=_PATIENCE)
                version = int(world.job(fought)["Version"])
                assert version <= 7, "the first, and three times in and out"
            wait_until("the person has edited", lambda: sum(person.edits.values()) >= _EDITS, _PATIENCE)
        for name in edited:
            wanted = frozenset({str(newest[name])})
            wait_until("the newest version is there", lambda n=name, w=wanted: pins_of(world.job(n)) == w, _PATIENCE)
            world.await_reason(name, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY, timeout=_PATIENCE)
    history.look()
    assert {name: edit_of(world.job(name)) for name in edited} == person.edits
    assert history.lost_edits() == []
    assert history.doubles() == []
    assert int(world.job(fought)["Version"]) == version, "nobody fights on"
