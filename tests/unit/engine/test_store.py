"""The store of bindings: by binding and by workload, and what a change touches."""

from dataclasses import replace

import pytest

from secretbinding.engine.store import Store
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.loading import parse_object
from secretbinding.models.reasons import Reason
from secretbinding.models.status import SecretBindingStatus
from secretbinding.rotation import read_rotate_request
from secretbinding.sources.base import SourceItem


def item(name: str, job: str, *, suspend: bool = False, **spec: object) -> SourceItem:
    manifest = {
        "metadata": {"name": name},
        "spec": {
            "workload": {"job": job},
            "secrets": [{"name": "app", "kv": {"mount": "secret", "path": "app"}, "env": {"A": "a"}}],
            "suspend": suspend,
            **spec,
        },
    }
    return SourceItem(BindingKey("files", "default", name), parse_object(manifest, source="test"), "default")


def workload(job: str) -> WorkloadKey:
    return WorkloadKey("default", "", "default", job)


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_new_binding_touches_its_workload(store: Store) -> None:
    assert store.upsert(item("a", "web")) == {workload("web")}
    assert [entry.item.key.name for entry in store.of_workload(workload("web"))] == ["a"]


def test_the_same_binding_again_touches_nothing(store: Store) -> None:
    store.upsert(item("a", "web"))
    assert store.upsert(item("a", "web")) == set()


def test_a_status_that_the_source_reads_back_touches_nothing(store: Store) -> None:
    store.upsert(item("a", "web"))
    assert store.upsert(replace(item("a", "web"), status=SecretBindingStatus(observed_generation=7))) == set()


def test_a_binding_that_names_another_job_touches_both(store: Store) -> None:
    store.upsert(item("a", "web"))
    assert store.upsert(item("a", "api")) == {workload("web"), workload("api")}
    assert store.of_workload(workload("web")) == []
    assert store.workloads() == [workload("api")]


def test_removing_the_last_binding_forgets_the_workload(store: Store) -> None:
    store.upsert(replace(item("a", "web"), deleting=True))
    store.upsert(replace(item("b", "web"), deleting=True))
    store.remove(BindingKey("files", "default", "a"))
    assert store.workloads() == [workload("web")]
    assert store.remove(BindingKey("files", "default", "b")) == {workload("web")}
    assert store.workloads() == []


def test_a_binding_that_was_made_again_under_its_name_is_not_forgotten_with_the_old_one(store: Store) -> None:
    store.upsert(replace(item("a", "web"), deleting=True))
    store.upsert(item("a", "web"))
    assert store.remove(BindingKey("files", "default", "a")) == set()
    assert store.get(BindingKey("files", "default", "a")) is not None


def test_a_suspended_binding_is_frozen_and_a_broken_one_too(store: Store) -> None:
    store.upsert(item("a", "web", suspend=True))
    broken = SourceItem(BindingKey("files", "default", "b"), None, "default", job="web")
    store.upsert(broken)
    reasons = [entry.input.frozen.reason for entry in store.of_workload(workload("web")) if entry.input.frozen]
    assert reasons == [Reason.SUSPENDED, Reason.INVALID_MANIFEST]


def test_a_binding_that_is_going_is_never_frozen(store: Store) -> None:
    store.upsert(replace(item("a", "web", suspend=True), deleting=True))
    assert store.of_workload(workload("web"))[0].input.frozen is None


def test_a_request_that_was_answered_is_no_request(store: Store) -> None:
    asked = replace(item("a", "web"), rotate_requested_at="2026-01-01T00:00:00Z")
    store.upsert(asked)
    key = asked.key
    assert store.of_workload(workload("web"))[0].input.rotate_requested_at is not None
    store.set_status(key, SecretBindingStatus(last_handled_rotate_at="2026-01-01T00:00:00Z"))
    assert store.of_workload(workload("web"))[0].input.rotate_requested_at is None


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00." + "0" * 60 + "Z"])
def test_a_request_that_is_no_time_is_none(text: str) -> None:
    assert read_rotate_request(text) is None


def test_a_request_without_a_zone_is_in_utc() -> None:
    assert read_rotate_request("2026-01-01T00:00:00") == read_rotate_request("2026-01-01T00:00:00Z")


def test_a_job_is_found_by_its_name_and_a_namespace_by_its_jobs(store: Store) -> None:
    store.upsert(item("a", "web"))
    store.upsert(item("b", "web"))
    store.upsert(item("c", "api"))
    assert store.named("default", "web") == {workload("web")}
    assert store.named("default", "other") == set()
    assert store.named("elsewhere", "web") == set()
    assert store.known() == [workload("web"), workload("api")]
    assert (store.size, store.namespaces()) == (2, {"default"})
