"""What the engine tells becomes numbers; nothing that goes wrong in counting reaches the work that is counted."""

from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics

from secretbinding.desired import BindingInput, desire
from secretbinding.desired.values import Desired, Observed
from secretbinding.engine.hooks import current_reconcile_id, reconcile_id
from secretbinding.engine.queue import Priority
from secretbinding.generation import KV, GenerateValue, Target
from secretbinding.kinds.base import Fault
from secretbinding.metrics.instruments import Instruments
from secretbinding.metrics.passes import references_of
from secretbinding.metrics.recorder import Recorder
from secretbinding.metrics.sight import References
from secretbinding.models.binding import Generate
from secretbinding.models.key import WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.plan import Plan, UntagVersion
from secretbinding.status import Pass
from tests.support import builders as make
from tests.support.builders import INSTANCE, WORKLOAD, binding, kv_state
from tests.support.metrics import Scrape
from tests.unit.core.world import World

EMPTY = Desired(None, {}, {}, {})
VAULT_AWAY = Fault(Reason.VAULT_UNREACHABLE, "no answer")


class Told:
    """A recorder, and what it has counted."""

    def __init__(self, references: References | None = None) -> None:
        self.registry = CollectorRegistry()
        self.references: References | None = references if references is not None else {}
        self.now = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
        self.recorder = Recorder(Instruments(self.registry), self._references, lambda workload: self.now)

    def _references(self, workload: WorkloadKey) -> References:
        if self.references is None:
            raise LookupError(str(workload))
        return self.references

    def scrape(self) -> Scrape:
        return Scrape(generate_latest(self.registry).decode())

    def value(self, name: str, **labels: str) -> float:
        return self.scrape().value(name, **labels)


def quiet(*, registered: bool = False) -> Pass:
    return Pass(INSTANCE, Observed(WORKLOAD), EMPTY, Plan(), registered=registered)


def test_passes_are_counted_by_how_they_ended_and_how_long_they_took() -> None:
    told = Told()
    told.recorder.passed(WORKLOAD, quiet(), 0.02)
    told.recorder.passed(WORKLOAD, quiet(registered=True), 0.2)
    told.recorder.acted(WORKLOAD, UntagVersion("tag"))
    told.recorder.passed(WORKLOAD, quiet(), 2.0)
    told.recorder.passed(WORKLOAD, Pass(INSTANCE, Observed(WORKLOAD), error=VAULT_AWAY), 20.0)
    told.recorder.crashed(WORKLOAD)
    told.recorder.unprepared(WORKLOAD)
    scraped = told.scrape()
    for result in ("unchanged", "changed", "registered", "failed", "crashed", "unprepared"):
        assert scraped.value("secretbinding_reconciles_total", result=result) == 1, result
    assert scraped.value("secretbinding_reconcile_duration_seconds_count") == 4
    assert scraped.value("secretbinding_reconcile_duration_seconds_sum") == pytest.approx(22.22)


def test_the_queue_tells_waits_and_retries() -> None:
    told = Told()
    told.recorder.taken(Priority.CHANGE, 0.25)
    told.recorder.retried(Priority.RESYNC)
    assert told.value("secretbinding_queue_wait_seconds_sum", priority="change") == 0.25
    assert told.value("secretbinding_queue_retries_total", priority="resync") == 1


def test_passes_over_ten_thousand_jobs_add_no_series() -> None:
    told = Told()
    before = sum(1 for _ in told.scrape().samples())
    for number in range(10_000):
        workload = WorkloadKey("default", "", f"team-{number % 200}", f"job-{number}")
        told.recorder.taken(Priority.RESYNC, 0.01)
        told.recorder.passed(workload, Pass(INSTANCE, Observed(workload), EMPTY, Plan()), 0.01)
        told.recorder.crashed(workload)
        told.recorder.retried(Priority.RESYNC)
    assert told.value("secretbinding_reconciles_total", result="unchanged") == 10_000
    assert sum(1 for _ in told.scrape().samples()) == before


def test_new_values_are_counted_when_vault_has_made_them() -> None:
    told = Told()
    entry = Generate(secret="app", fields=("password",), schedule="0 3 1 * *")
    value = GenerateValue(make.key(), entry, Target(KV, "secret", "app"), "3", told.now, requested=True)
    told.recorder.acted(WORKLOAD, value)
    assert told.value("secretbinding_values_generated_total") == 1


def test_requests_are_counted_by_system_operation_and_outcome() -> None:
    told = Told()
    for seconds in (0.01, 0.03):
        told.recorder.called("default", "vault", "policy_read", seconds, "Success")
    labels = {"connection": "default", "system": "vault", "operation": "policy_read", "outcome": "Success"}
    assert told.value("secretbinding_api_request_duration_seconds_count", **labels) == 2
    assert told.value("secretbinding_api_request_duration_seconds_sum", **labels) == pytest.approx(0.04)


def rotated(told: Told, world: World, item: BindingInput) -> None:
    """One pass in which the job is registered, told as the engine tells it."""
    observed = world.observe([item])
    desired = desire(observed, [item], INSTANCE)
    plan = world.run([item])
    for action in plan.actions:
        told.recorder.acted(WORKLOAD, action)
    told.recorder.passed(WORKLOAD, Pass(INSTANCE, observed, desired, plan, registered=plan.registers), 0.1)


def test_a_rotation_is_measured_from_the_making_of_the_version_to_job_and_end() -> None:
    item = make.given(binding(make.kv("app", path="app")))
    assert item.binding is not None
    told, world = Told(references_of([(item.key, item.binding)])), World()
    world.secrets["kv", "app"] = kv_state(1)
    world.user_registers(make.job())
    world.settle([item])
    rotated(told, world, item)
    world.secrets["kv", "app"] = kv_state(2)  # made at 00:02:00
    told.now = datetime(2026, 1, 1, 0, 2, 3, tzinfo=UTC)
    rotated(told, world, item)
    world.finish_deployment()
    told.now = datetime(2026, 1, 1, 0, 2, 30, tzinfo=UTC)
    rotated(told, world, item)
    assert told.value("secretbinding_secret_change_to_registration_seconds_sum") == 3
    assert told.value("secretbinding_secret_change_to_done_seconds_sum") == 30
    assert told.value("secretbinding_rotation_decisions_total", decision="started", reason="") == 1
    assert told.value("secretbinding_rotation_outcomes_total", outcome="succeeded") == 1


def test_a_clock_of_vaults_that_is_ahead_makes_no_negative_time() -> None:
    item = make.given(binding(make.kv("app", path="app")))
    assert item.binding is not None
    told, world = Told(references_of([(item.key, item.binding)])), World()
    world.secrets["kv", "app"] = kv_state(1)
    world.user_registers(make.job())
    world.settle([item])
    world.secrets["kv", "app"] = kv_state(2)
    told.now = datetime(2025, 1, 1, tzinfo=UTC)
    rotated(told, world, item)
    assert told.value("secretbinding_secret_change_to_registration_seconds_count") == 1
    assert told.value("secretbinding_secret_change_to_registration_seconds_sum") == 0


def test_what_is_at_risk_is_no_longer_told_when_the_workload_is_forgotten() -> None:
    item = make.given(binding(make.kv("app", path="app")))
    assert item.binding is not None
    told, world = Told(references_of([(item.key, item.binding)])), World()
    world.secrets["kv", "app"] = kv_state(1)
    world.user_registers(make.job())
    world.settle([item])
    world.secrets["kv", "app"] = kv_state(1, deleted=[1])
    rotated(told, world, item)
    rotated(told, world, item)
    assert told.recorder.at_risk == 1
    told.recorder.forgotten(WORKLOAD)
    assert told.recorder.at_risk == 0


def test_what_cannot_be_counted_does_not_hinder_the_pass() -> None:
    told = Told()
    told.references = None
    told.recorder.passed(WORKLOAD, quiet(), 0.1)
    assert told.value("secretbinding_reconciles_total", result="unchanged") == 1


def test_a_pass_has_a_name_of_its_own_which_goes_with_what_it_counts_in_openmetrics_only() -> None:
    told = Told()
    with reconcile_id():
        first = current_reconcile_id()
        told.recorder.passed(WORKLOAD, quiet(), 0.1)
        told.recorder.called("default", "vault", "policy_read", 0.01, "Success")
    with reconcile_id():
        assert current_reconcile_id() not in ("", first)
    assert current_reconcile_id() == ""
    told.recorder.called("default", "nomad", "job_read", 0.01, "Success")
    samples = Scrape(open_metrics(told.registry).decode(), open_metrics=True).samples()
    named = [each for each in samples if each.exemplar is not None]
    assert {each.exemplar.labels["reconcile_id"] for each in named if each.exemplar} == {first}
    assert {each.name for each in named} == {
        "secretbinding_reconciles_total",
        "secretbinding_reconcile_duration_seconds_bucket",
        "secretbinding_api_request_duration_seconds_bucket",
    }
    assert first not in told.scrape().text
