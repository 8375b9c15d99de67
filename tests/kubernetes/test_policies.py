"""Policies and labels of a Kubernetes API: the small server and a real one."""

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.errors import Unavailable
from secretbinding.models.crd import POLICY_PLURAL, policy_crd
from secretbinding.models.policy import SecretBindingPolicy
from secretbinding.models.reasons import Reason
from secretbinding.sources.kubernetes import KubernetesSource
from secretbinding.sources.policies import KubernetesPolicies
from tests.support.kubeclient import eventually
from tests.support.kubernetes import Cluster, a_binding
from tests.support.servers import Stack
from tests.support.world import World, a_job, wait_until

Json = dict[str, Any]

PLACE = f"/apis/nomad-vault.io/v1alpha1/{POLICY_PLURAL}"


class Board:
    """What a source of policies told last."""

    def __init__(self) -> None:
        self.names: list[str] | None = None
        self.unreadable: list[str] = []
        self.why = ""
        self.told = threading.Event()

    def deliver(self, source: str, policies: Sequence[SecretBindingPolicy], unreadable: Sequence[str]) -> None:
        self.unreadable = list(unreadable)
        self.names = sorted(policy.metadata.name for policy in policies)

    def failed(self, source: str, why: str) -> None:
        self.why = why


def policy(name: str, **spec: Any) -> Json:
    body: Json = {
        "tenants": [{"names": ["*"]}],
        "workloads": [{"namespaces": ["*"]}],
        "secrets": [{"mounts": ["secret"], "paths": ["*"]}],
        **spec,
    }
    head = {"apiVersion": "nomad-vault.io/v1alpha1", "kind": "SecretBindingPolicy"}
    return {**head, "metadata": {"name": name}, "spec": body}


@pytest.fixture
def cluster(kubernetes_api: Cluster) -> Iterator[Cluster]:
    """With the definition of policies, and without a policy before and after."""
    kubernetes_api.api.define(policy_crd())
    yield kubernetes_api
    for item in kubernetes_api.api.call("GET", PLACE)["items"]:
        kubernetes_api.api.call("DELETE", f"{PLACE}/{item['metadata']['name']}")


@contextmanager
def connected(cluster: Cluster) -> Iterator[KubernetesClient]:
    client = KubernetesClient(KubernetesConnection(kubeconfig=str(cluster.kubeconfig), retry_seconds=1.0))
    try:
        yield client
    finally:
        client.close()


def test_policies_are_followed_from_their_first_sight_to_their_end(cluster: Cluster) -> None:
    board = Board()
    with connected(cluster) as client:
        source = KubernetesPolicies(client)
        cluster.api.call("POST", PLACE, policy("one"))
        source.start(board)
        try:
            eventually(lambda: board.names == ["one"], "the first is there")
            cluster.api.call("POST", PLACE, policy("two"))
            eventually(lambda: board.names == ["one", "two"], "the second is there")
            cluster.api.call("DELETE", f"{PLACE}/one")
            eventually(lambda: board.names == ["two"], "the first is gone")
        finally:
            source.stop()


def test_what_is_not_defined_is_not_taken_for_none(small_kubernetes: Cluster) -> None:
    with connected(small_kubernetes) as client:
        with pytest.raises(Unavailable, match="does not know secretbindingpolicies"):
            client.policies()
        board = Board()
        source = KubernetesPolicies(client)
        source.start(board)
        try:
            eventually(lambda: "install the CustomResourceDefinition" in board.why, "it is told")
            assert board.names is None
            small_kubernetes.api.define(policy_crd())
            eventually(lambda: board.names == [], "they are listed")
        finally:
            source.stop()


def test_labels_of_a_namespace_decide_whether_its_binding_is_made_true(
    simulator: Stack, cluster: Cluster, tenant: str, unique: str
) -> None:
    world = World(simulator, tenancy="policies", label_seconds=0.2, instance=f"k{uuid.uuid4().hex[:8]}")
    world.secret(unique, username="app")
    world.register(a_job(unique))
    cluster.api.call("POST", PLACE, policy("team", tenants=[{"sources": ["kubernetes"], "labels": {"team": unique}}]))
    with connected(cluster) as client:
        listers = {"kubernetes": client.namespace_labels}
        source, policies = KubernetesSource(client), KubernetesPolicies(client)
        with world.running(source, policies=[policies], listers=listers):
            secret = {"name": "app", "kv": {"mount": "secret", "path": unique}, "env": {"DB_USER": "username"}}
            cluster.api.create_binding(a_binding(tenant, unique, workload={"job": unique}, secrets=[secret]))

            def reason() -> str:
                stored = cluster.api.binding(tenant, unique) or {}
                conditions = stored.get("status", {}).get("conditions", [])
                return next((one["reason"] for one in conditions if one["type"] == "Ready"), "")

            wait_until("it is refused", lambda: reason() == Reason.REFUSED_BY_POLICY)
            patch = {"metadata": {"labels": {"team": unique}}}
            cluster.api.call("PATCH", f"/api/v1/namespaces/{tenant}", patch, "application/merge-patch+json")
            wait_until("it is ready", lambda: reason() == Reason.READY)
