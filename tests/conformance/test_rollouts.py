"""Rolling deployments under each update option, and what interrupts them."""

import sys
from typing import Any

import pytest

from secretbinding.devstack.api import quoted
from tests.conformance.nomad import MS, SECOND, Nomad, changed, events, job, task

Json = dict[str, Any]

FAILING = "exit 3"


def anew(sent: Json, mark: str = "b") -> Json:
    """The same job with a change that replaces its allocations."""
    return changed(sent, lambda group, _: group.update(Meta={"a": mark}))


def failing(sent: Json) -> Json:
    return changed(sent, lambda _, one: one["Config"].update(args=["-c", FAILING]))


def versions_running(nomad: Nomad, job_id: str) -> list[int]:
    return [int(one["JobVersion"]) for one in nomad.running(job_id)]


def canaries(deployment: Json) -> Json:
    state: Json = deployment["TaskGroups"]["g"]
    return state


def wait_healthy_canaries(nomad: Nomad, job_id: str, version: int, count: int) -> Json:
    def look() -> Json | None:
        found = [one for one in nomad.deployments(job_id) if one["JobVersion"] == version]
        ready = found and canaries(found[0])["DesiredCanaries"] == count == canaries(found[0])["HealthyAllocs"]
        return found[0] if ready else None

    found: Json = nomad.wait("healthy canaries", look)
    return found


def promote(nomad: Nomad, deployment: Json, **how: Any) -> Any:
    body = {"DeploymentID": deployment["ID"], **(how or {"All": True})}
    return nomad.api.put(f"/v1/deployment/promote/{deployment['ID']}", body)


@pytest.mark.parametrize(("parallel", "least"), [(1, 2), (2, 1), (3, 0)])
def test_as_many_are_missing_at_once_as_max_parallel_says(nomad: Nomad, unique: str, parallel: int, least: int) -> None:
    sent = job(unique, count=3, Update={"MaxParallel": parallel})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(anew(sent))
    first = nomad.wait(
        "the first replacements", lambda: [one for one in nomad.allocations(unique) if one["JobVersion"] == 1]
    )
    assert len(first) == parallel
    assert sum(1 for one in nomad.running(unique) if one["JobVersion"] == 0) == least
    nomad.wait_deployed(unique, 1)


def test_stagger_does_not_slow_a_deployment_down(nomad: Nomad, unique: str) -> None:
    sent = job(unique, count=2, Update={"Stagger": 300 * SECOND})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(anew(sent))
    nomad.wait_deployed(unique, 1)


def test_an_update_block_of_the_job_goes_into_the_groups_and_a_groups_own_fields_win(nomad: Nomad, unique: str) -> None:
    sent = job(unique)
    own = sent["TaskGroups"][0].pop("Update")
    sent["Update"] = {**own, "MaxParallel": 3, "AutoRevert": True}
    sent["TaskGroups"].append({**sent["TaskGroups"][0], "Name": "h", "Update": {"MaxParallel": 2, "Canary": 1}})
    nomad.register(sent)
    first, second = nomad.job(unique)["TaskGroups"]
    assert (first["Update"]["MaxParallel"], first["Update"]["AutoRevert"], first["Update"]["Canary"]) == (3, True, 0)
    assert (second["Update"]["MaxParallel"], second["Update"]["AutoRevert"], second["Update"]["Canary"]) == (2, True, 1)
    nomad.wait_deployed(unique, 0)


def test_a_group_scaled_to_zero_has_no_part_in_the_deployment(nomad: Nomad, unique: str) -> None:
    sent = job(unique)
    sent["TaskGroups"].append({**sent["TaskGroups"][0], "Name": "h", "Count": 0})
    nomad.register(sent)
    assert set(nomad.wait_deployed(unique, 0)["TaskGroups"]) == {"g"}
    alone = job(f"{unique}-z", count=0)
    nomad.register(alone)
    nomad.wait(
        "the evaluation", lambda: nomad.api.get(f"/v1/job/{unique}-z/evaluations").json()[0]["Status"] == "complete"
    )
    assert nomad.deployments(f"{unique}-z") == []


def test_as_many_canaries_as_allocations_stand_beside_them_until_promoted(nomad: Nomad, unique: str) -> None:
    sent = job(unique, count=2, Update={"Canary": 2, "MaxParallel": 2})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(anew(sent))
    waiting = wait_healthy_canaries(nomad, unique, 1, 2)
    assert sorted(versions_running(nomad, unique)) == [0, 0, 1, 1]
    promote(nomad, waiting).expect(200)
    nomad.wait_deployed(unique, 1)
    nomad.wait("the new ones alone", lambda: versions_running(nomad, unique) == [1, 1])


def test_a_newer_version_takes_the_place_of_canaries_that_wait(nomad: Nomad, unique: str) -> None:
    sent = job(unique, count=2, Update={"Canary": 1})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(anew(sent))
    waiting = wait_healthy_canaries(nomad, unique, 1, 1)
    nomad.register(anew(sent, "c"))
    nomad.wait_deployed(unique, 1, "cancelled")
    newer = wait_healthy_canaries(nomad, unique, 2, 1)
    nomad.wait("the old canary to go", lambda: sorted(versions_running(nomad, unique)) == [0, 0, 2])
    refused = promote(nomad, waiting)
    assert (refused.status, refused.text) == (500, "can't promote terminal deployment")
    promote(nomad, newer).expect(200)
    nomad.wait_deployed(unique, 2)


def test_a_canary_that_fails_without_auto_revert_is_stopped_and_the_job_keeps_the_failed_version(
    nomad: Nomad, unique: str
) -> None:
    sent = job(unique, count=2, Update={"Canary": 1})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    before = {one["ID"] for one in nomad.running(unique)}
    nomad.register(failing(sent))
    nomad.wait_deployed(unique, 1, "failed")
    assert nomad.job(unique)["Version"] == 1
    nomad.wait("the canary to be given up", lambda: nomad.allocations(unique)[-1]["DesiredStatus"] == "stop")
    assert {one["ID"] for one in nomad.running(unique)} == before


def test_canaries_of_one_group_can_be_promoted_before_those_of_another(nomad: Nomad, unique: str) -> None:
    sent = job(unique, Update={"Canary": 1})
    sent["TaskGroups"].append({**sent["TaskGroups"][0], "Name": "h"})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    both = changed(sent, lambda group, _: group.update(Meta={"a": "b"}))
    both["TaskGroups"][1]["Meta"] = {"a": "b"}
    nomad.register(both)
    waiting = wait_healthy_canaries(nomad, unique, 1, 1)
    promote(nomad, waiting, Groups=["g"]).expect(200)
    states = nomad.deployments(unique)[-1]["TaskGroups"]
    assert (states["g"]["Promoted"], states["h"]["Promoted"]) == (True, False)
    nomad.wait("the other canary", lambda: nomad.deployments(unique)[-1]["TaskGroups"]["h"]["HealthyAllocs"] == 1)
    promote(nomad, waiting, Groups=["h"]).expect(200)
    nomad.wait_deployed(unique, 1)


def test_a_version_that_nomad_goes_back_to_is_stable_at_once_and_as_old_as_its_original(
    nomad: Nomad, unique: str
) -> None:
    sent = job(unique, Update={"AutoRevert": True, "MinHealthyTime": 1500 * MS})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(failing(sent))
    nomad.wait_deployed(unique, 1, "failed")
    reverted, failed, first = nomad.versions(unique)
    assert (reverted["Stable"], failed["Stable"], first["Stable"]) == (True, False, True)
    assert reverted["SubmitTime"] == first["SubmitTime"] < failed["SubmitTime"]
    nomad.wait_deployed(unique, 2, "running")
    nomad.wait_deployed(unique, 2)


def test_a_version_that_a_person_goes_back_to_is_new(nomad: Nomad, unique: str) -> None:
    sent = job(unique)
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(anew(sent))
    nomad.wait_deployed(unique, 1)
    nomad.api.put(f"/v1/job/{unique}/revert", {"JobID": unique, "JobVersion": 0}).expect(200)
    newest, before, _ = nomad.versions(unique)
    assert newest["SubmitTime"] > before["SubmitTime"]
    assert newest["Stable"] is False
    nomad.wait_deployed(unique, 2)


def test_health_that_is_set_by_hand_carries_a_deployment_to_its_end(nomad: Nomad, unique: str) -> None:
    sent = job(unique, Update={"HealthCheck": "manual"})
    nomad.register(sent)
    nomad.wait("an allocation", lambda: nomad.running(unique))
    deployment = nomad.wait_deployed(unique, 0, "running")
    path = f"/v1/deployment/allocation-health/{deployment['ID']}"
    empty = nomad.api.put(path, {"DeploymentID": deployment["ID"]})
    assert (empty.status, empty.text) == (500, "must specify at least one healthy/unhealthy allocation ID")
    body = {"DeploymentID": deployment["ID"], "HealthyAllocationIDs": [nomad.running(unique)[0]["ID"]]}
    assert nomad.api.put(path, body).expect(200).json()["RevertedJobVersion"] is None
    nomad.wait_deployed(unique, 0)
    late = nomad.api.put(path, body)
    assert (late.status, late.text) == (500, "can't set health of allocations for a terminal deployment")


def test_unhealthiness_that_is_set_by_hand_fails_and_reverts(nomad: Nomad, unique: str) -> None:
    sent = job(unique, Update={"HealthCheck": "manual", "AutoRevert": True})
    nomad.register(sent)
    nomad.wait("an allocation", lambda: nomad.running(unique))
    deployment = nomad.wait_deployed(unique, 0, "running")
    path = f"/v1/deployment/allocation-health/{deployment['ID']}"
    body = {"DeploymentID": deployment["ID"], "HealthyAllocationIDs": [nomad.running(unique)[0]["ID"]]}
    nomad.api.put(path, body).expect(200)
    nomad.wait_deployed(unique, 0)
    nomad.register(anew(sent))
    newer = nomad.wait("the new one", lambda: [one for one in nomad.running(unique) if one["JobVersion"] == 1])
    deployment = nomad.wait_deployed(unique, 1, "running")
    path = f"/v1/deployment/allocation-health/{deployment['ID']}"
    body = {"DeploymentID": deployment["ID"], "UnhealthyAllocationIDs": [newer[0]["ID"]]}
    nomad.api.put(path, body).expect(200)
    failed = nomad.wait_deployed(unique, 1, "failed")
    assert failed["StatusDescription"] == "Failed due to unhealthy allocations - rolling back to job version 0"


def test_a_paused_deployment_goes_on_when_it_is_resumed(nomad: Nomad, unique: str) -> None:
    sent = job(unique, count=2, Update={"MinHealthyTime": SECOND})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(anew(sent))
    deployment = nomad.wait_deployed(unique, 1, "running")
    path = f"/v1/deployment/pause/{deployment['ID']}"
    nomad.api.put(path, {"DeploymentID": deployment["ID"], "Pause": True}).expect(200)
    assert nomad.wait_deployed(unique, 1, "paused")["StatusDescription"] == "Deployment is paused"
    nomad.wait("the first to be healthy", lambda: canaries(nomad.deployments(unique)[-1])["HealthyAllocs"] == 1)
    assert sorted(versions_running(nomad, unique)) == [0, 1]
    nomad.api.put(path, {"DeploymentID": deployment["ID"], "Pause": False}).expect(200)
    nomad.wait_deployed(unique, 1)
    again = nomad.api.put(path, {"DeploymentID": deployment["ID"], "Pause": True})
    assert (again.status, again.text) == (500, "can't pause terminal deployment")


def test_scaling_is_refused_while_a_deployment_runs_and_carries_stability_along(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, Update={"MinHealthyTime": SECOND}))
    nomad.wait_deployed(unique, 0, "running")
    path, body = f"/v1/job/{unique}/scale", {"Count": 2, "Target": {"Group": "g"}}
    refused = nomad.api.put(path, body)
    assert (refused.status, refused.text) == (400, "job scaling blocked due to active deployment")
    nomad.wait_deployed(unique, 0)
    nomad.api.put(path, body).expect(200)
    assert [one["Stable"] for one in nomad.versions(unique)] == [True, True]
    nomad.wait_deployed(unique, 1)
    counted = nomad.api.get(path).expect(200).json()["TaskGroups"]["g"]
    assert (counted["Desired"], counted["Running"], counted["Healthy"]) == (2, 2, 2)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"Count": 3, "Target": {"Group": "x"}}, 400, 'task group "x" specified for scaling does not exist in job'),
        ({"Count": -1, "Target": {"Group": "g"}}, 400, "scaling action count can't be negative"),
        ({"Count": 2, "Target": {}}, 400, "missing task group name for scaling action"),
    ],
)
def test_scaling_that_makes_no_sense_is_refused(nomad: Nomad, unique: str, body: Json, status: int, text: str) -> None:
    nomad.register(job(unique, count=0))
    answer = nomad.api.put(f"/v1/job/{unique}/scale", body)
    assert (answer.status, answer.text) == (status, text)
    missing = nomad.api.put(f"/v1/job/{unique}-none/scale", {"Count": 1, "Target": {"Group": "g"}})
    assert (missing.status, missing.text) == (404, f'job "{unique}-none" not found')


def test_an_allocation_outside_a_deployment_gets_its_health_by_the_migrate_block(nomad: Nomad, unique: str) -> None:
    migrate = {"HealthCheck": "task_states", "MinHealthyTime": 200 * MS, "HealthyDeadline": 4 * SECOND}
    nomad.register(job(unique, Update={"MaxParallel": 0}, Migrate=migrate))

    def health() -> Any:
        rows = nomad.running(unique)
        return bool(rows) and (rows[0]["DeploymentStatus"] or {}).get("Healthy")

    nomad.wait("health", health)
    assert nomad.deployments(unique) == []


def test_an_allocation_that_is_stopped_by_a_person_is_placed_again(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique))
    nomad.wait_deployed(unique, 0)
    (before,) = nomad.running(unique)
    nomad.api.put(f"/v1/allocation/{before['ID']}/stop").expect(200)
    nomad.wait("another one", lambda: [one["ID"] for one in nomad.running(unique)] not in ([], [before["ID"]]))
    stopped = nomad.allocations(unique)[0]
    assert stopped["DesiredDescription"] == "alloc is being migrated"
    assert stopped["NextAllocation"] == nomad.running(unique)[0]["ID"]


def served(job_id: str, path: str, **update: Any) -> Json:
    """A job whose only check asks for `/ok`; its task has the file `path`."""
    serve = f"{sys.executable} -m http.server $NOMAD_PORT_http --bind 127.0.0.1"
    script = f"mkdir -p www; touch www/{path}; cd www; exec {serve}"
    check = {"Name": "up", "Type": "http", "Path": "/ok", "Interval": SECOND, "Timeout": SECOND}
    return job(
        job_id,
        task(script, Resources={"CPU": 20, "MemoryMB": 64}),
        Update={"HealthCheck": "checks", **update},
        Networks=[{"Mode": "host", "DynamicPorts": [{"Label": "http"}]}],
        Services=[{"Name": job_id, "PortLabel": "http", "Provider": "nomad", "Checks": [check]}],
    )


def test_a_service_check_of_nomads_own_decides_on_health(nomad: Nomad, unique: str) -> None:
    nomad.register(served(unique, "ok", AutoRevert=True))
    nomad.wait_deployed(unique, 0)
    stored = nomad.job(unique)["TaskGroups"][0]
    assert stored["Networks"] == [{"DynamicPorts": [{"HostNetwork": "default", "Label": "http"}], "Mode": "host"}]
    assert (stored["Services"][0]["OnUpdate"], stored["Services"][0]["Namespace"]) == ("require_healthy", "default")
    nomad.register(served(unique, "other", AutoRevert=True))
    failed = nomad.wait_deployed(unique, 1, "failed")
    assert failed["StatusDescription"] == "Failed due to unhealthy allocations - rolling back to job version 0"
    said = [message for one in nomad.allocations(unique) for kind, message in events(one) if kind == "Alloc Unhealthy"]
    assert said == ["Task not running for min_healthy_time of 200ms by healthy_deadline of 4s"]
    nomad.wait_deployed(unique, 2)


def test_a_check_that_looks_more_often_than_once_a_second_is_refused(nomad: Nomad, unique: str) -> None:
    hasty = served(unique, "ok")
    hasty["TaskGroups"][0]["Services"][0]["Checks"][0]["Interval"] = SECOND // 2
    refused = nomad.try_register(hasty)
    assert refused.status == 500
    assert "interval (500ms) cannot be lower than 1s" in refused.text


def test_purging_a_job_in_the_middle_of_its_deployment_leaves_nothing(nomad: Nomad, unique: str) -> None:
    sent = job(unique, count=2, Update={"MinHealthyTime": 3 * SECOND})
    nomad.register(sent)
    nomad.wait("allocations", lambda: len(nomad.running(unique)) == 2)
    nomad.purge(unique)
    assert nomad.api.get(f"/v1/job/{quoted(unique)}").status == 404
    assert nomad.deployments(unique) == []
    assert nomad.allocations(unique) == []
    nomad.register(job(unique))
    nomad.wait_deployed(unique, 0)


def test_the_row_of_a_child_tells_when_it_was_made(nomad: Nomad, unique: str) -> None:
    sent = {**job(unique, kind="batch"), "ParameterizedJob": {}}
    nomad.register(sent)
    registered = int(nomad.job(unique)["JobModifyIndex"])
    child = nomad.api.put(f"/v1/job/{unique}/dispatch", {}).expect(200).json()["DispatchedJobID"]
    (row,) = nomad.api.get("/v1/jobs", prefix=f"{unique}/").expect(200).json()
    assert (row["ID"], row["ParentID"]) == (child, unique)
    assert row["CreateIndex"] > registered
    nomad.register(changed(sent, lambda group, _: group.update(Meta={"a": "b"})))
    assert nomad.job(unique)["JobModifyIndex"] > row["CreateIndex"]
