"""Jobs on several nodes: system jobs and how they roll, and what a drain moves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.nomad import MS, SECOND, Nomad, changed, job, task
from tests.support.servers import Stack

Json = dict[str, Any]

FAILING = "exit 3"
# Three nodes, one after the other, on a busy machine.
LONG = 40.0


@pytest.fixture
def stack(cluster: Stack) -> Stack:
    return cluster


@pytest.fixture
def drained(nomad: Nomad) -> Iterator[list[str]]:
    """Nodes that a test puts in here are given back afterwards."""
    nodes: list[str] = []
    yield nodes
    for node in nodes:
        nomad.api.put(f"/v1/node/{node}/drain", {"DrainSpec": None, "MarkEligible": True}).expect(200)
        nomad.api.put(f"/v1/node/{node}/eligibility", {"Eligibility": "eligible"}).expect(200)


def anew(sent: Json, mark: str = "b") -> Json:
    return changed(sent, lambda group, _: group.update(Meta={"a": mark}))


def failing(sent: Json) -> Json:
    return changed(sent, lambda _, one: one["Config"].update(args=["-c", FAILING]))


def versions_running(nomad: Nomad, job_id: str) -> list[int]:
    return sorted(int(one["JobVersion"]) for one in nomad.running(job_id))


def system_job(nomad: Nomad, unique: str, **update: Any) -> Json:
    """A system job that runs on all three nodes."""
    sent = job(unique, kind="system", Update=update)
    nomad.register(sent)
    nomad.wait("an allocation on each node", lambda: versions_running(nomad, unique) == [0, 0, 0])
    if update.get("MaxParallel") != 0:
        nomad.wait_deployed(unique, 0)
    return sent


def fewest_running(nomad: Nomad, job_id: str, version: int) -> int:
    """Wait for the deployment of that version; how many ran at the worst moment."""
    fewest = 3

    def done() -> bool:
        nonlocal fewest
        fewest = min(fewest, len(nomad.running(job_id)))
        return any(one["JobVersion"] == version and one["Status"] == "successful" for one in nomad.deployments(job_id))

    nomad.wait("the deployment", done, LONG)
    return fewest


def test_nodes_are_listed_and_read(nomad: Nomad) -> None:
    rows = nomad.api.get("/v1/nodes").expect(200).json()
    assert {"second", "third"} <= {one["Name"] for one in rows}
    assert [(one["Status"], one["SchedulingEligibility"], one["Drain"]) for one in rows] == [
        ("ready", "eligible", False)
    ] * 3
    one = nomad.api.get(f"/v1/node/{rows[0]['ID']}").expect(200).json()
    assert (one["Name"], one["DrainStrategy"]) == (rows[0]["Name"], None)
    missing = nomad.api.get("/v1/node/00000000-0000-0000-0000-000000000000")
    assert (missing.status, missing.text) == (404, "node not found")
    odd = nomad.api.put(f"/v1/node/{rows[0]['ID']}/eligibility", {"Eligibility": "maybe"})
    assert (odd.status, odd.text) == (500, 'invalid scheduling eligibility "maybe"')


@pytest.mark.parametrize(("parallel", "least"), [(1, 2), (2, 1)])
def test_a_system_job_rolls_over_the_nodes_as_max_parallel_says(
    nomad: Nomad, unique: str, parallel: int, least: int
) -> None:
    sent = system_job(nomad, unique, MaxParallel=parallel)
    assert len({one["NodeID"] for one in nomad.running(unique)}) == 3
    nomad.register(anew(sent))
    assert fewest_running(nomad, unique, 1) >= least
    state = nomad.deployments(unique)[-1]["TaskGroups"]["g"]
    assert (state["DesiredTotal"], state["HealthyAllocs"]) == (3, 3)


def test_a_system_job_with_max_parallel_zero_is_left_half_way_until_it_is_evaluated_again(
    nomad: Nomad, unique: str
) -> None:
    sent = system_job(nomad, unique, MaxParallel=0)
    nomad.register(anew(sent))
    for expected in ([0, 0, 1], [0, 1, 1], [1, 1, 1]):
        nomad.wait(f"versions {expected}", lambda want=expected: versions_running(nomad, unique) == want)
        nomad.api.put(f"/v1/job/{unique}/evaluate", {"JobID": unique}).expect(200)
    assert nomad.deployments(unique) == []


def test_canaries_of_a_system_job_are_a_share_of_its_nodes_in_per_cent(nomad: Nomad, unique: str) -> None:
    sent = system_job(nomad, unique, Canary=50, MaxParallel=2)
    nomad.register(anew(sent))

    def waiting() -> Json | None:
        found: Json = nomad.deployments(unique)[-1]
        asks = found["StatusDescription"] == "Deployment is running but requires manual promotion"
        return found if asks and found["TaskGroups"]["g"]["HealthyAllocs"] == 2 else None

    found = nomad.wait("healthy canaries", waiting)
    assert found["TaskGroups"]["g"]["DesiredCanaries"] == 2
    assert versions_running(nomad, unique) == [0, 1, 1]
    nomad.api.put(f"/v1/deployment/promote/{found['ID']}", {"DeploymentID": found["ID"], "All": True}).expect(200)
    nomad.wait_deployed(unique, 1)
    assert versions_running(nomad, unique) == [1, 1, 1]


def test_a_failing_version_of_a_system_job_goes_on_to_further_nodes_where_it_is_not_reverted(
    nomad: Nomad, unique: str
) -> None:
    sent = system_job(nomad, unique, AutoRevert=False)
    nomad.register(failing(sent))
    nomad.wait_deployed(unique, 1, "failed")

    def hit() -> bool:
        return len({one["NodeID"] for one in nomad.allocations(unique) if one["JobVersion"] == 1}) >= 2

    nomad.wait("a second node to be hit", hit)


def test_a_system_jobs_node_stays_empty_after_a_failure_until_the_job_is_evaluated(
    nomad: Nomad, unique: str, tmp_path: Path
) -> None:
    fail = tmp_path / "fail"
    script = f"while [ ! -e {fail} ]; do sleep 0.1; done; exit 3"
    policy = {"Attempts": 1, "Interval": 60 * SECOND, "Delay": 100 * MS, "Mode": "fail"}
    sent = job(unique, task(script), kind="system", RestartPolicy=policy)
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    # What the end of the deployment has Nomad look at must not see the failures.
    path = f"/v1/job/{unique}/evaluations"
    nomad.wait("quiet", lambda: {one["Status"] for one in nomad.api.get(path).expect().json()} == {"complete"})
    fail.touch()
    nomad.wait("all to fail", lambda: [one["ClientStatus"] for one in nomad.allocations(unique)] == ["failed"] * 3)
    nomad.api.put(f"/v1/job/{unique}/evaluate", {"JobID": unique}).expect(200)
    nomad.wait("another on each node", lambda: len(nomad.allocations(unique)) == 6)


def test_after_a_failed_deployment_of_a_system_job_no_version_is_deployed_and_each_stops_half_way(
    nomad: Nomad, unique: str
) -> None:
    sent = system_job(nomad, unique, AutoRevert=True)
    nomad.register(failing(sent))
    failed = nomad.wait_deployed(unique, 1, "failed")
    assert failed["StatusDescription"] == "Failed due to unhealthy allocations - rolling back to job version 0"
    nomad.wait("the old content", lambda: versions_running(nomad, unique) == [2, 2, 2])
    nomad.register(anew(sent))
    nomad.wait("one to be replaced", lambda: versions_running(nomad, unique) == [2, 2, 3])

    def settled() -> bool:
        rows = [one for one in nomad.allocations(unique) if one["JobVersion"] == 3]
        return bool(rows) and all((one["DeploymentStatus"] or {}).get("Healthy") for one in rows)

    nomad.wait("its health", settled)
    assert versions_running(nomad, unique) == [2, 2, 3]
    assert [one["JobVersion"] for one in nomad.deployments(unique)] == [0, 1]
    nomad.api.put(f"/v1/job/{unique}/evaluate", {"JobID": unique}).expect(200)
    nomad.wait("the next", lambda: versions_running(nomad, unique) == [2, 3, 3])


def test_a_sysbatch_job_runs_once_on_each_node_and_again_when_it_changes(nomad: Nomad, unique: str) -> None:
    sent = job(unique, task("echo done"), kind="sysbatch")
    nomad.register(sent)
    nomad.wait("all to end", lambda: [one["ClientStatus"] for one in nomad.allocations(unique)] == ["complete"] * 3)
    evaluation = nomad.register(sent)["EvalID"]
    nomad.wait(
        "the evaluation", lambda: nomad.api.get(f"/v1/evaluation/{evaluation}").expect().json()["Status"] == "complete"
    )
    assert len(nomad.allocations(unique)) == 3
    nomad.register(anew(sent))
    nomad.wait("a second run", lambda: len(nomad.allocations(unique)) == 6)
    assert nomad.deployments(unique) == []


def drain(nomad: Nomad, node: str, **spec: Any) -> None:
    body = {"DrainSpec": {"Deadline": 20 * SECOND, "IgnoreSystemJobs": False, **spec}}
    nomad.api.put(f"/v1/node/{node}/drain", body).expect(200)


def is_drained(nomad: Nomad, node: str) -> bool:
    found = nomad.api.get(f"/v1/node/{node}").expect(200).json()
    return found["DrainStrategy"] is None and found["SchedulingEligibility"] == "ineligible"


def test_a_drain_moves_a_service_and_ends_a_system_jobs_allocation(
    nomad: Nomad, unique: str, drained: list[str]
) -> None:
    migrate = {
        "MaxParallel": 1,
        "HealthCheck": "task_states",
        "MinHealthyTime": 200 * MS,
        "HealthyDeadline": 5 * SECOND,
    }
    system = f"{unique}-system"
    system_job(nomad, system)
    nomad.register(job(unique, count=2, Migrate=migrate))
    nomad.wait_deployed(unique, 0)
    moved = nomad.running(unique)[0]
    node = moved["NodeID"]
    drained.append(node)
    drain(nomad, node)
    nomad.wait("the end of the drain", lambda: is_drained(nomad, node), LONG)
    nomad.wait("two elsewhere", lambda: len(nomad.running(unique)) == 2)
    assert node not in {one["NodeID"] for one in nomad.running(unique)}
    before = next(one for one in nomad.allocations(unique) if one["ID"] == moved["ID"])
    assert (before["DesiredStatus"], before["DesiredDescription"]) == ("stop", "alloc is being migrated")
    assert [one["JobVersion"] for one in nomad.deployments(unique)] == [0]
    nomad.wait("two of the system job", lambda: versions_running(nomad, system) == [0, 0])
    gone = next(one for one in nomad.allocations(system) if one["NodeID"] == node)
    assert gone["DesiredDescription"] == "alloc not needed as node is tainted"
    nomad.api.put(f"/v1/node/{node}/eligibility", {"Eligibility": "eligible"}).expect(200)
    nomad.wait("the third again", lambda: versions_running(nomad, system) == [0, 0, 0])


def test_a_drain_in_the_middle_of_a_deployment_brings_the_newest_version_elsewhere(
    nomad: Nomad, unique: str, drained: list[str]
) -> None:
    migrate = {
        "MaxParallel": 1,
        "HealthCheck": "task_states",
        "MinHealthyTime": 200 * MS,
        "HealthyDeadline": 5 * SECOND,
    }
    sent = job(unique, count=3, Migrate=migrate, Update={"MinHealthyTime": SECOND, "ProgressDeadline": 30 * SECOND})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    last = nomad.running(unique)[-1]["NodeID"]
    nomad.register(anew(sent))
    nomad.wait_deployed(unique, 1, "running")
    drained.append(last)
    drain(nomad, last)
    nomad.wait("the end of the drain", lambda: is_drained(nomad, last), LONG)
    nomad.wait("all new", lambda: versions_running(nomad, unique) == [1, 1, 1], LONG)
    nomad.wait_deployed(unique, 1)
    assert last not in {one["NodeID"] for one in nomad.running(unique)}


def test_an_allocation_without_a_node_waits_for_one(nomad: Nomad, unique: str, drained: list[str]) -> None:
    for one in nomad.api.get("/v1/nodes").expect(200).json():
        drained.append(one["ID"])
        nomad.api.put(f"/v1/node/{one['ID']}/eligibility", {"Eligibility": "ineligible"}).expect(200)
    evaluation = nomad.register(job(unique))["EvalID"]
    nomad.wait(
        "the evaluation", lambda: nomad.api.get(f"/v1/evaluation/{evaluation}").expect().json()["Status"] == "complete"
    )
    assert nomad.allocations(unique) == []
    nomad.api.put(f"/v1/node/{drained[0]}/eligibility", {"Eligibility": "eligible"}).expect(200)
    nomad.wait_deployed(unique, 0)
    assert nomad.running(unique)[0]["NodeID"] == drained[0]
