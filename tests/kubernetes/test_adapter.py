"""The Kubernetes client: what it writes, what it repeats, what its errors say, on the small server and a real one."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.errors import Conflict, Denied, NotFound, Rejected, ServiceError, Unavailable, Unreachable
from tests.support.kubeclient import eventually
from tests.support.kubernetes import Cluster, a_binding

FINALIZER = "nomad-vault.io/finalizer"
CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Ready",
    "message": "",
    "lastTransitionTime": "2030-01-01T00:00:00Z",
}


def connection(cluster: Cluster, *, retry_seconds: float = 5.0, page_size: int = 500) -> KubernetesConnection:
    return KubernetesConnection(
        kubeconfig=str(cluster.kubeconfig), timeout_seconds=5.0, retry_seconds=retry_seconds, page_size=page_size
    )


@pytest.fixture
def client(kubernetes_api: Cluster) -> Iterator[KubernetesClient]:
    made = KubernetesClient(connection(kubernetes_api), instance="test")
    yield made
    made.close()


@pytest.fixture
def small_client(small_kubernetes: Cluster) -> Iterator[KubernetesClient]:
    made = KubernetesClient(connection(small_kubernetes), instance="test")
    yield made
    made.close()


@pytest.fixture
def small_server(small_kubernetes: Cluster) -> Cluster:
    small_kubernetes.api.create_binding(a_binding("default"))
    return small_kubernetes


def test_the_status_is_written_without_touching_anything_else(
    kubernetes_api: Cluster, client: KubernetesClient, tenant: str
) -> None:
    made = kubernetes_api.api.create_binding(a_binding(tenant))

    client.patch_status(tenant, "web", {"observedGeneration": 1, "conditions": [CONDITION]})

    after = client.get(tenant, "web")
    assert after["status"] == {"observedGeneration": 1, "conditions": [CONDITION]}
    assert after["spec"] == made["spec"]
    assert after["metadata"]["generation"] == 1
    assert "managedFields" not in after["metadata"]


def test_none_removes_a_field_of_the_status(kubernetes_api: Cluster, client: KubernetesClient, tenant: str) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    client.patch_status(tenant, "web", {"lastHandledRotateAt": "2030-01-01T00:00:00Z"})

    client.patch_status(tenant, "web", {"lastHandledRotateAt": None})

    assert "lastHandledRotateAt" not in client.get(tenant, "web")["status"]


def test_a_status_for_an_older_version_is_a_conflict(
    kubernetes_api: Cluster, client: KubernetesClient, tenant: str
) -> None:
    old = kubernetes_api.api.create_binding(a_binding(tenant))["metadata"]["resourceVersion"]
    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"labels": {"a": "b"}}})

    with pytest.raises(Conflict):
        client.patch_status(tenant, "web", {"observedGeneration": 1}, resource_version=old)


def test_a_status_that_the_schema_forbids_is_rejected_with_the_servers_reason(
    kubernetes_api: Cluster, client: KubernetesClient, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))

    with pytest.raises(Rejected, match="observedGeneration"):
        client.patch_status(tenant, "web", {"observedGeneration": "many"})


def test_the_finalizer_is_added_beside_others_once(
    kubernetes_api: Cluster, client: KubernetesClient, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"finalizers": ["example.org/theirs"]}})

    written = client.add_finalizer(tenant, "web", FINALIZER)
    again = client.add_finalizer(tenant, "web", FINALIZER)

    assert written is not None
    assert written["metadata"]["finalizers"] == ["example.org/theirs", FINALIZER]
    assert again is None
    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"finalizers": None}})


def test_a_finalizer_write_that_starts_from_old_knowledge_reads_again_and_keeps_what_others_wrote(
    kubernetes_api: Cluster, client: KubernetesClient, tenant: str
) -> None:
    old = kubernetes_api.api.create_binding(a_binding(tenant))["metadata"]["resourceVersion"]
    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"finalizers": ["example.org/theirs"]}})

    written = client.add_finalizer(tenant, "web", FINALIZER, (old, ()))

    assert written is not None
    assert written["metadata"]["finalizers"] == ["example.org/theirs", FINALIZER]
    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"finalizers": None}})


def test_removing_the_last_finalizer_lets_a_deleted_binding_go_and_may_be_repeated(
    kubernetes_api: Cluster, client: KubernetesClient, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    client.add_finalizer(tenant, "web", FINALIZER)
    kubernetes_api.api.delete_binding(tenant, "web")
    assert client.get(tenant, "web")["metadata"]["deletionTimestamp"]

    client.remove_finalizer(tenant, "web", FINALIZER)

    assert kubernetes_api.api.binding(tenant, "web") is None
    assert client.remove_finalizer(tenant, "web", FINALIZER) is None


def test_a_finalizer_cannot_be_added_to_what_is_being_deleted(
    kubernetes_api: Cluster, client: KubernetesClient, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"finalizers": ["example.org/theirs"]}})
    kubernetes_api.api.delete_binding(tenant, "web")

    with pytest.raises(Rejected):
        client.add_finalizer(tenant, "web", FINALIZER)

    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"finalizers": None}})


def test_a_list_holds_every_page_of_one_namespace_or_of_all(kubernetes_api: Cluster, tenant: str) -> None:
    for name in ("a", "b", "c"):
        kubernetes_api.api.create_binding(a_binding(tenant, name))
    client = KubernetesClient(connection(kubernetes_api, page_size=2))

    assert [item["metadata"]["name"] for item in client.list(tenant)] == ["a", "b", "c"]
    everywhere = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in client.list()}
    assert {(tenant, "a"), (tenant, "b"), (tenant, "c")} <= everywhere
    client.close()


def test_a_resource_that_is_not_defined_is_no_proof_that_a_binding_is_absent(
    small_kubernetes: Cluster, small_client: KubernetesClient
) -> None:
    definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/secretbindings.nomad-vault.io"
    small_kubernetes.api.call("DELETE", definition)

    for ask in (lambda: small_client.get("default", "web"), small_client.list, lambda: [*small_client.each()]):
        with pytest.raises(Unavailable, match="CustomResourceDefinition") as caught:
            ask()
        assert caught.value.transient


def test_each_gives_what_list_gives_and_ends_with_the_error_of_a_listing_that_is_not_complete(
    small_server: Cluster,
) -> None:
    assert small_server.small is not None
    for name in ("a", "b"):
        small_server.api.create_binding(a_binding("default", name))
    client = KubernetesClient(connection(small_server, page_size=2))
    assert [*client.each()] == client.list()
    bindings = client.each()
    next(bindings)

    small_server.small.fail("list", "*", 410)

    with pytest.raises(Unavailable):
        list(bindings)
    client.close()


def test_what_is_not_there_is_not_found(client: KubernetesClient, tenant: str) -> None:
    with pytest.raises(NotFound) as caught:
        client.get(tenant, "web")

    assert caught.value.status == 404
    assert f"{tenant}/web" in str(caught.value)
    assert not caught.value.transient


def test_an_event_names_the_binding_and_fits_the_servers_limits(
    kubernetes_api: Cluster, client: KubernetesClient, tenant: str
) -> None:
    made = kubernetes_api.api.create_binding(a_binding(tenant))

    client.event(made, warning=True, reason="JobNotFound", message="ä" * 2000)

    [event] = kubernetes_api.api.events_of(tenant, "web")
    assert event["type"] == "Warning"
    assert event["reason"] == "JobNotFound"
    assert event["note"] == "ä" * 512
    assert event["regarding"]["uid"] == made["metadata"]["uid"]
    assert event["reportingInstance"] == "test"


def test_an_event_is_seen_by_kubectl_describe(kubernetes_api: Cluster, client: KubernetesClient, tenant: str) -> None:
    made = kubernetes_api.api.create_binding(a_binding(tenant))
    client.event(made, warning=False, reason="Synced", message="all is well")

    described = kubernetes_api.kubectl("describe", "secretbinding", "web", "-n", tenant)

    assert described.returncode == 0, described.stderr
    assert "Synced" in described.stdout
    assert "all is well" in described.stdout


@pytest.mark.parametrize(
    ("verb", "resource", "call"),
    [
        ("list", "secretbindings", lambda client: client.list()),
        ("get", "secretbindings", lambda client: client.get("default", "web")),
        ("patch", "secretbindings/status", lambda client: client.patch_status("default", "web", {})),
        ("patch", "secretbindings", lambda client: client.add_finalizer("default", "web", FINALIZER)),
    ],
)
def test_a_missing_right_is_named_with_its_verb_and_resource_and_not_tried_again(
    small_server: Cluster,
    small_client: KubernetesClient,
    verb: str,
    resource: str,
    call: Callable[[KubernetesClient], object],
) -> None:
    assert small_server.small is not None
    small_server.small.deny(verb, resource)

    with pytest.raises(Denied) as caught:
        call(small_client)

    assert f"verb {verb} on {resource} of the API group nomad-vault.io" in caught.value.remedy
    assert small_server.small.counts()[f"{verb} {resource}"] == 1


def test_a_missing_right_to_post_events_names_their_group(
    small_server: Cluster, small_client: KubernetesClient
) -> None:
    assert small_server.small is not None
    small_server.small.deny("create", "events")

    with pytest.raises(Denied, match=r"verb create on events of the API group events\.k8s\.io"):
        small_client.event(small_client.get("default", "web"), warning=False, reason="Synced", message="")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_fault_of_the_server_is_waited_out(
    small_server: Cluster, small_client: KubernetesClient, status: int
) -> None:
    assert small_server.small is not None
    small_server.small.fail("*", "*", status, times=2)

    small_client.patch_status("default", "web", {"observedGeneration": 1})

    assert small_server.small.counts() == {"patch secretbindings/status": 3}


def test_the_pause_that_the_server_asks_for_is_kept(small_server: Cluster, small_client: KubernetesClient) -> None:
    assert small_server.small is not None
    small_server.small.fail("list", "*", 429, times=1, retry_after=1)
    attempts: list[float] = []
    hearing = KubernetesClient(
        connection(small_server),
        on_call=lambda _system, _operation, _seconds, _outcome: attempts.append(time.monotonic()),
    )

    hearing.list()

    assert len(attempts) == 2
    assert attempts[1] - attempts[0] >= 0.9
    hearing.close()


def test_a_lasting_fault_is_unavailable_and_transient_after_a_bounded_number_of_attempts(
    small_server: Cluster, small_client: KubernetesClient
) -> None:
    assert small_server.small is not None
    small_server.small.fail("*", "*", 503)

    with pytest.raises(Unavailable) as caught:
        small_client.list()

    assert caught.value.transient
    assert caught.value.status == 503
    assert small_server.small.counts() == {"list secretbindings": 4}


def test_a_conflict_that_never_ends_is_a_conflict_after_a_bounded_number_of_writes(
    small_server: Cluster, small_client: KubernetesClient
) -> None:
    assert small_server.small is not None
    small_server.small.fail("write", "secretbindings", 409)

    with pytest.raises(Conflict):
        small_client.add_finalizer("default", "web", FINALIZER)

    assert small_server.small.writes() == {"patch secretbindings": 4}


def test_a_listing_that_expired_between_two_pages_begins_again(small_server: Cluster) -> None:
    assert small_server.small is not None
    small_server.small.fail("list", "*", 410, times=1)
    client = KubernetesClient(connection(small_server))

    assert len(client.list()) == 1
    client.close()


def test_a_server_that_is_not_there_is_unreachable(small_server: Cluster, tmp_path: Path) -> None:
    assert small_server.small is not None
    client = KubernetesClient(connection(small_server, retry_seconds=0.5))
    small_server.small.close()

    with pytest.raises(Unreachable, match="cannot connect") as caught:
        client.list()

    assert caught.value.transient
    client.close()


def test_a_certificate_of_somebody_else_is_not_trusted(small_server: Cluster, tmp_path: Path) -> None:
    config = yaml.safe_load(small_server.kubeconfig.read_text())
    del config["clusters"][0]["cluster"]["certificate-authority-data"]
    untrusting = tmp_path / "untrusting"
    untrusting.write_text(yaml.safe_dump(config))
    client = KubernetesClient(KubernetesConnection(kubeconfig=str(untrusting), retry_seconds=0.1))

    with pytest.raises(Unreachable, match="not trusted"):
        client.list()
    client.close()


def test_a_renewed_kubeconfig_is_read_again_when_the_server_refuses_the_token(
    small_server: Cluster, small_client: KubernetesClient
) -> None:
    assert small_server.small is not None
    small_client.list()
    small_server.small.change_token()
    small_server.small.write_kubeconfig(small_server.kubeconfig)

    assert len(small_client.list()) == 1


def test_no_error_holds_the_token(small_server: Cluster) -> None:
    assert small_server.small is not None
    token = small_server.small.token
    client = KubernetesClient(connection(small_server, retry_seconds=0.1))
    errors: list[ServiceError] = []

    def collect(call: Callable[[], object]) -> None:
        with pytest.raises(ServiceError) as caught:
            call()
        errors.append(caught.value)

    small_server.small.change_token()
    collect(client.list)
    for status in (403, 500, 429, 422, 409):
        small_server.small.fail("get", "*", status, times=4)
        collect(lambda: client.get("default", "web"))
    small_server.small.close()
    collect(client.list)

    for error in errors:
        chain = [error, error.__cause__, error.__context__ if not error.__suppress_context__ else None]
        assert all(token not in f"{link} {link!r} {getattr(link, '__dict__', '')}" for link in chain)
    assert token not in repr(client.credentials())
    client.close()


def test_sixteen_threads_share_one_client(kubernetes_api: Cluster, client: KubernetesClient, tenant: str) -> None:
    names = [f"web-{number}-{uuid.uuid4().hex[:6]}" for number in range(16)]
    for name in names:
        kubernetes_api.api.create_binding(a_binding(tenant, name))
    threads = [
        threading.Thread(target=client.patch_status, args=(tenant, name, {"observedGeneration": 1})) for name in names
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    eventually(
        lambda: all(item["status"].get("observedGeneration") == 1 for item in client.list(tenant)), "all are written"
    )
