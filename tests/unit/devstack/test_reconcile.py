"""The simulator's scheduling rules as a pure function: a job, its allocations, its deployment."""

import copy
from typing import Any

from secretbinding.devstack.simulator.canonical import canonical_job
from secretbinding.devstack.simulator.durations import SECOND
from secretbinding.devstack.simulator.reconcile import Plan, reconcile

Json = dict[str, Any]
NOW = 1_000 * SECOND


def a_job(version: int = 0, count: int = 3, meta: str = "", **update: Any) -> Json:
    group = {"Name": "g", "Count": count, "Update": update, "Tasks": [{"Name": "t", "Driver": "raw_exec"}]}
    job = canonical_job({"ID": "j", "TaskGroups": [group], "Meta": {"m": meta} if meta else None})
    job.update(Version=version, CreateIndex=1, JobModifyIndex=10 + version)
    return job


def allocation(place: int, job: Json, **fields: Any) -> Json:
    row: Json = {
        "ID": f"a{place}-{job['Version']}",
        "Name": f"j.g[{place}]",
        "TaskGroup": "g",
        "Job": job,
        "CreateIndex": 20 + place,
        "ModifyTime": NOW,
        "DesiredStatus": "run",
        "ClientStatus": "running",
        "DeploymentID": "",
        "DeploymentStatus": None,
        "DesiredTransition": {"Migrate": None, "Reschedule": None},
        "NextAllocation": "",
        "FollowupEvalID": "",
        "RescheduleTracker": None,
    }
    return {**row, **fields}


def deployment(job: Json, **state: Any) -> Json:
    group: Json = {
        "DesiredTotal": 3,
        "HealthyAllocs": 0,
        "DesiredCanaries": 0,
        "PlacedCanaries": None,
        "Promoted": False,
        **state,
    }
    return {
        "ID": "d",
        "JobVersion": job["Version"],
        "JobCreateIndex": 1,
        "Status": "running",
        "TaskGroups": {"g": group},
    }


def plan(job: Json, rows: list[Json], latest: Json | None = None) -> Plan:
    return reconcile(job, rows, latest, now=NOW, evaluation="e")


def placed(found: Plan) -> list[str]:
    return [one.name for one in found.place]


def test_a_new_job_places_all_at_once_in_a_deployment() -> None:
    found = plan(a_job(), [])
    assert placed(found) == ["j.g[0]", "j.g[1]", "j.g[2]"]
    assert found.new_groups["g"]["DesiredTotal"] == 3


def test_a_destructive_change_replaces_as_many_as_max_parallel_allows() -> None:
    old, new = a_job(0), a_job(1, meta="x", MaxParallel=2)
    found = plan(new, [allocation(place, old) for place in range(3)])
    assert [row["Name"] for row, _ in found.stop] == placed(found) == ["j.g[0]", "j.g[1]"]
    assert (found.counts["g"]["DestructiveUpdate"], found.counts["g"]["Ignore"]) == (2, 1)


def test_no_more_are_replaced_while_the_last_one_is_not_healthy() -> None:
    old, new = a_job(0), a_job(1, meta="x")
    rows = [allocation(0, new, DeploymentID="d"), allocation(1, old), allocation(2, old)]
    assert placed(plan(new, rows, deployment(new))) == []
    rows[0]["DeploymentStatus"] = {"Healthy": True, "Canary": False}
    assert placed(plan(new, rows, deployment(new, HealthyAllocs=1))) == ["j.g[1]"]
    rows[0]["DeploymentStatus"] = {"Healthy": False, "Canary": False}
    assert placed(plan(new, rows, deployment(new))) == []


def test_an_in_place_change_updates_all_at_once() -> None:
    old, new = a_job(0), a_job(1, MaxParallel=1, MinHealthyTime=SECOND)
    found = plan(new, [allocation(place, old) for place in range(3)])
    assert [row["Name"] for row in found.inplace] == ["j.g[0]", "j.g[1]", "j.g[2]"]
    assert placed(found) == []


def test_nothing_is_to_do_when_all_is_as_it_should_be() -> None:
    job = a_job()
    rows = [allocation(place, job, DeploymentStatus={"Healthy": True, "Canary": False}) for place in range(3)]
    found = plan(job, rows)
    assert (placed(found), found.stop, found.inplace, found.new_groups) == ([], [], [], {})


def test_a_deployment_is_complete_when_as_many_as_desired_are_healthy() -> None:
    job = a_job()
    rows = [allocation(place, job, DeploymentID="d") for place in range(3)]
    assert plan(job, rows, deployment(job, HealthyAllocs=2)).complete is False
    assert plan(job, rows, deployment(job, HealthyAllocs=3)).complete is True


def test_a_failed_deployment_replaces_nothing_more() -> None:
    old, new = a_job(0), a_job(1, meta="x")
    failed = {**deployment(new), "Status": "failed"}
    found = plan(new, [allocation(place, old) for place in range(3)], failed)
    assert (placed(found), found.stop) == ([], [])


def test_canaries_are_added_beside_what_runs_until_they_are_promoted() -> None:
    old, new = a_job(0), a_job(1, meta="x", Canary=1)
    rows = [allocation(place, old) for place in range(3)]
    first = plan(new, rows)
    assert [(one.name, one.canary) for one in first.place] == [("j.g[0]", True)]
    assert first.stop == []
    canary = allocation(0, new, ID="c", DeploymentID="d", DeploymentStatus={"Healthy": True, "Canary": True})
    waiting = deployment(new, DesiredCanaries=1, PlacedCanaries=["c"], HealthyAllocs=1)
    assert placed(plan(new, [*rows, canary], waiting)) == []
    promoted = copy.deepcopy(waiting)
    promoted["TaskGroups"]["g"]["Promoted"] = True
    after = plan(new, [*rows, canary], promoted)
    assert [row["ID"] for row, _ in after.stop] == ["a0-0", "a1-0"]
    assert placed(after) == ["j.g[1]"]


def test_a_newer_version_cancels_the_deployment_and_its_canaries() -> None:
    old, middle, new = a_job(0), a_job(1, meta="x", Canary=1), a_job(2, meta="y", Canary=1)
    canary = allocation(0, middle, ID="c", DeploymentID="d", DeploymentStatus={"Healthy": None, "Canary": True})
    running = deployment(middle, DesiredCanaries=1, PlacedCanaries=["c"])
    found = plan(new, [*(allocation(place, old) for place in range(3)), canary], running)
    assert found.cancel_deployment == "Cancelled due to newer version of job"
    assert [row["ID"] for row, _ in found.stop] == ["c"]


def test_a_failed_allocation_waits_for_its_reschedule_delay() -> None:
    job = a_job(count=1)
    failed = allocation(0, job, ClientStatus="failed", _finished_at=NOW)
    found = plan(job, [failed])
    assert placed(found) == []
    assert [when - NOW for _, when in found.followups] == [30 * SECOND]
    due = {**failed, "_finished_at": NOW - 31 * SECOND}
    again = plan(job, [due])
    assert [(one.name, one.rescheduled) for one in again.place] == [("j.g[0]", True)]


def test_a_stopped_job_stops_everything() -> None:
    job = {**a_job(), "Stop": True}
    found = plan(job, [allocation(place, job) for place in range(2)])
    assert len(found.stop) == 2
    assert placed(found) == []


def test_finished_work_of_a_batch_job_holds_its_place_until_the_job_changes() -> None:
    job = {**a_job(count=1), "Type": "batch"}
    done = allocation(0, job, ClientStatus="complete")
    assert placed(plan(job, [done])) == []
    newer = {**job, "Version": 1, "JobModifyIndex": 11}
    assert placed(plan(newer, [done])) == ["j.g[0]"]
