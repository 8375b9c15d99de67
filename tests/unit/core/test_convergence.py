"""Whatever happens to a workload's bindings, passes bring it to the wanted end; no task lacks a right on the way."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretbinding.desired import BindingInput
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.naming import Owner, policy_name
from secretbinding.plan import RegisterJob
from tests.support import builders as make
from tests.support.builders import INSTANCE, binding, kv_state
from tests.unit.core.test_inject import without_emptiness
from tests.unit.core.world import World, our_tasks, paths_read

PATHS = ("one", "two", "three")
NAMES = ("a", "b", "c")

_GROUPS = (
    (),
    (("api", ("server",)),),
    (("api", ("server", "helper")), ("db", ("server",))),
    (("db", ()),),
    (("api", ("side",)),),
)


def job() -> Any:
    """Two groups, a side-car with a lifecycle, and constraints of the user's own."""
    side = make.task("side", Lifecycle={"Hook": "prestart", "Sidecar": True})
    api = make.group(make.task("server"), make.task("helper"), side, name="api")
    kernel = {"LTarget": "${attr.kernel.name}", "RTarget": "linux", "Operand": "="}
    return make.job(api, make.group(make.task("server"), name="db", Constraints=[kernel]))


@dataclass(frozen=True)
class Variant:
    """How a binding is specified."""

    paths: tuple[str, ...]
    groups: int
    files: bool
    generic: bool

    def binding(self, name: str) -> SecretBinding:
        modifiers = [make.on_tasks(group, *tasks) for group, tasks in _GROUPS[self.groups]]
        for path in self.paths:
            env = None if self.files else {f"{name}_{path}".upper(): "password"}
            files = [{"destination": f"secrets/{name}-{path}"}] if self.files else []
            if self.generic:
                modifiers.append(make.generic(path, path=path, env=env, files=files))
            else:
                modifiers.append(make.kv(path, path=path, env=env, files=files))
        return binding(*modifiers, name=name)


variants = st.builds(
    Variant,
    paths=st.lists(st.sampled_from(PATHS), min_size=1, max_size=2, unique=True).map(tuple),
    groups=st.integers(0, len(_GROUPS) - 1),
    files=st.booleans(),
    generic=st.sampled_from([False, False, False, True]),
)
operations = st.one_of(
    st.tuples(st.just("specify"), st.sampled_from(NAMES), variants),
    st.tuples(st.just("rotate"), st.sampled_from(PATHS)),
    st.tuples(st.just("suspend"), st.sampled_from(NAMES)),
    st.tuples(st.just("resume"), st.sampled_from(NAMES)),
    st.tuples(st.just("break"), st.sampled_from(NAMES)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("register")),
    st.tuples(st.just("purge")),
    st.tuples(st.just("pass")),
)
start = st.lists(st.tuples(st.just("specify"), st.sampled_from(NAMES), variants), min_size=1, max_size=4)
histories = st.builds(lambda first, then: [*first, *then], start, st.lists(operations, min_size=3, max_size=12))


class Scene:
    """A world, its secrets, and the bindings that people made."""

    def __init__(self) -> None:
        self.world = World()
        self.bindings: dict[str, BindingInput] = {}
        self.versions = dict.fromkeys(PATHS, 1)
        self._publish()
        self.world.user_registers(job())
        self.world.finish_deployment()

    def _publish(self) -> None:
        for path, number in self.versions.items():
            self.world.secrets["kv", path] = kv_state(number)
            self.world.secrets["generic", path] = make.generic_state()

    @property
    def inputs(self) -> list[BindingInput]:
        return [self.bindings[name] for name in sorted(self.bindings)]

    def do(self, operation: tuple[Any, ...]) -> None:
        kind, *rest = operation
        name = str(rest[0]) if rest else ""
        there = self.bindings.get(name)
        if kind == "specify" and not (there and there.deleting):
            frozen = there.frozen if there else None
            self.bindings[name] = replace(make.given(rest[1].binding(name)), frozen=frozen)
        elif kind == "rotate":
            self.versions[name] += 1
            self._publish()
        elif kind in ("suspend", "break") and there and not there.deleting:
            broken = (
                make.given(name=name, invalid=True) if kind == "break" else make.given(there.binding, suspended=True)
            )
            self.bindings[name] = replace(there, frozen=broken.frozen)
        elif kind == "resume" and there:
            self.bindings[name] = replace(there, frozen=None)
        elif kind == "delete" and there:
            self.bindings[name] = replace(there, deleting=True, frozen=None)
        elif kind == "register":
            self.world.user_registers(job())
        elif kind == "purge":
            self.world.purge()
        elif kind == "pass":
            self.pass_once()

    def pass_once(self) -> None:
        self.world.run(self.inputs)
        self._forget()

    def settle(self) -> None:
        self.world.settle(self.inputs)
        self._forget()

    def _forget(self) -> None:
        for name in [name for name, item in self.bindings.items() if item.key in self.world.gone]:
            del self.bindings[name]
        self.world.gone.clear()


@settings(max_examples=250)
@given(histories)
def test_any_history_of_changes_ends_with_exactly_the_wanted_rights(history: list[tuple[Any, ...]]) -> None:
    scene = Scene()
    for operation in history:
        scene.do(operation)
        if operation[0] not in ("register", "purge") and scene.world.job is not None:
            scene.world.finish_deployment()
    for name, item in scene.bindings.items():
        scene.bindings[name] = replace(item, frozen=None)
    scene.settle()
    world = scene.world
    assert not world.run(scene.inputs).actions
    owners = {item.key: item.binding for item in scene.inputs}
    assert set(world.policies) == {policy_name(Owner(INSTANCE, key)) for key in owners}
    for name in world.roles:
        assert world.roles[name]["token_policies"], f"role {name} grants nothing"
    if world.job is None:
        return
    used = set()
    for _, _, task in our_tasks(world.job):
        used.add(task["Vault"]["Role"])
        whole_job = "nomad_task" not in world.roles[task["Vault"]["Role"]]["bound_claims"]
        read = paths_read(task)
        granted = world.rights_of(task["Vault"]["Role"])
        assert read <= granted
        assert whole_job or read == granted
    assert set(world.roles) == used
    for item in scene.inputs:
        assert item.binding is not None
        expected = {(g, t) for g, t in selected(item.binding)}
        assert {(g, t) for g, t, task in our_tasks(world.job) if has_share(task, item.key)} == expected


def selected(made: SecretBinding) -> list[tuple[str, str]]:
    main = {"api": ["server", "helper"], "db": ["server"]}
    groups = made.spec.workload.groups
    if groups is None:
        return [(group, task) for group, tasks in main.items() for task in tasks]
    return [(group.name, task) for group in groups for task in group.tasks or main[group.name]]


def has_share(task: Any, key: BindingKey) -> bool:
    return any(f'"name":"{key.name}"' in item["EmbeddedTmpl"] for item in task["Templates"] or [])


@settings(max_examples=60)
@given(histories)
def test_deleting_all_bindings_gives_the_job_back_and_leaves_nothing_in_vault(history: list[tuple[Any, ...]]) -> None:
    scene = Scene()
    for operation in history:
        scene.do(operation)
    for name in list(scene.bindings):
        scene.do(("delete", name))
    scene.settle()
    assert scene.world.policies == {}
    assert scene.world.roles == {}
    if scene.world.job is not None:
        fresh = World()
        fresh.user_registers(job())
        mine, theirs = (without_emptiness(world.job["TaskGroups"]) for world in (scene.world, fresh) if world.job)
        assert mine == theirs


@given(histories)
def test_a_plan_once_applied_leaves_nothing_to_do_but_to_narrow(history: list[tuple[Any, ...]]) -> None:
    scene = Scene()
    for operation in history:
        scene.do(operation)
    scene.pass_once()
    again = scene.world.run(scene.inputs)
    assert not again.registers
    assert not again.actions or not again.waiting


@pytest.mark.parametrize("older_nomad", [False, True])
def test_passes_over_a_workload_that_is_as_it_should_be_write_nothing(older_nomad: bool) -> None:
    world = World(older_nomad=older_nomad)
    for path in PATHS:
        world.secrets["kv", path] = kv_state(2)
        world.secrets["generic", path] = make.generic_state()
    world.user_registers(job())
    made = [
        make.given(Variant(("one", "two"), 0, False, False).binding("a")),
        make.given(Variant(("one",), 2, True, False).binding("b")),
        make.given(Variant(("three",), 1, True, True).binding("c")),
    ]
    world.settle(made)
    before = len(world.log)
    for _ in range(3):
        world.run(made)
    assert len(world.log) == before


def test_rights_are_widened_before_and_narrowed_after_the_roll() -> None:
    world = World()
    world.secrets["kv", "one"], world.secrets["kv", "two"] = kv_state(), kv_state()
    world.user_registers(job())
    world.settle([make.given(Variant(("one",), 0, False, False).binding("a"))])
    changed = [make.given(Variant(("two",), 0, False, False).binding("a"))]
    (role,) = world.roles
    plan = world.run(changed)
    assert plan.registers
    assert plan.waiting
    assert world.rights_of(role) == {"secret/data/one", "secret/data/two"}
    assert not world.run(changed).actions
    world.finish_deployment()
    world.run(changed)
    assert world.rights_of(role) == {"secret/data/two"}


def test_a_deletion_takes_the_role_before_the_policy_and_both_after_the_roll() -> None:
    world = World()
    world.secrets["kv", "one"] = kv_state()
    world.user_registers(job())
    made = make.given(Variant(("one",), 0, False, False).binding("a"))
    world.settle([made])
    going = [replace(made, deleting=True)]
    plan = world.run(going)
    assert [type(action) for action in plan.actions] == [RegisterJob]
    assert not plan.gone
    world.finish_deployment()
    world.log.clear()
    plan = world.run(going)
    assert [type(action).__name__ for action in world.log] == ["DeleteRole", "DeletePolicy"]
    assert plan.gone == {made.key}


@pytest.mark.parametrize("status", ["pending", "running", "unknown"])
def test_an_allocation_of_an_older_version_that_may_run_keeps_the_rights(status: str) -> None:
    world = World()
    world.secrets["kv", "one"] = kv_state()
    world.user_registers(job())
    made = make.given(Variant(("one",), 0, False, False).binding("a"))
    world.settle([made])
    old = dict(world.allocations[-1])
    going = [replace(made, deleting=True)]
    world.run(going)
    world.finish_deployment()
    world.allocations.append({**old, "ClientStatus": status})
    assert world.run(going).waiting
    assert world.policies
    world.allocations[-1]["ClientStatus"] = "complete"
    world.run(going)
    assert not world.policies


@settings(max_examples=40)
@given(
    st.dictionaries(st.sampled_from(NAMES), variants, min_size=1),
    st.randoms(use_true_random=False),
)
def test_the_join_does_not_depend_on_the_order_of_the_bindings(made: dict[str, Variant], random: Any) -> None:
    inputs = [make.given(variant.binding(name)) for name, variant in made.items()]
    shuffled = list(inputs)
    random.shuffle(shuffled)
    scene = Scene()
    first, second = (scene.world.decide(items)[0] for items in (inputs, shuffled))
    assert (first.job, first.roles, first.policies) == (second.job, second.roles, second.policies)
    assert first.results == second.results
