"""The counters and histograms, in a registry of their own."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

from secretbinding import tracing
from secretbinding.engine.queue import Priority
from secretbinding.metrics import catalogue
from secretbinding.metrics.catalogue import Metric
from secretbinding.metrics.decisions import Decided, Drifted, Ended, Occurrence, Registered
from secretbinding.metrics.words import REASONS, Cause, Outcome, Part, Result


class Instruments:
    """Thread-safe. Every series whose labels are known beforehand is there from the start, so that the first thing that
    happens shows as an increase. `exemplar` is the name of a pass, "" for none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # `_created`: a second series for each first one, which nobody reads. The function has no types.
        leave_out: Callable[[], object] = disable_created_metrics
        leave_out()
        self._registry = registry
        ProcessCollector(registry=registry)
        self._reconciles = self._counter(catalogue.RECONCILES, ([result.value] for result in Result))
        self._reconcile_seconds = self._histogram(catalogue.RECONCILE_SECONDS)
        self._retries = self._counter(catalogue.QUEUE_RETRIES, ([label(priority)] for priority in Priority))
        self._queue_wait = self._histogram(catalogue.QUEUE_WAIT, ([label(priority)] for priority in Priority))
        self._api_seconds = self._histogram(catalogue.API_SECONDS)
        reasons = ([decision.value, reason] for decision, words in REASONS.items() for reason in words)
        self._decisions = self._counter(catalogue.DECISIONS, reasons)
        self._outcomes = self._counter(catalogue.OUTCOMES, ([outcome.value] for outcome in Outcome))
        self._registrations = self._counter(catalogue.REGISTRATIONS, ([cause.value] for cause in Cause))
        self._to_registration = self._histogram(catalogue.TO_REGISTRATION)
        self._to_done = self._histogram(catalogue.TO_DONE)
        self._generated = self._counter(catalogue.GENERATED)
        self._drift_found = self._counter(catalogue.DRIFT_FOUND, ([part.value] for part in Part))
        self._drift_mended = self._counter(catalogue.DRIFT_MENDED, ([part.value] for part in Part))

    def called(self, connection: str, system: str, operation: str, seconds: float, outcome: str, exemplar: str) -> None:
        """A request was answered, or not."""
        self._api_seconds.labels(connection, system, operation, outcome).observe(seconds, _labels(exemplar))

    def generated(self, exemplar: str) -> None:
        """Vault has made a new value."""
        self._generated.inc(1, _labels(exemplar))

    def taken(self, priority: Priority, seconds: float) -> None:
        """A workload was handed to a worker, so many seconds after it was due."""
        self._queue_wait.labels(label(priority)).observe(seconds)

    def retried(self, priority: Priority) -> None:
        """A workload is queued again after a pass that did not come to a good end."""
        self._retries.labels(label(priority)).inc()

    def reconciled(self, result: Result, seconds: float | None, exemplar: str) -> None:
        """A pass ended; `seconds` is None for one that did not begin, or did not come to its end."""
        self._reconciles.labels(result.value).inc(1, _labels(exemplar))
        if seconds is not None:
            self._reconcile_seconds.observe(seconds, _labels(exemplar))

    def happened(self, occurrence: Occurrence, delays: Iterable[float], exemplar: str) -> None:
        """Something happened in a pass; `delays` are the seconds since the versions concerned were made in Vault."""
        named = _labels(exemplar)
        match occurrence:
            case Decided(decision=decision, reason=reason, count=count):
                self._decisions.labels(decision.value, reason).inc(count, named)
            case Registered(cause=cause):
                self._registrations.labels(cause.value).inc(1, named)
                for seconds in delays:
                    self._to_registration.observe(seconds, named)
            case Ended(outcome=outcome):
                self._outcomes.labels(outcome.value).inc(1, named)
                for seconds in delays:
                    self._to_done.observe(seconds, named)
            case Drifted(what=what, mended=mended):
                (self._drift_mended if mended else self._drift_found).labels(what.value).inc(1, named)

    def _counter(self, metric: Metric, series: Iterable[Iterable[str]] = ()) -> Counter:
        made = Counter(metric.name, metric.meaning, metric.labels, registry=self._registry)
        for values in series:
            made.labels(*values)
        return made

    def _histogram(self, metric: Metric, series: Iterable[Iterable[str]] = ()) -> Histogram:
        made = Histogram(metric.name, metric.meaning, metric.labels, registry=self._registry, buckets=metric.buckets)
        for values in series:
            made.labels(*values)
        return made


def label(priority: Priority) -> str:
    """A priority as a label."""
    return priority.name.lower()


def _labels(exemplar: str) -> dict[str, str] | None:
    """The labels of an exemplar: the pass, and the trace and span where it is traced: 91 characters of the 128 that
    OpenMetrics allows."""
    return {"reconcile_id": exemplar, **tracing.ids()} if exemplar else None
