"""The small API server and a real one answer alike, wherever a controller depends on the answer."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.support.kubeclient import KubernetesApi, eventually
from tests.support.kubernetes import Cluster

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
FINALIZER = "example.org/hold"


def definition(plural: str) -> Json:
    """A CustomResourceDefinition with one of each thing that a schema can do."""
    text = {"type": "string"}
    condition = {"type": "object", "required": ["type", "status"], "properties": {"type": text, "status": text}}
    entry = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": text, "size": {"type": "integer", "default": 3}},
    }
    by_name = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    spec = {
        "type": "object",
        "required": ["job"],
        "properties": {
            "job": text | {"pattern": "^[a-z]+$", "maxLength": 8, "minLength": 2},
            "suspend": {"type": "boolean", "default": False},
            "mode": text | {"enum": ["Rolling", "Manual"]},
            "count": {"type": "integer", "minimum": 1},
            "parts": {"type": "array", "maxItems": 2, "items": entry} | by_name,
            "env": {"type": "object", "maxProperties": 2, "additionalProperties": text},
        },
    }
    status = {
        "type": "object",
        "default": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
        "properties": {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "conditions": {"type": "array", "items": condition},
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": ".spec.job"}],
        "additionalPrinterColumns": [
            {"name": "Job", "type": "string", "jsonPath": ".spec.job"},
            {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        ],
        "schema": {
            "openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {"spec": spec, "status": status}}
        },
    }
    kind = plural.removesuffix("s").capitalize()
    names = {"plural": plural, "singular": plural.removesuffix("s"), "kind": kind, "listKind": f"{kind}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.org"},
        "spec": {"group": "example.org", "scope": "Namespaced", "names": names, "versions": [version]},
    }


class Probes:
    """Requests about the objects of the test's CRD, in one namespace."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self.api = api
        self.plural = "probes"
        self.base = f"/apis/example.org/v1/namespaces/{namespace}/{self.plural}"

    def create(self, name: str, query: str = "", **spec: Any) -> requests.Response:
        body = {
            "apiVersion": "example.org/v1",
            "kind": "Probe",
            "metadata": {"name": name},
            "spec": {"job": "web"} | spec,
        }
        return self.api.request("POST", self.base + query, body)

    def made(self, name: str, **spec: Any) -> Json:
        response = self.create(name, **spec)
        assert response.status_code == 201, response.text
        return dict(response.json())

    def patch(self, name: str, body: Any, *, content: str = MERGE, status: bool = False) -> requests.Response:
        return self.api.request("PATCH", f"{self.base}/{name}{'/status' if status else ''}", body, content)

    def patched(self, name: str, body: Any, **options: Any) -> Json:
        response = self.patch(name, body, **options)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def get(self, name: str) -> Json:
        return self.api.call("GET", f"{self.base}/{name}")

    def delete(self, name: str) -> requests.Response:
        return self.api.request("DELETE", f"{self.base}/{name}")

    def watch(self, query: str) -> Iterator[Json]:
        """Events of a watch, until the server ends it."""
        url = f"{self.api.url}{self.base}?watch=true&{query}"
        with self.api._session.get(url, stream=True, timeout=30) as response:
            assert response.status_code == 200, response.text
            for line in response.iter_lines():
                if line:
                    yield json.loads(line)


@pytest.fixture
def probes(kubernetes_api: Cluster, tenant: str) -> Probes:
    kubernetes_api.api.define(definition("probes"))
    return Probes(kubernetes_api.api, tenant)


def refusal(response: requests.Response) -> tuple[int, str]:
    body = response.json()
    assert body["kind"] == "Status"
    assert body["code"] == response.status_code
    return response.status_code, body["reason"]


def test_a_new_object_has_defaults_and_the_default_status_whatever_status_was_sent(probes: Probes) -> None:
    body = {
        "metadata": {"name": "a"},
        "spec": {"job": "web", "parts": [{"name": "x"}]},
        "status": {"observedGeneration": 9},
    }
    made = probes.api.call("POST", probes.base, body | {"apiVersion": "example.org/v1", "kind": "Probe"})

    assert made["spec"] == {"job": "web", "suspend": False, "parts": [{"name": "x", "size": 3}]}
    assert made["status"] == {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    assert made["metadata"]["generation"] == 1
    assert {"uid", "resourceVersion", "creationTimestamp"} <= made["metadata"].keys()
    assert probes.get("a")["status"] == made["status"]


def test_a_name_taken_twice_is_a_conflict_that_says_already_exists(probes: Probes) -> None:
    probes.made("a")

    assert refusal(probes.create("a")) == (409, "AlreadyExists")


def test_an_object_in_a_namespace_that_is_not_there_is_not_found(probes: Probes) -> None:
    probes.base = "/apis/example.org/v1/namespaces/nowhere-to-be-found/probes"

    assert refusal(probes.create("a")) == (404, "NotFound")


@pytest.mark.parametrize(
    "spec",
    [
        {"job": "TOO-LARGE"},
        {"job": "web\n"},
        {"job": "x"},
        {"job": 3},
        {"job": None},
        {"mode": "Sometimes"},
        {"count": 0},
        {"count": "1"},
        {"parts": [{"name": "a"}, {"name": "a"}]},
        {"parts": [{"name": "a"}, {"name": "b"}, {"name": "c"}]},
        {"parts": [{"size": 1}]},
        {"env": {"A": 1}},
        {"env": {"A": "1", "B": "2", "C": "3"}},
    ],
    ids=lambda spec: json.dumps(spec),
)
def test_what_the_schema_forbids_is_invalid(probes: Probes, spec: Json) -> None:
    response = probes.create("a", **spec)

    assert refusal(response) == (422, "Invalid")
    assert response.json()["message"].startswith('Probe.example.org "a" is invalid: ')
    assert response.json()["details"]["causes"][0]["field"].startswith("spec.")


def test_an_unknown_field_is_refused_when_validation_is_strict_and_dropped_otherwise(probes: Probes) -> None:
    strict = probes.create("a", "?fieldValidation=Strict", typo=1)
    ignored = probes.create("b", "?fieldValidation=Ignore", typo=1)

    assert refusal(strict) == (400, "BadRequest")
    assert 'unknown field "spec.typo"' in strict.json()["message"]
    assert "typo" not in ignored.json()["spec"]


def test_only_a_change_of_the_spec_makes_a_new_generation(probes: Probes) -> None:
    made = probes.made("a")

    labelled = probes.patched("a", {"metadata": {"labels": {"x": "y"}, "finalizers": [FINALIZER]}})
    observed = probes.patched("a", {"status": {"observedGeneration": 1}}, status=True)
    changed = probes.patched("a", {"spec": {"suspend": True}})

    assert [item["metadata"]["generation"] for item in (made, labelled, observed, changed)] == [1, 1, 1, 2]
    versions = [int(item["metadata"]["resourceVersion"]) for item in (made, labelled, observed, changed)]
    assert versions == sorted(set(versions))
    probes.patched("a", {"metadata": {"finalizers": None}})


def test_a_write_that_changes_nothing_makes_no_new_version(probes: Probes) -> None:
    probes.made("a")
    made = probes.patched("a", {"spec": {"count": 2}})  # a default of the status is only stored with a first change

    again = probes.patched("a", {"spec": {"suspend": False}, "metadata": {"labels": None}})
    status = probes.patched("a", {"status": made["status"]}, status=True)

    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert status["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_the_status_endpoint_changes_nothing_but_the_status(probes: Probes) -> None:
    probes.made("a")

    patch = {"metadata": {"finalizers": [FINALIZER], "labels": {"x": "y"}}, "spec": {"suspend": True}}
    patched = probes.patched("a", patch | {"status": {"observedGeneration": 1}}, status=True)

    assert patched["spec"]["suspend"] is False
    assert "finalizers" not in patched["metadata"]
    assert "labels" not in patched["metadata"]
    assert patched["status"] == {"conditions": [{"type": "Ready", "status": "Unknown"}], "observedGeneration": 1}


def test_the_main_endpoint_leaves_the_status_alone(probes: Probes) -> None:
    made = probes.made("a")

    patched = probes.patched("a", {"spec": {"suspend": True}, "status": {"observedGeneration": 7}})

    assert patched["status"] == made["status"]


@pytest.mark.parametrize("status", [False, True], ids=["main", "status"])
def test_a_patch_with_an_old_resource_version_is_a_conflict(probes: Probes, status: bool) -> None:
    made = probes.made("a")
    probes.patched("a", {"metadata": {"labels": {"x": "y"}}})
    old = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}

    response = probes.patch("a", old | {"spec": {"suspend": True}, "status": {"observedGeneration": 1}}, status=status)

    assert refusal(response) == (409, "Conflict")
    assert "the object has been modified" in response.json()["message"]


def test_a_patch_with_another_uid_is_invalid(probes: Probes) -> None:
    probes.made("a")

    response = probes.patch("a", {"metadata": {"uid": str(uuid.uuid4())}, "spec": {"suspend": True}})

    assert refusal(response) == (422, "Invalid")


def test_a_replacement_needs_the_resource_version_it_replaces(probes: Probes) -> None:
    made = probes.made("a")
    changed = made | {"spec": {"job": "other"}}
    without = made | {"metadata": {"name": "a"}}

    assert refusal(probes.api.request("PUT", f"{probes.base}/a", without)) == (422, "Invalid")
    assert probes.api.call("PUT", f"{probes.base}/a", changed)["spec"]["job"] == "other"
    assert refusal(probes.api.request("PUT", f"{probes.base}/a", changed)) == (409, "Conflict")


def test_a_json_patch_whose_test_fails_is_invalid_and_not_a_conflict(probes: Probes) -> None:
    probes.made("a")
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "1"},
        {"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]},
    ]

    response = probes.patch("a", operations, content=JSON_PATCH)

    assert refusal(response) == (422, "Invalid")
    assert "finalizers" not in probes.get("a")["metadata"]


def test_a_json_patch_adds_replaces_and_removes(probes: Probes) -> None:
    probes.made("a", env={"A": "1", "B": "2"}, parts=[{"name": "x"}])

    patched = probes.patched(
        "a",
        [
            {"op": "replace", "path": "/spec/env/A", "value": "3"},
            {"op": "remove", "path": "/spec/env/B"},
            {"op": "add", "path": "/spec/parts/-", "value": {"name": "y"}},
            {"op": "add", "path": "/metadata/annotations", "value": {"example.org/time": "now"}},
        ],
        content=JSON_PATCH,
    )

    assert patched["spec"]["env"] == {"A": "3"}
    assert [part["name"] for part in patched["spec"]["parts"]] == ["x", "y"]
    assert patched["metadata"]["annotations"]["example.org/time"] == "now"


def test_server_side_apply_creates_and_then_merges_lists_by_their_keys(probes: Probes) -> None:
    base = {"apiVersion": "example.org/v1", "kind": "Probe", "metadata": {"name": "a"}}

    def apply(spec: Json, manager: str) -> Json:
        path = f"{probes.base}/a?fieldManager={manager}&force=true"
        return probes.api.call("PATCH", path, base | {"spec": spec}, "application/apply-patch+yaml")

    apply({"job": "web", "parts": [{"name": "x", "size": 1}]}, "one")
    applied = apply({"job": "web", "parts": [{"name": "y"}]}, "two")

    assert applied["spec"]["parts"] == [{"name": "x", "size": 1}, {"name": "y", "size": 3}]


def test_deleting_without_finalizers_removes_at_once(probes: Probes) -> None:
    made = probes.made("a")

    response = probes.delete("a")

    assert response.json()["kind"] == "Status"
    assert response.json()["details"]["uid"] == made["metadata"]["uid"]
    assert refusal(probes.delete("a")) == (404, "NotFound")


def test_deleting_with_a_finalizer_marks_and_removing_the_finalizer_removes(probes: Probes) -> None:
    probes.made("a")
    probes.patched("a", {"metadata": {"finalizers": [FINALIZER]}})

    marked = probes.delete("a").json()
    again = probes.delete("a").json()

    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["generation"] == 2
    assert again["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
    added = probes.patch("a", {"metadata": {"finalizers": [FINALIZER, "example.org/more"]}})
    assert refusal(added) == (422, "Invalid")
    assert probes.patched("a", {"status": {"observedGeneration": 2}}, status=True)["status"]["observedGeneration"] == 2
    probes.patched("a", {"metadata": {"finalizers": None}})
    assert refusal(probes.delete("a")) == (404, "NotFound")


def test_a_watch_resumes_after_a_version_and_sees_the_finalizer_on_the_last_event(probes: Probes) -> None:
    made = probes.made("a")
    probes.patched("a", {"metadata": {"finalizers": [FINALIZER]}})
    probes.delete("a")
    probes.patched("a", {"metadata": {"finalizers": None}})
    probes.made("b")

    events = list(probes.watch(f"resourceVersion={made['metadata']['resourceVersion']}&timeoutSeconds=1"))

    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("MODIFIED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
        ("ADDED", "b"),
    ]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert events[2]["object"]["metadata"]["finalizers"] == [FINALIZER]


def test_a_watch_without_a_version_begins_with_what_is_there(probes: Probes) -> None:
    probes.made("a")

    events = list(probes.watch("timeoutSeconds=1"))

    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [("ADDED", "a")]


def test_a_time_limit_that_is_no_whole_number_is_refused(probes: Probes) -> None:
    assert refusal(probes.api.request("GET", f"{probes.base}?watch=true&timeoutSeconds=1.0")) == (400, "BadRequest")


def test_a_watch_from_a_version_long_gone_is_told_so(probes: Probes) -> None:
    events = list(probes.watch("resourceVersion=1&timeoutSeconds=1"))

    assert events[0]["type"] == "ERROR"
    assert events[0]["object"]["code"] == 410


def test_a_watch_with_initial_events_ends_them_with_a_bookmark(probes: Probes) -> None:
    probes.made("a")
    query = "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=3"

    events = probes.watch(query)

    assert next(events)["type"] == "ADDED"
    bookmark = next(events)
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_leaving_a_selection_is_a_deletion_to_the_watch_of_that_selection(probes: Probes) -> None:
    made = probes.made("a")
    probes.patched("a", {"spec": {"job": "other"}})

    query = f"fieldSelector=spec.job=web&resourceVersion={made['metadata']['resourceVersion']}&timeoutSeconds=1"
    events = list(probes.watch(query))

    assert [event["type"] for event in events] == ["DELETED"]


def test_a_list_is_selected_by_labels_and_by_fields_and_comes_in_pages(probes: Probes) -> None:
    for name, job in (("a", "web"), ("b", "api"), ("c", "web")):
        probes.made(name, job=job)
    probes.patched("a", {"metadata": {"labels": {"tier": "front"}}})

    def names(query: str) -> list[str]:
        return [item["metadata"]["name"] for item in probes.api.call("GET", f"{probes.base}?{query}")["items"]]

    assert names("fieldSelector=spec.job=web") == ["a", "c"]
    assert names("fieldSelector=metadata.name=b") == ["b"]
    assert names("labelSelector=tier=front") == ["a"]
    assert names("labelSelector=tier!=front") == ["b", "c"]
    assert names("labelSelector=tier%20in%20(front,back)") == ["a"]
    page = probes.api.call("GET", f"{probes.base}?limit=2")
    rest = probes.api.call("GET", f"{probes.base}?limit=2&continue={page['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in page["items"] + rest["items"]] == ["a", "b", "c"]
    assert not rest["metadata"].get("continue")
    assert refusal(probes.api.request("GET", f"{probes.base}?fieldSelector=spec.mode=Manual")) == (400, "BadRequest")


def test_discovery_names_the_resource_and_its_status(probes: Probes) -> None:
    served = {item["name"]: item for item in probes.api.call("GET", "/apis/example.org/v1")["resources"]}

    assert served["probes"]["kind"] == "Probe"
    assert served["probes"]["namespaced"] is True
    assert {"get", "list", "watch", "create", "update", "patch", "delete"} <= set(served["probes"]["verbs"])
    assert "probes/status" in served
    groups = {group["name"] for group in probes.api.call("GET", "/apis")["groups"]}
    assert {"example.org", "events.k8s.io", "coordination.k8s.io"} <= groups
    assert probes.api.request("GET", "/apis/example.org/v1/namespaces/default/nothing").status_code == 404


def test_an_event_is_the_same_in_both_event_groups_and_needs_its_fields(probes: Probes, tenant: str) -> None:
    made = probes.made("a")
    regarding = {"apiVersion": "example.org/v1", "kind": "Probe", "name": "a", "namespace": tenant}
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "a-", "namespace": tenant},
        "eventTime": "2030-01-01T00:00:00.000000Z",
        "reportingController": "example.org/controller",
        "reportingInstance": "one",
        "action": "Sync",
        "reason": "Synced",
        "type": "Normal",
        "note": "all is well",
        "regarding": regarding | {"uid": made["metadata"]["uid"]},
    }
    path = f"/apis/events.k8s.io/v1/namespaces/{tenant}/events"

    name = probes.api.call("POST", path, event)["metadata"]["name"]

    seen = probes.api.call("GET", f"/api/v1/namespaces/{tenant}/events/{name}")
    assert (seen["message"], seen["involvedObject"]["name"], seen["type"]) == ("all is well", "a", "Normal")
    incomplete = {key: value for key, value in event.items() if key != "reportingController"}
    assert refusal(probes.api.request("POST", path, incomplete)) == (422, "Invalid")
    too_long = event | {"note": "x" * 1025}
    assert refusal(probes.api.request("POST", path, too_long)) == (422, "Invalid")


def test_a_lease_is_an_object_like_any_other(kubernetes_api: Cluster, tenant: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{tenant}/leases"
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "leader"},
        "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15},
    }

    made = kubernetes_api.api.call("POST", path, lease)
    taken = kubernetes_api.api.call("PUT", f"{path}/leader", made | {"spec": made["spec"] | {"holderIdentity": "two"}})

    assert taken["spec"]["holderIdentity"] == "two"
    assert refusal(kubernetes_api.api.request("PUT", f"{path}/leader", made)) == (409, "Conflict")


def test_an_object_in_a_deleted_namespace_goes_once_its_finalizer_is_gone(kubernetes_api: Cluster, tenant: str) -> None:
    kubernetes_api.api.define(definition("probes"))
    probes = Probes(kubernetes_api.api, tenant)
    probes.made("a")
    probes.patched("a", {"metadata": {"finalizers": [FINALIZER]}})

    kubernetes_api.api.call("DELETE", f"/api/v1/namespaces/{tenant}")

    eventually(lambda: probes.get("a")["metadata"].get("deletionTimestamp"), "the object is marked")
    assert refusal(probes.create("b")) == (403, "Forbidden")
    probes.patched("a", {"metadata": {"finalizers": None}})
    gone = f"/api/v1/namespaces/{tenant}"
    eventually(lambda: kubernetes_api.api.request("GET", gone).status_code == 404, "the namespace is gone", 60)
