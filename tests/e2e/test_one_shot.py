"""`apply` and `delete` by hand, on the simulator and on a real Nomad: what the command line does below its texts."""

import pytest

from secretbinding.app import Clients, make_reconciler
from secretbinding.engine.oneshot import OneShot
from secretbinding.models.key import BindingKey
from secretbinding.models.loading import parse_object
from secretbinding.sources.base import SourceItem
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


def item(name: str, job: str, path: str, *, deleting: bool = False) -> SourceItem:
    binding = parse_object(a_manifest(name, job, path), source="test")
    return SourceItem(BindingKey("files", "default", name), binding, "default", deleting=deleting)


def converge(world: World, *items: SourceItem) -> bool:
    clients = Clients(world.settings)
    try:
        shot = OneShot(make_reconciler(world.settings, clients), items)
        outcomes = shot.converge(timeout_seconds=60, poll_seconds=0.1)
        return all(outcome.succeeded for outcome in outcomes.values())
    finally:
        clients.close()


def test_an_edited_job_name_gives_the_first_job_back_before_the_policy_goes(world: World, unique: str) -> None:
    old, new = f"{unique}-old", f"{unique}-new"
    world.secret(unique, username="app", password="one")
    for name in (old, new):
        world.register(a_job(name))
        world.deployed(name)
    assert converge(world, item(unique, old, unique))
    assert world.seen(old) == ["app one"]
    assert converge(world, item(unique, new, unique))
    assert world.seen(new) == ["app one"]
    assert world.seen(old) == [""]
    assert len(world.roles(having=unique)) == 1
    assert converge(world, item(unique, new, unique, deleting=True))
    assert world.policies(having=unique) == []
    assert world.roles(having=unique) == []


def test_an_edited_job_name_and_then_delete_leaves_nothing_in_either_job(world: World, unique: str) -> None:
    old, new = f"{unique}-old", f"{unique}-new"
    world.secret(unique, username="app", password="one")
    world.register(a_job(old))
    world.deployed(old)
    assert converge(world, item(unique, old, unique))
    assert converge(world, item(unique, new, unique, deleting=True))
    assert world.seen(old) == [""]
    assert world.policies(having=unique) == []
    assert world.roles(having=unique) == []


def test_applying_again_changes_nothing(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    assert converge(world, item(unique, unique, unique))
    index = world.job(unique)["JobModifyIndex"]
    assert converge(world, item(unique, unique, unique))
    assert world.job(unique)["JobModifyIndex"] == index
