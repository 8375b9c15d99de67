"""Metrics of Prometheus' client as OTLP's: the same numbers."""

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

pytest.importorskip("opentelemetry.sdk", reason="the extra `otel` is not installed")

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics.export import Gauge as OtlpGauge
from opentelemetry.sdk.metrics.export import Histogram as OtlpHistogram
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from secretbinding.telemetry.bridge import metrics_data

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def bridged(registry: CollectorRegistry) -> dict[str, Metric]:
    data = metrics_data(registry.collect(), Resource({}), InstrumentationScope("test"), start=1, now=2)
    return {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}


def test_a_counter_is_a_sum_that_only_grows_under_the_name_that_prometheus_shows(registry: CollectorRegistry) -> None:
    counter = Counter("things", "How many.", ["kind"], registry=registry)
    counter.labels("a").inc(3)
    counter.labels("b").inc()
    data = bridged(registry)["things_total"].data
    assert isinstance(data, Sum)
    assert (data.is_monotonic, data.aggregation_temporality) == (True, AggregationTemporality.CUMULATIVE)
    points = [point for point in data.data_points if isinstance(point, NumberDataPoint)]
    assert {point.attributes["kind"]: point.value for point in points if point.attributes} == {"a": 3.0, "b": 1.0}
    assert {(point.start_time_unix_nano, point.time_unix_nano) for point in points} == {(1, 2)}


def test_a_gauge_stays_one_and_has_its_unit(registry: CollectorRegistry) -> None:
    Gauge("age_seconds", "How old.", registry=registry).set(-1.5)
    metric = bridged(registry)["age_seconds"]
    assert isinstance(metric.data, OtlpGauge)
    assert (metric.unit, metric.description, metric.data.data_points[0].value) == ("s", "How old.", -1.5)


def test_the_buckets_of_a_histogram_are_counted_one_by_one(registry: CollectorRegistry) -> None:
    histogram = Histogram("took_seconds", "How long.", ["system"], registry=registry, buckets=(0.1, 1, 10))
    for seconds in (0.05, 0.5, 0.6, 5, 50):
        histogram.labels("vault").observe(seconds, {"reconcile_id": "p", "trace_id": TRACE, "span_id": SPAN})
    histogram.labels("nomad").observe(0.2)
    data = bridged(registry)["took_seconds"].data
    assert isinstance(data, OtlpHistogram)
    points = {point.attributes["system"]: point for point in data.data_points if point.attributes}
    vault = points["vault"]
    assert isinstance(vault, HistogramDataPoint)
    assert (vault.explicit_bounds, vault.bucket_counts) == ([0.1, 1.0, 10.0], [1, 2, 1, 1])
    assert (vault.count, round(vault.sum, 2)) == (5, 56.15)
    assert points["nomad"].bucket_counts == [0, 1, 0, 0]
    exemplar = vault.exemplars[0]
    assert (exemplar.trace_id, exemplar.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert exemplar.filtered_attributes == {"reconcile_id": "p"}


def test_a_gauge_that_is_true_is_one(registry: CollectorRegistry) -> None:
    class Answering(Collector):
        def collect(self) -> Iterator[GaugeMetricFamily]:
            yield GaugeMetricFamily("answering", "1 while it answers.", value=True)

    registry.register(Answering())
    value = bridged(registry)["answering"].data.data_points[0].value  # type: ignore[union-attr]
    assert (value, type(value)) == (1.0, float), "OTLP has no truth values among its numbers"


def test_what_has_no_series_yet_is_left_out(registry: CollectorRegistry) -> None:
    Histogram("took_seconds", "How long.", ["system"], registry=registry)
    Counter("things", "How many.", ["kind"], registry=registry)
    assert bridged(registry) == {}
