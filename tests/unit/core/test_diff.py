"""What a plan shows to a reader."""

import copy

from secretbinding.job.diff import changed_groups, job_diff, policy_diff, role_diff
from secretbinding.plan import RegisterJob
from secretbinding.plan_text import describe, show_plan
from secretbinding.ports import Json
from tests.support import builders as make
from tests.support.builders import INSTANCE, binding, kv_state
from tests.unit.core.world import World

OWN = "a value of the user's own"


def world_with(job: Json | None = None) -> World:
    world = World()
    world.secrets["kv", "app"] = world.secrets["kv", "other"] = kv_state(7)
    own = make.task(Env={"OWN": OWN}, Templates=[make.template(text=OWN)], Config={"command": OWN})
    world.user_registers(job or make.job(make.group(own, name="api"), make.group(name="db")))
    world.finish_deployment()
    return world


def first_registration(world: World, *modifiers: make.Modifier) -> RegisterJob:
    item = make.given(binding(make.kv("app", path="app", files=[{"destination": "secrets/x"}]), *modifiers))
    _, plan = world.decide([item])
    (register,) = (action for action in plan.actions if isinstance(action, RegisterJob))
    return register


def test_an_injection_is_shown_as_blocks_of_a_job_file() -> None:
    register = first_registration(world_with(), make.on_tasks("db", "server"))
    role = register.job["TaskGroups"][1]["Tasks"][0]["Vault"]["Role"]
    assert job_diff(register.before, register.job, INSTANCE) == (
        "--- task db/server (now)\n"
        "+++ task db/server (planned)\n"
        "@@ -0,0 +1,24 @@\n"
        "+vault {\n"
        f'+  role = "{role}"\n'
        "+  env = false\n"
        "+  disable_file = true\n"
        '+  change_mode = "noop"\n'
        "+  allow_token_expiration = true\n"
        "+}\n"
        "+identity {\n"
        '+  name = "vault_default"\n'
        '+  aud = ["vault.io"]\n'
        '+  ttl = "3600s"\n'
        "+}\n"
        "+template {\n"
        "+  # of files/team/app, version 7 of 2026-01-01T00:07:00.000000Z\n"
        '+  destination = "secrets/x"\n'
        "+  env = false\n"
        "+  once = true\n"
        '+  change_mode = "noop"\n'
        '+  perms = "0644"\n'
        "+  data = <<EOT\n"
        '+{{ with secret "secret/data/app?version=7" }}{{ .Data.data | toJSON }}\n'
        "+{{ end }}\n"
        "+EOT\n"
        "+}\n"
        "group db: Nomad adds its constraints for Vault and workload identity\n"
    )


def test_a_rotation_shows_the_version_alone() -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app")))
    world.settle([item])
    world.secrets["kv", "app"] = kv_state(8)
    _, plan = world.decide([item])
    shown = show_plan(plan)
    changed = [line for line in shown.splitlines() if line.strip().startswith(("+", "-")) and "+++" not in line]
    assert shown.startswith("~ job web (namespace default): 2 groups\n")
    assert any("-{{ with secret" in line and "version=7" in line for line in changed)
    assert any("+{{ with secret" in line and "version=8" in line for line in changed)
    assert not any("vault {" in line for line in changed)


def test_a_removal_is_the_mirror_of_the_injection() -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app")))
    before = copy.deepcopy(world.job)
    world.settle([item])
    after = job_diff(world.job, before or {}, INSTANCE)
    assert "-vault {" in after
    assert "\n+" not in after.replace("\n+++", "")
    assert "group api: Nomad's constraints for Vault and workload identity go" in after


def test_nothing_of_the_users_own_part_is_printed() -> None:
    world = world_with()
    register = first_registration(world)
    changed = copy.deepcopy(register.job)
    changed["Meta"] = {"secret": "other value"}
    changed["TaskGroups"][0]["Tasks"][0]["Env"] = {"OWN": "other value"}
    changed["TaskGroups"][0]["Count"] = 5
    changed["TaskGroups"].append(make.group(name="new"))
    shown = job_diff(register.before, changed, INSTANCE)
    assert OWN not in shown
    assert "other value" not in shown
    for line in ("job: Meta changes", "group api: Count changes", "task api/server: Env changes", "group new: added"):
        assert line in shown.splitlines()


def test_a_job_that_is_as_it_should_be_shows_nothing() -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app")))
    world.settle([item])
    desired, plan = world.decide([item])
    assert job_diff(world.job, desired.job or {}, INSTANCE) == ""
    assert changed_groups(world.job, desired.job or {}, INSTANCE) == ()
    assert show_plan(plan) == "no changes\n"


def test_a_job_that_is_not_there_yet_is_shown_whole() -> None:
    register = first_registration(world_with())
    shown = job_diff(None, register.job, INSTANCE)
    assert shown.count("+vault {") == 2
    assert OWN not in shown


def test_a_change_of_marks_alone_is_said() -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app")))
    world.settle([item])
    altered = copy.deepcopy(world.job or {})
    for group in altered["TaskGroups"]:
        for template in group["Tasks"][0]["Templates"]:
            template["EmbeddedTmpl"] = template["EmbeddedTmpl"].replace('"want":"', '"want":"x')
    shown = job_diff(altered, world.job or {}, INSTANCE)
    assert shown.splitlines() == [
        "task api/server: only marks of ownership change",
        "task db/server: only marks of ownership change",
    ]


def test_a_policy_is_shown_line_by_line() -> None:
    assert policy_diff(None, "a\nb\n") == "--- policy (now)\n+++ policy (planned)\n@@ -0,0 +1,2 @@\n+a\n+b\n"
    assert policy_diff("a\n", None).endswith("-a\n")
    assert policy_diff("a\n", "a\n") == ""


def test_of_a_role_only_what_we_set_is_shown() -> None:
    before = {"token_policies": ["b", "a"], "token_period": 60, "oidc_scopes": None, "groups_claim": "x"}
    after = {"token_policies": ["a", "b"], "token_period": 90}
    shown = role_diff(before, after)
    assert [line for line in shown.splitlines() if line[0] in "+-"][2:] == ["-token_period = 60", "+token_period = 90"]
    assert "groups_claim" not in shown
    assert role_diff(None, after).count("\n+") == 3
    assert role_diff(before, before) == ""


def test_each_action_is_one_line() -> None:
    world = world_with()
    item = make.given(binding(make.kv("app", path="app"), make.on_tasks("api", "server")))
    (policy,), (role,) = (world.decide([item])[0].policies, world.decide([item])[0].roles)
    assert [describe(action) for action in world.run([item]).actions] == [
        f"+ policy {policy}",
        f"+ role {role}",
        "~ job web (namespace default): 1 group",
    ]
    world.finish_deployment()
    changed = make.given(binding(make.kv("app", path="other"), make.on_tasks("api", "server")))
    assert [describe(action) for action in world.run([changed]).actions] == [
        f"~ policy {policy}",
        "~ job web (namespace default): 1 group",
    ]
    world.finish_deployment(success=False)
    (tag,) = world.run([changed]).actions
    assert describe(tag) == "+ tag nsb.test.failed.2 on job version 2"
    going = [make.given(item.binding, deleting=True)]
    assert [describe(action) for action in world.run(going).actions] == [
        "~ job web (namespace default): 1 group",
        "- tag nsb.test.failed.2",
    ]
    world.finish_deployment()
    assert [describe(action) for action in world.run(going).actions] == [f"- role {role}", f"- policy {policy}"]


def test_a_plan_says_what_it_waits_for() -> None:
    world = world_with()
    world.settle([make.given(binding(make.kv("app", path="app")))])
    plan = world.run([make.given(binding(make.kv("app", path="other")))])
    assert show_plan(plan, diffs=False).splitlines()[-1] == (
        "rights that are no longer wanted are kept: the job is being registered"
    )
