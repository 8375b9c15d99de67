"""Custom resources drive the whole controller: on the small API server and on a real one, with the simulator below."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.app import Controller
from secretbinding.models.reasons import Reason
from secretbinding.sources.kubernetes import KubernetesSource
from tests.support.kubernetes import Cluster
from tests.support.rights import shipped
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

FINALIZER = "nomad-vault.io/finalizer"
BINDINGS = "secretbindings.nomad-vault.io"


@pytest.fixture
def world(simulator: Stack, unique: str) -> World:
    return World(simulator, vault_rights=shipped("vault-policy-generate.hcl", myapp=unique))


@pytest.fixture
def any_world(stack: Stack) -> World:
    """On the simulator and on a real Nomad."""
    return World(stack)


@contextmanager
def running(world: World, cluster: Cluster) -> Iterator[Controller]:
    client = KubernetesClient(KubernetesConnection(kubeconfig=str(cluster.kubeconfig)))
    try:
        with world.running(KubernetesSource(client)) as controller:
            yield controller
    finally:
        client.close()


def manifest(name: str, tenant: str, **spec: Any) -> dict[str, Any]:
    found = a_manifest(name, name, name, **spec)
    found["metadata"]["namespace"] = tenant
    return found


def condition(cluster: Cluster, tenant: str, name: str, kind: str = "Ready") -> tuple[str, str]:
    """Status and reason of a condition, as `kubectl get -o json` shows it."""
    stored = cluster.api.binding(tenant, name)
    for item in (stored or {}).get("status", {}).get("conditions", []):
        if item["type"] == kind:
            return item["status"], item["reason"]
    return "", ""


def test_a_custom_resource_is_made_true_rotated_and_taken_back(
    world: World, kubernetes_api: Cluster, tenant: str, unique: str
) -> None:
    cluster = kubernetes_api
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    world.deployed(unique)
    with running(world, cluster):
        made = cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest(unique, tenant)))
        assert made.returncode == 0, made.stderr
        wait_until("it is Ready", lambda: condition(cluster, tenant, unique) == ("True", "Ready"))
        stored = cluster.api.binding(tenant, unique)
        assert stored is not None
        assert stored["metadata"]["finalizers"] == [FINALIZER]
        assert stored["status"]["observedGeneration"] == stored["metadata"]["generation"]
        assert not [note for note in stored["metadata"].get("annotations", {}) if "kopf" in note]
        shown = cluster.kubectl("get", BINDINGS, unique, "-n", tenant)
        assert shown.stdout.split("\n")[0].split() == ["NAME", "JOB", "READY", "REASON", "ROTATION", "AGE"]
        assert shown.stdout.split("\n")[1].split()[:5] == [unique, unique, "True", "Ready", "UpToDate"]

        world.secret(unique, username="app", password="two")
        wait_until("it rolls", lambda: world.seen(unique) == ["app two"])
        wait_until("the roll is over", lambda: condition(cluster, tenant, unique, "RotationHealthy")[1] == "UpToDate")
        world.secret(unique, username="app")
        wait_until(
            "the bad version is refused",
            lambda: condition(cluster, tenant, unique, "RotationHealthy") == ("False", "SecretFieldMissing"),
        )
        wait_until(
            "there are events",
            lambda: {"Ready", "SecretFieldMissing"} <= {e["reason"] for e in cluster.api.events_of(tenant, unique)},
        )

        removed = cluster.kubectl("delete", BINDINGS, unique, "-n", tenant, "--timeout=30s")
        assert removed.returncode == 0, removed.stderr
        assert cluster.api.binding(tenant, unique) is None
        wait_until("the job is given back", lambda: world.seen(unique) == [""])
    assert world.policies(having=unique) == []
    assert world.roles(having=unique) == []


def test_an_annotation_asks_for_a_manual_roll_and_the_status_answers(
    any_world: World, kubernetes_api: Cluster, tenant: str, unique: str
) -> None:
    world, cluster = any_world, kubernetes_api
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with running(world, cluster):
        cluster.api.create_binding(manifest(unique, tenant, rotation={"strategy": "Manual"}))
        wait_until("it is Ready", lambda: condition(cluster, tenant, unique) == ("True", "Ready"))
        world.secret(unique, username="app", password="two")
        wait_until(
            "the new version is reported",
            lambda: condition(cluster, tenant, unique, "RotationHealthy")[1] == Reason.MANUAL_ROTATION_PENDING,
        )
        assert world.seen(unique) == ["app one"]
        asked = datetime.now(UTC).isoformat()
        note = {"metadata": {"annotations": {"nomad-vault.io/rotate-requested-at": asked}}}
        cluster.api.patch_binding(tenant, unique, note)
        wait_until("it rolls", lambda: world.seen(unique) == ["app two"])

        def answered() -> bool:
            stored = cluster.api.binding(tenant, unique) or {}
            return bool(stored.get("status", {}).get("lastHandledRotateAt") == asked)

        wait_until("the request is answered", answered)
        wait_until("the roll is over", lambda: condition(cluster, tenant, unique, "RotationHealthy")[1] == "UpToDate")
        # An answered request does not roll the next version.
        world.secret(unique, username="app", password="three")
        wait_until(
            "the next version waits",
            lambda: condition(cluster, tenant, unique, "RotationHealthy")[1] == Reason.MANUAL_ROTATION_PENDING,
        )
        assert world.seen(unique) == ["app two"]


def test_an_annotation_asks_for_a_new_value_and_an_event_tells_of_it_without_it(
    world: World, kubernetes_api: Cluster, tenant: str, unique: str
) -> None:
    cluster = kubernetes_api
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with running(world, cluster):
        generate = [{"secret": "app", "fields": ["password"]}]
        cluster.api.create_binding(manifest(unique, tenant, rotation={"generate": generate}))
        wait_until("it is Ready", lambda: condition(cluster, tenant, unique) == ("True", "Ready"))
        world.deployed(unique)
        asked = datetime.now(UTC).isoformat()
        note = {"metadata": {"annotations": {"nomad-vault.io/generate-requested-at": asked}}}
        cluster.api.patch_binding(tenant, unique, note)

        def answered() -> bool:
            stored = cluster.api.binding(tenant, unique) or {}
            return bool(stored.get("status", {}).get("lastHandledGenerateAt") == asked)

        wait_until("the request is answered", answered)
        value = world.vault.get(f"/v1/secret/data/{unique}").expect().json()["data"]["data"]["password"]
        wait_until("it is rolled", lambda: world.seen(unique) == [f"app {value}"])

        def events() -> list[str]:
            return [e["note"] for e in cluster.api.events_of(tenant, unique) if e["reason"] == "ValueGenerated"]

        wait_until("there is an event", lambda: bool(events()))
        (told,) = events()
        assert told.startswith("version 2 of secret app was made (password), on request of ")
        assert value not in str(cluster.api.events_of(tenant, unique)) + str(cluster.api.binding(tenant, unique))


def test_a_binding_costs_three_writes_and_a_restart_none(world: World, small_kubernetes: Cluster, unique: str) -> None:
    cluster = small_kubernetes
    assert cluster.small is not None
    cluster.api.create_namespace("budget")
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique, count=0))
    cluster.api.create_binding(manifest(unique, "budget"))
    cluster.small.reset_counts()
    with running(world, cluster) as controller:
        wait_until("it is Ready", lambda: condition(cluster, "budget", unique) == ("True", "Ready"))
        wait_until("it is idle", lambda: controller.engine.queue.idle(within=1))
    writes = {what: count for what, count in cluster.small.writes().items() if "events" not in str(what)}
    assert sum(writes.values()) <= 3, writes
    cluster.small.reset_counts()
    with running(world, cluster) as controller:
        wait_until("the binding is known", lambda: bool(controller.engine.store.entries()))
        wait_until("it is idle", lambda: controller.engine.queue.idle(within=1))
    assert not cluster.small.writes(), cluster.small.writes()


def test_a_binding_that_is_made_again_at_once_is_taken_up_again(
    world: World, kubernetes_api: Cluster, tenant: str, unique: str
) -> None:
    cluster = kubernetes_api
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with running(world, cluster):
        for _ in range(3):
            cluster.api.create_binding(manifest(unique, tenant))
            wait_until("it is Ready", lambda: condition(cluster, tenant, unique) == ("True", "Ready"))
            cluster.api.delete_binding(tenant, unique)
            wait_until("it is gone", lambda: cluster.api.binding(tenant, unique) is None)
    assert world.policies(having=unique) == []


def test_a_status_survives_json(world: World, kubernetes_api: Cluster, tenant: str, unique: str) -> None:
    """The server stores the status as it was written: what is not in the CRD's schema would be dropped silently."""
    cluster = kubernetes_api
    world.secret(unique, username="app", password="one")
    world.register(a_job(unique))
    with running(world, cluster) as controller:
        cluster.api.create_binding(manifest(unique, tenant))
        wait_until("it is Ready", lambda: condition(cluster, tenant, unique) == ("True", "Ready"))
        wait_until("it is idle", lambda: controller.engine.queue.idle(within=1))
        entry = next(item for item in controller.engine.store.entries() if item.item.key.tenant == tenant)
        stored = cluster.api.binding(tenant, unique)
        assert stored is not None
        assert stored["status"] == json.loads(json.dumps(entry.status.to_json()))
