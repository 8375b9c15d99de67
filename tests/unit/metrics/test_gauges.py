"""What a scrape shows of the parts, and how much of it there is."""

import threading
import time
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest

from secretbinding.engine.policies import PolicyBoard
from secretbinding.engine.queue import Priority
from secretbinding.metrics.catalogue import CATALOGUE, Kind
from secretbinding.models.key import WorkloadKey
from secretbinding.models.reasons import ConditionType
from secretbinding.models.status import ConditionStatus, SecretBindingStatus
from tests.support.metrics import Scrape
from tests.unit.metrics.parts import EXPIRY, FakeKeeper, Fakes, reported
from tests.unit.tenancy.builders import policy

FALSE, UNKNOWN = ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@pytest.fixture
def fakes() -> Fakes:
    return Fakes("nomad", "files")


def look(fakes: Fakes) -> Scrape:
    return Scrape(generate_latest(fakes.monitoring.registry).decode())


def named(scraped: Scrape, name: str) -> Iterator[tuple[str, str, str]]:
    for sample in scraped.samples():
        if sample.name == name:
            yield sample.labels["binding_namespace"], sample.labels["binding"], sample.labels["reason"]


def test_bindings_are_counted_by_source_condition_and_status(fakes: Fakes) -> None:
    fakes.bind("a", reported())
    fakes.bind("b", reported(FALSE, FALSE, "JobNotFound"))
    fakes.bind("c", SecretBindingStatus(), source="files")
    scraped = look(fakes)

    def count(source: str, condition: str, status: str) -> float:
        return scraped.value("secretbinding_bindings", source=source, condition=condition, status=status)

    assert (count("nomad", "Ready", "True"), count("nomad", "Ready", "False"), count("files", "Ready", "True")) == (
        1,
        1,
        0,
    )
    assert count("files", "RotationHealthy", "Unknown") == 1, "nothing has been reported yet"
    assert scraped.total("secretbinding_bindings") == 3 * len(ConditionType)


def test_only_what_is_not_as_it_should_be_is_named(fakes: Fakes) -> None:
    fakes.bind("good", reported())
    fakes.bind("bad", reported(FALSE, reason="JobNotFound"), tenant="payments")
    fakes.bind("held", reported(rotation=FALSE, reason="DeploymentFailed"))
    fakes.bind("new", SecretBindingStatus())
    fakes.bind("unknown", reported(UNKNOWN, UNKNOWN, reason="VaultUnreachable"))
    scraped = look(fakes)
    assert set(named(scraped, "secretbinding_binding_not_ready")) == {
        ("team", "unknown", "VaultUnreachable"),
        ("payments", "bad", "JobNotFound"),
        ("team", "new", "Pending"),
    }
    assert set(named(scraped, "secretbinding_binding_rotation_unhealthy")) == {("team", "held", "DeploymentFailed")}


def test_a_reason_that_no_controller_has_written_does_not_become_a_label(fakes: Fakes) -> None:
    fakes.bind("a", reported(FALSE, FALSE, "hvs_ABCDEF"))
    scraped = look(fakes)
    assert set(named(scraped, "secretbinding_binding_not_ready")) == {("team", "a", "Error")}
    assert "hvs_ABCDEF" not in scraped.text


def test_the_last_rotation_and_the_next_are_those_of_all_bindings_of_a_source(fakes: Fakes) -> None:
    fakes.bind("a", reported(last="2027-01-01T00:00:00Z", upcoming="2027-03-01T00:00:00Z"))
    fakes.bind("b", reported(last="2027-01-02T00:00:00Z", upcoming="2027-02-01T00:00:00Z"))
    fakes.bind("c", reported(last="nonsense", upcoming="nonsense"))
    fakes.bind("gone", reported(upcoming="2027-01-05T00:00:00Z"), deleting=True)
    scraped = look(fakes)
    assert scraped.value("secretbinding_last_rotation_timestamp_seconds", source="nomad") == 1798848000
    assert scraped.value("secretbinding_next_rotation_timestamp_seconds", source="nomad") == 1801440000
    assert not scraped.has("secretbinding_last_rotation_timestamp_seconds", source="files")


def test_the_queue_is_shown_by_priority(fakes: Fakes) -> None:
    fakes.engine.queue.add(WorkloadKey("default", "", "default", "a"), Priority.CHANGE)
    fakes.engine.queue.add(WorkloadKey("default", "", "default", "b"), Priority.RESYNC, after=60)
    scraped = look(fakes)
    assert scraped.value("secretbinding_queue_depth", connection="default", priority="change") == 1
    assert scraped.value("secretbinding_queue_oldest_seconds", connection="default", priority="change") > 0
    assert scraped.value("secretbinding_queue_depth", connection="default", priority="resync") == 0
    assert scraped.value("secretbinding_queue_oldest_seconds", connection="default", priority="resync") == 0
    assert (
        scraped.value("secretbinding_workers", connection="default"),
        scraped.value("secretbinding_workers_busy", connection="default"),
    ) == (2, 0)


def test_sources_and_watches_tell_how_long_they_have_heard_nothing(fakes: Fakes) -> None:
    fakes.secrets.silent, fakes.variables.silent, fakes.events.silent = 12.5, 7.5, 3.5
    fakes.sources["files"].heard = time.monotonic() - 100
    fakes.sources["files"].problem = "the files could not be listed"
    fakes.sources["nomad"].held = 4
    fakes.engine.store.listed("nomad")
    scraped = look(fakes)
    assert scraped.value("secretbinding_watch_staleness_seconds", connection="default", watch="secrets") == 12.5
    assert scraped.value("secretbinding_watch_staleness_seconds", connection="default", watch="nomad_variables") == 7.5
    assert scraped.value("secretbinding_watch_staleness_seconds", connection="default", watch="nomad_events") == 3.5
    assert 100 <= scraped.value("secretbinding_source_staleness_seconds", source="files") < 110
    assert scraped.value("secretbinding_source_held_bindings", source="nomad") == 4
    for name, expected in (("nomad", 1), ("files", 0)):
        assert scraped.value("secretbinding_source_listed", source=name) == expected
        assert scraped.value("secretbinding_source_healthy", source=name) == expected


def test_servers_answer_and_tokens_end_as_the_probe_has_found(fakes: Fakes) -> None:
    assert look(fakes).value("secretbinding_server_answering", connection="default", system="vault") == 0
    fakes.monitoring.start()
    try:
        deadline = time.monotonic() + 5
        while not look(fakes).has("secretbinding_token_expiry_timestamp_seconds", connection="default", system="vault"):
            assert time.monotonic() < deadline, "the probe has not asked"
            threading.Event().wait(0.01)
        scraped = look(fakes)
    finally:
        fakes.monitoring.stop()
    assert scraped.value("secretbinding_server_answering", connection="default", system="vault") == 1
    assert scraped.value("secretbinding_server_answering", connection="default", system="nomad") == 1
    assert (
        scraped.value("secretbinding_token_expiry_timestamp_seconds", connection="default", system="vault")
        == EXPIRY.timestamp()
    )
    assert not scraped.has("secretbinding_token_expiry_timestamp_seconds", connection="default", system="nomad"), (
        "it never ends"
    )


def test_every_metric_that_is_exposed_is_in_the_catalogue_with_its_type_and_labels(fakes: Fakes) -> None:
    fakes.bind(
        "bad", reported(FALSE, FALSE, "JobNotFound", last="2027-01-01T00:00:00Z", upcoming="2027-03-01T00:00:00Z")
    )
    fakes.monitoring.called("vault", "policy_read", 0.1, "Success")
    scraped = look(fakes)
    listed = {metric.name.removesuffix("_total"): metric for metric in CATALOGUE}
    assert set(scraped.families) == set(listed)
    for name, family in scraped.families.items():
        metric = listed[name]
        assert (family.type, family.documentation) == (metric.kind.value, metric.meaning)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
            assert sample.name.endswith("_total") == (metric.kind is Kind.COUNTER)


def test_ten_thousand_bindings_make_a_few_hundred_series() -> None:
    fakes = Fakes("nomad", "kubernetes", "files")
    for number in range(10_000):
        source = ("nomad", "kubernetes", "files")[number % 3]
        fakes.bind(f"b{number}", reported(last="2027-01-01T00:00:00Z"), source=source, tenant=f"team-{number % 200}")
    scraped = look(fakes)
    assert sum(1 for _ in scraped.samples()) < 300
    assert len(scraped.text.encode()) < 32 * 1024
    assert scraped.total("secretbinding_bindings") == 10_000 * len(ConditionType)


def test_on_the_worst_of_days_no_more_than_five_hundred_are_named_and_always_the_same() -> None:
    fakes = Fakes("nomad")
    for number in range(10_000):
        fakes.bind(f"b{number:05d}", reported(FALSE, FALSE, "NomadUnreachable"))
    scraped = look(fakes)
    assert sum(1 for _ in scraped.samples()) < 1_300
    assert len(scraped.text.encode()) < 192 * 1024
    assert scraped.value("secretbinding_binding_series_omitted") == 2 * 9_500
    assert {name for _, name, _ in named(scraped, "secretbinding_binding_not_ready")} == {
        f"b{n:05d}" for n in range(500)
    }


def test_what_rests_because_somebody_wants_it_takes_no_place_from_what_needs_somebody() -> None:
    fakes = Fakes("nomad")
    for number in range(600):
        fakes.bind(f"a{number:03d}", reported(FALSE, reason="JobStopped" if number % 2 else "Suspended"))
    fakes.bind("zz-broken", reported(FALSE, reason="PermissionDenied"))
    scraped = look(fakes)
    shown = set(named(scraped, "secretbinding_binding_not_ready"))
    assert ("team", "zz-broken", "PermissionDenied") in shown
    assert len(shown) == 500
    assert scraped.value("secretbinding_binding_series_omitted") == 101


def test_all_that_are_not_ready_are_counted_by_reason_however_few_are_named() -> None:
    fakes = Fakes("nomad", "files")
    for number in range(700):
        fakes.bind(f"b{number}", reported(FALSE, reason="NomadUnreachable"))
    fakes.bind("stopped", reported(FALSE, reason="JobStopped"), source="files")
    fakes.bind("new", SecretBindingStatus(), source="files")
    fakes.bind("well", reported())
    scraped = look(fakes)
    counted = {
        (sample.labels["source"], sample.labels["reason"]): sample.value
        for sample in scraped.samples()
        if sample.name == "secretbinding_bindings_not_ready"
    }
    assert counted == {
        ("nomad", "NomadUnreachable"): 700,
        ("files", "JobStopped"): 1,
        ("files", "Pending"): 1,
    }


def test_no_label_names_a_path_in_vault_or_a_secret(fakes: Fakes) -> None:
    fakes.bind("a", reported(FALSE, FALSE, "SecretNotFound"))
    text = look(fakes).text
    assert "vault-path-of" not in text
    assert "secret-name" not in text


@pytest.mark.parametrize(
    ("keeper", "leader", "shards", "held", "silent"),
    [(None, 1, 1, 1, 0.0), (FakeKeeper(), 0, 8, 0, 2.5), (FakeKeeper(1, 5, 7), 1, 8, 3, 2.5)],
)
def test_whose_jobs_are_whose_is_shown(
    keeper: FakeKeeper | None, leader: int, shards: int, held: int, silent: float
) -> None:
    scraped = look(Fakes("nomad", keeper=keeper))
    found = [scraped.value(f"secretbinding_{name}") for name in ("leader", "shards", "shards_held")]
    assert found == [leader, shards, held]
    assert scraped.value("secretbinding_leases_staleness_seconds") == silent


def test_policies_are_counted_and_that_they_are_not_all_known_is_told() -> None:
    def seen(fakes: Fakes) -> tuple[float, ...]:
        scraped = look(fakes)
        return tuple(
            scraped.value(f"secretbinding_{name}") for name in ("policies", "policies_unknown", "tenancy_open")
        )

    board = PolicyBoard(["nomad"])
    fakes = Fakes(policies=board)
    assert seen(fakes) == (0, 1, 0)
    board.deliver("nomad", (policy(),), ())
    assert seen(fakes) == (1, 0, 0)
    assert seen(Fakes()) == (0, 0, 1)
