"""A state of our part that failed is not tried again by itself, and what worked goes on."""

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from secretbinding.desired import BindingInput
from secretbinding.desired.carrying import carried
from secretbinding.plan import RegisterJob, TagVersion, UntagVersion
from secretbinding.ports import Json
from secretbinding.rotation import failed_states, last_roll, nanoseconds_to_time
from tests.support import builders as make
from tests.support.builders import INSTANCE, binding, kv_state
from tests.unit.core.test_inject import without_emptiness
from tests.unit.core.world import World, our_tasks


def scene(*, auto_revert: bool = True, job: Json | None = None, serving: bool = True) -> tuple[World, BindingInput]:
    """A job that is served version 1 of `app`, unless it is not injected yet."""
    world = World(auto_revert=auto_revert)
    world.secrets["kv", "app"] = kv_state(1)
    world.user_registers(job or make.job())
    world.finish_deployment()
    item = make.given(binding(make.kv("app", path="app")))
    if serving:
        world.settle([item])
    return world, item


def rotate(world: World, item: BindingInput, version: int, *, success: bool) -> None:
    world.secrets["kv", "app"] = kv_state(version)
    assert world.run([item]).registers
    world.finish_deployment(success=success)


def holding(world: World, *items: BindingInput) -> frozenset[int]:
    """The job versions whose failures hold something."""
    return world.decide(list(items))[0].holding()


def pins(world: World) -> list[str]:
    assert world.job is not None
    return [
        action.partition("?version=")[2].partition('"')[0]
        for _, _, task in our_tasks(world.job)
        for action in (template["EmbeddedTmpl"] for template in task["Templates"])
    ]


def registrations(world: World) -> int:
    return sum(isinstance(action, RegisterJob) for action in world.log)


def test_a_failure_while_nobody_watched_is_told_by_nomads_own_revert_when_the_deployment_is_forgotten() -> None:
    world, item = scene()
    rotate(world, item, 2, success=False)
    world.forget_deployments()
    before = registrations(world)
    world.settle([item])
    assert registrations(world) == before
    assert pins(world) == ["1"]
    assert holding(world, item)


def test_a_version_that_somebody_went_back_from_by_hand_did_not_fail() -> None:
    world, item = scene()
    rotate(world, item, 2, success=True)
    by_hand = copy.deepcopy(next(job for job in world.versions if "?version=1" in str(job)))
    world.versions[-1]["Stable"] = False
    world.user_registers(by_hand)
    world.forget_deployments()
    assert not failed_states(world.versions, world.deployments, INSTANCE)


def test_after_auto_revert_the_old_version_serves_and_nothing_is_registered() -> None:
    world, item = scene()
    rotate(world, item, 2, success=False)
    before = registrations(world)
    for _ in range(4):
        world.run([item])
    assert registrations(world) == before
    assert pins(world) == ["1"]
    assert holding(world, item)


def test_without_auto_revert_our_part_of_the_last_good_version_is_put_back() -> None:
    world, item = scene(auto_revert=False)
    rotate(world, item, 2, success=False)
    assert pins(world) == ["2"]
    assert world.run([item]).registers
    assert pins(world) == ["1"]
    world.finish_deployment()
    for _ in range(3):
        assert not world.run([item]).registers


def test_only_our_part_goes_back_the_users_own_change_stays() -> None:
    two_groups = make.job(make.group(name="api"), make.group(name="db"))
    world, item = scene(auto_revert=False, job=two_groups)
    assert world.job is not None
    changed = copy.deepcopy(world.job)
    changed["TaskGroups"][1]["Tasks"][0]["Config"]["command"] = "/bin/new"
    world.user_registers({**changed, "TaskGroups": changed["TaskGroups"]})
    world.finish_deployment()
    rotate(world, item, 2, success=False)
    world.run([item])
    assert pins(world) == ["1", "1"]
    assert world.job["TaskGroups"][1]["Tasks"][0]["Config"]["command"] == "/bin/new"


def test_a_failed_first_injection_is_taken_out_again_when_nomad_does_not_revert() -> None:
    world, item = scene(auto_revert=False, serving=False)
    before = without_emptiness((world.job or {})["TaskGroups"])
    assert world.run([item]).registers
    world.finish_deployment(success=False)
    assert world.run([item]).registers
    assert without_emptiness((world.job or {})["TaskGroups"]) == before
    world.finish_deployment()
    for _ in range(3):
        assert not world.run([item]).registers


@pytest.mark.parametrize("auto_revert", [True, False])
def test_a_failed_removal_leaves_the_job_its_secrets_and_its_rights(auto_revert: bool) -> None:
    world, item = scene(auto_revert=auto_revert)
    going = [replace(item, deleting=True)]
    assert world.run(going).registers
    world.finish_deployment(success=False)
    for _ in range(3):
        assert not world.run(going).gone
        world.finish_deployment()
    assert pins(world) == ["1"]
    assert world.policies
    assert world.roles


@pytest.mark.parametrize("auto_revert", [True, False])
def test_a_newer_version_ends_the_hold(auto_revert: bool) -> None:
    world, item = scene(auto_revert=auto_revert)
    rotate(world, item, 2, success=False)
    world.run([item])
    world.finish_deployment()
    rotate(world, item, 3, success=True)
    assert pins(world) == ["3"]


def test_a_change_of_the_binding_ends_the_hold() -> None:
    world, item = scene()
    rotate(world, item, 2, success=False)
    world.run([item])
    changed = make.given(binding(make.kv("app", path="app", env={"APP_PASS": "password", "APP_USER": "username"})))
    assert world.run([changed]).registers
    assert pins(world) == ["2"]


def test_a_change_of_the_users_part_ends_the_hold() -> None:
    world, item = scene()
    rotate(world, item, 2, success=False)
    world.run([item])
    assert world.job is not None
    changed = copy.deepcopy(world.job)
    changed["TaskGroups"][0]["Tasks"][0]["Config"]["command"] = "/bin/new"
    world.user_registers(changed)
    assert world.run([item]).registers
    assert pins(world) == ["2"]


def test_scaling_does_not_end_the_hold() -> None:
    world, item = scene()
    rotate(world, item, 2, success=False)
    world.run([item])
    assert world.job is not None
    scaled = copy.deepcopy(world.job)
    scaled["TaskGroups"][0]["Count"] = 9
    world.user_registers(scaled)
    assert not world.run([item]).registers


def test_a_request_gets_one_more_try() -> None:
    world, item = scene()
    rotate(world, item, 2, success=False)
    world.run([item])
    asked = replace(item, rotate_requested_at=nanoseconds_to_time(world.now) + timedelta(seconds=0.5))
    assert world.run([asked]).registers
    world.finish_deployment(success=False)
    assert not world.run([asked]).registers
    assert pins(world) == ["1"]


def test_the_failure_is_remembered_in_nomad_when_nomad_has_forgotten_the_deployment() -> None:
    world, item = scene()
    rotate(world, item, 2, success=False)
    world.run([item])
    assert any(isinstance(action, TagVersion) for action in world.log)
    world.forget_deployments()
    for _ in range(3):
        assert not world.run([item]).registers
    assert holding(world, item)


def test_a_failure_that_no_longer_matters_is_forgotten() -> None:
    world, item = scene()
    rotate(world, item, 2, success=False)
    world.run([item])
    rotate(world, item, 3, success=True)
    world.run([item])
    assert any(isinstance(action, UntagVersion) for action in world.log)
    assert not any(job["VersionTag"] for job in world.versions)
    assert not world.run([item]).actions


def test_of_several_failures_only_the_one_that_is_held_is_remembered() -> None:
    world, item = scene()
    for version in (2, 3):
        rotate(world, item, version, success=False)
        world.run([item])
    failed = [job["Version"] for job in world.versions if job["VersionTag"]]
    assert failed == sorted(holding(world, item))
    assert len(failed) == 1
    assert not world.run([item]).actions


def test_a_tag_of_somebody_elses_stays() -> None:
    world, item = scene()
    world.secrets["kv", "app"] = kv_state(2)
    world.run([item])
    world.versions[-1]["VersionTag"] = {"Name": "golden"}
    world.finish_deployment(success=False)
    world.run([item])
    assert not any(isinstance(action, TagVersion) for action in world.log)
    assert not world.run([item]).registers


def test_the_users_own_failed_change_is_no_failure_of_ours() -> None:
    world, item = scene(auto_revert=False)
    assert world.job is not None
    changed = copy.deepcopy(world.job)
    changed["TaskGroups"][0]["Tasks"][0]["Config"]["command"] = "/bin/broken"
    world.user_registers(changed)
    world.finish_deployment(success=False)
    plan = world.run([item])
    assert not plan.registers
    assert not holding(world, item)


def user_changes(world: World, field: str) -> None:
    """Somebody registers the job as it is, our part included, with another count or command."""
    assert world.job is not None
    changed = copy.deepcopy(world.job)
    if field == "count":
        changed["TaskGroups"][0]["Count"] = 3
    else:
        changed["TaskGroups"][0]["Tasks"][0]["Config"]["command"] = "/bin/new"
    world.user_registers(changed)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("field", ["count", "command"])
@pytest.mark.parametrize("auto_revert", [True, False])
def test_a_bad_version_is_ours_though_the_user_registers_the_job_in_the_middle_of_its_roll(
    auto_revert: bool, field: str, times: int
) -> None:
    world, item = scene(auto_revert=auto_revert)
    world.secrets["kv", "app"] = kv_state(2)
    assert world.run([item]).registers
    for _ in range(times):
        user_changes(world, field)
    failed = world.versions[-1]["Version"]
    world.finish_deployment(success=False)
    world.run([item])
    if auto_revert and field == "command":
        # Their change went with it: for the job as it was before, the version has not been tried to the end.
        world.finish_deployment(success=False)
        failed = world.versions[-2]["Version"]
        world.run([item])
    assert pins(world) == ["1"]
    assert holding(world, item) == {failed}
    world.finish_deployment()
    for _ in range(3):
        assert not world.run([item]).registers
    assert next(job for job in world.versions if job["Version"] == failed)["VersionTag"]


def test_a_first_injection_is_ours_though_the_user_registers_the_job_in_the_middle_of_it() -> None:
    world, item = scene(auto_revert=False, serving=False)
    world.versions[0]["Stable"] = False
    world.deployments[0]["Status"] = "cancelled"
    assert world.run([item]).registers
    for _ in range(2):
        user_changes(world, "count")
    world.finish_deployment(success=False)
    assert world.run([item]).registers
    assert pins(world) == []


def test_a_change_of_the_users_that_fails_after_a_roll_came_through_is_no_failure_of_ours() -> None:
    world, item = scene(auto_revert=False)
    rotate(world, item, 2, success=True)
    user_changes(world, "count")
    user_changes(world, "command")
    world.finish_deployment(success=False)
    assert not world.run([item]).registers
    assert not holding(world, item)


def user_registers_from_file(world: World, command: str) -> None:
    """Somebody registers the job from its file, which has nothing of ours."""
    job = make.job()
    job["TaskGroups"][0]["Tasks"][0]["Config"]["command"] = command
    world.user_registers(job)


@pytest.mark.parametrize("auto_revert", [True, False])
def test_a_bad_image_from_a_file_without_our_part_is_no_failure_of_ours(auto_revert: bool) -> None:
    world, item = scene(auto_revert=auto_revert)
    user_registers_from_file(world, "/bin/broken")
    assert world.run([item]).registers
    world.finish_deployment(success=False)
    for _ in range(3):
        assert not world.run([item]).registers
    assert pins(world) == ["1"]
    assert not holding(world, item)


def test_what_has_been_stable_is_not_taken_out_though_the_job_came_through_without_it() -> None:
    world, item = scene(auto_revert=False)
    user_registers_from_file(world, "/bin/broken")
    world.finish_deployment()
    assert world.run([item]).registers
    world.finish_deployment(success=False)
    for _ in range(3):
        assert not world.run([item]).registers
    assert pins(world) == ["1"]


@pytest.mark.parametrize("from_file", [True, False])
@pytest.mark.parametrize("auto_revert", [True, False])
def test_a_version_that_failed_once_and_worked_with_another_image_is_what_a_later_failure_goes_back_to(
    auto_revert: bool, from_file: bool
) -> None:
    world, item = scene(auto_revert=auto_revert)
    rotate(world, item, 2, success=False)
    world.run([item])
    world.finish_deployment()
    if from_file:
        user_registers_from_file(world, "/bin/new")
    else:
        user_changes(world, "command")
    world.settle([item])
    assert pins(world) == ["2"]
    rotate(world, item, 3, success=False)
    world.run([item])
    assert pins(world) == ["2"]
    world.finish_deployment()
    for _ in range(3):
        assert not world.run([item]).registers


def test_a_version_that_failed_once_and_worked_later_goes_on_when_the_job_is_registered_from_its_file() -> None:
    world, item = scene()
    rotate(world, item, 2, success=False)
    world.run([item])
    user_changes(world, "command")
    world.settle([item])
    rotate(world, item, 3, success=False)
    world.run([item])
    user_registers_from_file(world, "/bin/new")
    world.job = carried(world.observe([item]), [item], INSTANCE).job
    assert pins(world) == ["2"]


def test_a_binding_that_was_deleted_does_not_come_back_when_another_ones_first_injection_fails() -> None:
    world, item = scene(auto_revert=False)
    world.settle([replace(item, deleting=True)])
    world.secrets["kv", "other"] = kv_state(1)
    other = make.given(binding(make.kv("other", path="other"), name="other"))
    assert world.run([other]).registers
    world.finish_deployment(success=False)
    assert world.run([other]).registers
    assert pins(world) == []


def test_a_binding_made_anew_for_another_secret_is_taken_out_when_its_first_injection_fails() -> None:
    world, item = scene(auto_revert=False)
    world.settle([replace(item, deleting=True)])
    world.secrets["kv", "other"] = kv_state(1)
    again = make.given(binding(make.kv("app", path="other")))
    assert world.run([again]).registers
    world.finish_deployment(success=False)
    assert world.run([again]).registers
    assert pins(world) == []


def test_a_state_that_has_worked_before_stays_when_going_back_to_it_fails_as_well() -> None:
    world, item = scene(auto_revert=False)
    rotate(world, item, 2, success=False)
    world.run([item])
    world.finish_deployment(success=False)
    for _ in range(3):
        assert not world.run([item]).registers
    assert pins(world) == ["1"]


def test_rights_that_a_held_state_may_need_stay() -> None:
    world, _ = scene()
    changed = make.given(binding(make.kv("app", path="other", env={"APP_PASS": "password"})))
    world.secrets["kv", "other"] = kv_state(1)
    world.run([changed])
    world.finish_deployment(success=False)
    world.run([changed])
    (role,) = world.roles
    assert world.rights_of(role) == {"secret/data/app", "secret/data/other"}


# --- what cannot be read any more -----------------------------------------------------------------------------------


def two_bindings() -> tuple[World, list[BindingInput]]:
    world = World()
    world.user_registers(make.job(make.group(name="api"), make.group(name="db")))
    world.secrets["kv", "app"], world.secrets["kv", "other"] = kv_state(1), kv_state(1)
    items = [
        make.given(binding(make.kv("app", path="app"), make.on_tasks("api", "server"), name="a")),
        make.given(binding(make.kv("other", path="other"), name="b")),
    ]
    world.settle(items)
    return world, items


def test_a_group_that_reads_a_destroyed_version_is_not_started_anew_for_anything() -> None:
    world, items = two_bindings()
    world.secrets["kv", "app"] = kv_state(1, destroyed=[1])
    world.secrets["kv", "other"] = kv_state(2)
    desired, plan = world.decide(items)
    assert desired.job is not None
    assert world.job is not None
    api, db = desired.job["TaskGroups"]
    assert without_emptiness(api["Tasks"]) == without_emptiness(world.job["TaskGroups"][0]["Tasks"])
    assert "version=2" in db["Tasks"][0]["Templates"][0]["EmbeddedTmpl"]
    assert plan.registers
    (decision,) = desired.results[items[1].key].secrets
    assert decision.hold is not None
    assert "group api" in decision.hold.message


def test_the_groups_that_wait_do_not_grow_and_keep_their_rights() -> None:
    world, items = two_bindings()
    constraints = [group["Constraints"] for group in (world.job or {})["TaskGroups"]]
    world.secrets["kv", "app"] = kv_state(1, destroyed=[1])
    for number in range(2, 6):
        world.secrets["kv", "other"] = kv_state(number)
        world.run(items)
        world.finish_deployment()
    assert [group["Constraints"] for group in (world.job or {})["TaskGroups"]] == constraints
    assert world.run([replace(items[0], deleting=False), replace(items[1], deleting=True)]).waiting


def test_what_waits_keeps_the_rights_of_what_is_in_the_job() -> None:
    world, items = two_bindings()
    world.secrets["kv", "app"], world.secrets["kv", "third"] = kv_state(1, destroyed=[1]), kv_state(1)
    changed = make.given(binding(make.kv("other", path="third"), name="b"))
    world.run([items[0], changed])
    world.finish_deployment()
    plan = world.run([items[0], changed])
    assert plan.waiting == "a group of the job is left as it is for now"
    world.check_rights()


def test_a_good_version_lets_everything_go_on() -> None:
    world, items = two_bindings()
    world.secrets["kv", "app"], world.secrets["kv", "other"] = kv_state(1, destroyed=[1]), kv_state(2)
    world.run(items)
    world.finish_deployment()
    world.secrets["kv", "app"] = kv_state(2, destroyed=[1])
    world.settle(items)
    assert sorted(pins(world)) == ["2", "2", "2"]


def test_a_new_binding_waits_for_a_group_that_reads_a_destroyed_version() -> None:
    world, item = scene()
    world.secrets["kv", "app"] = kv_state(1, destroyed=[1])
    world.secrets["kv", "other"] = kv_state(1)
    new = make.given(binding(make.kv("other", path="other"), name="new"))
    desired, plan = world.decide([item, new])
    assert not plan.registers
    fault = desired.results[new.key].fault
    assert fault is not None
    assert "can no longer be read" in fault.message


def test_everything_about_a_task_of_another_instance_is_the_users() -> None:
    world, item = scene()
    other: Any = World(instance="other")
    other.secrets["kv", "app"] = kv_state(1)
    other.user_registers(world.job or {})
    fault = other.decide([item])[0].results[item.key].fault
    assert fault is not None
    assert f"nsb.{INSTANCE}." in fault.message


def test_a_failed_state_that_is_being_tried_again_on_request_is_not_called_failed() -> None:
    world, item = scene()
    rotate(world, item, 2, success=False)
    world.run([item])
    world.finish_deployment()
    asked = replace(item, rotate_requested_at=nanoseconds_to_time(world.now) + timedelta(seconds=1))
    assert world.run([asked]).registers
    assert not holding(world, item)
    assert not world.run([item]).registers


def test_a_retry_that_succeeds_ends_the_hold_for_good() -> None:
    world, item = scene()
    rotate(world, item, 2, success=False)
    world.run([item])
    world.finish_deployment()
    asked = replace(item, rotate_requested_at=nanoseconds_to_time(world.now) + timedelta(seconds=1))
    assert world.run([asked]).registers
    world.finish_deployment()
    assert not holding(world, item)
    assert pins(world) == ["2"]
    world.settle([replace(item, deleting=True)])
    assert world.run([item]).registers


# --- several bindings of one job -------------------------------------------------------------------------------------


def company() -> tuple[World, BindingInput, BindingInput]:
    """Two bindings of one task that serve version 1 each, the first of which has failed with version 2."""
    world, first = scene()
    world.secrets["kv", "other"] = kv_state(1)
    second = make.given(binding(make.kv("other", path="other", env={"OTHER": "password"}), name="second"))
    world.settle([first, second])
    world.secrets["kv", "app"] = kv_state(2)
    assert world.run([first, second]).registers
    world.finish_deployment(success=False)
    world.run([first, second])
    world.finish_deployment()
    return world, first, second


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_binding_that_failed_does_not_hold_the_others_of_its_job(forgotten: bool) -> None:
    world, first, second = company()
    if forgotten:
        world.forget_deployments()
    world.secrets["kv", "other"] = kv_state(2)
    assert world.run([first, second]).registers
    world.finish_deployment()
    assert sorted(pins(world)) == ["1", "2"]
    desired = world.decide([first, second])[0]
    assert desired.results[first.key].failed is not None
    assert desired.results[second.key].failed is None
    for _ in range(3):
        assert not world.run([first, second]).registers


def test_a_binding_that_comes_while_another_is_held_is_injected_without_it() -> None:
    world, first, second = company()
    third = make.given(binding(make.kv("third", path="other", env={"THIRD": "password"}), name="third"))
    assert world.run([first, second, third]).registers
    world.finish_deployment()
    assert pins(world) == ["1", "1", "1"]
    assert not world.run([first, second, third]).registers


def test_a_binding_goes_while_another_of_its_job_is_held() -> None:
    world, first, second = company()
    going = replace(second, deleting=True)
    world.settle([first, going])
    assert second.key not in {document.owner.key for document in world.decide([first])[0].policies.values()}
    assert pins(world) == ["1"]


def test_a_request_for_one_binding_tries_no_other_again() -> None:
    world, first, second = company()
    asked = replace(second, rotate_requested_at=nanoseconds_to_time(world.now) + timedelta(seconds=1))
    assert not world.run([first, asked]).registers


def test_a_first_injection_that_fails_leaves_the_binding_out_and_the_others_in() -> None:
    world, first = scene()
    world.secrets["kv", "other"] = kv_state(1)
    second = make.given(binding(make.kv("other", path="other", env={"OTHER": "password"}), name="second"))
    assert world.run([first, second]).registers
    world.finish_deployment(success=False)
    for _ in range(3):
        world.run([first, second])
        world.finish_deployment()
    assert pins(world) == ["1"]
    rotate_both = [first, second]
    world.secrets["kv", "app"] = kv_state(2)
    assert world.run(rotate_both).registers
    world.finish_deployment()
    assert pins(world) == ["2"]


def together() -> tuple[World, BindingInput, BindingInput]:
    """Two bindings that serve version 1 each; both get a new version, one after the other, before a deployment is over:
    the first deployment is cancelled by the second, which fails."""
    world, first = scene()
    world.secrets["kv", "other"] = kv_state(1)
    second = make.given(binding(make.kv("other", path="other", env={"OTHER": "password"}), name="second"))
    world.settle([first, second])
    world.secrets["kv", "app"] = kv_state(2)
    assert world.run([first, second]).registers
    world.secrets["kv", "other"] = kv_state(2)
    assert world.run([first, second]).registers
    world.finish_deployment(success=False)
    for _ in range(3):
        assert not world.run([first, second]).registers
        world.finish_deployment()
    return world, first, second


def test_what_failed_together_is_held_together_though_it_came_one_after_the_other() -> None:
    world, first, second = together()
    assert pins(world) == ["1", "1"]
    assert len(holding(world, first, second)) == 1


def test_a_new_version_of_one_gives_the_other_another_try() -> None:
    world, first, second = together()
    world.secrets["kv", "app"] = kv_state(3)
    assert world.run([first, second]).registers
    world.finish_deployment()
    assert sorted(pins(world)) == ["2", "3"]


def test_the_one_that_fails_alone_clears_the_other() -> None:
    world, first, second = together()
    asked = replace(first, rotate_requested_at=nanoseconds_to_time(world.now) + timedelta(seconds=1))
    assert world.run([asked, second]).registers
    world.finish_deployment(success=False)
    world.run([first, second])
    world.finish_deployment()
    world.run([first, second])
    world.finish_deployment()
    assert sorted(pins(world)) == ["1", "2"]


def test_a_revert_carries_the_time_of_an_older_version_and_is_no_roll_of_long_ago() -> None:
    world, item = scene()
    before = last_roll(world.versions, INSTANCE)
    rotate(world, item, 2, success=False)
    rolled, reverted = world.versions[-2:]
    reverted["SubmitTime"] = world.versions[1]["SubmitTime"]
    assert before is not None
    assert last_roll(world.versions, INSTANCE) == nanoseconds_to_time(rolled["SubmitTime"]) > before


def test_what_the_user_registers_without_our_part_and_what_puts_it_back_are_no_rolls() -> None:
    world, _ = scene()
    assert world.job is not None
    injected = copy.deepcopy(world.job)
    before = last_roll(world.versions, INSTANCE)
    for _ in range(2):
        world.user_registers(make.job())
        world.user_registers(injected)
    assert last_roll(world.versions, INSTANCE) == before
    # Of versions that Nomad has forgotten nobody knows what they had.
    assert last_roll(world.versions[2:], INSTANCE) is None
