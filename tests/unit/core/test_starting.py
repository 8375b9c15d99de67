"""A registration waits for allocations that it does not replace and that are just starting."""

import pytest

from secretbinding.desired import BindingInput
from secretbinding.plan import Plan, WritePolicy, WriteRole, deferred
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
