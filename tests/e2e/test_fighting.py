"""A tool that keeps registering a job without its secrets, on both Nomads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from secretbinding.models.reasons import ConditionType, Reason
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


@contextmanager
def a_tool_that_insists(world: World, job: dict[str, Any]) -> Iterator[None]:
    """Registers the job as its file says, whenever it is another one."""
    stopped = threading.Event()

    def insist() -> None:
        while not stopped.wait(0.2):
            if "nsb." in str(world.job(job["ID"])):
                world.register(job)

    tool = threading.Thread(target=insist)
    tool.start()
    try:
        yield
    finally:
        stopped.set()
        tool.join()


def asked(world: World, name: str) -> None:
    world.request_rotation(name, datetime.now(UTC).isoformat())


def test_a_tool_that_takes_the_secrets_out_again_and_again_is_told_and_not_fought_for_ever(
    world: World, unique: str
) -> None:
    job = a_job(unique, count=0)
    world.secret(unique, username="app", password="one")
    world.register(job)
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        with a_tool_that_insists(world, job):
            world.await_reason(unique, Reason.GITOPS_CONFLICT, ConditionType.JOB_SYNCED)
            version = int(world.job(unique)["Version"])
            assert version <= 7, "the first, and three times in and out"
            assert "inject" in world.message(unique, ConditionType.JOB_SYNCED)
            assert world.policies(having=unique), "its rights are there for when it is its turn"
            asked(world, unique)
            wait_until(
                "it is put in, and taken out once more", lambda: int(world.job(unique)["Version"]) == version + 2
            )
            world.await_reason(unique, Reason.GITOPS_CONFLICT, ConditionType.JOB_SYNCED)
        asked(world, unique)
        world.await_reason(unique, Reason.SYNCED, ConditionType.JOB_SYNCED)
        assert int(world.job(unique)["Version"]) == version + 3
