"""What a status says of a deployment, from its beginning to each of its ends, and of jobs that have none."""

import copy
from dataclasses import replace

import pytest

from secretbinding.desired import BindingInput
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus
from secretbinding.ports import Json
from secretbinding.status import Pass, compute_status
from tests.support import builders as make
from tests.support.builders import INSTANCE, binding, kv_state
from tests.unit.core.test_status import EMPTY, NOW, at, look, scene
from tests.unit.core.world import World

TRUE, FALSE = ConditionStatus.TRUE, ConditionStatus.FALSE
CANARY = {"DesiredCanaries": 1, "HealthyAllocs": 1, "Promoted": False, "AutoPromote": False}


def rolling(*, auto_revert: bool = True) -> tuple[World, BindingInput]:
    """A job whose second version of the secret has just been registered."""
    world, item = scene(auto_revert=auto_revert)
    world.settle([item])
    world.secrets["kv", "app"] = kv_state(2)
    assert world.run([item]).registers
    return world, item


def rotation(status: SecretBindingStatus) -> Condition:
    found = status.condition(ConditionType.ROTATION_HEALTHY)
    assert found is not None
    return found


def with_groups(world: World, **groups: Json) -> None:
    world.deployments[0]["TaskGroups"] = groups


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ({"web": CANARY}, Reason.WAITING_FOR_PROMOTION),
        ({"web": {**CANARY, "HealthyAllocs": 0}}, Reason.DEPLOYMENT_RUNNING),
        ({"web": {**CANARY, "Promoted": True}}, Reason.DEPLOYMENT_RUNNING),
        ({"web": {**CANARY, "AutoPromote": True}}, Reason.DEPLOYMENT_RUNNING),
        ({"web": {**CANARY, "DesiredCanaries": 0}}, Reason.DEPLOYMENT_RUNNING),
        ({"web": CANARY, "db": {**CANARY, "HealthyAllocs": 0}}, Reason.DEPLOYMENT_RUNNING),
        ({"web": CANARY, "db": {**CANARY, "AutoPromote": True}}, Reason.WAITING_FOR_PROMOTION),
        ({"web": CANARY, "db": {**CANARY, "DesiredCanaries": 0, "HealthyAllocs": 0}}, Reason.WAITING_FOR_PROMOTION),
    ],
    ids=["healthy", "starting", "promoted", "automatic", "no canaries", "one starts", "one automatic", "one without"],
)
def test_canaries_wait_for_a_person_when_all_are_healthy_and_one_is_not_automatic(
    groups: dict[str, Json], reason: Reason
) -> None:
    world, item = rolling()
    with_groups(world, **groups)
    status = look(world, item)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (TRUE, reason)
    assert at(status, ConditionType.READY) == (TRUE, Reason.READY)
    assert (status.secrets[0].serving_version, status.secrets[0].wanted_version) == ("1", "2")
    assert ("nomad deployment promote" in rotation(status).message) is (reason is Reason.WAITING_FOR_PROMOTION)


def test_a_first_rollout_that_waits_for_promotion_is_not_ready_and_says_so() -> None:
    world, item = scene()
    assert world.run([item]).registers
    with_groups(world, web=CANARY)
    assert at(look(world, item), ConditionType.READY) == (FALSE, Reason.WAITING_FOR_PROMOTION)


def test_a_deployment_that_another_took_the_place_of_is_named() -> None:
    world, item = rolling()
    failed_version = world.versions[-1]["Version"]
    world.secrets["kv", "app"] = kv_state(3)
    assert world.run([item]).registers
    status = look(world, item)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.DEPLOYMENT_RUNNING)
    assert f"took the place of job version {failed_version}" in rotation(status).message
    assert (status.secrets[0].serving_version, status.secrets[0].wanted_version) == ("1", "3")
    world.finish_deployment()
    assert at(look(world, item), ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.UP_TO_DATE)


def test_a_deployment_of_the_users_own_change_is_no_rotation() -> None:
    world, item = scene()
    world.settle([item])
    before = look(world, item)
    changed = copy.deepcopy(world.job)
    assert changed is not None
    changed["TaskGroups"][0]["Tasks"][0]["Config"]["command"] = "/bin/new"
    world.user_registers(changed)
    status = look(world, item, before)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.UP_TO_DATE)
    assert "changes nothing of these secrets" in rotation(status).message
    world.finish_deployment()
    after = look(world, item, status)
    assert after.last_rotation_time == before.last_rotation_time
    assert rotation(after).message == ""


def test_a_deployment_that_carries_the_users_change_and_ours_is_a_rotation() -> None:
    world, item = rolling()
    changed = copy.deepcopy(world.job)
    assert changed is not None
    changed["TaskGroups"][0]["Tasks"][0]["Config"]["command"] = "/bin/new"
    world.user_registers(changed)
    assert at(look(world, item), ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.DEPLOYMENT_RUNNING)


def test_what_fails_when_the_user_registered_the_job_in_the_middle_of_a_roll_is_told_as_ours() -> None:
    world, item = rolling(auto_revert=False)
    changed = copy.deepcopy(world.job)
    assert changed is not None
    changed["TaskGroups"][0]["Count"] = 3
    world.user_registers(changed)
    during = look(world, item)
    world.finish_deployment(success=False)
    status = look(world, item, during)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_FAILED)
    assert at(status, ConditionType.STALLED) == (TRUE, Reason.DEPLOYMENT_FAILED)
    assert (status.secrets[0].serving_version, status.secrets[0].wanted_version) == ("1", "2")
    assert status.failed is not None
    assert status.failed.secret_versions == {"app": "2"}


def test_a_failed_deployment_of_the_users_own_change_is_not_called_up_to_date() -> None:
    world, item = scene(auto_revert=False)
    world.settle([item])
    changed = copy.deepcopy(world.job)
    assert changed is not None
    changed["TaskGroups"][0]["Tasks"][0]["Config"]["command"] = "/bin/broken"
    world.user_registers(changed)
    world.finish_deployment(success=False)
    status = look(world, item)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.DEPLOYMENT_FAILED)
    assert "changes nothing of these secrets" in rotation(status).message
    assert status.failed is None


def test_a_version_that_has_not_come_through_is_not_said_to_serve_after_its_deployment_failed() -> None:
    world, item = rolling(auto_revert=False)
    # As for what was stable once: nothing is held for it.
    world.versions[0] = {**copy.deepcopy(world.versions[-1]), "Version": 0, "Stable": True}
    world.finish_deployment(success=False)
    status = look(world, item)
    assert at(status, ConditionType.ROTATION_HEALTHY)[1] is not Reason.UP_TO_DATE
    assert status.secrets[0].serving_version == "1"


def test_health_that_is_set_by_hand_is_asked_for() -> None:
    world, item = rolling()
    assert world.job is not None
    for job in (world.job, world.versions[-1]):
        job["TaskGroups"][0]["Update"] = {"HealthCheck": "manual", "MaxParallel": 1}
    assert "health_check manual" in rotation(look(world, item)).message


def reverting(world: World) -> None:
    """Nomad has failed the deployment and registered the stable version; as it does, it calls that stable at once."""
    world.deployments[0].update(Status="failed", StatusDescription="Failed due to unhealthy allocations")
    stable = next(job for job in reversed(world.versions[:-1]) if job["Stable"])
    world.user_registers(copy.deepcopy(stable))
    world.versions[-1]["Stable"] = True
    assert world.job is not None
    world.job["Stable"] = True


def test_a_revert_is_told_when_the_version_that_worked_serves_again() -> None:
    world, item = rolling()
    failed = world.versions[-1]["Version"]
    reverting(world)
    during = look(world, item)
    assert at(during, ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_FAILED)
    assert "app version 1 is being put back" in rotation(during).message
    world.finish_deployment()
    after = look(world, item, during)
    assert at(after, ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_REVERTED)
    message = rotation(after).message
    assert f"the deployment with app version 2 failed (job version {failed}" in message
    assert "app version 1 serves again" in message


def test_a_revert_that_fails_as_well_is_told() -> None:
    world, item = rolling()
    reverting(world)
    world.deployments[0]["Status"] = "failed"
    status = look(world, item)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_FAILED)
    assert "failed as well" in rotation(status).message


def test_a_reverted_system_job_which_gets_no_deployment_is_back_when_all_of_it_runs() -> None:
    world, item = rolling()
    reverting(world)
    world.deployments.pop(0)
    assert world.job is not None
    for job in (world.job, *world.versions):
        job["Type"] = "system"
    version = world.job["Version"]
    failed = {"JobVersion": version - 1, "ClientStatus": "failed", "NodeID": "b", "CreateIndex": 1}
    newest = {"JobVersion": version, "ClientStatus": "running", "NodeID": "a", "CreateIndex": 2}
    world.allocations = [{**one, "DesiredStatus": "run"} for one in (failed, newest)]
    during = look(world, item)
    assert at(during, ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_FAILED)
    world.allocations.append({**newest, "DesiredStatus": "run", "NodeID": "b", "CreateIndex": 3})
    after = look(world, item, during)
    assert at(after, ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_REVERTED)
    world.allocations[-1]["ClientStatus"] = "pending"
    assert look(world, item, after) == after, "a restart on a node does not unsay it"


def test_our_own_taking_back_is_told_like_a_revert() -> None:
    world, item = rolling(auto_revert=False)
    world.finish_deployment(success=False)
    found = look(world, item, registered=True)
    assert at(found, ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_FAILED)
    assert "app version 1 is being put back" in rotation(found).message
    assert world.run([item]).registers
    assert at(look(world, item), ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_FAILED)
    world.finish_deployment()
    assert at(look(world, item), ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_REVERTED)


def test_a_later_deployment_of_the_user_does_not_unsay_a_revert() -> None:
    world, item = rolling()
    world.finish_deployment(success=False)
    changed = copy.deepcopy(world.job)
    assert changed is not None
    changed["TaskGroups"][0]["Count"] = 5
    world.user_registers(changed)
    assert at(look(world, item), ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_REVERTED)


def test_why_it_failed_is_told_even_after_nomad_has_forgotten_the_deployment() -> None:
    world, item = rolling()
    reverting(world)
    world.finish_deployment()
    before = look(world, item)
    assert before.failed is not None
    assert before.failed.message == "Failed due to unhealthy allocations"
    world.run([item])  # tags the version
    world.forget_deployments()
    after = look(world, item, before)
    assert (after.conditions, after.failed) == (before.conditions, before.failed)


def test_a_first_injection_that_failed_says_that_the_job_serves_without_it() -> None:
    world, item = scene()
    world.run([item])
    world.finish_deployment(success=False)
    world.run([item])
    world.finish_deployment()
    status = look(world, item)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_REVERTED)
    assert "the job without these secrets serves again" in rotation(status).message


def without_deployment(world: World, *allocations: Json) -> None:
    """Nomad makes no deployment for `max_parallel` 0."""
    assert world.job is not None
    version = world.job["Version"]
    world.deployments = [item for item in world.deployments if item["JobVersion"] != version]
    row = {"JobVersion": version, "DesiredStatus": "run", "ClientStatus": "running"}
    world.allocations = [{**row, **one} for one in allocations]


@pytest.mark.parametrize(
    ("allocations", "expected"),
    [
        ([{}, {}], (TRUE, Reason.UP_TO_DATE)),
        ([{}, {"JobVersion": 0}], (TRUE, Reason.DEPLOYMENT_RUNNING)),
        ([{}, {"JobVersion": 0, "DesiredStatus": "stop"}], (TRUE, Reason.UP_TO_DATE)),
        ([{}, {"ClientStatus": "failed"}], (FALSE, Reason.DEPLOYMENT_FAILED)),
        ([{}, {"ClientStatus": "failed", "NextAllocation": "other"}], (TRUE, Reason.UP_TO_DATE)),
        ([], (TRUE, Reason.UP_TO_DATE)),
    ],
    ids=["all new", "one old", "an old one ends", "one failed", "one was replaced", "none"],
)
def test_without_a_deployment_the_allocations_tell(
    allocations: list[Json], expected: tuple[ConditionStatus, Reason]
) -> None:
    world, item = rolling()
    without_deployment(world, *allocations)
    assert at(look(world, item), ConditionType.ROTATION_HEALTHY) == expected


def test_until_its_deployment_begins_the_old_version_serves() -> None:
    world, item = rolling()
    assert world.job is not None
    for job in (world.job, world.versions[-1]):
        job["TaskGroups"][0]["Update"] = {"MaxParallel": 1}
    without_deployment(world, {"JobVersion": world.job["Version"] - 1})
    status = look(world, item)
    assert (status.secrets[0].serving_version, status.secrets[0].wanted_version) == ("1", "2")
    assert rotation(status).message == "the job was registered; its deployment begins"


def test_a_system_job_that_nomad_leaves_half_way_says_how_it_goes_on() -> None:
    world, item = rolling()
    assert world.job is not None
    for job in (world.job, world.versions[-1]):
        job["Type"] = "system"
    without_deployment(world, {}, {"JobVersion": 0})
    assert "the controller has it go on" in rotation(look(world, item)).message


def test_a_first_injection_without_a_deployment_is_ready_when_all_allocations_have_it() -> None:
    world, item = scene()
    assert world.run([item]).registers
    without_deployment(world, {"JobVersion": 0})
    before = look(world, item)
    assert at(before, ConditionType.READY) == (FALSE, Reason.ROLLING_OUT)
    without_deployment(world, {})
    assert at(look(world, item, before), ConditionType.READY) == (TRUE, Reason.READY)


def test_a_new_version_of_a_job_that_is_not_registered_by_us_waits_for_its_next_registration() -> None:
    world, item = scene()
    world.settle([item])
    assert world.job is not None
    for job in (world.job, *world.versions):
        job["Type"] = "batch"
    world.deployments = []
    world.secrets["kv", "app"] = kv_state(2)
    status = look(world, item)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.UNSUPPORTED_JOB_TYPE)
    assert "app version 2" in rotation(status).message
    assert at(status, ConditionType.STALLED)[0] is FALSE


def test_a_new_version_of_a_stopped_job_waits_for_its_start() -> None:
    world, item = scene()
    world.settle([item])
    assert world.job is not None
    world.user_registers({**copy.deepcopy(world.job), "Stop": True})
    world.secrets["kv", "app"] = kv_state(2)
    status = look(world, item)
    assert at(status, ConditionType.READY) == (FALSE, Reason.JOB_STOPPED)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.JOB_STOPPED)
    assert "app version 2" in rotation(status).message


@pytest.mark.parametrize("parent", [{"Periodic": {"Spec": "@daily"}}, {"ParameterizedJob": {"Payload": "optional"}}])
def test_of_a_parent_job_the_next_child_is_spoken_of(parent: Json) -> None:
    world = World()
    world.secrets["kv", "app"] = kv_state(1)
    world.user_registers(make.job(kind="batch", **parent))
    item = make.given(binding(make.kv("app", path="app")))
    world.settle([item])
    status = look(world, item)
    assert at(status, ConditionType.READY) == (TRUE, Reason.READY)
    assert "children" in rotation(status).message


def deferring(world: World, item: BindingInput) -> SecretBindingStatus:
    """The status after a pass whose registration was put off."""
    desired, plan = world.decide([item])
    put_off = replace(plan, actions=(), deferred="allocations of group db are starting")
    return compute_status(item, Pass(INSTANCE, world.observe([item]), desired, put_off), EMPTY, NOW)


def test_a_registration_that_is_put_off_for_a_moment_says_so() -> None:
    world, item = scene()
    first = deferring(world, item)
    assert at(first, ConditionType.READY) == (FALSE, Reason.PENDING)
    ready = first.condition(ConditionType.READY)
    assert ready is not None
    assert "db" in ready.message
    world.settle([item])
    world.secrets["kv", "app"] = kv_state(2)
    assert at(deferring(world, item), ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.NEW_VERSION_HELD)


def test_a_version_that_failed_on_request_does_not_merely_wait_for_the_next_request() -> None:
    world, item = scene()
    world.settle([item])
    manual = replace(item, binding=binding(make.kv("app", path="app"), make.spec(rotation={"strategy": "Manual"})))
    world.secrets["kv", "app"] = kv_state(2)
    assert at(look(world, manual), ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.MANUAL_ROTATION_PENDING)
    asked = replace(manual, rotate_requested_at=NOW)
    assert world.run([asked]).registers
    world.finish_deployment(success=False)
    # The request is answered by now.
    failed = look(world, manual)
    assert at(failed, ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_REVERTED)
    assert failed.failed is not None
    world.forget_deployments()
    assert at(look(world, manual, failed), ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_REVERTED)
    world.secrets["kv", "app"] = kv_state(3)
    later = look(world, manual, failed)
    assert at(later, ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.MANUAL_ROTATION_PENDING)
    assert later.failed is None


def test_a_version_that_the_binding_names_and_that_the_next_write_prunes_is_told() -> None:
    world, _ = scene()
    item = make.given(binding(make.kv("app", version=1)))
    world.secrets["kv", "myapp"] = kv_state(2)
    world.settle([item])
    assert at(look(world, item), ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.UP_TO_DATE)
    world.secrets["kv", "myapp"] = replace(kv_state(2), mount_max_versions=2)
    assert at(look(world, item), ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.PINNED_VERSION_AT_RISK)
    assert "kv.version" in rotation(look(world, item)).message
