"""The CRD and the corpus on a real API server."""

import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from secretbinding.models.status import SecretBindingStatus
from tests.corpus import Bad, Good, bad, good
from tests.support.kubeclient import path_of
from tests.support.kubernetes import Cluster

pytestmark = pytest.mark.real_kubernetes


@pytest.fixture(scope="module")
def namespace(real_kubernetes: Cluster) -> str:
    """A namespace for all tests here."""
    name = f"tenant-{uuid.uuid4().hex[:8]}"
    real_kubernetes.api.create_namespace(name)
    return name


def create(
    cluster: Cluster, namespace: str, obj: Mapping[str, Any], *, dry: bool = True
) -> tuple[bool, dict[str, Any]]:
    """Whether the server takes the object, and its answer; by strict field validation."""
    metadata = obj.get("metadata") or {}
    moved = {**obj, "metadata": {**metadata, "namespace": namespace}}
    query = "?fieldValidation=Strict" + ("&dryRun=All" if dry else "")
    response = cluster.api.request("POST", path_of(namespace) + query, moved)
    return response.ok, response.json()


@pytest.mark.parametrize("manifest", good(), ids=lambda manifest: manifest.name)
def test_a_good_manifest_is_accepted(real_kubernetes: Cluster, namespace: str, manifest: Good) -> None:
    for obj in manifest.objects():
        # An object that comes from an API carries what only the server may set.
        metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
        taken, answer = create(real_kubernetes, namespace, {**obj, "metadata": metadata})
        assert taken, answer.get("message")


@pytest.mark.parametrize(
    "manifest", [one for one in bad() if one.server != "not asked"], ids=lambda manifest: manifest.name
)
def test_a_bad_manifest_is_judged_as_its_head_says(real_kubernetes: Cluster, namespace: str, manifest: Bad) -> None:
    (obj,) = manifest.objects()
    taken, answer = create(real_kubernetes, namespace, obj)
    assert taken == (manifest.server == "accepts"), answer.get("message")


def test_a_new_object_is_pending_without_any_write_of_the_controller(real_kubernetes: Cluster, namespace: str) -> None:
    smallest = next(manifest for manifest in good() if manifest.name == "smallest")
    taken, answer = create(real_kubernetes, namespace, smallest.objects()[0], dry=False)
    assert taken, answer.get("message")
    ready = SecretBindingStatus.read(answer["status"]).condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("Unknown", "Pending")
    assert answer["spec"]["auth"] == {"method": "JWT"}


def test_the_job_of_an_object_cannot_be_changed(real_kubernetes: Cluster, namespace: str) -> None:
    smallest = next(manifest for manifest in good() if manifest.name == "smallest").objects()[0]
    obj = {**smallest, "metadata": {"name": "fixed"}}
    assert create(real_kubernetes, namespace, obj, dry=False)[0]
    response = real_kubernetes.api.request(
        "PATCH",
        path_of(namespace, "fixed"),
        {"spec": {"workload": {"job": "other"}}},
        "application/merge-patch+json",
    )
    assert response.status_code == 422
    assert "delete this SecretBinding and create another" in response.json()["message"]


def test_objects_can_be_selected_by_their_job(real_kubernetes: Cluster, namespace: str) -> None:
    smallest = next(manifest for manifest in good() if manifest.name == "smallest").objects()[0]
    spec = {**smallest["spec"], "workload": {"job": "selected"}}
    assert create(real_kubernetes, namespace, {**smallest, "metadata": {"name": "chosen"}, "spec": spec}, dry=False)[0]
    found = real_kubernetes.api.call("GET", path_of(namespace) + "?fieldSelector=spec.workload.job%3Dselected")
    assert [item["metadata"]["name"] for item in found["items"]] == ["chosen"]


def test_a_status_in_the_models_shape_is_stored_as_it_is(real_kubernetes: Cluster, namespace: str) -> None:
    smallest = next(manifest for manifest in good() if manifest.name == "smallest").objects()[0]
    assert create(real_kubernetes, namespace, {**smallest, "metadata": {"name": "told"}}, dry=False)[0]
    status = SecretBindingStatus.read(
        {
            "observedGeneration": 1,
            "conditions": [
                {
                    "type": "Ready",
                    "status": "False",
                    "reason": "JobNotFound",
                    "message": "",
                    "lastTransitionTime": "2026-01-31T02:00:00Z",
                }
            ],
            "secrets": [{"name": "one", "servingVersion": "7"}],
            "policies": ["p"],
            "roles": ["r"],
            "job": {"namespace": "default", "id": "app", "version": 3},
            "deployment": {"id": "d", "status": "running"},
            "failed": {"state": "s", "secretVersions": {"one": "8"}, "jobVersion": 3, "at": "2026-01-31T02:00:00Z"},
        }
    )
    assert status != SecretBindingStatus()
    response = real_kubernetes.api.patch_binding(namespace, "told", {"status": status.to_json()}, subresource="status")
    assert SecretBindingStatus.read(response["status"]) == status
