"""What is the user's, or another binding's, is never overwritten; the refused binding keeps what it had."""

import copy
from typing import Any

import pytest

from secretbinding.desired import BindingInput, BindingResult
from secretbinding.models.reasons import Reason
from secretbinding.naming import Owner, policy_name
from secretbinding.plan import DeletePolicy, WritePolicy, make_plan
from secretbinding.ports import Json
from secretbinding.render.agent import AgentDefaults
from tests.support import builders as make
from tests.support.builders import INSTANCE, binding, generic_state, kv_state, templates_of
from tests.unit.core.test_inject import without_emptiness
from tests.unit.core.world import World, our_tasks


def world_with(job: Json | None = None) -> World:
    world = World()
    world.secrets["kv", "app"] = world.secrets["kv", "other"] = kv_state(1)
    world.secrets["generic", "app"] = generic_state()
    world.user_registers(job or make.job())
    world.finish_deployment()
    return world


def result_of(world: World, items: list[BindingInput], item: BindingInput) -> BindingResult:
    return world.decide(items)[0].results[item.key]


def reason_of(world: World, items: list[BindingInput], item: BindingInput) -> Reason | None:
    fault = result_of(world, items, item).fault
    return None if fault is None else fault.reason


def server(**fields: Any) -> Json:
    return make.job(make.group(make.task(**fields)))


FILE = [{"destination": "secrets/app.conf"}]


@pytest.mark.parametrize(
    ("job", "made", "reason"),
    [
        (server(Vault={"Role": "own"}), make.kv("app", path="app"), Reason.VAULT_BLOCK_CONFLICT),
        (server(Vault={"Role": ""}), make.kv("app", path="app"), Reason.VAULT_BLOCK_CONFLICT),
        *(
            (server(Templates=[make.template(path)]), make.kv("app", path="app", files=FILE), Reason.TEMPLATE_CONFLICT)
            for path in (
                "secrets/app.conf",
                "secrets//app.conf",
                "./secrets/app.conf",
                "/secrets/app.conf",
                "${NOMAD_SECRETS_DIR}/app.conf",
                "local/../secrets/app.conf",
            )
        ),
        (
            server(Templates=[make.template("${NOMAD_TASK_DIR}/x")]),
            make.kv("app", path="app", files=[{"destination": "local/x"}]),
            Reason.TEMPLATE_CONFLICT,
        ),
        (server(Env={"APP_PASS": "x"}), make.kv("app", path="app"), Reason.ENV_CONFLICT),
        (
            server(Templates=[make.template("local/e", 'A=1\n  export APP_PASS={{ key "x" }}\n', Envvars=True)]),
            make.kv("app", path="app"),
            Reason.ENV_CONFLICT,
        ),
        (make.job(make.group(name="other")), make.on_tasks("web", "server"), Reason.GROUP_NOT_FOUND),
        (make.job(), make.on_tasks("web", "missing"), Reason.TASK_NOT_FOUND),
    ],
)
def test_what_the_user_has_is_a_conflict_and_nothing_is_put_in(job: Json, made: Any, reason: Reason) -> None:
    world = world_with(job)
    item = make.given(
        binding(made) if made.__qualname__.startswith("_secret") else binding(make.kv("app", path="app"), made)
    )
    assert reason_of(world, [item], item) is reason
    before = without_emptiness((world.job or {})["TaskGroups"])
    world.settle([item])
    assert without_emptiness((world.job or {})["TaskGroups"]) == before
    assert not world.roles


def test_a_variable_that_an_own_file_template_only_mentions_is_no_conflict() -> None:
    world = world_with(server(Templates=[make.template("local/e", "APP_PASS=1\n")]))
    item = make.given(binding(make.kv("app", path="app")))
    assert reason_of(world, [item], item) is None


def test_variables_in_our_own_templates_are_known_though_a_field_looks_like_one() -> None:
    world = world_with()
    world.secrets["kv", "app"] = kv_state(1, fields=["}}OTHER_PASS=x"])
    first = make.given(binding(make.kv("app", path="app", env={"A": "}}OTHER_PASS=x"}), name="a"))
    world.settle([first])
    second = make.given(binding(make.kv("other", path="other"), name="b"))
    frozen = make.given(first.binding, suspended=True)
    assert reason_of(world, [frozen, second], second) is None
    taken = make.given(binding(make.kv("other", path="other", env={"A": "password"}), name="b"))
    assert reason_of(world, [frozen, taken], taken) is Reason.DUPLICATE_TARGET


@pytest.mark.parametrize(
    "target", [{"env": {"SAME": "password"}}, {"files": [{"destination": "secrets/same"}]}], ids=["variable", "file"]
)
def test_of_two_bindings_the_one_that_is_there_keeps_the_place(target: dict[str, Any]) -> None:
    early = make.given(binding(make.kv("app", path="app", **target), name="a"))
    late = make.given(binding(make.kv("other", path="other", **target), name="z"))
    world = world_with()
    assert reason_of(world, [late, early], early) is None
    assert reason_of(world, [late, early], late) is Reason.DUPLICATE_TARGET
    world.settle([late])
    assert reason_of(world, [early, late], late) is None
    assert reason_of(world, [early, late], early) is Reason.DUPLICATE_TARGET
    before = templates_of(world.job or {})
    world.settle([early, late])
    assert templates_of(world.job or {}) == before


@pytest.mark.parametrize("greedy", ["a", "z"])
def test_a_binding_that_is_in_the_job_cannot_take_anothers_place_there(greedy: str) -> None:
    world = world_with()
    holder = make.given(binding(make.kv("other", path="other", env={"HELD": "password"}), name="m"))
    before = make.given(binding(make.kv("app", path="app"), name=greedy))
    world.settle([holder, before])
    after = make.given(binding(make.kv("app", path="app", env={"HELD": "password"}), name=greedy))
    assert reason_of(world, [holder, after], holder) is None
    assert reason_of(world, [holder, after], after) is Reason.DUPLICATE_TARGET
    assert not world.run([holder, after]).registers


def test_a_binding_that_is_going_frees_its_places_at_once() -> None:
    world = world_with()
    old = make.given(binding(make.kv("app", path="app", env={"SAME": "password"}), name="a"))
    world.settle([old])
    going = make.given(old.binding, deleting=True)
    new = make.given(binding(make.kv("other", path="other", env={"SAME": "password"}), name="b"))
    assert reason_of(world, [going, new], new) is None
    assert world.run([going, new]).registers
    assert len(templates_of(world.job or {})) == 1


def test_a_refused_binding_keeps_what_it_has_and_its_places() -> None:
    world = world_with(server(Env={"TAKEN": "1"}))
    first = make.given(binding(make.kv("app", path="app", env={"OLD": "password"}), name="m"))
    world.settle([first])
    before = templates_of(world.job or {})
    refused = make.given(binding(make.kv("app", path="app", env={"TAKEN": "password"}), name="m"))
    for name in ("a", "z"):
        other = make.given(binding(make.kv("other", path="other", env={"OLD": "password"}), name=name))
        items = [other, refused]
        assert reason_of(world, items, refused) is Reason.ENV_CONFLICT
        assert reason_of(world, items, other) is Reason.DUPLICATE_TARGET
        world.settle(items)
        assert templates_of(world.job or {}) == before
    assert policy_name(Owner(INSTANCE, first.key)) in world.policies
    assert len(world.roles) == 1


def test_two_bindings_may_change_places_in_one_step() -> None:
    world = world_with()
    one, two = (
        make.given(binding(make.kv("app", path="app", env={name.upper(): "password"}), name=name)) for name in "ab"
    )
    world.settle([one, two])
    swapped = [
        make.given(binding(make.kv("app", path="app", env={"B": "password"}), name="a")),
        make.given(binding(make.kv("app", path="app", env={"A": "password"}), name="b")),
    ]
    results = world.decide(swapped)[0].results
    assert not [result.fault for result in results.values() if result.fault]
    assert world.run(swapped).registers
    assert not world.run(swapped).registers


def test_a_binding_whose_secret_is_missing_takes_no_place_from_others() -> None:
    world = world_with()
    world.secrets["kv", "app"] = kv_state(1, fields=["other"])
    broken = make.given(binding(make.kv("app", path="app", env={"SAME": "password"}), name="a"))
    good = make.given(binding(make.kv("other", path="other", env={"SAME": "password"}), name="b"))
    assert reason_of(world, [broken, good], broken) is Reason.SECRET_FIELD_MISSING
    assert reason_of(world, [broken, good], good) is None


@pytest.mark.parametrize("text", ['path "secret/*" {\n  capabilities = ["sudo"]\n}\n', "# secretbinding {}\n", ""])
def test_a_policy_without_our_mark_is_never_written_or_deleted(text: str) -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app")))
    name = policy_name(Owner(INSTANCE, item.key))
    world.policies[name] = text
    assert reason_of(world, [item], item) is Reason.POLICY_CONFLICT
    assert not world.run([item]).actions
    plan = world.run([make.given(item.binding, deleting=True)])
    assert not plan.actions
    assert world.policies[name] == text


def test_no_plan_writes_over_a_policy_without_our_mark_whatever_is_desired() -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app")))
    desired, _ = world.decide([item])
    world.policies[policy_name(Owner(INSTANCE, item.key))] = "# somebody's\n"
    plan = make_plan(world.observe([item]), desired, [item], INSTANCE)
    assert not any(isinstance(action, WritePolicy) for action in plan.actions)


def test_a_policy_with_anothers_mark_is_never_written_or_deleted() -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app")))
    elsewhere = World(instance="elsewhere")
    elsewhere.secrets = world.secrets
    elsewhere.user_registers(make.job())
    elsewhere.settle([item])
    (text,) = elsewhere.policies.values()
    world.policies[policy_name(Owner(INSTANCE, item.key))] = text
    assert reason_of(world, [item], item) is Reason.POLICY_CONFLICT
    for items in ([item], [make.given(item.binding, deleting=True)]):
        assert not any(isinstance(action, (WritePolicy, DeletePolicy)) for action in world.run(items).actions)


def test_a_policy_that_somebody_altered_is_put_back() -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app")))
    world.settle([item])
    ((name, good),) = world.policies.items()
    for altered in (
        good + 'path "secret/*" {\n  capabilities = ["read"]\n}\n',
        good.replace('"read"', '"read", "sudo"'),
    ):
        world.policies[name] = altered
        world.run([item])
        assert world.policies[name] == good


def test_a_role_that_somebody_altered_is_put_back() -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app")))
    world.settle([item])
    ((name, good),) = copy.deepcopy(world.roles).items()
    policies = ["root", *good["token_policies"]]
    changes: list[Json] = [{"bound_claims": {}}, {"token_policies": policies}, {"token_period": 1}]
    for altered in changes:
        world.roles[name].update(altered)
        world.run([item])
        assert {key: world.roles[name][key] for key in good} == good


# --- what cannot be injected at all -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["batch", "sysbatch"])
def test_a_batch_job_is_never_registered_but_its_policy_and_role_are_there(kind: str) -> None:
    world = world_with(make.job(kind=kind))
    item = make.given(binding(make.kv("app", path="app")))
    plan = world.run([item])
    assert not plan.registers
    assert len(world.policies) == len(world.roles) == 1
    assert not world.run([item]).actions
    going = make.given(item.binding, deleting=True)
    assert world.run([going]).gone == {item.key}
    assert world.policies
    for allocation in world.allocations:
        allocation["ClientStatus"] = "complete"
    world.run([going])
    assert not world.policies
    assert not world.roles


@pytest.mark.parametrize("parent", [{"Periodic": {"Spec": "@daily"}}, {"ParameterizedJob": {"Payload": "optional"}}])
@pytest.mark.parametrize("kind", ["batch", "sysbatch", "service"])
def test_the_parent_of_later_jobs_is_registered(parent: Json, kind: str) -> None:
    world = world_with(make.job(kind=kind, **parent))
    item = make.given(binding(make.kv("app", path="app")))
    assert world.run([item]).registers
    assert not world.run([item]).actions


def test_children_that_were_made_before_keep_their_rights_placed_or_not() -> None:
    world = world_with(make.job(kind="batch", Periodic={"Spec": "@daily"}))
    item = make.given(binding(make.kv("app", path="app")))
    world.settle([item])
    assert world.job is not None
    # It has no allocation yet: Nomad may place it long after it was made.
    world.children["child"] = {"ID": "child", "CreateIndex": world.job["JobModifyIndex"]}
    going = [make.given(item.binding, deleting=True)]
    assert world.run(going).registers
    world.children["later"] = {"ID": "later", "CreateIndex": world.job["JobModifyIndex"] + 1}
    assert "1 child job" in world.run(going).waiting
    assert world.roles
    del world.children["child"]
    assert world.run(going).gone
    assert not world.roles


def test_a_stopped_job_is_left_alone_until_somebody_starts_it() -> None:
    world = world_with(make.job(Stop=True))
    item = make.given(binding(make.kv("app", path="app")))
    assert not world.run([item]).registers
    assert len(world.roles) == 1
    world.user_registers(make.job())
    assert world.run([item]).registers


def test_what_is_going_is_taken_out_of_a_stopped_job_which_stays_stopped() -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app")))
    world.settle([item])
    assert world.job is not None
    world.user_registers({**world.job, "Stop": True})
    for allocation in world.allocations:
        allocation["ClientStatus"] = "complete"
    world.settle([make.given(item.binding, deleting=True)])
    assert world.job["Stop"] is True
    assert not list(our_tasks(world.job))
    assert not world.policies


@pytest.mark.parametrize(
    ("modifiers", "roles"),
    [
        ([], 1),
        ([make.on_tasks("web", "server")], 1),
        ([make.on_tasks("web", "a", "b")], 2),
        ([make.on_tasks("web")], 0),
    ],
)
def test_before_the_job_comes_its_policy_and_roles_are_there(modifiers: list[Any], roles: int) -> None:
    world = World()
    world.secrets["kv", "app"] = kv_state(1)
    item = make.given(binding(make.kv("app", path="app"), *modifiers))
    world.settle([item])
    assert len(world.policies) == 1
    assert len(world.roles) == roles
    made = dict(world.roles)
    world.user_registers(make.job(make.group(*(make.task(name) for name in ("server", "a", "b")))))
    world.run([item])
    used = {task["Vault"]["Role"] for _, _, task in our_tasks(world.job or {})}
    assert set(made) <= used


def test_what_the_controllers_settings_do_not_allow_leaves_the_binding_as_it_is() -> None:
    world = world_with()
    world.agents = AgentDefaults()
    item = make.given(binding(make.kv("app", path="app")))
    world.settle([item])
    before = (templates_of(world.job or {}), dict(world.policies), dict(world.roles))
    files = [{"destination": "../alloc/x"}]
    refused = make.given(binding(make.kv("app", path="other", files=files), make.by_agent(image="mine:1")))
    assert reason_of(world, [refused], refused) is Reason.UNSUPPORTED_DELIVERY
    world.settle([refused])
    assert (templates_of(world.job or {}), world.policies, world.roles) == before


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"template": '{{ define "t" }}x{{ end }}'}, "define"),
        ({"template": "< .Data w", "leftDelimiter": "<", "rightDelimiter": "w"}, "value"),
    ],
)
def test_a_template_that_only_parses_by_itself_is_refused(template: Json, says: str) -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app", files=[{"destination": "secrets/x", **template}])))
    fault = result_of(world, [item], item).fault
    assert fault is not None
    assert fault.reason is Reason.INVALID_MANIFEST
    assert says in fault.message
