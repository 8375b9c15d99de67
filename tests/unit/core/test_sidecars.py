"""One Vault Agent sidecar for all bindings of a group: put in, kept, rolled and taken out as a whole."""

import copy
from typing import Any

import pytest

from secretbinding.desired import BindingInput
from secretbinding.job.sidecar import is_sidecar
from secretbinding.models.agent import AGENT_TASK, WAIT_TASK
from secretbinding.models.reasons import Reason
from secretbinding.plan import RegisterJob
from secretbinding.ports import Json
from secretbinding.render.agent import AgentDefaults, Server
from tests.support import builders as make
from tests.support.builders import binding, find_task, given, key, kv_state
from tests.unit.core.agents import agent_reads, agents_of, configuration, role_of, text_of
from tests.unit.core.test_inject import without_emptiness
from tests.unit.core.world import World

FILE = {"destination": "../alloc/secrets/app.json"}
OTHER = {"destination": "../alloc/secrets/other.json"}


def app(**agent: Any) -> BindingInput:
    return given(binding(make.kv("app", path="app", files=[FILE]), make.by_agent(**agent), name="app"))


def other(**agent: Any) -> BindingInput:
    return given(binding(make.kv("other", path="other", files=[OTHER]), make.by_agent(**agent), name="other"))


def world_with(job: Json | None = None) -> World:
    world = World()
    world.secrets["kv", "app"] = world.secrets["kv", "other"] = kv_state(1)
    world.user_registers(job or make.job())
    world.finish_deployment()
    return world


def the_agent(world: World) -> Json:
    assert world.job is not None
    ((_, task),) = agents_of(world.job)
    return task


def names_of(world: World, group: str = "web") -> list[str]:
    assert world.job is not None
    (found,) = [item for item in world.job["TaskGroups"] if item["Name"] == group]
    return [task["Name"] for task in found["Tasks"]]


def reason_of(world: World, items: list[BindingInput], item: BindingInput) -> Reason | None:
    fault = world.decide(items)[0].results[item.key].fault
    return None if fault is None else fault.reason


def test_each_group_gets_a_sidecar_with_a_role_of_its_own() -> None:
    job = make.job(make.group(name="api"), make.group(name="worker"))
    world = world_with(job)
    world.settle([app()])
    assert world.job is not None
    agents = dict(agents_of(world.job))
    assert set(agents) == {"api", "worker"}
    roles = {group: world.roles[role_of(task)] for group, task in agents.items()}
    assert {group: body["bound_subject"] for group, body in roles.items()} == {
        group: f"global:default:web:{group}:vault-agent:vault" for group in agents
    }
    assert set(world.roles) == {role_of(task) for task in agents.values()}


def test_only_the_groups_that_are_named_get_one() -> None:
    world = world_with(make.job(make.group(name="api"), make.group(name="worker")))
    item = given(binding(make.kv("app", path="app", files=[FILE]), make.by_agent(), make.on_tasks("api")))
    world.settle([item])
    assert (names_of(world, "api"), names_of(world, "worker")) == (["server", AGENT_TASK, WAIT_TASK], ["server"])


def test_the_main_tasks_get_no_vault_block_and_keep_their_own() -> None:
    world = world_with(make.job(make.group(make.task(Vault={"Role": "mine"}))))
    world.settle([app()])
    task = find_task(world.job or {})
    assert (task["Vault"]["Role"], task.get("Identities"), task.get("Templates")) == ("mine", None, None)


def test_plain_variables_go_to_the_main_tasks_and_tell_the_agent_where_vault_is() -> None:
    world = world_with()
    item = given(
        binding(
            make.kv("app", path="app", files=[FILE]),
            make.by_agent(),
            make.workload_env(VAULT_ADDR="https://vault.local:8200", VAULT_NAMESPACE="team", A="b"),
        )
    )
    world.settle([item])
    (template,) = find_task(world.job or {})["Templates"]
    assert 'VAULT_ADDR={{ "https://vault.local:8200" | toJSON }}' in template["EmbeddedTmpl"]
    assert not find_task(world.job or {})["Vault"]
    assert 'address = "https://vault.local:8200"' in configuration(the_agent(world))
    assert the_agent(world)["Env"] == {"VAULT_NAMESPACE": "team"}


def test_all_bindings_of_a_group_share_one_agent_whose_token_has_their_policies() -> None:
    world = world_with()
    world.settle([app(), other()])
    task = the_agent(world)
    assert agent_reads(task) == {"secret/data/app", "secret/data/other"}
    assert len(world.roles[role_of(task)]["token_policies"]) == 2
    world.settle([app(), given(other().binding, name="other", deleting=True)])
    assert agent_reads(the_agent(world)) == {"secret/data/app"}
    assert len(world.roles[role_of(the_agent(world))]["token_policies"]) == 1


def test_what_the_bindings_share_passes_on_when_its_owner_goes() -> None:
    world = world_with()
    world.settle([app(), other()])
    shared = configuration(the_agent(world))
    world.settle([given(app().binding, deleting=True), other()])
    assert configuration(the_agent(world)) == shared
    assert agent_reads(the_agent(world)) == {"secret/data/other"}
    world.settle([given(other().binding, name="other", deleting=True)])
    assert names_of(world) == ["server"]
    assert (world.roles, world.policies) == ({}, {})


def test_a_frozen_binding_keeps_its_files_and_the_sidecar_when_the_owner_of_the_rest_goes() -> None:
    world = world_with()
    world.settle([app(), other()])
    shared = configuration(the_agent(world))
    frozen = given(other().binding, name="other", suspended=True)
    world.settle([given(app().binding, deleting=True), frozen])
    assert configuration(the_agent(world)) == shared
    assert agent_reads(the_agent(world)) == {"secret/data/other"}
    assert names_of(world) == ["server", AGENT_TASK, WAIT_TASK]


def test_a_frozen_owner_keeps_the_sidecar_as_it_is_while_another_binding_goes_on() -> None:
    world = world_with()
    world.settle([app(cpu=20), other()])
    frozen = given(app(cpu=20).binding, suspended=True)
    world.agents = AgentDefaults(image="other:1")
    world.secrets["kv", "other"] = kv_state(2)
    world.settle([frozen, other()])
    assert the_agent(world)["Config"]["image"] != "other:1"
    assert "secret/data/other?version=2" in str(the_agent(world)["Templates"])
    assert "secret/data/app?version=1" in str(the_agent(world)["Templates"])


def test_removal_gives_the_job_back_as_it_was() -> None:
    job = make.job(make.group(make.task(), make.task("helper"), Constraints=[{"LTarget": "a", "RTarget": "b"}]))
    world = world_with(job)
    before = without_emptiness(copy.deepcopy(world.job or {}))
    item = given(binding(make.kv("app", path="app", files=[FILE]), make.by_agent(), make.workload_env(A="b")))
    world.settle([item])
    world.settle([given(item.binding, deleting=True)])
    assert without_emptiness(world.job or {})["TaskGroups"] == before["TaskGroups"]


def test_a_second_pass_changes_nothing_whatever_nomad_adds_and_in_whatever_order_the_tasks_stand() -> None:
    world = world_with()
    world.settle([app()])
    assert world.job is not None
    for task in world.job["TaskGroups"][0]["Tasks"]:
        task.update(Leader=False, Services=None, Kind="", Resources={**(task.get("Resources") or {}), "Cores": 0})
    world.job["TaskGroups"][0]["Tasks"].reverse()
    assert world.run([app()]).actions == ()


def test_a_sidecar_that_somebody_edits_is_put_back() -> None:
    world = world_with()
    world.settle([app()])
    assert world.job is not None
    wanted = copy.deepcopy(the_agent(world))
    the_agent(world)["Config"]["args"].append("-log-level=trace")
    world.settle([app()])
    assert the_agent(world)["Config"] == wanted["Config"]


def test_new_settings_of_the_controller_are_a_change_of_the_job() -> None:
    world = world_with()
    world.settle([app()])
    world.agents = AgentDefaults(image="hashicorp/vault:1.20", command="vault", server=Server("https://vault:8200"))
    world.settle([app()])
    assert the_agent(world)["Config"]["image"] == "hashicorp/vault:1.20"
    assert the_agent(world)["Config"]["entrypoint"] == ["vault"]
    assert 'address = "https://vault:8200"' in configuration(the_agent(world))


def test_a_new_version_is_a_change_of_the_agents_template_alone() -> None:
    world = world_with()
    world.settle([app()])
    before = copy.deepcopy(the_agent(world))
    world.secrets["kv", "app"] = kv_state(2)
    world.settle([app()])
    changed = [
        (old["DestPath"], new["DestPath"])
        for old, new in zip(before["Templates"], the_agent(world)["Templates"], strict=True)
        if old != new
    ]
    assert len(changed) == 1
    assert changed[0][0].endswith(".tmpl")


def test_a_failed_version_is_held_with_the_sidecar_that_worked() -> None:
    world = world_with()
    world.auto_revert = False
    world.settle([app(image="good:1")])
    world.run([app(image="bad:1")])
    assert the_agent(world)["Config"]["image"] == "bad:1"
    world.finish_deployment(success=False)
    plan = world.run([app(image="bad:1")])
    assert any(isinstance(action, RegisterJob) for action in plan.actions)
    assert the_agent(world)["Config"]["image"] == "good:1"
    world.finish_deployment()
    assert world.decide([app(image="bad:1")])[0].results[key()].failed is not None


@pytest.mark.parametrize("name", [AGENT_TASK, WAIT_TASK])
def test_a_users_own_task_of_the_sidecars_name_is_a_conflict_and_stays(name: str) -> None:
    world = world_with(make.job(make.group(make.task(), make.task(name))))
    assert reason_of(world, [app()], app()) is Reason.AGENT_CONFLICT
    assert not any(isinstance(action, RegisterJob) for action in world.run([app()]).actions)
    given_by_template = given(binding(make.kv("app", path="app"), name="app"))
    world.settle([given_by_template])
    assert not any(is_sidecar(task) for task in (world.job or {})["TaskGroups"][0]["Tasks"])


def test_bindings_that_want_another_sidecar_do_not_get_it() -> None:
    world = world_with()
    world.settle([app(cpu=20)])
    assert reason_of(world, [app(cpu=20), other(cpu=30)], other()) is Reason.AGENT_CONFLICT
    assert reason_of(world, [app(cpu=20), other(cpu=20)], other()) is None
    assert reason_of(world, [app(cpu=20), other()], other()) is None


def test_two_bindings_that_want_one_file_do_not_overwrite_each_other() -> None:
    world = world_with()
    world.settle([other()])
    same = given(binding(make.kv("app", path="app", files=[OTHER]), make.by_agent(), name="aaa"))
    assert reason_of(world, [same, other()], same) is Reason.DUPLICATE_TARGET
    frozen = given(other().binding, name="other", suspended=True)
    assert reason_of(world, [same, frozen], same) is Reason.DUPLICATE_TARGET


def test_a_template_of_the_users_at_the_same_place_is_a_conflict() -> None:
    world = world_with(make.job(make.group(make.task(Templates=[make.template("../alloc/secrets/app.json")]))))
    assert reason_of(world, [app()], app()) is Reason.TEMPLATE_CONFLICT


@pytest.mark.parametrize(
    ("field", "value"),
    [("driver", "raw_exec"), ("image", "mine:1"), ("command", "/bin/sh"), ("args", ["-x"]), ("user", "root")],
)
def test_what_would_run_on_nomads_clients_is_only_for_bindings_that_the_settings_let_choose(
    field: str, value: Any
) -> None:
    world = world_with()
    world.agents = AgentDefaults()
    item = app(**{field: value})
    decided = world.decide([item])[0].results[item.key]
    assert decided.fault is not None
    assert decided.fault.reason is Reason.UNSUPPORTED_DELIVERY
    assert f"spec.agent.{field}" in decided.fault.message
    assert f"add `{field}` to SECRETBINDING_AGENT_ALLOW" in decided.fault.message
    world.agents = AgentDefaults(allowed=frozenset({field}))
    assert reason_of(world, [item], item) is None


def test_a_command_beside_the_agent_is_for_bindings_that_may_have_one() -> None:
    world = world_with()
    world.agents = AgentDefaults()
    entry = {"changeMode": "Script", "changeScript": {"command": "/bin/true"}}
    made = make.manifest(make.kv("app", path="app", files=[FILE]), make.by_agent(), make.strategy("Native"))
    made["spec"]["secrets"][0].update(entry)
    item = given(make.binding(lambda manifest: manifest.update(made)))
    assert reason_of(world, [item], item) is Reason.UNSUPPORTED_DELIVERY
    world.agents = AgentDefaults(allowed=frozenset({"script"}))
    world.settle([item])
    assert 'command = ["/bin/true"]' in text_of(the_agent(world), "agent-templates")


def test_a_file_in_memory_cannot_be_waited_for_where_tasks_do_not_see_each_other() -> None:
    world = world_with()
    place = {"destination": f"../{AGENT_TASK}/secrets/app"}

    def item(**agent: Any) -> BindingInput:
        return given(binding(make.kv("app", path="app", files=[place]), make.by_agent(**agent), name="app"))

    assert reason_of(world, [item()], item()) is Reason.UNSUPPORTED_DELIVERY
    assert reason_of(world, [item(wait=False)], item()) is None
    assert reason_of(world, [item(driver="raw_exec")], item()) is None


def test_without_waiting_there_is_no_waiting_task() -> None:
    world = world_with()
    world.settle([app(wait=False)])
    assert names_of(world) == ["server", AGENT_TASK]
    world.settle([app()])
    assert names_of(world) == ["server", AGENT_TASK, WAIT_TASK]


def test_pinned_versions_are_never_read_again_and_others_every_few_minutes() -> None:
    world = world_with()
    world.settle([app()])
    assert 'static_secret_render_interval = "31536000s"' in configuration(the_agent(world))
    native = given(
        binding(make.kv("app", path="app", files=[FILE]), make.by_agent(), make.strategy("Native"), name="app")
    )
    world.settle([native])
    assert 'static_secret_render_interval = "300s"' in configuration(the_agent(world))
    assert "?version=" not in str(the_agent(world)["Templates"])


def test_roles_are_ready_for_a_job_that_is_not_there_yet_where_the_binding_names_its_groups() -> None:
    world = World()
    world.secrets["kv", "app"] = kv_state(1)
    item = given(binding(make.kv("app", path="app", files=[FILE]), make.by_agent(), make.on_tasks("web"), name="app"))
    world.run([item])
    (role,) = world.roles.values()
    assert role["bound_subject"] == "global:default:web:web:vault-agent:vault"
    world.user_registers(make.job())
    world.settle([item])
    assert role_of(the_agent(world)) in world.roles


def test_changing_the_delivery_moves_the_secret_and_leaves_nothing_behind() -> None:
    world = world_with()
    by_template = given(binding(make.kv("app", path="app", files=[{"destination": "secrets/app.json"}])))
    by_the_agent = given(binding(make.kv("app", path="app", files=[FILE]), make.by_agent()))
    world.settle([by_template])
    world.settle([by_the_agent])
    assert find_task(world.job or {}).get("Vault") is None
    assert set(world.roles) == {role_of(the_agent(world))}
    world.settle([by_template])
    assert names_of(world) == ["server"]
    assert len(world.roles) == 1
