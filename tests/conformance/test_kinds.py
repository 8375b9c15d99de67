"""Jobs that are not services: batch, system, periodic, parameterized; several tasks with a lifecycle."""

from secretbinding.devstack.api import quoted
from tests.conformance.nomad import Nomad, changed, job, task


def test_a_batch_job_runs_once_and_is_dead(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, task("echo done"), kind="batch"))
    finished = nomad.wait_allocation(unique, "complete")
    assert nomad.logs(finished) == "done\n"
    nomad.wait("the job to be dead", lambda: nomad.job(unique)["Status"] == "dead")
    assert nomad.deployments(unique) == []
    assert nomad.job(unique)["Stable"] is False


def test_registering_a_finished_batch_job_again_unchanged_runs_nothing(nomad: Nomad, unique: str) -> None:
    sent = job(unique, task("echo done"), kind="batch")
    nomad.register(sent)
    nomad.wait_allocation(unique, "complete")
    evaluation = nomad.register(sent)["EvalID"]
    nomad.wait(
        "the evaluation", lambda: nomad.api.get(f"/v1/evaluation/{evaluation}").expect().json()["Status"] == "complete"
    )
    assert len(nomad.allocations(unique)) == 1


def test_a_changed_batch_job_runs_its_finished_work_again(nomad: Nomad, unique: str) -> None:
    sent = job(unique, task("echo done"), kind="batch")
    nomad.register(sent)
    nomad.wait_allocation(unique, "complete")
    nomad.register(changed(sent, lambda group, _: group.update(Meta={"a": "b"})))
    nomad.wait("a second run", lambda: len(nomad.allocations(unique)) == 2)


def test_a_changed_batch_job_replaces_running_work(nomad: Nomad, unique: str) -> None:
    sent = job(unique, kind="batch")
    nomad.register(sent)
    nomad.wait_allocation(unique, "running")
    nomad.register(changed(sent, lambda group, _: group.update(Meta={"a": "b"})))
    nomad.wait("the new run", lambda: [one["JobVersion"] for one in nomad.running(unique)] == [1])


def test_a_system_job_is_deployed_on_the_node_and_rolls(nomad: Nomad, unique: str) -> None:
    sent = job(unique, kind="system")
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    assert [one["Name"] for one in nomad.running(unique)] == [f"{unique}.g[0]"]
    stored = nomad.job(unique)["TaskGroups"][0]
    assert (stored["ReschedulePolicy"], stored["Migrate"]) == (None, None)
    nomad.register(changed(sent, lambda group, _: group.update(Meta={"a": "b"})))
    nomad.wait_deployed(unique, 1)
    nomad.wait("the new version", lambda: [one["JobVersion"] for one in nomad.running(unique)] == [1])


def test_a_failing_version_of_a_system_job_is_reverted(nomad: Nomad, unique: str) -> None:
    sent = job(unique, kind="system", Update={"AutoRevert": True})
    nomad.register(sent)
    nomad.wait_deployed(unique, 0)
    nomad.register(changed(sent, lambda _, one: one["Config"].update(args=["-c", "sleep 0.1; exit 1"])))
    nomad.wait_deployed(unique, 1, "failed")
    nomad.wait("the old content", lambda: [one["JobVersion"] for one in nomad.running(unique)] == [2])
    assert [one["JobVersion"] for one in nomad.deployments(unique)] == [0, 1], "the revert is not deployed"


def test_a_periodic_job_starts_children_only(nomad: Nomad, unique: str) -> None:
    sent = {**job(unique, task("echo child"), kind="batch"), "Periodic": {"Specs": ["0 0 1 1 *"]}}
    answer = nomad.register(sent)
    assert answer["EvalID"] == ""
    assert nomad.job(unique)["Status"] == "running"
    nomad.api.put(f"/v1/job/{unique}/periodic/force").expect(200)

    def child() -> str:
        stubs = nomad.api.get("/v1/jobs", prefix=f"{unique}/periodic-").json()
        return str(stubs[0]["ID"]) if stubs else ""

    found = nomad.wait("a child", child)
    assert nomad.job(found)["ParentID"] == unique
    assert nomad.logs(nomad.wait_allocation(found, "complete")) == "child\n"
    assert nomad.allocations(unique) == []


def test_a_parameterized_job_is_dispatched_with_its_meta(nomad: Nomad, unique: str) -> None:
    sent = {
        **job(unique, task("echo $NOMAD_META_who"), kind="batch"),
        "ParameterizedJob": {"MetaRequired": ["who"]},
    }
    nomad.register(sent)
    refused = nomad.api.put(f"/v1/job/{unique}/dispatch", {"Meta": {}})
    assert (refused.status, refused.text) == (500, "Dispatch did not provide required meta keys: [who]")
    answer = nomad.api.put(f"/v1/job/{unique}/dispatch", {"Meta": {"who": "me"}}).expect(200).json()
    child = answer["DispatchedJobID"]
    assert child.startswith(f"{unique}/dispatch-")
    assert nomad.logs(nomad.wait_allocation(child, "complete")) == "me\n"
    assert nomad.job(child)["ParentID"] == unique
    assert nomad.job(child)["Dispatched"] is True


def test_a_prestart_task_runs_before_the_main_one_and_a_sidecar_beside_it(nomad: Nomad, unique: str) -> None:
    first = task("echo first > ../alloc/data/order", Name="init", Lifecycle={"Hook": "prestart"})
    beside = task("exec sleep 3000", Name="side", Lifecycle={"Hook": "prestart", "Sidecar": True})
    main = task("cat ../alloc/data/order; exec sleep 3000")
    nomad.register(job(unique, first, beside, main))
    nomad.wait_deployed(unique, 0)
    running = nomad.running(unique)[0]
    assert nomad.logs(running) == "first\n"
    assert {name: one["State"] for name, one in running["TaskStates"].items()} == {
        "init": "dead",
        "side": "running",
        "t": "running",
    }
    nomad.api.delete(f"/v1/job/{quoted(unique)}").expect(200)
    nomad.wait_allocation(unique, "complete")


def test_a_failed_task_takes_its_siblings_along(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique, task("sleep 0.3; exit 1"), task(Name="other")))
    failed = nomad.wait_allocation(unique, "failed")
    nomad.wait("the sibling to end", lambda: nomad.allocations(unique)[0]["TaskStates"]["other"]["State"] == "dead")
    assert failed["TaskStates"]["t"]["Failed"] is True


def test_an_allocation_restarted_in_place_keeps_its_id(nomad: Nomad, unique: str) -> None:
    nomad.register(job(unique))
    nomad.wait_deployed(unique, 0)
    running = nomad.running(unique)[0]
    nomad.api.put(f"/v1/client/allocation/{running['ID']}/restart", {"TaskName": "t"}).expect(200)
    nomad.wait("a restart", lambda: nomad.allocations(unique)[0]["TaskStates"]["t"]["Restarts"] == 1)
    nomad.wait_allocation(unique, "running")
    assert len(nomad.allocations(unique)) == 1
