"""Traces and metrics of a running controller, as a collector gets them; and what never gets there."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from secretbinding.metrics import Monitoring
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.telemetry.asked import asked
from secretbinding.telemetry.running import Telemetry
from tests.support.metrics import OPENMETRICS, Scrape, get, scrape
from tests.support.otlp import CLIENT, ERROR, INTERNAL, Collector, Traced, collecting
from tests.support.servers import Stack
from tests.support.world import World, a_job, a_manifest, forget_bindings, wait_until

if TYPE_CHECKING:
    from secretbinding.app import Controller

CANARY = "canary-77ab-never-to-be-seen"


class Traceable:
    """A running controller, its servers, and the collector that it exports to."""

    def __init__(self, world: World, controller: "Controller", monitoring: Monitoring, collector: Collector) -> None:
        self.world = world
        self.controller = controller
        self.monitoring = monitoring
        self.collector = collector

    def tree(self, root: Traced) -> dict[str, list[Traced]]:
        """The spans of a trace by the name of their parent; requests are among them."""
        spans = [span for span in self.collector.spans() if span.trace == root.trace]
        names = {span.id: span.name for span in spans}
        found: dict[str, list[Traced]] = {}
        for span in spans:
            if span.parent:
                found.setdefault(names[span.parent], []).append(span)
        return found


@pytest.fixture
def traced(unique: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[Traceable]]:
    """Runs the controller for a stack; everything is exported when the block ends."""

    @contextmanager
    def run(stack: Stack, during: Callable[[Traceable], None], **variables: str) -> Iterator[Traceable]:
        world = World(stack, instance=unique)
        monitoring = Monitoring(("127.0.0.1", 0))
        with collecting() as collector:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address)
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            telemetry = Telemetry(asked(os.environ), monitoring.registry.collect, instance=unique)
            telemetry.start()
            with world.running(monitoring=monitoring) as controller:
                running = Traceable(world, controller, monitoring, collector)
                during(running)
            telemetry.stop()
            yield running

    return run


Run = Callable[..., AbstractContextManager[Traceable]]


def test_a_rotation_is_a_trace_of_what_was_observed_planned_and_applied(stack: Stack, traced: Run, unique: str) -> None:
    path = f"path-of-{unique}"
    opened: list[Scrape] = []

    def rotate(running: Traceable) -> None:
        world = running.world
        forget_bindings(stack)
        world.secret(path, username="app", password=f"{CANARY}-1")
        world.register(a_job(unique))
        world.bind(a_manifest(unique, unique, path))
        world.await_reason(unique, Reason.READY)
        world.deployed(unique)
        world.secret(path, username="app", password=f"{CANARY}-2")
        wait_until("version 2 serves", lambda: all("-2" in one for one in world.seen(unique) or [""]))
        world.await_reason(unique, Reason.UP_TO_DATE, ConditionType.ROTATION_HEALTHY)
        text = get(running.monitoring.address, "/metrics", Accept=OPENMETRICS).text
        opened.append(Scrape(text, open_metrics=True))

    with traced(stack, rotate) as running:
        collector = running.collector
        every = collector.spans("reconcile")
        assert all(span.parent == "" and span.kind == INTERNAL for span in every)
        passes = {span.attributes["secretbinding.reconcile_id"]: span for span in every}
        assert len(passes) == len(every), "each pass has a name of its own"
        # Others may have left a binding that is taken away meanwhile.
        roots = [span for span in every if span.attributes["secretbinding.nomad.job"] == unique]

        registering = [root for root in roots if _has(running, root, "nomad job_register")]
        assert len(registering) == 2
        tree = running.tree(registering[1])
        assert {"observe", "plan", "apply", "report"} <= {span.name for span in tree["reconcile"]}
        assert "nomad job_read" in {span.name for span in tree["observe"]}
        register = next(span for span in tree["apply"] if span.name == "nomad job_register")
        assert (register.kind, register.attributes["http.response.status_code"]) == (CLIENT, 200)
        assert register.attributes["http.request.method"] in ("PUT", "POST")
        assert f"127.0.0.1:{register.attributes['server.port']}" in stack.address
        calls = [span for span in collector.spans() if span.kind == CLIENT]
        assert all(span.parent for span in calls), "a request outside a pass is no span"
        assert {span.attributes["secretbinding.system"] for span in calls} == {"vault", "nomad"}

        exemplars = [each.exemplar.labels for each in opened[0].samples() if each.exemplar is not None]
        assert exemplars
        for labels in exemplars:
            assert passes[labels["reconcile_id"]].trace == labels["trace_id"]
        durations = opened[0].families["secretbinding_reconcile_duration_seconds"].samples
        assert any(each.exemplar is not None for each in durations)

        assert roots[0].resource["service.name"] == "secretbinding"
        assert roots[0].resource["secretbinding.instance"] == unique
        sent = b"".join(collector.raw)
        assert len(sent) > 10_000
        for hidden in (CANARY, path, *(_tokens(running.world))):
            assert hidden.encode() not in sent


def test_metrics_come_by_otlp_as_they_are_scraped(simulator: Stack, traced: Run, unique: str) -> None:
    scraped: list[Scrape] = []

    def bind(running: Traceable) -> None:
        world = running.world
        forget_bindings(simulator)
        world.secret(unique, username="app", password=CANARY)
        world.register(a_job(unique))
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
        world.deployed(unique)
        # A first export while it runs, and no later pass.
        wait_until("metrics came", lambda: "secretbinding_reconciles_total" in running.collector.metrics())
        wait_until("nothing is under way", lambda: running.controller.engine.queue.idle(within=1.0))
        scraped.append(scrape(running.monitoring.address))

    variables = {"OTEL_METRIC_EXPORT_INTERVAL": "200", "OTEL_TRACES_EXPORTER": "none", "OTEL_SERVICE_NAME": "mine"}
    with traced(simulator, bind, **variables) as running:
        found = running.collector.metrics()
        names = {name.removesuffix("_total") for name in found}
        for family in scraped[0].families.values():
            if family.samples:
                assert family.name.removesuffix("_total") in names, family.name
        results = {
            point.attributes[0].value.string_value: point.as_double
            for point in found["secretbinding_reconciles_total"].sum.data_points
        }
        assert results["registered"] == scraped[0].value("secretbinding_reconciles_total", result="registered") == 1
        histogram = found["secretbinding_reconcile_duration_seconds"].histogram.data_points[0]
        assert histogram.count == sum(histogram.bucket_counts) >= 1
        assert running.collector.resource["service.name"] == "mine"
        assert not running.collector.spans()
        assert CANARY.encode() not in b"".join(running.collector.raw)


def test_what_is_not_there_is_told_without_its_path(simulator: Stack, traced: Run, unique: str) -> None:
    def refuse(running: Traceable) -> None:
        world = running.world
        forget_bindings(simulator)
        world.register(a_job(unique))
        world.bind(a_manifest(unique, unique, f"nowhere-{unique}"))
        world.await_reason(unique, Reason.SECRET_NOT_FOUND)

    with traced(simulator, refuse) as running:
        missing = [
            span for span in running.collector.spans() if span.attributes.get("http.response.status_code") == 404
        ]
        assert missing
        assert all(span.status == ERROR and span.attributes["error.type"] for span in missing)
        assert f"nowhere-{unique}".encode() not in b"".join(running.collector.raw)


def test_a_collector_that_is_away_holds_nothing_up(
    simulator: Stack, unique: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:{CANARY}@127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization={CANARY}")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "500")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "500")
    world = World(simulator, instance=unique)
    monitoring = Monitoring(("127.0.0.1", 0))
    telemetry = Telemetry(asked(os.environ), monitoring.registry.collect, instance=unique)
    telemetry.start()
    forget_bindings(simulator)
    with world.running(monitoring=monitoring):
        world.secret(unique, username="app", password=CANARY)
        world.register(a_job(unique))
        world.bind(a_manifest(unique, unique, unique))
        world.await_reason(unique, Reason.READY)
    started = time.monotonic()
    telemetry.stop()
    assert time.monotonic() - started < 5
    assert caplog.records, "the library tells that it cannot export"
    assert CANARY not in caplog.text


def _has(running: Traceable, root: Traced, name: str) -> bool:
    return any(span.name == name for span in running.collector.spans() if span.trace == root.trace)


def _tokens(world: World) -> list[str]:
    own = world.settings
    return [own.vault.token.get_secret_value(), own.nomad.token.get_secret_value()]
