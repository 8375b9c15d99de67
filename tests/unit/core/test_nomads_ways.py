"""Where Nomad needs care: allocations that are just starting, and system jobs that it stops rolling half way."""

import pytest

from secretbinding.desired import BindingInput
from secretbinding.plan import EvaluateJob, Plan, WritePolicy, WriteRole, deferred
from secretbinding.ports import Json
from tests.support import builders as make
from tests.support.builders import binding, kv_state
from tests.unit.core.world import World


def planned(*allocations: Json) -> Plan:
    """The plan for a job with groups `api`, which is to get a secret, and `db`, which is not."""
    world = World()
    world.secrets["kv", "app"] = kv_state(1)
    world.user_registers(make.job(make.group(name="api"), make.group(name="db")))
    row = {"JobVersion": 0, "DesiredStatus": "run", "ClientStatus": "pending"}
    world.allocations = [{**row, **one} for one in allocations]
    item: BindingInput = make.given(binding(make.kv("app", path="app"), make.on_tasks("api", "server")))
    observed = world.observe([item])
    _, plan = world.decide([item])
    assert plan.registers
    return deferred(plan, observed)


@pytest.mark.parametrize(
    "allocations",
    [
        [],
        [{"TaskGroup": "api"}],
        [{"TaskGroup": "db", "ClientStatus": "running"}],
        [{"TaskGroup": "db", "DesiredStatus": "stop"}],
        [{"TaskGroup": "db", "ClientStatus": "failed"}],
    ],
    ids=["none", "of the group that is replaced", "running", "stopping", "failed"],
)
def test_nothing_is_waited_for(allocations: list[Json]) -> None:
    plan = planned(*allocations)
    assert plan.registers
    assert plan.deferred == ""


def test_an_allocation_that_is_updated_in_place_is_waited_for_and_rights_are_written_meanwhile() -> None:
    plan = planned({"TaskGroup": "api"}, {"TaskGroup": "db"})
    assert not plan.registers
    assert "group db" in plan.deferred
    assert {type(action) for action in plan.actions} == {WritePolicy, WriteRole}


HEALTHY = {"DeploymentStatus": {"Healthy": True}}


def half_way(*allocations: Json, kind: str = "system") -> list[EvaluateJob]:
    """The evaluations asked for, with a job whose second version of the secret has these allocations and no
    deployment."""
    world = World()
    world.secrets["kv", "app"] = kv_state(1)
    world.user_registers(make.job(kind=kind))
    item = make.given(binding(make.kv("app", path="app")))
    world.run([item])
    world.secrets["kv", "app"] = kv_state(2)
    assert world.run([item]).registers
    world.deployments = []
    row = {"JobVersion": 2, "DesiredStatus": "run", "ClientStatus": "running"}
    world.allocations = [{**row, **one} for one in allocations]
    return [action for action in world.run([item]).actions if isinstance(action, EvaluateJob)]


def test_a_system_job_that_nomad_stopped_rolling_is_evaluated_again_when_the_newest_are_healthy() -> None:
    assert half_way(HEALTHY, {"JobVersion": 1}, {"JobVersion": 1}) == [EvaluateJob("web", 2, 2)]


@pytest.mark.parametrize(
    "allocations",
    [
        [HEALTHY, HEALTHY],
        [HEALTHY, {}, {"JobVersion": 1}],
        [HEALTHY, {"DeploymentStatus": {"Healthy": False}}, {"JobVersion": 1}],
        [{"JobVersion": 1}],
        [HEALTHY, {"JobVersion": 1, "DesiredStatus": "stop"}],
    ],
    ids=["all done", "one is starting", "one is unhealthy", "none yet", "the old one is stopping"],
)
def test_it_is_not_evaluated_again(allocations: list[Json]) -> None:
    assert half_way(*allocations) == []


GONE = {"JobVersion": 1, "ClientStatus": "failed", "NodeID": "b", "CreateIndex": 1}


@pytest.mark.parametrize(
    ("others", "asked"),
    [
        ([], 1),
        ([{"NodeID": "b", "CreateIndex": 2}], 0),
        ([{"NodeID": "b", "CreateIndex": 2, "ClientStatus": "failed"}], 0),
        ([{**GONE, "CreateIndex": 0}], 1),
        ([{**GONE, "NodeID": "c"}], 2),
    ],
    ids=["empty", "taken", "failed with the newest as well", "failed twice", "two nodes"],
)
def test_a_node_that_a_failed_older_version_left_empty_is_filled_again(others: list[Json], asked: int) -> None:
    found = half_way({"NodeID": "a"}, GONE, *others)
    assert [action.left for action in found] == ([asked] if asked else [])


def test_a_service_job_is_never_stuck() -> None:
    assert half_way(HEALTHY, {"JobVersion": 1}, kind="service") == []
