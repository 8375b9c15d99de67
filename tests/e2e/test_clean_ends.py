"""Whatever is deleted first, a binding, its Nomad namespace, its Kubernetes namespace, the controller, or a mount of
Vault: nothing hangs, and no right is left behind."""

from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.devstack.openbao import OpenBao
from secretbinding.devstack.simulator import Simulator
from secretbinding.sources.kubernetes.source import KubernetesSource
from tests.support.kubernetes import Cluster, kubernetes_api, real_kubernetes, small_kubernetes, tenant
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, wait_until

__all__ = ["kubernetes_api", "real_kubernetes", "small_kubernetes", "tenant"]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Servers whose mounts these tests take away."""
    directory: Path = tmp_path_factory.mktemp("ends")
    with OpenBao(directory / "openbao") as vault, Simulator(directory / "nomad", vault_address=vault.address) as server:
        vault.enable_jwt(server.address)
        yield Stack(server.kind, server.address, server.api, server.token, vault, server.region)


@pytest.fixture
def mount(own: Stack, unique: str) -> str:
    """A KV mount of this test's own."""
    own.openbao.api.put(f"/v1/sys/mounts/{unique}", {"type": "kv", "options": {"version": "2"}}).expect(204)
    return unique


def a_world(own: Stack, mount: str) -> World:
    rights = f'path "{mount}/*" {{ capabilities = ["read", "list"] }}'
    return World(own, instance="ends", vault_rights=rights)


def rights_left(world: World) -> list[str]:
    """Policies and roles of the instance."""
    found = []
    for path in ("sys/policies/acl", "auth/jwt-nomad/role"):
        answer = world.vault.get(f"/v1/{path}", list="true")
        keys = answer.json()["data"]["keys"] if answer.status == 200 else []
        found += [name for name in keys if name.startswith("nsb.ends.")]
    return found


def a_bound(world: World, name: str, mount: str) -> dict[str, Any]:
    """A job that has its secret, from a mount of its own."""
    world.stack.openbao.put_secret(name, {"username": "app", "password": "one"}, mount=mount)
    world.register(a_job(name))
    manifest = a_manifest(name, name, name)
    manifest["spec"]["secrets"][0]["kv"]["mount"] = mount
    return manifest


BINDING, JOB, MOUNT = "binding", "job", "mount"


_ORDERS = list(permutations((BINDING, JOB, MOUNT)))


@pytest.mark.parametrize(
    ("order", "away"), [*((order, False) for order in _ORDERS), (_ORDERS[0], True), (_ORDERS[-1], True)]
)
def test_in_any_order_nothing_is_left(own: Stack, mount: str, unique: str, order: tuple[str, ...], away: bool) -> None:
    """`away`: the controller is stopped before all of it, and started again after it."""
    world = a_world(own, mount)
    world.bind(a_bound(world, unique, mount))
    ends: dict[str, Callable[[], object]] = {
        BINDING: lambda: world.unbind(unique),
        JOB: lambda: world.api.delete(f"/v1/job/{unique}", purge="true").expect(),
        MOUNT: lambda: world.vault.delete(f"/v1/sys/mounts/{mount}").expect(204),
    }
    with world.running():
        world.await_reason(unique, "Ready")
        world.deployed(unique)
        if not away:
            for what in order:
                ends[what]()
            wait_until("its status is gone", lambda: world.status(unique) is None)
            wait_until("its rights are gone", lambda: rights_left(world) == [])
    if away:
        for what in order:
            ends[what]()
        with world.running():
            wait_until("its rights are gone", lambda: rights_left(world) == [])


def test_without_the_mount_that_tasks_log_in_to_a_binding_goes_all_the_same(
    own: Stack, mount: str, unique: str
) -> None:
    world = a_world(own, mount)
    world.bind(a_bound(world, unique, mount))
    try:
        with world.running():
            world.await_reason(unique, "Ready")
            world.deployed(unique)
            world.vault.delete("/v1/sys/auth/jwt-nomad").expect(204)
            world.unbind(unique)
            wait_until("its status is gone", lambda: world.status(unique) is None)
            wait_until("its rights are gone", lambda: rights_left(world) == [])
    finally:
        own.openbao.enable_jwt(own.address)


@pytest.mark.xdist_group("kubernetes")
@pytest.mark.parametrize("first", ["job", "mount", "namespace"])
def test_a_kubernetes_namespace_with_a_binding_can_be_deleted(
    own: Stack, mount: str, unique: str, kubernetes_api: Cluster, tenant: str, first: str
) -> None:
    world, cluster = a_world(own, mount), kubernetes_api
    manifest = a_bound(world, unique, mount)
    manifest["metadata"]["namespace"] = tenant
    client = KubernetesClient(KubernetesConnection(kubeconfig=str(cluster.kubeconfig)))
    with world.running(KubernetesSource(client)):
        cluster.api.create_binding(manifest)
        wait_until("it has its rights", lambda: len(rights_left(world)) == 2)
        world.deployed(unique)
        if first == "job":
            world.api.delete(f"/v1/job/{unique}", purge="true").expect()
        if first == "mount":
            world.vault.delete(f"/v1/sys/mounts/{mount}").expect(204)
        cluster.api.delete_binding(tenant, unique)
        if cluster.small is None:
            cluster.api.request("DELETE", f"/api/v1/namespaces/{tenant}")
        wait_until("the binding is gone", lambda: cluster.api.binding(tenant, unique) is None)
        wait_until("its rights are gone", lambda: rights_left(world) == [])
        if cluster.small is None:
            gone = f"/api/v1/namespaces/{tenant}"
            wait_until("the namespace is gone", lambda: cluster.api.request("GET", gone).status_code == 404)
    client.close()
