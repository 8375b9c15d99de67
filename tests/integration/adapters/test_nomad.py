"""The Nomad adapter against a real agent with ACLs."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from secretbinding.adapters.connection import NomadConnection
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.devstack.nomad_agent import NomadAgent
from secretbinding.errors import Conflict, Denied, NotFound, Rejected, Unavailable
from secretbinding.ports import Event, Json
from tests.support.servers import Stack

pytestmark = pytest.mark.real_nomad

ODD_IDS = ["plain", "team/app", "a.b~c:d@e$f", "x//..", "..", "é%2F?#&+", "a/plan/b"]


def until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        threading.Event().wait(0.05)


def token_with(agent: NomadAgent, name: str, rules: str) -> str:
    agent.api.put(f"/v1/acl/policy/{name}", {"Name": name, "Rules": rules}).expect(200)
    answer = agent.api.put("/v1/acl/token", {"Name": name, "Type": "client", "Policies": [name]}).expect(200)
    return str(answer.json()["SecretID"])


@pytest.fixture
def bare(agent: NomadAgent) -> NomadAdapter:
    """An adapter whose token may do nothing."""
    rules = 'namespace "elsewhere" { capabilities = ["list-jobs"] }'
    return NomadAdapter(NomadConnection(address=agent.address, token=token_with(agent, "bare", rules)))


@pytest.fixture
def job(nomad: NomadAdapter, job_file: Path, request: pytest.FixtureRequest) -> Json:
    """A job of its own for each test; nothing is placed, since its constraint never holds."""
    job = nomad.parse_hcl(job_file.read_text(), "count = 1")
    job["ID"] = job["Name"] = f"job-{abs(hash(request.node.nodeid)):x}"
    job["Constraints"] = [{"LTarget": "${attr.kernel.name}", "Operand": "=", "RTarget": "none"}]
    return job


def changed(job: Json, value: str) -> Json:
    return {**job, "Meta": {"changed": value}}


def test_hcl_is_parsed_with_its_variables_and_canonicalized(nomad: NomadAdapter, job_file: Path) -> None:
    job = nomad.parse_hcl(job_file.read_text(), "count = 7")
    assert (job["ID"], job["TaskGroups"][0]["Count"], job["Namespace"]) == ("sleeper", 7, "default")


def test_hcl_that_does_not_parse_is_rejected_with_line_and_column(nomad: NomadAdapter) -> None:
    with pytest.raises(Rejected, match=r"input\.hcl:1,9-10"):
        nomad.parse_hcl('job "x" {')


@pytest.mark.parametrize("job_id", ODD_IDS)
def test_a_job_is_addressed_whatever_its_id(nomad: NomadAdapter, job: Json, job_id: str) -> None:
    job["ID"] = job_id
    assert nomad.job("default", job_id) is None
    assert nomad.plan(job)["Diff"]["Type"] == "Added"
    nomad.register(job, modify_index=0)
    stored = nomad.job("default", job_id)
    assert stored is not None
    assert stored["ID"] == job_id
    assert [version["ID"] for version in nomad.versions("default", job_id)] == [job_id]
    until(lambda: len(nomad.evaluations("default", job_id)) > 0)
    assert nomad.allocations("default", job_id) == []
    assert nomad.submission("default", job_id, 0) is None
    assert job_id in [stub["ID"] for stub in nomad.list_jobs("default")]
    assert job_id in [stub["ID"] for stub in nomad.list_jobs("*")]


@pytest.mark.parametrize("job_id", ["a/versions", "a/plan", "app/deployment", "a/periodic/force", "a/versions/b/tag"])
def test_a_job_whose_id_ends_like_an_endpoint_is_refused_instead_of_read_wrongly(
    nomad: NomadAdapter, job_id: str
) -> None:
    with pytest.raises(Rejected, match="give the job another ID"):
        nomad.job("default", job_id)


def test_what_is_not_there_is_none_or_empty(nomad: NomadAdapter) -> None:
    assert nomad.job("default", "nothing") is None
    assert nomad.job("no-such-namespace", "nothing") is None
    assert nomad.submission("default", "nothing", 0) is None
    assert list(nomad.versions("default", "nothing")) == []
    assert list(nomad.allocations("default", "nothing")) == []
    assert list(nomad.deployments("default", "nothing")) == []
    assert list(nomad.evaluations("default", "nothing")) == []
    assert nomad.read_variable("default", "nothing") is None
    nomad.delete_variable("default", "nothing")
    nomad.untag_version("default", "nothing", "tag")


def test_a_registration_is_bound_to_the_index_that_was_read(nomad: NomadAdapter, job: Json) -> None:
    with pytest.raises(Conflict, match="job does not exist"):
        nomad.register(job, modify_index=7)
    first = nomad.register(job, modify_index=0)
    assert first.evaluation
    with pytest.raises(Conflict, match="job already exists"):
        nomad.register(job, modify_index=0)
    second = nomad.register(changed(job, "1"), modify_index=first.job_modify_index)
    assert second.job_modify_index > first.job_modify_index
    with pytest.raises(Conflict, match="conflicting job modify index"):
        nomad.register(changed(job, "2"), modify_index=first.job_modify_index)
    assert [version["Version"] for version in nomad.versions("default", job["ID"])] == [1, 0]


def test_the_source_of_a_version_is_carried_along(nomad: NomadAdapter, job: Json) -> None:
    submission = {"Source": 'job "x" {}', "Format": "hcl2", "VariableFlags": {"a": "b c"}, "Variables": "d = 1"}
    nomad.register(job, modify_index=0, submission=submission)
    stored = nomad.submission("default", job["ID"], 0)
    assert stored is not None
    assert {key: stored[key] for key in submission} == submission
    assert nomad.submission("default", job["ID"], 1) is None


def test_counts_are_preserved_when_asked(nomad: NomadAdapter, job: Json) -> None:
    first = nomad.register(job, modify_index=0)
    job["TaskGroups"][0]["Count"] = 3
    nomad.register(job, modify_index=first.job_modify_index, preserve_counts=True)
    stored = nomad.job("default", job["ID"])
    assert stored is not None
    assert stored["TaskGroups"][0]["Count"] == 1


def test_a_job_that_nomad_refuses_is_rejected_with_nomads_words(nomad: NomadAdapter, job: Json) -> None:
    job["TaskGroups"][0]["Tasks"][0]["Driver"] = ""
    for ask in (lambda: nomad.register(job, modify_index=0), lambda: nomad.plan(job)):
        with pytest.raises(Rejected, match="Missing task driver"):
            ask()
    with pytest.raises(Rejected, match="nonexistent namespace"):
        nomad.register({**job, "Namespace": "nowhere"}, modify_index=0)
    with pytest.raises(Rejected, match="contains a space"):
        nomad.register({**job, "ID": "a b"}, modify_index=0)


def test_plan_tells_what_registering_would_do(nomad: NomadAdapter, job: Json) -> None:
    nomad.register(job, modify_index=0)
    plan = nomad.plan(changed(job, "1"))
    assert plan["Diff"]["Type"] == "Edited"
    assert "DesiredTGUpdates" in plan["Annotations"]
    assert plan["JobModifyIndex"] > 0


def test_a_job_is_evaluated_again_and_stays_as_it_is(nomad: NomadAdapter, job: Json) -> None:
    registered = nomad.register(job, modify_index=0)
    before = {item["ID"] for item in nomad.evaluations("default", job["ID"])}
    nomad.evaluate("default", job["ID"])
    assert {item["ID"] for item in nomad.evaluations("default", job["ID"])} > before
    stored = nomad.job("default", job["ID"])
    assert stored is not None
    assert stored["JobModifyIndex"] == registered.job_modify_index


def test_a_version_is_tagged_retagged_and_untagged(nomad: NomadAdapter, job: Json) -> None:
    first = nomad.register(job, modify_index=0)
    nomad.register(changed(job, "1"), modify_index=first.job_modify_index)
    nomad.tag_version("default", job["ID"], 0, "bad.v 1", "why")
    nomad.tag_version("default", job["ID"], 0, "bad.v 1", "why not")
    tags = [version["VersionTag"] for version in nomad.versions("default", job["ID"])]
    assert tags[0] is None
    assert (tags[1]["Name"], tags[1]["Description"]) == ("bad.v 1", "why not")
    with pytest.raises(Rejected, match="already exists on a different version"):
        nomad.tag_version("default", job["ID"], 1, "bad.v 1", "why")
    with pytest.raises(NotFound, match="version 9 not found"):
        nomad.tag_version("default", job["ID"], 9, "other", "why")
    nomad.untag_version("default", job["ID"], "bad.v 1")
    nomad.untag_version("default", job["ID"], "bad.v 1")
    assert [version["VersionTag"] for version in nomad.versions("default", job["ID"])] == [None, None]


def test_a_tag_that_nomad_cannot_address_is_rejected(nomad: NomadAdapter) -> None:
    for job_id, tag in (("team/app", "tag"), ("app", "a/b")):
        with pytest.raises(Rejected, match="slash"):
            nomad.tag_version("default", job_id, 0, tag, "")
        nomad.untag_version("default", job_id, tag)


def test_allocations_and_deployments_are_told_until_the_job_is_purged(
    nomad: NomadAdapter, agent: NomadAgent, job: Json
) -> None:
    job["Constraints"] = []
    job["TaskGroups"][0]["Update"] = {"MaxParallel": 1, "MinHealthyTime": 0, "HealthCheck": "task_states"}
    first = nomad.register(job, modify_index=0)
    until(lambda: [each["ClientStatus"] for each in nomad.allocations("default", job["ID"])] == ["running"])
    job["TaskGroups"][0]["Tasks"][0]["Env"] = {"A": "1"}
    nomad.register(job, modify_index=first.job_modify_index)
    until(lambda: len(nomad.deployments("default", job["ID"])) == 2)
    assert [each["JobVersion"] for each in nomad.deployments("default", job["ID"])] == [1, 0]

    agent.api.delete(f"/v1/job/{job['ID']}").expect(200)
    stopped = nomad.job("default", job["ID"])
    assert stopped is not None
    assert stopped["Stop"]
    assert len(nomad.allocations("default", job["ID"])) >= 1

    agent.api.delete(f"/v1/job/{job['ID']}", purge="true").expect(200)
    assert nomad.job("default", job["ID"]) is None
    assert list(nomad.allocations("default", job["ID"])) == []
    assert list(nomad.deployments("default", job["ID"])) == []
    assert len(nomad.evaluations("default", job["ID"])) > 0


def test_variables_are_written_read_listed_and_deleted(nomad: NomadAdapter) -> None:
    path, items = "adapters/a-b_c~d/e", {"user": "ü", "odd name": "line\nbreak"}
    written = nomad.write_variable("default", path, items)
    assert (written.namespace, written.path, written.items) == ("default", path, items)
    assert nomad.read_variable("default", path) == written
    index, rows = nomad.list_variables("default", "adapters/a")
    assert [(row.path, row.modify_index) for row in rows] == [(path, written.modify_index)]
    assert index >= written.modify_index
    nomad.delete_variable("default", path)
    assert nomad.read_variable("default", path) is None


def test_a_variable_write_is_bound_to_the_index_that_was_read(nomad: NomadAdapter) -> None:
    first = nomad.write_variable("default", "adapters/cas", {"k": "one"}, cas=0)
    with pytest.raises(Conflict):
        nomad.write_variable("default", "adapters/cas", {"k": "two"}, cas=0)
    second = nomad.write_variable("default", "adapters/cas", {"k": "two"}, cas=first.modify_index)
    with pytest.raises(Conflict):
        nomad.write_variable("default", "adapters/cas", {"k": "three"}, cas=first.modify_index)
    assert nomad.read_variable("default", "adapters/cas") == second


@pytest.mark.parametrize(
    ("path", "items", "words"),
    [
        ("adapters/empty", {}, "Items"),
        ("adapters/large", {"k": "v" * 70_000}, "limited to 64KiB"),
        ("nomad/reserved", {"k": "value"}, "top-level"),
        ("adapters/with.dot", {"k": "value"}, "is not a path"),
        ("adapters/../x", {"k": "value"}, "is not a path"),
    ],
)
def test_a_variable_that_nomad_refuses_is_rejected_with_the_reason(
    nomad: NomadAdapter, path: str, items: dict[str, str], words: str
) -> None:
    with pytest.raises(Rejected, match=words):
        nomad.write_variable("default", path, items)


def test_a_blocking_list_waits_for_a_write_and_not_longer_than_told(nomad: NomadAdapter) -> None:
    nomad.write_variable("default", "adapters/blocking", {"k": "1"})
    index, _ = nomad.list_variables("default", "adapters/blocking")
    started = time.monotonic()
    assert nomad.list_variables("default", "adapters/blocking", index=index, wait_seconds=0.5)[0] == index
    assert 0.4 < time.monotonic() - started < 5
    with ThreadPoolExecutor(1) as worker:
        waiting = worker.submit(nomad.list_variables, "default", "adapters/blocking", index=index, wait_seconds=60.0)
        written = nomad.write_variable("default", "adapters/blocking", {"k": "2"})
        new_index, rows = waiting.result(timeout=10)
    assert new_index > index
    assert [row.modify_index for row in rows] == [written.modify_index]


def test_a_list_without_rows_has_an_index_that_blocks(nomad: NomadAdapter) -> None:
    index, rows = nomad.list_variables("default", "nothing-below-here")
    assert (index >= 1, list(rows)) == (True, [])


def test_events_of_a_registration_come_at_once(nomad: NomadAdapter, job: Json) -> None:
    seen: list[Event] = []
    with nomad.events(["Job:*"], "default") as stream:
        assert next(stream).topic == "", "Nomad sends a heartbeat first"
        registered = nomad.register(job, modify_index=0)
        for event in stream:
            seen.append(event)
            if event.key == job["ID"]:
                break
    assert seen[-1].topic == "Job"
    assert seen[-1].namespace == "default"
    assert seen[-1].index >= registered.job_modify_index
    assert seen[-1].payload["Job"]["ID"] == job["ID"]


def test_the_region_of_a_single_region_is_found(nomad: NomadAdapter) -> None:
    assert nomad.region() == "global"


def test_a_region_that_is_not_there_says_what_to_check(agent: NomadAgent) -> None:
    nomad = NomadAdapter(NomadConnection(address=agent.address, token=agent.token, region="nowhere", retry_seconds=0.0))
    with pytest.raises(Unavailable, match="NOMAD_REGION"):
        nomad.job("default", "app")


VARIABLE = {"k": "value"}


@pytest.mark.parametrize(
    ("method", "arguments", "capability"),
    [
        ("job", ("default", "app"), "read-job"),
        ("submission", ("default", "app", 0), "read-job"),
        ("versions", ("default", "app"), "read-job"),
        ("deployments", ("default", "app"), "read-job"),
        ("allocations", ("default", "app"), "read-job"),
        ("evaluations", ("default", "app"), "read-job"),
        ("list_jobs", ("default",), "list-jobs"),
        ("untag_version", ("default", "app", "tag"), "submit-job"),
        ("parse_hcl", ('job "x" {}',), "parse-job"),
        ("read_variable", ("default", "adapters/x"), "read"),
        ("write_variable", ("default", "adapters/x", VARIABLE), "write"),
        ("delete_variable", ("default", "adapters/x"), "destroy"),
    ],
)
def test_a_denial_says_which_capability_and_adding_it_is_enough(
    agent: NomadAgent, bare: NomadAdapter, method: str, arguments: tuple[Any, ...], capability: str
) -> None:
    with pytest.raises(Denied) as caught:
        getattr(bare, method)(*arguments)
    assert f"capability `{capability}`" in caught.value.message
    assert "namespace default" in caught.value.message
    rules = caught.value.remedy.split("`")[1]
    granted = NomadConnection(address=agent.address, token=token_with(agent, "just-that", rules))
    getattr(NomadAdapter(granted), method)(*arguments)


def test_registering_planning_and_evaluating_without_the_right_name_it(bare: NomadAdapter, job: Json) -> None:
    for ask in (
        lambda: bare.register(job, modify_index=0),
        lambda: bare.plan(job),
        lambda: bare.evaluate("default", job["ID"]),
    ):
        with pytest.raises(Denied, match="`submit-job`"):
            ask()


def test_a_list_of_variables_without_rights_is_empty_and_proves_nothing(
    bare: NomadAdapter, nomad: NomadAdapter
) -> None:
    nomad.write_variable("default", "adapters/hidden", VARIABLE)
    assert list(bare.list_variables("default", "adapters/")[1]) == []


def test_a_wrong_token_and_no_token_are_denied(agent: NomadAgent) -> None:
    for token in ("", "wrong", "11111111-1111-1111-1111-111111111111"):
        with pytest.raises(Denied):
            NomadAdapter(NomadConnection(address=agent.address, token=token)).job("default", "app")


def test_sixteen_threads_work_through_one_adapter(nomad: NomadAdapter) -> None:
    def round_trip(number: int) -> bool:
        path = f"adapters/threads/{number}"
        nomad.write_variable("default", path, {"k": str(number)})
        variable = nomad.read_variable("default", path)
        nomad.delete_variable("default", path)
        return variable is not None and variable.items == {"k": str(number)}

    with ThreadPoolExecutor(16) as workers:
        assert all(workers.map(round_trip, range(100)))


def test_the_leader_is_told_without_a_token(agent: NomadAgent) -> None:
    stranger = NomadAdapter(NomadConnection(address=agent.address))
    assert ":" in stranger.leader()


def test_the_own_token_tells_when_it_ends(agent: NomadAgent, nomad: NomadAdapter) -> None:
    assert nomad.token_expiry() is None, "a management token lives for ever"
    body = {"Name": "short", "Type": "management", "ExpirationTTL": 3600 * 1_000_000_000}
    made = agent.api.put("/v1/acl/token", body).expect(200).json()
    expiry = NomadAdapter(NomadConnection(address=agent.address, token=made["SecretID"])).token_expiry()
    assert expiry is not None
    assert timedelta(minutes=59) < expiry - datetime.now(UTC) <= timedelta(hours=1)


def test_a_token_that_nomad_does_not_know_is_denied_without_being_repeated(agent: NomadAgent) -> None:
    unknown = "11111111-2222-3333-4444-555555555555"
    with pytest.raises(Denied) as denied:
        NomadAdapter(NomadConnection(address=agent.address, token=unknown)).token_expiry()
    assert unknown not in str(denied.value)


def test_without_access_control_no_token_ends(open_nomad: Stack) -> None:
    for token in ("", "11111111-2222-3333-4444-555555555555"):
        assert NomadAdapter(NomadConnection(address=open_nomad.address, token=token)).token_expiry() is None
