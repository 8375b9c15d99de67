"""What `inject` has made for the agents of a job stays until the job is registered, beside a running controller."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from secretbinding.desired import BindingInput, Desired, desire
from secretbinding.desired.approles import BringSecretIds, Brought, DropSecretIds, Seal, Wrapped
from secretbinding.models.agent import AGENT_TASK
from secretbinding.models.approle import AppRole
from secretbinding.naming import app_role_name, role_name
from secretbinding.plan import DeleteRole, Plan, Rights, make_plan
from secretbinding.render.approle import limits_digest
from tests.support import builders as make
from tests.support.builders import INSTANCE, WORKLOAD, binding, given, kv_state
from tests.unit.core.world import World

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
FILE = {"destination": "../alloc/secrets/app.json"}
BY_JWT = role_name(INSTANCE, WORKLOAD, "web", AGENT_TASK)
BY_APP_ROLE = app_role_name(INSTANCE, WORKLOAD, "web", AGENT_TASK)


def app(*, deleting: bool = False, **auth: Any) -> BindingInput:
    made = binding(make.kv("app", path="app", files=[FILE]), make.by_agent(), make.spec(auth=auth))
    return given(made, deleting=deleting)


def injected(*items: BindingInput) -> World:
    """What is there after `inject`: rights, and no job."""
    world = World()
    world.secrets["kv", "app"] = kv_state(1)
    world.user_registers(make.job())
    observed = world.observe(items)
    for action in make_plan(observed, desire(observed, items, INSTANCE), items, INSTANCE).actions:
        if isinstance(action, Rights):
            world._do(action)
    world.purge()
    return world


def brought(*seals: Seal, **changes: Any) -> Brought:
    """The variable of group `web` with a token for each seal, one of each index."""
    tokens = tuple(
        Wrapped(index, f"accessor-{index}", NOW + timedelta(hours=20), limits_digest(AppRole()), seal, made=NOW)
        for index, seal in enumerate(seals)
    )
    return replace(Brought("path", 7, INSTANCE, BY_APP_ROLE, tokens, now=NOW), **changes)


def decided(world: World, items: Sequence[BindingInput], variable: Brought | None = None) -> tuple[Desired, Plan]:
    observed = world.observe(items)
    if variable is not None:
        observed = replace(observed, brought={"web": variable})
    found = desire(observed, items, INSTANCE)
    return found, make_plan(observed, found, items, INSTANCE)


def test_the_role_of_an_agent_stays_for_its_job_and_goes_with_the_binding() -> None:
    world = injected(app())
    assert set(world.roles) == {BY_JWT}
    assert decided(world, [app()])[1].actions == ()
    world.settle([app(deleting=True)])
    assert (world.roles, world.policies) == ({}, {})


def test_sealed_secret_ids_and_their_app_role_stay_for_the_job() -> None:
    item = app(method="AppRole")
    world = injected(item)
    assert set(world.roles) == {BY_APP_ROLE}
    assert decided(world, [item], brought(Seal.SEALED, Seal.SEALED))[1].actions == ()


def test_they_go_with_the_binding() -> None:
    world = injected(app(method="AppRole"))
    _, plan = decided(world, [app(method="AppRole", deleting=True)], brought(Seal.SEALED))
    assert [type(action) for action in plan.actions[:2]] == [DropSecretIds, DeleteRole]


def test_one_that_is_opened_before_there_is_a_job_was_opened_by_somebody_else() -> None:
    item = app(method="AppRole")
    world = injected(item)
    found, plan = decided(world, [item], brought(Seal.SEALED, Seal.UNUSED))
    (action,) = plan.actions
    assert isinstance(action, BringSecretIds)
    assert (action.make, action.destroy) == ((1,), ("accessor-1",))
    assert [one.index for one in found.bringing["web"].wanted.stolen] == [1]


def test_those_of_a_job_whose_agents_have_opened_some_go_when_the_job_is_purged() -> None:
    item = app(method="AppRole")
    world = injected(item)
    _, plan = decided(world, [item], brought(Seal.SEALED, opened={"allocation": NOW}, spent={"allocation": NOW}))
    assert DropSecretIds("web", "path") in plan.actions
    assert [action.name for action in plan.actions if isinstance(action, DeleteRole)] == [BY_APP_ROLE]
