"""Rotations on several nodes: system jobs, drains, and children that wait for a place."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from secretbinding.devstack.api import quoted
from secretbinding.models.reasons import ConditionType, Reason
from tests.support.servers import Stack
from tests.support.world import SECOND, World, a_job, a_manifest, sampled, wait_until, wary

ROTATION = ConditionType.ROTATION_HEALTHY
Json = dict[str, Any]


@pytest.fixture
def world(cluster: Stack) -> Iterator[World]:
    """A world whose nodes take allocations again afterwards."""
    world = World(cluster)
    yield world
    for node in world.nodes():
        world.api.put(f"/v1/node/{node}/drain", {"DrainSpec": None, "MarkEligible": True}).expect(200)
        set_eligible(world, node, eligible=True)


def set_eligible(world: World, node: str, *, eligible: bool) -> None:
    body = {"Eligibility": "eligible" if eligible else "ineligible"}
    world.api.put(f"/v1/node/{node}/eligibility", body).expect(200)


def system_job(name: str, **update: Any) -> Json:
    job = a_job(name, Type="system")
    group = job["TaskGroups"][0]
    del group["ReschedulePolicy"]
    group["Update"].update(update)
    return job


def serving(world: World, unique: str, job: Json, count: int = 3) -> None:
    """Register the job and have it served version 1 by `count` allocations; inside `world.running()`."""
    world.secret(unique, username="app", password="one")
    world.register(job)
    wait_until("it runs", lambda: len(world.running_allocations(unique)) == count)
    if job["TaskGroups"][0]["Update"]["MaxParallel"]:
        world.deployed(unique)
    world.bind(a_manifest(unique, unique, unique))
    wait_until("all have version 1", lambda: world.seen(unique) == ["app one"] * count, timeout=60)
    world.await_reason(unique, Reason.READY)
    world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)


def test_a_system_job_rolls_over_its_nodes_one_after_the_other(world: World, unique: str) -> None:
    with world.running():
        serving(world, unique, system_job(unique))
        with sampled(lambda: len(world.seen(unique)), every=0.05) as samples:
            world.secret(unique, username="app", password="two")
            world.await_reason(unique, Reason.DEPLOYMENT_RUNNING, ROTATION)
            wait_until("all have version 2", lambda: world.seen(unique) == ["app two"] * 3)
            world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        assert min(samples) >= 2
        assert {item["NodeID"] for item in world.running_allocations(unique)} == set(world.nodes())


def test_a_version_that_fails_on_one_node_leaves_the_others_alone_and_the_next_good_one_reaches_them_all(
    world: World, unique: str
) -> None:
    with world.running():
        serving(world, unique, wary(system_job(unique)))
        before = {item["ID"] for item in world.running_allocations(unique)}
        world.secret(unique, username="app", password="broken")
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ROTATION)
        wait_until("all have version 1 again", lambda: world.seen(unique) == ["app one"] * 3)
        assert len(before & {item["ID"] for item in world.running_allocations(unique)}) == 2
        assert world.reason(unique) == Reason.READY
        # Nomad makes no deployment any more, and stops after each node: the controller has it go on.
        world.secret(unique, username="app", password="three")
        wait_until("the first node has it", lambda: "app three" in world.seen(unique))
        world.await_reason(unique, Reason.DEPLOYMENT_RUNNING, ROTATION)
        wait_until("it is told", lambda: "makes no deployment" in world.message(unique, ROTATION))
        wait_until("all have it", lambda: world.seen(unique) == ["app three"] * 3, timeout=60)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        assert world.deployment(unique)["Status"] == "failed"


def test_without_auto_revert_the_controller_takes_a_failed_version_back_from_every_node(
    world: World, unique: str
) -> None:
    with world.running():
        serving(world, unique, wary(system_job(unique, AutoRevert=False)))
        world.secret(unique, username="app", password="broken")
        world.await_reason(unique, Reason.DEPLOYMENT_FAILED, ROTATION)
        wait_until("all have version 1 again", lambda: world.seen(unique) == ["app one"] * 3)
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ROTATION)
        assert "app version 1 serves again" in world.message(unique, ROTATION)


def test_a_system_job_without_deployments_reaches_all_nodes_when_somebody_asks(world: World, unique: str) -> None:
    with world.running():
        serving(world, unique, system_job(unique, MaxParallel=0))
        world.secret(unique, username="app", password="two")
        world.await_reason(unique, Reason.UNGATED_UPDATE, ROTATION)
        world.request_rotation(unique, datetime.now(UTC).isoformat())
        wait_until("the first node has it", lambda: "app two" in world.seen(unique))
        world.await_reason(unique, Reason.DEPLOYMENT_RUNNING, ROTATION)
        wait_until("all have it", lambda: world.seen(unique) == ["app two"] * 3, timeout=60)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)


def test_a_node_that_was_away_during_a_roll_gets_the_newest_version_when_it_is_back(world: World, unique: str) -> None:
    with world.running():
        serving(world, unique, system_job(unique))
        away = world.nodes()[0]
        set_eligible(world, away, eligible=False)
        world.secret(unique, username="app", password="two")
        wait_until("the others have it", lambda: world.seen(unique) == ["app two"] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        set_eligible(world, away, eligible=True)
        wait_until("it has it too", lambda: world.seen(unique) == ["app two"] * 3)
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)


def test_a_drain_in_the_middle_of_a_roll_ends_with_the_newest_version_elsewhere(world: World, unique: str) -> None:
    job = a_job(unique, count=3)
    group = job["TaskGroups"][0]
    group["Update"]["MinHealthyTime"] = SECOND
    group["Migrate"] = {
        "MaxParallel": 1,
        "HealthCheck": "task_states",
        "MinHealthyTime": SECOND // 5,
        "HealthyDeadline": 10 * SECOND,
    }
    with world.running():
        serving(world, unique, job)
        world.secret(unique, username="app", password="two")
        wait_until("one has it", lambda: "app two" in world.seen(unique))
        drained = next(item["NodeID"] for item in world.running_allocations(unique) if item["JobVersion"] < 2)
        spec = {"Deadline": 20 * SECOND, "IgnoreSystemJobs": True}
        world.api.put(f"/v1/node/{drained}/drain", {"DrainSpec": spec}).expect(200)
        wait_until("all have it", lambda: world.seen(unique) == ["app two"] * 3, timeout=40)
        wait_until(
            "the node is empty", lambda: drained not in {item["NodeID"] for item in world.running_allocations(unique)}
        )
        world.await_reason(unique, Reason.UP_TO_DATE, ROTATION)
        assert world.reason(unique) == Reason.READY


def test_a_child_that_waits_for_a_place_keeps_the_rights_that_it_will_need(world: World, unique: str) -> None:
    job = a_job(unique, Type="batch", ParameterizedJob={})
    del job["TaskGroups"][0]["Update"]
    world.secret(unique, username="app", password="one")
    world.register(job)
    with world.running() as controller:
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        for node in world.nodes():
            set_eligible(world, node, eligible=False)
        child = world.api.put(f"/v1/job/{unique}/dispatch", {}).expect(200).json()["DispatchedJobID"]
        world.unbind(unique)
        wait_until("the parent is given back", lambda: "secretbinding" not in str(world.job(unique)["TaskGroups"]))
        wait_until("it was looked at", lambda: controller.engine.queue.idle(within=0.1))
        assert len(world.policies(having=unique)) == 1
        for node in world.nodes():
            set_eligible(world, node, eligible=True)
        wait_until("the child has version 1", lambda: world.seen(child) == ["app one"])
        assert len(world.policies(having=unique)) == 1
        world.api.delete(f"/v1/job/{quoted(child)}").expect(200)
        wait_until("the rights are gone", lambda: not world.policies(having=unique))
