"""The Kubernetes source: what it delivers, what it writes, and what it takes for a deletion."""

import threading
import time

import pytest

from secretbinding.errors import NotFound
from secretbinding.models.reasons import Reason
from secretbinding.models.status import SecretBindingStatus
from secretbinding.sources.kubernetes import FINALIZER, NAME, ROTATE_ANNOTATION
from secretbinding.status.transitions import Transition
from tests.kubernetes.sink import Started, a_status, key
from tests.support.kubeclient import eventually
from tests.support.kubernetes import Cluster, a_binding


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


def test_stopping_returns_soon_and_ends_every_thread(started: Started, tenant: str) -> None:
    source, _ = started(tenant)

    began = time.monotonic()
    source.stop()

    assert time.monotonic() - began < 3
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("kubernetes-")]
