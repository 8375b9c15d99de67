"""Rights: what a token without them is told. An empty list proves nothing; a 403 does."""

import threading
import time
from typing import Any

import pytest
import urllib3

from secretbinding.devstack.api import Api
from tests.conformance.nomad import job
from tests.support.servers import Stack

# The controller's own policy, see the facts about minimal rights.
CONTROLLER = """
namespace "default" {
  capabilities = ["list-jobs", "read-job", "submit-job"]
  variables {
    path "%(name)s/bindings/*" { capabilities = ["list", "read"] }
    path "%(name)s/status/*" { capabilities = ["list", "read", "write", "destroy"] }
  }
}
"""


def token(stack: Stack, name: str, rules: str) -> Api:
    """Requests with a new client token that has one policy."""
    stack.api.put(f"/v1/acl/policy/{name}", {"Name": name, "Rules": rules}).expect(200)
    made = stack.api.put("/v1/acl/token", {"Name": name, "Type": "client", "Policies": [name]}).expect(200).json()
    return Api(stack.address, {"X-Nomad-Token": made["SecretID"]})


@pytest.fixture
def powerless(stack: Stack, unique: str) -> Api:
    """A valid token that may do nothing of interest."""
    return token(stack, unique, 'namespace "elsewhere" { policy = "read" }')


def put_variable(stack: Stack, path: str) -> None:
    stack.api.put(f"/v1/var/{path}", {"Items": {"k": "v"}}).expect(200)


def test_a_list_of_variables_without_rights_is_200_and_empty(stack: Stack, powerless: Api, unique: str) -> None:
    put_variable(stack, f"{unique}/a")
    for namespace in ("default", "*"):
        answer = powerless.get("/v1/vars", prefix=unique, namespace=namespace)
        assert (answer.status, answer.json()) == (200, [])
    assert stack.api.get("/v1/vars", prefix=unique).json() != []


def test_a_list_of_jobs_without_rights_is_refused_but_empty_for_all_namespaces(
    stack: Stack, powerless: Api, unique: str
) -> None:
    stack.api.put("/v1/jobs", {"Job": job(unique, count=0)}).expect(200)
    assert powerless.get("/v1/jobs", prefix=unique).status == 403
    everywhere = powerless.get("/v1/jobs", prefix=unique, namespace="*")
    assert (everywhere.status, everywhere.json()) == (200, [])
    only_variables = 'namespace "default" { variables { path "x/*" { capabilities = ["read"] } } }'
    none_at_all = token(stack, f"{unique}-v", only_variables)
    assert none_at_all.get("/v1/jobs", prefix=unique, namespace="*").status == 403


def test_everything_else_without_rights_is_403(stack: Stack, powerless: Api, unique: str) -> None:
    stack.api.put("/v1/jobs", {"Job": job(unique, count=0)}).expect(200)
    refused = [
        powerless.get(f"/v1/job/{unique}"),
        powerless.get(f"/v1/job/{unique}/versions"),
        powerless.get(f"/v1/job/{unique}/allocations"),
        powerless.get(f"/v1/job/{unique}/deployments"),
        powerless.put("/v1/jobs", {"Job": job(unique, count=0)}),
        powerless.put(f"/v1/job/{unique}/plan", {"Job": job(unique, count=0)}),
        powerless.delete(f"/v1/job/{unique}"),
        powerless.put(f"/v1/job/{unique}/versions/x/tag", {"Version": 0}),
        powerless.put(f"/v1/var/{unique}", {"Items": {"a": "b"}}),
        powerless.delete(f"/v1/var/{unique}"),
        powerless.get("/v1/nodes"),
        powerless.get("/v1/agent/self"),
    ]
    assert {(one.path, one.status, one.text) for one in refused} == {
        (one.path, 403, "Permission denied") for one in refused
    }


def test_absence_of_a_variable_is_proven_only_with_the_right_to_read_it(
    stack: Stack, powerless: Api, unique: str
) -> None:
    allowed = token(stack, f"{unique}-r", CONTROLLER % {"name": unique})
    path = f"/v1/var/{unique}/bindings/none"
    assert (allowed.get(path).status, allowed.get(path).text) == (404, "variable not found")
    assert (powerless.get(path).status, powerless.get(path).text) == (403, "Permission denied")


def test_an_unknown_token_is_refused(stack: Stack) -> None:
    stranger = Api(stack.address, {"X-Nomad-Token": "11111111-1111-1111-1111-111111111111"})
    for path in ("/v1/jobs", "/v1/vars"):
        answer = stranger.get(path)
        assert (answer.status, answer.text) == (403, "Permission denied")


def test_the_controllers_policy_is_enough_for_its_work(stack: Stack, unique: str) -> None:
    controller = token(stack, unique, CONTROLLER % {"name": unique})
    put_variable(stack, f"{unique}/bindings/a")
    rows = controller.get("/v1/vars", prefix=f"{unique}/").expect(200).json()
    assert [one["Path"] for one in rows] == [f"{unique}/bindings/a"]
    controller.get(f"/v1/var/{unique}/bindings/a").expect(200)
    assert controller.put(f"/v1/var/{unique}/bindings/a", {"Items": {"a": "b"}}).status == 403
    controller.put(f"/v1/var/{unique}/status/a", {"Items": {"a": "b"}}, cas=0).expect(200)
    controller.delete(f"/v1/var/{unique}/status/a").expect(204)
    sent: dict[str, Any] = job(unique, count=0)
    controller.put("/v1/jobs", {"Job": sent, "EnforceIndex": True, "JobModifyIndex": 0}).expect(200)
    controller.put("/v1/jobs", {"Job": {**sent, "Meta": {"a": "b"}}}).expect(200)
    controller.put(f"/v1/job/{unique}/plan", {"Job": sent, "Diff": True}).expect(200)
    controller.put(f"/v1/job/{unique}/versions/x/tag", {"Version": 0}).expect(200)
    text = 'job "x" {\n  group "g" {\n    task "t" {\n      driver = "raw_exec"\n    }\n  }\n}\n'
    controller.put("/v1/jobs/parse", {"JobHCL": text}).expect(200)
    for name in ("versions", "deployments", "allocations", "evaluations"):
        controller.get(f"/v1/job/{unique}/{name}").expect(200)


def test_write_on_a_namespace_gives_no_right_to_variables(stack: Stack, unique: str) -> None:
    writer = token(stack, unique, 'namespace "default" { policy = "write" }')
    assert writer.put(f"/v1/var/{unique}", {"Items": {"a": "b"}}).status == 403
    assert writer.get(f"/v1/var/{unique}").status == 403


def test_a_conflict_hides_the_value_from_who_may_not_read_it(stack: Stack, unique: str) -> None:
    rules = f'namespace "default" {{ variables {{ path "{unique}" {{ capabilities = ["write"] }} }} }}'
    writer = token(stack, unique, rules)
    put_variable(stack, unique)
    refused = writer.put(f"/v1/var/{unique}", {"Items": {"a": "b"}}, cas=0)
    assert refused.status == 409
    assert "Items" not in refused.json() or refused.json()["Items"] is None


def test_an_event_stream_without_rights_is_open_and_silent(stack: Stack, powerless: Api, unique: str) -> None:
    seen: list[Any] = []
    stream = powerless.stream("/v1/event/stream", params={"topic": "Job"}, timeout_seconds=2.0)

    def read() -> None:
        try:
            seen.extend(stream)
        except urllib3.exceptions.HTTPError:
            seen.append("silence")

    reader = threading.Thread(target=read)
    reader.start()
    stack.api.put("/v1/jobs", {"Job": job(unique, count=0)}).expect(200)
    reader.join(10.0)
    assert seen in (["silence"], [])


def test_an_event_stream_with_rights_begins_with_a_heartbeat(stack: Stack, unique: str) -> None:
    controller = token(stack, unique, CONTROLLER % {"name": unique})
    stream = controller.stream("/v1/event/stream", params={"topic": "Job"}, timeout_seconds=15.0)
    assert next(stream) == {}
    stream.close()


def test_who_waits_for_variables_is_woken_by_those_that_he_may_not_see(
    stack: Stack, powerless: Api, unique: str
) -> None:
    put_variable(stack, f"{unique}/a")
    first = powerless.get("/v1/vars", prefix=f"{unique}/", namespace="default").expect(200)
    index = int(first.headers["X-Nomad-Index"])
    writing = threading.Timer(0.5, put_variable, (stack, f"{unique}/b"))
    writing.start()
    started = time.monotonic()
    answer = powerless.get("/v1/vars", prefix=f"{unique}/", namespace="default", index=index, wait="20s").expect(200)
    writing.join()
    assert answer.json() == []
    assert time.monotonic() - started < 15
