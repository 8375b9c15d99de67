"""The Kubernetes source when the API server does not behave: nothing is lost, and nothing is taken for deleted."""

import time

import pytest

from secretbinding.errors import Unavailable
from secretbinding.models.reasons import Reason
from secretbinding.sources.kubernetes import NAME, Pace
from secretbinding.status.transitions import Transition
from tests.kubernetes.sink import Started, a_status, key
from tests.support.apiserver import ApiServer
from tests.support.kubeclient import KubernetesApi, eventually
from tests.support.kubernetes import Cluster, a_binding


@pytest.fixture
def kubernetes_api(small_kubernetes: Cluster) -> Cluster:
    """Only the small server takes orders to fail."""
    return small_kubernetes


@pytest.fixture
def server(kubernetes_api: Cluster) -> ApiServer:
    assert kubernetes_api.small is not None
    return kubernetes_api.small


def test_adoption_costs_at_most_three_writes_and_a_deletion_one(
    kubernetes_api: Cluster, server: ApiServer, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    source, sink = started(tenant)

    source.prepare(key(tenant))
    source.report(key(tenant), a_status(Reason.ROLLING_OUT), [Transition("Normal", Reason.ROLLING_OUT, "rolling")])
    source.report(key(tenant), a_status(), [Transition("Normal", Reason.READY, "ready")])

    adoption = server.writes()
    adoption.pop("create events")
    assert adoption == {"patch secretbindings": 1, "patch secretbindings/status": 2}
    eventually(lambda: (item := sink.last(key(tenant))) and item.status == a_status(), "the status has come back")
    kubernetes_api.api.delete_binding(tenant, "web")
    eventually(lambda: (item := sink.last(key(tenant))) and item.deleting, "the deletion is delivered")
    server.reset_counts()
    source.gone(key(tenant))
    assert server.writes() == {"patch secretbindings": 1}


def test_an_event_that_may_not_be_posted_does_not_hinder_the_status(
    kubernetes_api: Cluster, server: ApiServer, started: Started, tenant: str
) -> None:
    server.deny("create", "events")
    kubernetes_api.api.create_binding(a_binding(tenant))
    source, _ = started(tenant)

    source.report(key(tenant), a_status(), [Transition("Normal", Reason.READY, "ready")])

    after = kubernetes_api.api.binding(tenant, "web")
    assert after is not None
    assert after["status"]["observedGeneration"] == 1


def test_a_watch_that_is_cut_goes_on_where_it_was(
    kubernetes_api: Cluster, server: ApiServer, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    _, sink = started(tenant)

    server.cut_watches()
    kubernetes_api.api.patch_binding(tenant, "web", {"spec": {"suspend": True}})

    eventually(lambda: (item := sink.last(key(tenant))) and item.generation == 2, "the change is delivered")


def test_a_deletion_that_the_watch_missed_is_found_by_the_listing_that_follows(
    kubernetes_api: Cluster, server: ApiServer, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant, "kept"))
    kubernetes_api.api.create_binding(a_binding(tenant, "lost"))
    _, sink = started(tenant)
    server.deafen()
    kubernetes_api.api.delete_binding(tenant, "lost")

    server.expire_history()
    server.deafen(False)
    server.cut_watches()

    eventually(lambda: sink.gone == [key(tenant, "lost")], "the lost one has vanished")


def test_a_deaf_watch_is_found_out_by_a_listing_and_started_anew(
    kubernetes_api: Cluster, server: ApiServer, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    pace = Pace(resync_seconds=1.0, suspect_seconds=0.3, relist_seconds=0.1, open_seconds=5.0, retry_max_seconds=1.0)
    _, sink = started(tenant, pace=pace)
    opened = server.counts()["watch secretbindings"]

    server.deafen()
    kubernetes_api.api.patch_binding(tenant, "web", {"spec": {"suspend": True}})

    eventually(lambda: (item := sink.last(key(tenant))) and item.generation == 2, "the listing delivers the change")
    eventually(lambda: server.counts()["watch secretbindings"] > opened, "the watch is started anew")


def test_a_listing_without_rights_is_no_listing_and_deletes_nothing(
    kubernetes_api: Cluster, server: ApiServer, started: Started, tenant: str
) -> None:
    server.deny("list", "secretbindings")
    kubernetes_api.api.create_binding(a_binding(tenant))

    source, sink = started(tenant, wait=False)

    eventually(lambda: "may not `list secretbindings" in source.healthy(time.monotonic()), "the right is named")
    assert (sink.listings, sink.deliveries) == ([], [])
    server.allow("list", "secretbindings")
    eventually(lambda: source.healthy(time.monotonic()) == "", "the source is healthy")
    assert sink.listings == [NAME]


def test_losing_the_right_to_list_later_deletes_nothing(
    kubernetes_api: Cluster, server: ApiServer, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    pace = Pace(resync_seconds=0.2, suspect_seconds=0.3, relist_seconds=0.1, open_seconds=5.0, retry_max_seconds=0.2)
    source, sink = started(tenant, pace=pace)
    server.reset_counts()

    server.deny("*", "secretbindings")

    eventually(lambda: server.counts().get("list secretbindings", 0) >= 3, "the listing was tried three times")
    assert sink.gone == []
    assert source.healthy(time.monotonic() + 10) != ""


def test_a_right_to_watch_that_is_missing_is_told(
    kubernetes_api: Cluster, server: ApiServer, started: Started, tenant: str
) -> None:
    server.deny("watch", "secretbindings")

    source, _ = started(tenant, wait=False)

    eventually(lambda: "403 to watch" in source.healthy(time.monotonic()), "the right is named")


def test_a_definition_that_is_not_installed_yet_is_told_and_waited_for(
    kubernetes_api: Cluster, server: ApiServer, started: Started, tenant: str
) -> None:
    definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/secretbindings.nomad-vault.io"
    taken = kubernetes_api.api.call("GET", definition)
    kubernetes_api.api.call("DELETE", definition)

    source, sink = started(tenant, wait=False)

    eventually(lambda: "CustomResourceDefinition" in source.healthy(time.monotonic()), "the definition is asked for")
    kubernetes_api.api.define({"metadata": {"name": taken["metadata"]["name"]}, "spec": taken["spec"]})
    kubernetes_api.api.create_binding(a_binding(tenant))
    eventually(lambda: sink.last(key(tenant)), "the binding is delivered")
    assert sink.gone == []


def test_a_definition_that_disappears_proves_nothing_about_bindings(
    kubernetes_api: Cluster, server: ApiServer, started: Started, tenant: str
) -> None:
    server.fail("*", "secretbindings", 404)
    source, _ = started(tenant, wait=False)

    with pytest.raises(Unavailable, match="CustomResourceDefinition"):
        source.proves_absent(key(tenant))


def test_a_renewed_token_is_used_without_a_restart(
    kubernetes_api: Cluster, server: ApiServer, started: Started, tenant: str
) -> None:
    source, sink = started(tenant)

    server.change_token()
    server.write_kubeconfig(kubernetes_api.kubeconfig)
    server.cut_watches()
    fresh = KubernetesApi(kubernetes_api.kubeconfig)
    fresh.create_binding(a_binding(tenant))

    eventually(lambda: sink.last(key(tenant)), "the binding is delivered")
    eventually(lambda: source.healthy(time.monotonic()) == "", "the source is healthy")
