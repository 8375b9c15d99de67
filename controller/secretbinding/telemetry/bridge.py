"""Metrics as Prometheus' client collects them, as OTLP's values: the same names, labels and buckets. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, SupportsFloat, cast

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_CUMULATIVE = AggregationTemporality.CUMULATIVE
_UNITS = {"_seconds": "s", "_bytes": "By"}
_NANOSECONDS = 1_000_000_000


class Marked(Protocol):
    """An exemplar of Prometheus' client."""

    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def value(self) -> float: ...
    @property
    def timestamp(self) -> SupportsFloat | None: ...


class Sample(Protocol):
    """A sample of Prometheus' client."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def value(self) -> float: ...
    @property
    def exemplar(self) -> Marked | None: ...


class Family(Protocol):
    """A metric of Prometheus' client with its samples."""

    @property
    def name(self) -> str: ...
    @property
    def documentation(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def samples(self) -> Sequence[Sample]: ...


def metrics_data(
    families: Iterable[Family],
    resource: Resource,
    scope: InstrumentationScope,
    *,
    start: int,
    now: int,
) -> MetricsData:
    """All families; `start` is when their counting began and `now` when they were collected, in nanoseconds since the
    epoch."""
    made: list[Metric] = []
    for family in families:
        if family.type == "histogram":
            points = _histogram_points(family.samples, start, now)
            made += [_metric(family, family.name, Histogram(points, _CUMULATIVE))] if points else []
            continue
        named: dict[str, list[NumberDataPoint]] = {}
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                named.setdefault(sample.name, []).append(_number(sample, start, now))
        for name, numbers in named.items():
            counts = family.type == "counter"
            made.append(_metric(family, name, Sum(numbers, _CUMULATIVE, True) if counts else Gauge(numbers)))
    scoped = ScopeMetrics(scope=scope, metrics=made, schema_url="")
    return MetricsData([ResourceMetrics(resource=resource, scope_metrics=[scoped], schema_url="")])


def _metric(family: Family, name: str, data: "Sum | Gauge | Histogram") -> Metric:
    plain = name.removesuffix("_total")
    unit = next((unit for suffix, unit in _UNITS.items() if plain.endswith(suffix)), "")
    return Metric(name=name, description=family.documentation, unit=unit, data=data)


def _number(sample: Sample, start: int, now: int) -> NumberDataPoint:
    exemplars = [_exemplar(sample.exemplar, now)] if sample.exemplar is not None else []
    return NumberDataPoint(dict(sample.labels), start, now, float(sample.value), exemplars)


def _histogram_points(samples: Iterable[Sample], start: int, now: int) -> list[HistogramDataPoint]:
    """A point for each set of labels. Prometheus counts in each bucket what those before it hold; OTLP does not."""
    bounds: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    exemplars: dict[tuple[tuple[str, str], ...], list[Exemplar]] = {}
    for sample in samples:
        labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        if sample.name.endswith("_bucket"):
            bounds.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
            if sample.exemplar is not None:
                exemplars.setdefault(labels, []).append(_exemplar(sample.exemplar, now))
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    made: list[HistogramDataPoint] = []
    for labels, buckets in bounds.items():
        buckets.sort()
        counts = [int(count) for _, count in buckets]
        made.append(
            HistogramDataPoint(
                attributes=dict(labels),
                start_time_unix_nano=start,
                time_unix_nano=now,
                count=counts[-1],
                sum=sums.get(labels, 0.0),
                bucket_counts=[count - before for before, count in zip([0, *counts], counts, strict=False)],
                explicit_bounds=[bound for bound, _ in buckets[:-1]],
                # OTLP lets both be left out, which the type does not say.
                min=cast("float", None),
                max=cast("float", None),
                exemplars=exemplars.get(labels, []),
            )
        )
    return made


def _exemplar(marked: Marked, now: int) -> Exemplar:
    labels = dict(marked.labels)
    trace_id, span_id = labels.pop("trace_id", ""), labels.pop("span_id", "")
    at = round(float(marked.timestamp) * _NANOSECONDS) if marked.timestamp is not None else now
    return Exemplar(
        labels, marked.value, at, int(span_id, 16) if span_id else None, int(trace_id, 16) if trace_id else None
    )
