"""OpenTelemetry while the controller runs: starts what is asked for, and ends it within seconds."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from secretbinding import __version__, tracing
from secretbinding.telemetry.asked import Asked
from secretbinding.telemetry.bridge import Family, metrics_data
from secretbinding.telemetry.spans import OtelTracer

_log = structlog.get_logger(__name__)

_NAME = "secretbinding"
_STOP_SECONDS = 3.0

Families = Callable[[], Iterable[Family]]


class Telemetry:
    """Exports until it is stopped. `families` collects the metrics; `instance` is the controller's name."""

    def __init__(self, wanted: Asked, families: Families, *, instance: str) -> None:
        resource = _resource(instance)
        self._provider = _provider(resource) if wanted.traces else None
        self._pusher = _Pusher(families, resource, wanted.interval_seconds) if wanted.metrics else None
        self._propagate = wanted.propagate

    def start(self) -> None:
        """Begin; returns at once, whether anybody listens at the endpoint or not."""
        if self._provider is not None:
            tracing.install(OtelTracer(self._provider.get_tracer(_NAME, __version__), propagate=self._propagate))
        if self._pusher is not None:
            self._pusher.start()
        _log.info("telemetry", traces=self._provider is not None, metrics=self._pusher is not None)

    def stop(self) -> None:
        """Export what is left, for at most a few seconds in all, and end."""
        tracing.install(None)
        ending = [
            threading.Thread(target=part.shutdown, daemon=True) for part in (self._provider, self._pusher) if part
        ]
        for thread in ending:
            thread.start()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in ending:
            thread.join(max(0.0, deadline - time.monotonic()))


class _Pusher:
    """Exports the metrics every so often, and once at the end."""

    def __init__(self, families: Families, resource: Resource, interval_seconds: float) -> None:
        self._families = families
        self._resource = resource
        self._interval_seconds = interval_seconds
        self._scope = InstrumentationScope(_NAME, __version__)
        self._exporter = OTLPMetricExporter()
        self._started = time.time_ns()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otlp-metrics", daemon=True)
        self._failing = False

    def start(self) -> None:
        self._thread.start()

    def shutdown(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_seconds):
            self._push()
        self._push()

    def _push(self) -> None:
        done = MetricExportResult.FAILURE
        # Whatever it is, the next time may be better, and the work goes on.
        with suppress(Exception):
            data = metrics_data(self._families(), self._resource, self._scope, start=self._started, now=time.time_ns())
            done = self._exporter.export(data)
        failing = done is not MetricExportResult.SUCCESS
        if failing and not self._failing:
            _log.warning("metrics cannot be exported", remedy="check OTEL_EXPORTER_OTLP_ENDPOINT and the collector")
        self._failing = failing


def _provider(resource: Resource) -> TracerProvider:
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


def _resource(instance: str) -> Resource:
    """Who this is: as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, which win over what is known here."""
    own = Resource(
        {
            "service.name": _NAME,
            "service.version": __version__,
            "service.instance.id": socket.gethostname(),
            "secretbinding.instance": instance,
        }
    )
    found = Resource.create()
    told = {name: value for name, value in found.attributes.items() if name != "service.name"}
    named = "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "") or os.environ.get("OTEL_SERVICE_NAME")
    return own.merge(found if named else Resource(told))
