"""A binding from its declaration to its end, with the whole controller, on the simulator and on a real Nomad."""

from datetime import UTC, datetime
from typing import Any

import pytest

from secretbinding.models.reasons import ConditionType, Reason
from tests.support.servers import Stack
from tests.support.world import SECOND, World, a_job, a_manifest, sampled, wait_until, wary

BOOKKEEPING = {
    "CreateIndex",
    "ModifyIndex",
    "JobModifyIndex",
    "Version",
    "SubmitTime",
    "NomadTokenID",
    "Stable",
    "Status",
    "StatusDescription",
    "VersionTag",
}


@pytest.fixture
def world(stack: Stack) -> World:
    return World(stack)


def own_part(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name not in BOOKKEEPING}


def constraints(job: dict[str, Any]) -> list[Any]:
    return [group["Constraints"] for group in job["TaskGroups"]]


def test_the_secret_reaches_the_job_rotates_and_goes_and_the_job_is_as_before(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique, count=2))
    world.deployed(unique)
    before = own_part(world.job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        assert world.seen(unique) == ["app one"] * 2
        world.secret(unique, username="app", password="two")
        wait_until("both see the new value", lambda: world.seen(unique) == ["app two"] * 2)
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None)
    assert own_part(world.job(unique)) == before
    assert world.policies(having=unique) == []
    assert world.roles(having=unique) == []


def test_a_version_without_a_needed_field_is_refused_before_anything_rolls(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        version = world.job(unique)["Version"]
        world.secret(unique, username="app", passwd="two")
        world.await_reason(unique, Reason.SECRET_FIELD_MISSING, ConditionType.ROTATION_HEALTHY)
        assert "has no field password" in world.message(unique, ConditionType.ROTATION_HEALTHY)
        assert world.reason(unique) == Reason.READY
        assert world.job(unique)["Version"] == version
        status = world.status(unique)
        assert status is not None
        assert (status.secrets[0].serving_version, status.secrets[0].wanted_version) == ("1", "2")


def test_a_version_that_breaks_the_task_is_reverted_and_held_while_the_old_one_serves(
    world: World, unique: str
) -> None:
    world.secret(unique, username="app", password="one")
    world.register(wary(a_job(unique, count=2)))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        with sampled(lambda: world.seen(unique).count("app one")) as serving:
            world.secret(unique, username="app", password="broken")
            world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ConditionType.ROTATION_HEALTHY)
            wait_until("both serve version 1", lambda: world.seen(unique) == ["app one"] * 2)
            world.deployed(unique)
        assert min(serving) >= 1
        assert world.reason(unique) == Reason.READY
        status = world.status(unique)
        assert status is not None
        assert status.failed is not None
        assert status.failed.secret_versions == {"app": "2"}
        assert (status.secrets[0].serving_version, status.secrets[0].wanted_version) == ("1", "2")
        held = world.job(unique)["Version"]

    # The failure outlives the controller: a new one does not try again.
    with world.running():
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ConditionType.ROTATION_HEALTHY)
        assert world.job(unique)["Version"] == held
        # A new version of the secret is a new state, and is tried.
        world.secret(unique, username="app", password="three")
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        wait_until("both see it", lambda: world.seen(unique) == ["app three"] * 2)
        status = world.status(unique)
        assert status is not None
        assert status.failed is None
        wait_until("the tag is gone", lambda: not any(job.get("VersionTag") for job in world.versions(unique)))


def test_a_held_state_survives_a_dozen_registrations_by_the_user(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(wary(a_job(unique)))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.secret(unique, username="app", password="broken")
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ConditionType.ROTATION_HEALTHY)
        world.deployed(unique)
        for count in (2, 1, 2, 1, 2, 1, 2, 1):
            # An autoscaler's hand: the count is no change of the user's part.
            job = world.job(unique)
            job["TaskGroups"][0]["Count"] = count
            world.register(job)
            world.deployed(unique)
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ConditionType.ROTATION_HEALTHY)
        wait_until("version 1 serves", lambda: world.seen(unique) == ["app one"])
        failures = [item for item in world.deployments(unique) if item["Status"] == "failed"]
        assert len(failures) == 1


def test_somebody_who_asks_gets_one_more_try_of_a_held_state(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(wary(a_job(unique)))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.secret(unique, username="app", password="broken")
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ConditionType.ROTATION_HEALTHY)
        world.deployed(unique)
        asked = datetime.now(UTC).isoformat()
        world.request_rotation(unique, asked)

        def failures() -> int:
            return sum(1 for item in world.deployments(unique) if item["Status"] == "failed")

        wait_until("it was tried again", lambda: failures() == 2)
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ConditionType.ROTATION_HEALTHY)
        world.deployed(unique)
        wait_until(
            "the request is answered",
            lambda: (s := world.status(unique)) is not None and s.last_handled_rotate_at == asked,
        )
        assert failures() == 2


def test_without_auto_revert_the_controller_takes_back_its_own_part(world: World, unique: str) -> None:
    job = wary(a_job(unique))
    job["TaskGroups"][0]["Update"]["AutoRevert"] = False
    job["TaskGroups"][0]["Update"]["ProgressDeadline"] = 25 * SECOND
    world.secret(unique, username="app", password="one")
    world.register(job)
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.secret(unique, username="app", password="broken")
        world.await_reason(unique, Reason.DEPLOYMENT_REVERTED, ConditionType.ROTATION_HEALTHY, timeout=60)
        wait_until("version 1 serves again", lambda: world.seen(unique) == ["app one"], timeout=60)
        world.deployed(unique)
        assert world.reason(unique, ConditionType.ROTATION_HEALTHY) == Reason.DEPLOYMENT_REVERTED


def test_a_binding_may_come_before_its_job_and_the_event_stream_tells_of_the_job(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    with world.running() as controller:
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.JOB_NOT_FOUND)
        assert len(world.policies(having=unique)) == 1
        assert len(world.roles(having=unique)) == 1
        wait_until("the stream is heard", lambda: "default" in controller.events.last_heard())
        world.register(a_job(unique))
        # Without an event the job would be looked for every 30 s only.
        wait_until("it is injected", lambda: world.seen(unique) == ["app one"], timeout=15)


def test_a_restart_of_the_controller_registers_and_writes_nothing(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.await_reason(unique, Reason.SYNCED, ConditionType.JOB_SYNCED)
    index = world.job(unique)["JobModifyIndex"]
    written = world.api.get(f"/v1/var/nomad-vault/status/{unique}").json()["ModifyIndex"]
    policies = {name: world.policy(name) for name in world.policies(having=unique)}
    with world.running() as controller:
        wait_until("the controller knows the binding", lambda: bool(controller.engine.store.entries()))
        wait_until("it is idle", lambda: controller.engine.queue.idle(within=1))
        assert world.job(unique)["JobModifyIndex"] == index
        assert world.api.get(f"/v1/var/nomad-vault/status/{unique}").json()["ModifyIndex"] == written
        assert {name: world.policy(name) for name in world.policies(having=unique)} == policies


def test_a_binding_deleted_while_the_controller_was_down_is_cleaned_up_when_it_is_back(
    world: World, unique: str
) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.deployed(unique)
    before = own_part(world.job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.bind(a_manifest(f"{unique}-stays", f"{unique}-none", unique))
        world.await_reason(unique, Reason.READY)
    world.unbind(unique)
    with world.running():
        wait_until("the policy is gone", lambda: not any(f".{unique}." in name for name in world.policies()))
    assert own_part(world.job(unique)) == before
    world.unbind(f"{unique}-stays")


def test_two_bindings_of_one_task_join_in_one_role_and_part_again(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.secret(f"{unique}-b", key="k1")
    world.register(a_job(unique))
    first, second = f"{unique}-first", f"{unique}-second"
    with world.running():
        world.bind(a_manifest(first, unique, unique))
        world.bind(a_manifest(second, unique, f"{unique}-b", env={"API_KEY": "key"}))
        world.await_reason(first, Reason.READY)
        world.await_reason(second, Reason.READY)
        world.deployed(unique)
        task = world.job(unique)["TaskGroups"][0]["Tasks"][0]
        assert len(task["Templates"]) == 2
        assert len(world.role(task["Vault"]["Role"])["token_policies"]) == 2
        world.unbind(first)
        wait_until("the first is gone", lambda: world.status(first) is None)
        task = world.job(unique)["TaskGroups"][0]["Tasks"][0]
        assert len(task["Templates"]) == 1
        assert len(world.role(task["Vault"]["Role"])["token_policies"]) == 1
        world.unbind(second)
        wait_until("the second is gone", lambda: world.status(second) is None)
    assert world.roles(having=unique) == []


def test_two_bindings_that_want_one_variable_do_not_overwrite_each_other(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with world.running():
        world.bind(a_manifest(f"{unique}-z", unique, unique))
        world.await_reason(f"{unique}-z", Reason.READY)
        # It sorts before the other one, and comes second all the same.
        world.bind(a_manifest(f"{unique}-a", unique, unique))
        world.await_reason(f"{unique}-a", Reason.DUPLICATE_TARGET)
        assert f"{unique}-z" in world.message(f"{unique}-a")
        assert world.seen(unique) == ["app one"]
        world.unbind(f"{unique}-z")
        world.await_reason(f"{unique}-a", Reason.READY)


def test_only_the_group_that_uses_the_secret_rolls(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique, groups=("api", "worker")))
    groups = [{"name": "api"}]
    with world.running():
        world.bind(a_manifest(unique, unique, unique, workload={"groups": groups}))
        world.await_reason(unique, Reason.READY)
        workers = {item["ID"] for item in world.running_allocations(unique) if item["TaskGroup"] == "worker"}
        world.secret(unique, username="app", password="two")
        wait_until("api sees it", lambda: "app two" in world.seen(unique))
        world.deployed(unique)
        assert {item["ID"] for item in world.running_allocations(unique) if item["TaskGroup"] == "worker"} == workers


def test_many_rotations_leave_the_constraints_as_the_first_injection_made_them(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="zero")
    world.register(a_job(unique, count=0))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        first = constraints(world.job(unique))
        for number in range(1, 101):
            version = world.secret(unique, username="app", password=str(number))
            wait_until(
                f"version {version} is pinned", lambda want=version: f"?version={want}" in str(world.job(unique))
            )
        assert constraints(world.job(unique)) == first


def test_the_hcl_source_of_a_job_is_carried_along(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    hcl = f'job "{unique}" {{ }}'
    world.register(a_job(unique), Submission={"Source": hcl, "Format": "hcl2"})
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
    version = world.job(unique)["Version"]
    assert version >= 1
    kept = world.api.get(f"/v1/job/{unique}/submission", version=version).expect().json()
    assert kept["Source"] == hcl


def test_a_suspended_binding_leaves_the_job_alone_until_it_is_resumed(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with world.running() as controller:
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        index = world.job(unique)["JobModifyIndex"]
        world.bind(a_manifest(unique, unique, unique, suspend=True))
        world.await_reason(unique, Reason.SUSPENDED, ConditionType.JOB_SYNCED)
        world.secret(unique, username="app", password="two")
        controller.engine.wake(controller.engine.store.workloads())
        wait_until("it was looked at", lambda: controller.engine.queue.idle(within=1))
        assert world.job(unique)["JobModifyIndex"] == index
        world.bind(a_manifest(unique, unique, unique))
        wait_until("it rolls", lambda: world.seen(unique) == ["app two"])


def test_a_retained_binding_leaves_everything_behind(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique, deletionPolicy="Retain"))
        world.await_reason(unique, Reason.READY)
        index = world.job(unique)["JobModifyIndex"]
        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None)
    with world.running() as controller:
        wait_until("the sweep is over", lambda: controller.engine.queue.idle(within=1))
        assert world.job(unique)["JobModifyIndex"] == index
        assert len(world.policies(having=unique)) == 1


def test_a_batch_job_is_never_registered_and_the_status_points_to_inject(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    job = a_job(unique, Type="batch")
    del job["TaskGroups"][0]["Update"]
    world.register(job)
    index = world.job(unique)["JobModifyIndex"]
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.UNSUPPORTED_JOB_TYPE)
        assert "inject" in world.message(unique)
        assert len(world.roles(having=unique)) == 1
        assert world.job(unique)["JobModifyIndex"] == index


def test_a_task_with_a_vault_block_of_its_own_is_left_alone(world: World, unique: str) -> None:
    job = a_job(unique, count=0)
    job["TaskGroups"][0]["Tasks"][0]["Vault"] = {"Role": "own-role"}
    world.secret(unique, username="app", password="one")
    world.register(job)
    index = world.job(unique)["JobModifyIndex"]
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.VAULT_BLOCK_CONFLICT)
        assert "own-role" in world.message(unique)
        assert world.job(unique)["JobModifyIndex"] == index


def test_a_secret_that_is_not_there_leaves_the_job_alone_and_is_taken_when_it_comes(world: World, unique: str) -> None:
    world.register(a_job(unique))
    index = world.job(unique)["JobModifyIndex"]
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.SECRET_NOT_FOUND)
        assert world.job(unique)["JobModifyIndex"] == index
        world.secret(unique, username="app", password="one")
        world.await_reason(unique, Reason.READY)
        assert world.seen(unique) == ["app one"]


def test_a_binding_of_another_namespaces_job_is_refused(world: World, unique: str) -> None:
    with world.running():
        world.bind(a_manifest(unique, unique, unique, workload={"namespace": "other"}))
        world.await_reason(unique, Reason.NAMESPACE_MISMATCH)
        assert world.policies(having=unique) == []


def test_a_broken_manifest_holds_what_an_earlier_one_made(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        index = world.job(unique)["JobModifyIndex"]
        broken = a_manifest(unique, unique, unique)
        broken["spec"]["secrets"][0]["kv"]["path"] = "../other"
        world.bind(broken)
        world.await_reason(unique, Reason.INVALID_MANIFEST)
        assert "spec.secrets[0].kv.path" in world.message(unique)
        assert world.job(unique)["JobModifyIndex"] == index
        assert len(world.policies(having=unique)) == 1


def test_a_binding_that_names_another_job_gives_the_first_one_back(world: World, unique: str) -> None:
    old, new = f"{unique}-old", f"{unique}-new"
    world.secret(unique, username="app", password="one")
    for name in (old, new):
        world.register(a_job(name))
        world.deployed(name)
    before = own_part(world.job(old))
    with world.running():
        world.bind(a_manifest(unique, old, unique))
        world.await_reason(unique, Reason.READY)
        world.bind(a_manifest(unique, new, unique))
        wait_until("the new job has it", lambda: world.seen(new) == ["app one"])
        wait_until("the old one is given back", lambda: own_part(world.job(old)) == before)
        wait_until("the old role is gone", lambda: len(world.roles(having=unique)) == 1)
        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None)
    assert world.policies(having=unique) == []
    assert world.roles(having=unique) == []


def test_a_move_while_the_controller_was_down_is_found_when_it_is_back(world: World, unique: str) -> None:
    old, new = f"{unique}-old", f"{unique}-new"
    world.secret(unique, username="app", password="one")
    for name in (old, new):
        world.register(a_job(name))
        world.deployed(name)
    before = own_part(world.job(old))
    with world.running():
        world.bind(a_manifest(unique, old, unique))
        world.await_reason(unique, Reason.READY)
    world.bind(a_manifest(unique, new, unique))
    with world.running():
        wait_until("the new job has it", lambda: world.seen(new) == ["app one"])
        wait_until("the old one is given back", lambda: own_part(world.job(old)) == before)
        world.unbind(unique)
        wait_until("the status is gone", lambda: world.status(unique) is None)
    assert world.policies(having=unique) == []


def test_the_only_binding_deleted_while_the_controller_was_down_goes_with_its_status(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.deployed(unique)
    before = own_part(world.job(unique))
    with world.running():
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
    world.unbind(unique)
    with world.running():
        wait_until("the policy is gone", lambda: not world.policies(having=unique))
        wait_until("the status is gone", lambda: world.status(unique) is None)
    assert own_part(world.job(unique)) == before


@pytest.mark.parametrize(
    ("where", "reason"),
    [({"workload": {"region": "mars"}}, Reason.REGION_MISMATCH), ({"connection": "mars"}, Reason.CONNECTION_UNKNOWN)],
)
def test_a_binding_of_another_region_or_connection_is_refused(
    world: World, unique: str, where: dict[str, Any], reason: Reason
) -> None:
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique, count=0))
    index = world.job(unique)["JobModifyIndex"]
    with world.running():
        world.bind(a_manifest(unique, unique, unique, **where))
        world.await_reason(unique, reason)
        assert world.job(unique)["JobModifyIndex"] == index


def test_two_spellings_of_one_job_are_one_job(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.secret(f"{unique}-b", key="k1")
    world.register(a_job(unique, count=0))
    first, second = f"{unique}-first", f"{unique}-second"
    with world.running() as controller:
        world.bind(a_manifest(first, unique, unique))
        spelt = {"workload": {"region": "global", "namespace": "default"}, "connection": "default"}
        world.bind(a_manifest(second, unique, f"{unique}-b", env={"API_KEY": "key"}, **spelt))
        world.await_reason(first, Reason.READY)
        world.await_reason(second, Reason.READY)
        wait_until("it is idle", lambda: controller.engine.queue.idle(within=0.5))
        task = world.job(unique)["TaskGroups"][0]["Tasks"][0]
        assert len(task["Templates"]) == 2
        assert world.job(unique)["Version"] <= 2


def test_a_bad_version_of_one_binding_does_not_hold_another_of_the_same_job(world: World, unique: str) -> None:
    world.secret(unique, username="app", password="one")
    world.secret(f"{unique}-b", key="k1")
    world.register(wary(a_job(unique)))
    first, second = f"{unique}-first", f"{unique}-second"
    with world.running():
        world.bind(a_manifest(first, unique, unique))
        world.bind(a_manifest(second, unique, f"{unique}-b", env={"API_KEY": "key"}))
        world.await_reason(first, Reason.READY)
        world.await_reason(second, Reason.READY)
        world.deployed(unique)
        world.secret(unique, username="app", password="broken")
        world.await_reason(first, Reason.DEPLOYMENT_REVERTED, ConditionType.ROTATION_HEALTHY)
        world.deployed(unique)
        world.await_reason(second, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        world.secret(f"{unique}-b", key="k2")
        wait_until("the second has rolled", lambda: f"data/{unique}-b?version=2" in str(world.job(unique)))
        world.deployed(unique)
        world.await_reason(second, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        assert world.reason(first, ConditionType.ROTATION_HEALTHY) == Reason.DEPLOYMENT_REVERTED
        assert world.seen(unique) == ["app one"]
        assert sum(1 for item in world.deployments(unique) if item["Status"] == "failed") == 1


def test_a_binding_that_is_deleted_in_the_middle_of_a_move_leaves_nothing_in_either_job(
    world: World, unique: str
) -> None:
    old, new = f"{unique}-old", f"{unique}-new"
    world.secret(unique, username="app", password="one")
    for name in (old, new):
        world.register(a_job(name))
        world.deployed(name)
    before = own_part(world.job(old))
    with world.running():
        world.bind(a_manifest(unique, old, unique))
        world.await_reason(unique, Reason.READY)
        world.bind(a_manifest(unique, new, unique))
        wait_until("the move has begun", lambda: len(world.roles(having=unique)) == 2)
    world.unbind(unique)
    with world.running():
        wait_until("the policy is gone", lambda: not world.policies(having=unique), timeout=60)
        wait_until("the status is gone", lambda: world.status(unique) is None)
    assert own_part(world.job(old)) == before
    assert world.roles(having=unique) == []
    assert world.seen(new) == [""]
