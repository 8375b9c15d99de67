"""The Kubernetes source: what it delivers, what it writes, and what it takes for a deletion."""

import time
from collections.abc import Callable, Iterator

import pytest

from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
from secretbinding.errors import NotFound
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus
from secretbinding.sources.kubernetes import FINALIZER, NAME, ROTATE_ANNOTATION, KubernetesSource, Pace
from secretbinding.status.transitions import Transition
from tests.kubernetes.sink import RecordingSink
from tests.support.apiserver import ApiServer
from tests.support.kubeclient import eventually
from tests.support.kubernetes import Cluster, a_binding

QUICK = Pace(suspect_seconds=0.5, relist_seconds=0.1, open_seconds=10.0, retry_max_seconds=1.0)
Started = Callable[..., tuple[KubernetesSource, RecordingSink]]


@pytest.fixture
def started(kubernetes_api: Cluster) -> Iterator[Started]:
    """Starts sources for the test's API server and stops them at the end."""
    running: list[KubernetesSource] = []

    def start(*namespaces: str, pace: Pace = QUICK, wait: bool = True) -> tuple[KubernetesSource, RecordingSink]:
        connection = KubernetesConnection(kubeconfig=str(kubernetes_api.kubeconfig), retry_seconds=1.0)
        source = KubernetesSource(KubernetesClient(connection), namespaces, pace=pace)
        sink = RecordingSink()
        source.start(sink)
        running.append(source)
        if wait:
            eventually(lambda: source.healthy(time.monotonic()) == "", "the source is healthy")
        return source, sink

    yield start
    for source in running:
        source.stop()


def key(namespace: str, name: str = "web") -> BindingKey:
    return BindingKey(NAME, namespace, name)


def a_status(reason: Reason = Reason.READY, *, generation: int = 1) -> SecretBindingStatus:
    ready = ConditionStatus.TRUE if reason is Reason.READY else ConditionStatus.FALSE
    condition = Condition(
        type="Ready",
        status=ready,
        reason=reason,
        message="as it should be",
        last_transition_time="2030-01-01T00:00:00Z",
        observed_generation=generation,
    )
    return SecretBindingStatus(observed_generation=generation, conditions=(condition,))


def small_server(cluster: Cluster) -> ApiServer:
    if cluster.small is None:
        pytest.skip("faults are injected into the small server only")
    return cluster.small


def test_bindings_that_are_there_are_delivered_before_the_listing_counts_as_complete(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant, "one"))
    kubernetes_api.api.create_binding(a_binding(tenant, "two"))

    _, sink = started(tenant)

    assert {item.key for item in sink.deliveries} == {key(tenant, "one"), key(tenant, "two")}
    assert sink.listings == [NAME]
    item = sink.last(key(tenant, "one"))
    assert item is not None
    assert item.binding is not None
    assert item.binding.spec.workload.job == "web"
    assert (item.generation, item.deleting, item.nomad_namespace) == (1, False, "default")


def test_a_binding_is_delivered_once_though_listing_and_watch_both_show_it(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    _, sink = started(tenant)

    kubernetes_api.api.create_binding(a_binding(tenant, "later"))

    eventually(lambda: sink.last(key(tenant, "later")), "the later one is delivered")
    assert len(sink.of(key(tenant))) == 1
    assert len(sink.of(key(tenant, "later"))) == 1


def test_a_change_is_delivered_at_once(kubernetes_api: Cluster, started: Started, tenant: str) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    _, sink = started(tenant)

    began = time.monotonic()
    kubernetes_api.api.patch_binding(tenant, "web", {"spec": {"suspend": True}})

    item = eventually(lambda: next((item for item in sink.of(key(tenant)) if item.generation == 2), None), "the change")
    assert time.monotonic() - began < 2
    assert item.binding.spec.suspend


def test_all_namespaces_are_watched_when_none_is_named(kubernetes_api: Cluster, started: Started, tenant: str) -> None:
    _, sink = started()

    kubernetes_api.api.create_binding(a_binding(tenant))

    eventually(lambda: sink.last(key(tenant)), "the binding is delivered")


def test_other_namespaces_than_the_named_ones_are_left_alone(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_namespace(f"{tenant}-other")
    kubernetes_api.api.create_binding(a_binding(f"{tenant}-other"))
    _, sink = started(tenant)

    kubernetes_api.api.patch_binding(f"{tenant}-other", "web", {"spec": {"suspend": True}})
    kubernetes_api.api.create_binding(a_binding(tenant))

    eventually(lambda: sink.last(key(tenant)), "the binding is delivered")
    assert {item.key.tenant for item in sink.deliveries} == {tenant}


def test_watching_writes_nothing(kubernetes_api: Cluster, started: Started, tenant: str) -> None:
    made = kubernetes_api.api.create_binding(a_binding(tenant))
    _, sink = started(tenant)
    changed = kubernetes_api.api.patch_binding(tenant, "web", {"spec": {"suspend": True}})
    eventually(lambda: len(sink.of(key(tenant))) == 2, "the change is delivered")

    after = kubernetes_api.api.binding(tenant, "web")

    assert after is not None
    assert after["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
    assert after["metadata"].get("annotations") == made["metadata"].get("annotations")
    assert "finalizers" not in after["metadata"]
    if kubernetes_api.small is not None:
        assert kubernetes_api.small.writes() == {}


def test_preparing_adds_the_finalizer_once(kubernetes_api: Cluster, started: Started, tenant: str) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    source, _ = started(tenant)

    source.prepare(key(tenant))
    source.prepare(key(tenant))

    after = kubernetes_api.api.binding(tenant, "web")
    assert after is not None
    assert after["metadata"]["finalizers"] == [FINALIZER]
    if kubernetes_api.small is not None:
        assert kubernetes_api.small.counts()["patch secretbindings"] == 1


def test_a_report_replaces_the_whole_status_and_posts_one_event_for_each_transition(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    source, _ = started(tenant)
    first = a_status(Reason.JOB_NOT_FOUND).model_copy(update={"last_handled_rotate_at": "2030-01-01T00:00:00Z"})
    source.report(key(tenant), first, [Transition("Warning", Reason.JOB_NOT_FOUND, "no such job")])

    source.report(key(tenant), a_status(), [Transition("Normal", Reason.READY, "all is well")])

    after = kubernetes_api.api.binding(tenant, "web")
    assert after is not None
    assert SecretBindingStatus.read(after["status"]) == a_status()
    assert "lastHandledRotateAt" not in after["status"]
    events = [(event["type"], event["reason"]) for event in kubernetes_api.api.events_of(tenant, "web")]
    assert sorted(events) == [("Normal", "Ready"), ("Warning", "JobNotFound")]


def test_kubectl_wait_understands_the_status(kubernetes_api: Cluster, started: Started, tenant: str) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    source, _ = started(tenant)
    source.report(key(tenant), a_status(), [])

    waited = kubernetes_api.kubectl("wait", "--for=condition=Ready", "nsb/web", "-n", tenant, "--timeout=10s")

    assert waited.returncode == 0, waited.stderr


def test_a_report_about_a_binding_that_is_gone_is_no_error(started: Started, tenant: str) -> None:
    source, _ = started(tenant)

    source.report(key(tenant, "never"), a_status(), [])


def test_the_written_status_comes_back_with_the_next_delivery(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    source, sink = started(tenant)

    source.report(key(tenant), a_status(), [])

    eventually(lambda: (item := sink.last(key(tenant))) and item.status == a_status(), "the status is delivered")


def test_a_deletion_waits_for_the_engine_and_then_the_binding_goes(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    source, sink = started(tenant)
    source.prepare(key(tenant))

    kubernetes_api.api.delete_binding(tenant, "web")

    eventually(lambda: (item := sink.last(key(tenant))) and item.deleting, "the deletion is delivered")
    assert kubernetes_api.api.binding(tenant, "web") is not None
    source.gone(key(tenant))
    assert kubernetes_api.api.binding(tenant, "web") is None
    source.gone(key(tenant))
    kubernetes_api.api.create_binding(a_binding(tenant, "after"))
    eventually(lambda: sink.last(key(tenant, "after")), "a later event is delivered")
    assert sink.gone == []


def test_a_binding_of_the_same_name_that_came_later_keeps_its_finalizer(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    source, sink = started(tenant)
    kubernetes_api.api.delete_binding(tenant, "web")
    eventually(lambda: sink.gone == [key(tenant)], "the first has vanished")
    second = kubernetes_api.api.create_binding(a_binding(tenant))
    eventually(lambda: len(sink.of(key(tenant))) == 2, "the second is delivered")
    source.prepare(key(tenant))

    source.gone(key(tenant))

    after = kubernetes_api.api.binding(tenant, "web")
    assert after is not None
    assert after["metadata"]["uid"] == second["metadata"]["uid"]
    assert after["metadata"]["finalizers"] == [FINALIZER]
    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"finalizers": None}})


def test_a_binding_whose_finalizer_was_taken_away_by_force_has_vanished(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    source, sink = started(tenant)
    source.prepare(key(tenant))
    kubernetes_api.api.delete_binding(tenant, "web")
    eventually(lambda: (item := sink.last(key(tenant))) and item.deleting, "the deletion is delivered")

    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"finalizers": None}})

    eventually(lambda: sink.gone == [key(tenant)], "it has vanished")


def test_a_binding_held_by_others_only_has_vanished_as_far_as_we_are_concerned(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"finalizers": ["example.org/theirs"]}})
    _, sink = started(tenant)

    kubernetes_api.api.delete_binding(tenant, "web")

    eventually(lambda: sink.gone == [key(tenant)], "it has vanished")
    assert not any(item.deleting for item in sink.deliveries)
    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"finalizers": None}})


def test_absence_is_proven_by_asking_for_the_one_binding(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    source, _ = started(tenant)

    assert source.proves_absent(key(tenant, "other"))
    assert not source.proves_absent(key(tenant))


def test_a_request_to_rotate_is_the_annotations_text(kubernetes_api: Cluster, started: Started, tenant: str) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    _, sink = started(tenant)

    annotation = {ROTATE_ANNOTATION: "2030-01-01T00:00:00Z"}
    kubernetes_api.api.patch_binding(tenant, "web", {"metadata": {"annotations": annotation}})

    item = eventually(lambda: (last := sink.last(key(tenant))) and last.rotate_requested_at and last, "the request")
    assert item.rotate_requested_at == "2030-01-01T00:00:00Z"
    assert item.generation == 1


def test_preparing_what_is_not_there_is_not_found(started: Started, tenant: str) -> None:
    source, _ = started(tenant)

    with pytest.raises(NotFound):
        source.prepare(key(tenant, "never"))


def test_a_restart_with_everything_in_place_writes_nothing(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    kubernetes_api.api.create_binding(a_binding(tenant))
    first, _ = started(tenant)
    first.prepare(key(tenant))
    first.report(key(tenant), a_status(), [])
    first.stop()
    before = kubernetes_api.api.binding(tenant, "web")
    assert before is not None
    if kubernetes_api.small is not None:
        kubernetes_api.small.reset_counts()

    second, sink = started(tenant)
    second.prepare(key(tenant))

    item = sink.last(key(tenant))
    assert item is not None
    assert item.status == a_status()
    after = kubernetes_api.api.binding(tenant, "web")
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    if kubernetes_api.small is not None:
        assert kubernetes_api.small.writes() == {}


def test_adoption_costs_at_most_three_writes_and_a_deletion_one(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    server = small_server(kubernetes_api)
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
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    small_server(kubernetes_api).deny("create", "events")
    kubernetes_api.api.create_binding(a_binding(tenant))
    source, _ = started(tenant)

    source.report(key(tenant), a_status(), [Transition("Normal", Reason.READY, "ready")])

    after = kubernetes_api.api.binding(tenant, "web")
    assert after is not None
    assert after["status"]["observedGeneration"] == 1


def test_a_watch_that_is_cut_goes_on_where_it_was(kubernetes_api: Cluster, started: Started, tenant: str) -> None:
    server = small_server(kubernetes_api)
    kubernetes_api.api.create_binding(a_binding(tenant))
    _, sink = started(tenant)

    server.cut_watches()
    kubernetes_api.api.patch_binding(tenant, "web", {"spec": {"suspend": True}})

    eventually(lambda: (item := sink.last(key(tenant))) and item.generation == 2, "the change is delivered")


def test_a_deletion_that_the_watch_missed_is_found_by_the_listing_that_follows(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    server = small_server(kubernetes_api)
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
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    server = small_server(kubernetes_api)
    kubernetes_api.api.create_binding(a_binding(tenant))
    pace = Pace(resync_seconds=1.0, suspect_seconds=0.3, relist_seconds=0.1, open_seconds=5.0, retry_max_seconds=1.0)
    _, sink = started(tenant, pace=pace)
    opened = server.counts()["watch secretbindings"]

    server.deafen()
    kubernetes_api.api.patch_binding(tenant, "web", {"spec": {"suspend": True}})

    eventually(lambda: (item := sink.last(key(tenant))) and item.generation == 2, "the listing delivers the change")
    eventually(lambda: server.counts()["watch secretbindings"] > opened, "the watch is started anew")


def test_a_listing_without_rights_is_no_listing_and_deletes_nothing(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    server = small_server(kubernetes_api)
    server.deny("list", "secretbindings")
    kubernetes_api.api.create_binding(a_binding(tenant))

    source, sink = started(tenant, wait=False)

    eventually(lambda: "may not `list secretbindings" in source.healthy(time.monotonic()), "the right is named")
    assert (sink.listings, sink.deliveries) == ([], [])
    server.allow("list", "secretbindings")
    eventually(lambda: source.healthy(time.monotonic()) == "", "the source is healthy")
    assert sink.listings == [NAME]


def test_losing_the_right_to_list_later_deletes_nothing(kubernetes_api: Cluster, started: Started, tenant: str) -> None:
    server = small_server(kubernetes_api)
    kubernetes_api.api.create_binding(a_binding(tenant))
    pace = Pace(resync_seconds=0.2, suspect_seconds=0.3, relist_seconds=0.1, open_seconds=5.0, retry_max_seconds=0.2)
    source, sink = started(tenant, pace=pace)
    server.reset_counts()

    server.deny("*", "secretbindings")

    eventually(lambda: server.counts().get("list secretbindings", 0) >= 3, "the listing was tried three times")
    assert sink.gone == []
    assert source.healthy(time.monotonic() + 10) != ""


def test_a_right_to_watch_that_is_missing_is_told(kubernetes_api: Cluster, started: Started, tenant: str) -> None:
    server = small_server(kubernetes_api)
    server.deny("watch", "secretbindings")

    source, _ = started(tenant, wait=False)

    eventually(lambda: "403 to watch" in source.healthy(time.monotonic()), "the right is named")


def test_a_definition_that_is_not_installed_yet_is_told_and_waited_for(
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    small_server(kubernetes_api)
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
    kubernetes_api: Cluster, started: Started, tenant: str
) -> None:
    small_server(kubernetes_api).fail("*", "secretbindings", 404)
    source, _ = started(tenant, wait=False)

    with pytest.raises(Exception, match="CustomResourceDefinition"):
        source.proves_absent(key(tenant))


def test_a_renewed_token_is_used_without_a_restart(kubernetes_api: Cluster, started: Started, tenant: str) -> None:
    server = small_server(kubernetes_api)
    source, sink = started(tenant)

    server.change_token()
    server.write_kubeconfig(kubernetes_api.kubeconfig)
    server.cut_watches()
    fresh = type(kubernetes_api.api)(kubernetes_api.kubeconfig)
    fresh.create_binding(a_binding(tenant))

    eventually(lambda: sink.last(key(tenant)), "the binding is delivered")
    eventually(lambda: source.healthy(time.monotonic()) == "", "the source is healthy")


def test_stopping_returns_soon_and_ends_every_thread(started: Started, tenant: str) -> None:
    import threading

    source, _ = started(tenant)

    began = time.monotonic()
    source.stop()

    assert time.monotonic() - began < 3
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("kubernetes-")]
