"""A binding that is suspended, invalid, or of a source that is not there keeps its share byte for byte."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secretbinding.desired import BindingInput
from secretbinding.ports import Json
from secretbinding.render import template as rendering
from tests.support import builders as make
from tests.support.builders import binding, generic_state, kv_state
from tests.unit.core.test_convergence import NAMES, PATHS, Variant, job, variants
from tests.unit.core.world import World, our_tasks


def frozen(item: BindingInput, how: str) -> list[BindingInput]:
    """The binding as it is given when frozen in one of three ways; one that is not seen is not given at all."""
    if how == "unseen":
        return []
    return [
        replace(
            make.given(name=item.key.name, invalid=True) if how == "invalid" else item,
            frozen=make.given(suspended=True).frozen,
        )
    ]


def world_of(items: list[BindingInput], *, older_nomad: bool = False) -> World:
    world = World(older_nomad=older_nomad)
    for path in (*PATHS, "app"):
        world.secrets["kv", path] = kv_state(1)
        world.secrets["generic", path] = generic_state()
    world.user_registers(job())
    world.settle(items)
    return world


def share_of(world: World, item: BindingInput) -> list[tuple[str, str, Json]]:
    mark = f'"name":"{item.key.name}"'
    return [
        (group, task["Name"], template)
        for group, _, task in our_tasks(world.job or {})
        for template in task["Templates"]
        if mark in template["EmbeddedTmpl"]
    ]


ways = st.sampled_from(["suspended", "invalid", "unseen"])
one_secret_each = {name: Variant(("one",), 0, False, False) for name in NAMES}


@given(st.dictionaries(st.sampled_from(NAMES), variants, min_size=1), ways, st.booleans(), st.booleans())
@example(one_secret_each, "suspended", False, True)
@example(one_secret_each, "suspended", False, False)
@example({"a": Variant(("one",), 0, False, True), "b": Variant(("one",), 0, False, False)}, "unseen", False, True)
def test_freezing_and_thawing_write_nothing(made: dict[str, Variant], how: str, all_of_them: bool, old: bool) -> None:
    items = [make.given(variant.binding(name)) for name, variant in sorted(made.items())]
    world = world_of(items, older_nomad=old)
    results = world.decide(items)[0].results
    sound = [item for item in items if results[item.key].fault is None]
    chosen = sound if all_of_them else sound[:1]
    given_now = [one for item in items for one in (frozen(item, how) if item in chosen else [item])]
    assert world.run(given_now).actions == ()
    assert world.run(items).actions == ()


@given(st.dictionaries(st.sampled_from(NAMES[1:]), variants), variants, variants, ways, st.integers(1, 3))
def test_what_is_frozen_stays_whatever_happens_around_it(
    others: dict[str, Variant], variant: Variant, changed: Variant, how: str, rotations: int
) -> None:
    still = make.given(variant.binding("a"))
    world = world_of([still])
    share, text = share_of(world, still), dict(world.policies)
    around = [make.given(made.binding(name)) for name, made in sorted(others.items())]
    now = frozen(replace(still, binding=changed.binding("a")), how)
    for number in range(2, 2 + rotations):
        for path in PATHS:
            world.secrets["kv", path] = kv_state(number)
        world.settle([*now, *around])
    assert share_of(world, still) == share
    assert text.items() <= world.policies.items()
    world.settle([*now, *(replace(item, deleting=True) for item in around)])
    assert share_of(world, still) == share


def test_a_named_binding_beside_a_frozen_one_gets_the_task_a_role_of_its_own() -> None:
    whole = make.given(Variant(("one",), 0, False, False).binding("a"))
    world = world_of([whole])
    (shared,) = world.roles
    still = make.given(whole.binding, suspended=True)
    named = make.given(Variant(("two",), 1, False, False).binding("b"))
    world.settle([still, named])
    roles = {(group, name): task["Vault"]["Role"] for group, name, task in our_tasks(world.job or {})}
    assert roles["api", "helper"] == roles["db", "server"] == shared
    assert world.rights_of(shared) == {"secret/data/one"}
    assert world.rights_of(roles["api", "server"]) == {"secret/data/one", "secret/data/two"}


def test_a_frozen_binding_that_named_its_tasks_keeps_its_role_when_it_would_name_none_now() -> None:
    named = make.given(Variant(("one",), 1, False, False).binding("a"))
    world = world_of([named])
    changed = make.given(Variant(("one",), 0, False, False).binding("a"), suspended=True)
    assert world.run([changed]).actions == ()


def test_token_limits_of_what_is_frozen_stay() -> None:
    short = make.given(binding(make.kv("app", path="app"), make.spec(auth={"tokenPeriod": "5m"})))
    world = world_of([short])
    (role,) = world.roles
    for how in ("suspended", "invalid", "unseen"):
        assert world.run(frozen(short, how)).actions == ()
    assert world.roles[role]["token_period"] == 300


def test_a_frozen_bindings_policy_stays_in_the_role_of_a_job_that_is_not_there_yet() -> None:
    world = World()
    world.secrets["kv", "app"] = world.secrets["kv", "one"] = kv_state(1)
    items = [
        make.given(binding(make.kv("app", path="app"), name="a")),
        make.given(Variant(("one",), 0, False, False).binding("b")),
    ]
    world.settle(items)
    before = dict(world.roles)
    assert world.run([make.given(items[0].binding, suspended=True), items[1]]).actions == ()
    assert world.roles == before


def test_a_user_who_puts_a_vault_block_beside_frozen_templates_keeps_it() -> None:
    item = make.given(binding(make.kv("app", path="app"), make.on_tasks("api", "server")))
    world = world_of([item])
    assert world.job is not None
    own = {"Role": "own", "Env": True}
    world.job["TaskGroups"][0]["Tasks"][0]["Vault"] = own
    world.versions[-1]["TaskGroups"][0]["Tasks"][0]["Vault"] = own
    for items in ([make.given(item.binding, suspended=True)], [item]):
        assert not world.run(items).registers


# --- releases ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def other_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that writes the same templates in another way."""
    before = rendering.expression

    def expression(*args: Any) -> str:
        return before(*args).replace(" | toJSON ", " | toJSON  ")

    monkeypatch.setattr(rendering, "expression", expression)


def test_a_release_that_writes_templates_differently_registers_nothing(request: pytest.FixtureRequest) -> None:
    items = [make.given(Variant(("one", "two"), 0, False, False).binding(name)) for name in NAMES]
    world = world_of(items)
    request.getfixturevalue("other_rendering")
    assert world.run(items).actions == ()


def test_a_real_change_renders_only_what_changed(request: pytest.FixtureRequest) -> None:
    item = make.given(Variant(("one", "two"), 1, False, False).binding("a"))
    world = world_of([item])
    request.getfixturevalue("other_rendering")
    world.secrets["kv", "two"] = kv_state(2)
    world.settle([item])
    texts = {
        template["DestPath"].rsplit("/", 1)[1]: template["EmbeddedTmpl"] for _, _, template in share_of(world, item)
    }
    assert "toJSON  }}" not in texts["one.env"]
    assert "toJSON  }}" in texts["two.env"]


@pytest.mark.parametrize(
    "change", [{"EmbeddedTmpl": None}, {"DestPath": "local/x"}, {"Perms": "0777"}, {"Once": False}]
)
def test_a_template_of_ours_that_somebody_edited_is_put_back(change: Json) -> None:
    item = make.given(Variant(("one",), 1, False, False).binding("a"))
    world = world_of([item])
    before = copy.deepcopy(share_of(world, item))
    for job_version in (world.job, world.versions[-1]):
        (template,) = (job_version or {})["TaskGroups"][0]["Tasks"][0]["Templates"]
        template.update({"EmbeddedTmpl": template["EmbeddedTmpl"] + "X=1\n"} if "EmbeddedTmpl" in change else change)
    assert share_of(world, item) != before
    world.settle([item])
    assert share_of(world, item) == before


@pytest.mark.parametrize("reorder", ["secrets", "files", "env"])
def test_writing_a_manifest_in_another_order_registers_nothing(reorder: str) -> None:
    files = [{"destination": "secrets/x"}, {"destination": "secrets/y"}]
    one = make.kv("one", path="one", env={"A": "password", "B": "username"})
    two = make.kv("two", path="two", files=files)
    world = world_of([make.given(binding(one, two))])
    if reorder == "secrets":
        changed = binding(two, one)
    elif reorder == "files":
        changed = binding(one, make.kv("two", path="two", files=files[::-1]))
    else:
        changed = binding(make.kv("one", path="one", env={"B": "username", "A": "password"}), two)
    assert world.run([make.given(changed)]).actions == ()
