"""Nomad loses variables where templates with and without `once` stand in one task with an env template: never mixed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.desired import BindingInput
from secretbinding.models.reasons import Reason
from secretbinding.ports import Json
from tests.support import builders as make
from tests.support.builders import binding, find_task, generic_state, kv_state, templates_of
from tests.unit.core.world import World

FILE = [{"destination": "secrets/app.conf"}]


def world_with(*templates: Json) -> World:
    world = World()
    world.secrets["kv", "app"] = kv_state(1)
    world.secrets["generic", "app"] = generic_state()
    world.user_registers(make.job(make.group(make.task(Templates=list(templates)))))
    return world


def injected(world: World, *modifiers: Any) -> list[Json]:
    item = make.given(binding(*modifiers))
    world.settle([item])
    return [template for template in templates_of(world.job or {}) if "secretbinding" in template["EmbeddedTmpl"]]


@pytest.mark.parametrize(
    ("own", "ours", "once"),
    [
        pytest.param([], [make.kv("app", path="app")], [True], id="alone"),
        pytest.param([], [make.kv("app", path="app", files=FILE)], [True], id="a file alone"),
        pytest.param([make.template()], [make.kv("app", path="app", files=FILE)], [True], id="files only"),
        pytest.param([make.template()], [make.kv("app", path="app")], [False], id="beside an own file"),
        pytest.param([make.template(Envvars=True)], [make.kv("app", path="app")], [False], id="beside own variables"),
        pytest.param(
            [make.template(Envvars=True)],
            [make.kv("app", path="app", files=FILE)],
            [False],
            id="a file beside own variables",
        ),
        pytest.param([make.template(Once=True)], [make.kv("app", path="app")], [True], id="the user's once"),
        pytest.param(
            [], [make.kv("app", path="app"), make.generic("cloud", path="app")], [False, False], id="beside a lease"
        ),
        pytest.param(
            [],
            [make.generic("cloud", path="app"), make.workload_env(A="b")],
            [False, False],
            id="plain variables beside",
        ),
        pytest.param([], [make.kv("app", path="app"), make.workload_env(A="b")], [True, True], id="plain and pinned"),
    ],
)
def test_pinned_templates_render_once_where_that_is_safe(own: list[Json], ours: list[Any], once: list[bool]) -> None:
    assert [template["Once"] for template in injected(world_with(*own), *ours)] == once


def test_a_pin_that_has_to_be_read_again_and_again_needs_its_token() -> None:
    world = world_with(make.template(Envvars=True))
    injected(world, make.kv("app", path="app"))
    assert find_task(world.job or {})["Vault"]["AllowTokenExpiration"] is False


def test_plain_variables_alone_need_no_token() -> None:
    world = world_with(make.template())
    injected(world, make.kv("app", path="app", files=FILE), make.workload_env(A="b"))
    assert [template["Once"] for template in templates_of(world.job or {})] == [False, False, False]
    world = world_with()
    injected(world, make.kv("app", path="app", files=FILE), make.workload_env(A="b"))
    assert find_task(world.job or {})["Vault"]["AllowTokenExpiration"] is True


def test_a_lease_beside_the_users_own_once_is_a_conflict() -> None:
    world = world_with(make.template(Once=True, Envvars=True))
    item = make.given(binding(make.generic("cloud", path="app")))
    fault = world.decide([item])[0].results[item.key].fault
    assert fault is not None
    assert fault.reason is Reason.TEMPLATE_CONFLICT


def test_a_template_that_the_user_adds_later_turns_ours() -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app")))
    world.settle([item])
    world.user_registers(make.job(make.group(make.task(Templates=[make.template()]))))
    world.settle([item])
    assert [template["Once"] for template in templates_of(world.job or {})] == [False, False]


kinds = st.sampled_from(["pinned env", "pinned file", "lease env", "lease file"])
own = st.lists(
    st.builds(lambda env, once: make.template(Envvars=env, Once=once), st.booleans(), st.booleans()), max_size=2
)


@given(own, st.lists(kinds, min_size=1, max_size=3), st.booleans())
def test_no_task_of_ours_ever_mixes_the_two_with_variables(mine: list[Json], wanted: list[str], freeze: bool) -> None:
    world = world_with(*mine)
    items: list[BindingInput] = []
    for number, kind in enumerate(wanted):
        name = f"b{number}"
        target: Any = (
            {"env": {name: "password"}} if kind.endswith("env") else {"files": [{"destination": f"secrets/{name}"}]}
        )
        secret = (
            make.kv("s", path="app", **target) if kind.startswith("pinned") else make.generic("s", path="app", **target)
        )
        items = [make.given(item.binding, suspended=freeze) for item in items]
        items.append(make.given(binding(secret, name=name)))
        world.settle(items)
        templates = templates_of(world.job or {})
        ours = [template for template in templates if "secretbinding" in template["EmbeddedTmpl"]]
        mixed = len({bool(template["Once"]) for template in templates}) == 2
        with_variables = any(template["Envvars"] for template in templates)
        assert not (ours and mixed and with_variables)
