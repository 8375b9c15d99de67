"""Rolling deployments: order, health, failure, reverting, canaries."""

import itertools
import time
import uuid
from typing import Any

import pytest

from secretbinding.devstack.api import quoted
from tests.conformance.nomad import MS, SECOND, Nomad, changed, events, job, task

Json = dict[str, Any]

FAILING = "exit 3"


def with_script(sent: Json, script: str) -> Json:
    return changed(sent, lambda _, one: one["Config"].update(args=["-c", script]))


def test_a_first_deployment_places_all_and_succeeds(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, count=3))
    done = nomad.wait_deployed(unique, 0)
    assert done["StatusDescription"] == "Deployment completed successfully"
    assert done["JobVersion"] == 0
    state = done["TaskGroups"]["g"]
    assert (state["DesiredTotal"], state["PlacedAllocs"], state["HealthyAllocs"], state["UnhealthyAllocs"]) == (
        3,
        3,
        3,
        0,
    )
    assert {one["DeploymentStatus"]["Healthy"] for one in nomad.allocations(unique)} == {True}


def test_a_change_rolls_one_allocation_after_the_other(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, count=3))
    nomad.wait_deployed(unique, 0)
    nomad.register(changed(job(unique, count=3), lambda group, _: group.update(Meta={"revision": "2"})))
    fewest = 3

    def done() -> bool:
        nonlocal fewest
        fewest = min(fewest, len(nomad.running(unique)))
        return any(one["JobVersion"] == 1 and one["Status"] == "successful" for one in nomad.deployments(unique))

    nomad.wait("the deployment", done)
    assert fewest >= 2
    new = [one for one in nomad.allocations(unique) if one["JobVersion"] == 1]
    times = sorted(one["CreateTime"] for one in new)
    assert len(times) == 3
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 200 * MS
    old = [one for one in nomad.allocations(unique) if one["JobVersion"] == 0]
    assert {one["DesiredDescription"] for one in old} == {"alloc is being updated due to job update"}


def test_a_failing_version_is_reverted_and_the_other_allocation_never_touched(nomad: Nomad, unique: str) -> None:
    good = job(unique, count=2, Update={"AutoRevert": True})
    nomad.register(good, Submission={"Source": "good", "Format": "hcl2"})
    nomad.wait_deployed(unique, 0)
    before = {one["Name"]: one["ID"] for one in nomad.running(unique)}
    nomad.register(with_script(good, FAILING))
    failed = nomad.wait_deployed(unique, 1, "failed")
    assert failed["StatusDescription"] == "Failed due to unhealthy allocations - rolling back to job version 0"
    nomad.wait_deployed(unique, 2)
    stored = nomad.job(unique)
    assert (stored["Version"], stored["Stable"]) == (2, True)
    assert stored["TaskGroups"][0]["Tasks"][0]["Config"] == good["TaskGroups"][0]["Tasks"][0]["Config"]
    after = {one["Name"]: one["ID"] for one in nomad.running(unique)}
    assert len(set(before.values()) & set(after.values())) == 1
    assert nomad.api.get(f"/v1/job/{unique}/submission", version=2).expect(200).json()["Source"] == "good"
    assert [one["Stable"] for one in nomad.versions(unique)] == [True, False, True]


def test_without_auto_revert_a_failed_version_stays(nomad: Nomad, unique: str) -> None:
    good = job(unique, count=2)
    nomad.register(good)
    nomad.wait_deployed(unique, 0)
    nomad.register(with_script(good, FAILING))
    failed = nomad.wait_deployed(unique, 1, "failed")
    assert failed["StatusDescription"] == "Failed due to unhealthy allocations"
    assert nomad.job(unique)["Version"] == 1
    assert [one["JobVersion"] for one in nomad.running(unique)] == [0]


def test_a_first_version_that_fails_has_nothing_to_go_back_to(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, task(FAILING), Update={"AutoRevert": True}))
    failed = nomad.wait_deployed(unique, 0, "failed")
    assert failed["StatusDescription"] == (
        "Failed due to unhealthy allocations - no stable job version to auto revert to"
    )
    nomad.wait("the job to be dead", lambda: nomad.job(unique)["Status"] == "dead")


def test_a_task_that_fails_shows_why_it_is_not_restarted(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, task(FAILING)))
    failed = nomad.wait_allocation(unique, "failed")
    nomad.wait_event(unique, "Unhealthy because of failed task")
    failed = nomad.allocations(unique)[0]
    kinds = [kind for kind, _ in events(failed)]
    assert kinds[:4] == ["Received", "Task Setup", "Started", "Terminated"]
    assert ("Terminated", "Exit Code: 3") in events(failed)
    assert ("Not Restarting", "Policy allows no restarts") in events(failed)
    state = failed["TaskStates"]["t"]
    assert (state["State"], state["Failed"]) == ("dead", True)
    assert failed["ClientDescription"] == "Failed tasks"


def test_a_task_is_restarted_within_its_policy_before_it_fails(nomad: Nomad, unique: str) -> None:
    policy = {"Attempts": 1, "Interval": 60 * SECOND, "Delay": 100 * MS, "Mode": "fail"}
    nomad.register(job(unique, task(FAILING), RestartPolicy=policy))
    failed = nomad.wait_allocation(unique, "failed")
    assert [kind for kind, _ in events(failed)].count("Started") == 2
    assert failed["TaskStates"]["t"]["Restarts"] == 1
    reason = 'Exceeded allowed attempts 1 in interval 1m0s and mode is "fail"'
    assert ("Not Restarting", reason) in events(failed)


def test_a_failed_allocation_is_placed_again_by_its_reschedule_policy(nomad: Nomad, unique: str) -> None:
    policy = {
        "Attempts": 1,
        "Interval": 3600 * SECOND,
        "Delay": 5 * SECOND,
        "DelayFunction": "constant",
        "Unlimited": False,
    }
    sent = job(unique, task(FAILING), ReschedulePolicy=policy, Update={"MaxParallel": 0})
    nomad.register(sent)
    nomad.wait("a second allocation", lambda: len(nomad.allocations(unique)) == 2)
    first, second = nomad.allocations(unique)
    assert first["NextAllocation"] == second["ID"]
    assert (first["DesiredStatus"], first["ClientStatus"]) == ("stop", "failed")
    assert [one["PrevAllocID"] for one in second["RescheduleTracker"]["Events"]] == [first["ID"]]
    assert nomad.deployments(unique) == []


def test_a_task_that_is_not_healthy_in_time_fails_the_deployment(nomad: Nomad, unique: str) -> None:
    late = {"MinHealthyTime": 900 * MS, "HealthyDeadline": SECOND, "ProgressDeadline": 2 * SECOND}
    flapping = {"Attempts": 20, "Interval": 60 * SECOND, "Delay": 100 * MS, "Mode": "fail"}
    policy = {"Unlimited": True, "Delay": 30 * SECOND}
    sent = job(unique, task("sleep 0.3; exit 1"), Update=late, RestartPolicy=flapping, ReschedulePolicy=policy)
    nomad.register(sent)
    failed = nomad.wait_deployed(unique, 0, "failed")
    assert failed["StatusDescription"] == "Failed due to progress deadline"
    assert nomad.allocations(unique)[0]["DeploymentStatus"]["Healthy"] is False


def test_a_newer_version_cancels_the_running_deployment(nomad: Nomad, unique: str) -> None:
    slow = job(unique, Update={"MinHealthyTime": 3 * SECOND})
    nomad.register(slow)
    nomad.wait_deployed(unique, 0, "running")
    nomad.register(changed(slow, lambda group, _: group.update(Meta={"a": "b"})))
    cancelled = nomad.wait_deployed(unique, 0, "cancelled")
    assert cancelled["StatusDescription"] == "Cancelled due to newer version of job"
    assert [one["JobVersion"] for one in nomad.deployments(unique)] == [0, 1]


def test_stopping_a_job_cancels_its_deployment(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, Update={"MinHealthyTime": 3 * SECOND}))
    nomad.wait_deployed(unique, 0, "running")
    nomad.api.delete(f"/v1/job/{quoted(unique)}").expect(200)
    assert nomad.wait_deployed(unique, 0, "cancelled")["StatusDescription"] == "Cancelled because job is stopped"


def test_a_deployment_is_read_by_id_with_its_job_version(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique))
    done = nomad.wait_deployed(unique, 0)
    assert nomad.api.get(f"/v1/deployment/{done['ID']}").expect(200).json() == done
    missing = nomad.api.get(f"/v1/deployment/{uuid.uuid4()}")
    assert (missing.status, missing.text) == (404, "deployment not found")


@pytest.mark.parametrize(
    ("what", "prefix"),
    [
        ("allocation", "alloc lookup failed"),
        ("deployment", "deployment lookup failed"),
        ("evaluation", "failed to lookup eval: eval lookup failed"),
    ],
)
def test_what_can_be_no_id_is_an_error(nomad: Nomad, what: str, prefix: str) -> None:
    short = nomad.api.get(f"/v1/{what}/abc")
    assert (short.status, short.text) == (500, f"{prefix}: index error: UUID must be 36 characters")
    odd = nomad.api.get(f"/v1/{what}/{str(uuid.uuid4())[:-1]}x")
    fault = "Invalid UUID: encoding/hex: invalid byte: U+0078 'x'"
    assert (odd.status, odd.text) == (500, f"{prefix}: index error: {fault}")


def test_canaries_wait_for_their_promotion(nomad: Nomad, unique: str) -> None:
    sent = job(unique, count=2, Update={"Canary": 1})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(changed(sent, lambda group, _: group.update(Meta={"a": "b"})))

    def healthy() -> Json | None:
        found = [one for one in nomad.deployments(unique) if one["JobVersion"] == 1]
        return found[0] if found and found[0]["TaskGroups"]["g"]["HealthyAllocs"] == 1 else None

    waiting = nomad.wait("a healthy canary", healthy)
    assert waiting["StatusDescription"] == "Deployment is running but requires manual promotion"
    assert [one["JobVersion"] for one in nomad.running(unique)].count(0) == 2
    state = waiting["TaskGroups"]["g"]
    assert (state["DesiredCanaries"], len(state["PlacedCanaries"]), state["Promoted"]) == (1, 1, False)
    nomad.api.put(f"/v1/deployment/promote/{waiting['ID']}", {"DeploymentID": waiting["ID"], "All": True}).expect(200)
    nomad.wait_deployed(unique, 1)
    nomad.wait("the new version alone", lambda: [one["JobVersion"] for one in nomad.running(unique)] == [1, 1])


def test_an_automatic_promotion_needs_no_hand(nomad: Nomad, unique: str) -> None:
    sent = job(unique, count=2, Update={"Canary": 1, "AutoPromote": True})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(changed(sent, lambda group, _: group.update(Meta={"a": "b"})))
    nomad.wait_deployed(unique, 1)
    nomad.wait("the new version alone", lambda: [one["JobVersion"] for one in nomad.running(unique)] == [1, 1])


def test_an_unhealthy_canary_fails_and_leaves_the_old_version_serving(nomad: Nomad, unique: str) -> None:
    sent = job(unique, count=2, Update={"Canary": 1, "AutoRevert": True})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    before = {one["ID"] for one in nomad.running(unique)}
    nomad.register(with_script(sent, FAILING))
    nomad.wait_deployed(unique, 1, "failed")
    nomad.wait_deployed(unique, 2)
    assert {one["ID"] for one in nomad.running(unique)} == before


def test_a_promotion_before_the_canaries_are_healthy_is_refused(nomad: Nomad, unique: str) -> None:
    sent = job(unique, Update={"Canary": 1, "MinHealthyTime": 3 * SECOND})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(changed(sent, lambda group, _: group.update(Meta={"a": "b"})))
    running = nomad.wait_deployed(unique, 1, "running")
    answer = nomad.api.put(f"/v1/deployment/promote/{running['ID']}", {"DeploymentID": running["ID"], "All": True})
    assert answer.status == 500
    assert "healthy allocations" in answer.text


def test_a_deployment_failed_by_hand_goes_back_where_it_may(nomad: Nomad, unique: str) -> None:
    sent = job(unique, Update={"AutoRevert": True, "MinHealthyTime": 1500 * MS})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(changed(sent, lambda group, _: group.update(Meta={"a": "b"})))
    running = nomad.wait_deployed(unique, 1, "running")
    answer = nomad.api.put(f"/v1/deployment/fail/{running['ID']}", {}).expect(200).json()
    assert answer["RevertedJobVersion"] == 0
    failed = nomad.wait_deployed(unique, 1, "failed")
    assert failed["StatusDescription"] == "Deployment marked as failed - rolling back to job version 0"


def test_a_kill_timeout_ends_a_task_that_does_not_listen(nomad: Nomad, unique: str) -> None:
    stubborn = "trap '' INT; while true; do sleep 0.1; done"
    nomad.register(job(unique, task(stubborn, KillTimeout=500 * MS)))
    nomad.wait_allocation(unique, "running")
    begun = time.monotonic()
    nomad.api.delete(f"/v1/job/{quoted(unique)}").expect(200)
    gone = nomad.wait_allocation(unique, "complete")
    assert time.monotonic() - begun >= 0.5
    assert any(kind == "Killing" for kind, _ in events(gone))
