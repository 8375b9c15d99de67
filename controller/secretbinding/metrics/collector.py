"""The gauges: read off the running parts when somebody asks."""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from secretbinding import __version__
from secretbinding.engine.queue import Priority
from secretbinding.metrics import catalogue
from secretbinding.metrics.catalogue import Metric
from secretbinding.metrics.health import Check
from secretbinding.metrics.instruments import label
from secretbinding.metrics.parts import Parts
from secretbinding.metrics.probe import SYSTEMS, ServerProbe
from secretbinding.metrics.recorder import Recorder
from secretbinding.metrics.summary import Summary, Troubled, summary_of
from secretbinding.models.reasons import ConditionType
from secretbinding.models.status import ConditionStatus
from secretbinding.tenancy.verdict import Known

Series = tuple[Sequence[str], float]
"""Values of the labels, and the value."""


class Gauges(Collector):
    """One look at each part for each scrape; `live` are the checks of `/healthz`."""

    def __init__(
        self,
        parts: Parts,
        recorder: Recorder,
        probes: Mapping[str, ServerProbe],
        live: Callable[[], Iterable[Check]],
    ) -> None:
        self._parts = parts
        self._recorder = recorder
        self._probes = probes
        self._live = live

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: registering looks at no part."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        summary = summary_of(self._parts.fleet.snapshot())
        yield from self._work()
        yield from self._bindings(summary)
        yield from self._servers()
        yield from self._leases()
        yield from self._sources()
        yield from self._policies()
        yield _family(catalogue.LAST_ROTATION, (([source], moment) for source, moment in summary.last.items()))
        yield _family(catalogue.NEXT_ROTATION, (([source], moment) for source, moment in summary.next.items()))
        yield _family(catalogue.HEALTH, (([check.name], bool(check.problem)) for check in self._live()))
        yield _family(catalogue.BUILD, [([__version__, platform.python_version()], 1)])

    def _work(self) -> Iterator[GaugeMetricFamily]:
        units = self._parts.units
        backlogs = [
            (name, each, unit.engine.queue.backlog()[each]) for name, unit in units.items() for each in Priority
        ]
        yield _family(catalogue.QUEUE_DEPTH, (([name, label(each)], it.depth) for name, each, it in backlogs))
        yield _family(catalogue.QUEUE_OLDEST, (([name, label(each)], it.oldest_seconds) for name, each, it in backlogs))
        yield _family(catalogue.WORKERS, (([name], unit.engine.workers) for name, unit in units.items()))
        yield _family(catalogue.WORKERS_BUSY, (([name], unit.engine.queue.busy()[0]) for name, unit in units.items()))
        yield _family(catalogue.ROLLING, (([name], unit.gates.rolling()) for name, unit in units.items()))
        yield _family(catalogue.AT_RISK, [([], self._recorder.at_risk)])

    def _bindings(self, summary: Summary) -> Iterator[GaugeMetricFamily]:
        yield _family(
            catalogue.BINDINGS,
            (
                ([source, kind.value, word.value], summary.counts[source, kind.value, word])
                for source in self._parts.fleet.sources
                for kind in ConditionType
                for word in ConditionStatus
            ),
        )
        yield _family(
            catalogue.NOT_READY_REASONS,
            (([source, reason], count) for (source, reason), count in summary.not_ready_reasons.items()),
        )
        yield _family(catalogue.NOT_READY, map(_named, summary.not_ready))
        yield _family(catalogue.ROTATION_UNHEALTHY, map(_named, summary.rotation_unhealthy))
        yield _family(catalogue.SERIES_OMITTED, [([], summary.omitted)])

    def _servers(self) -> Iterator[GaugeMetricFamily]:
        asked = [(name, system, probe) for name, probe in self._probes.items() for system in SYSTEMS]
        yield _family(catalogue.ANSWERING, (([name, system], probe.answering(system)) for name, system, probe in asked))
        expiries = ((name, system, probe.expiry(system)) for name, system, probe in asked)
        yield _family(
            catalogue.TOKEN_EXPIRY,
            (([name, system], expiry.timestamp()) for name, system, expiry in expiries if expiry is not None),
        )
        watches = ((name, of, watch) for name, unit in self._parts.units.items() for of, watch in unit.watches)
        yield _family(catalogue.WATCH_STALE, (([name, of], watch.silent_seconds()) for name, of, watch in watches))

    def _leases(self) -> Iterator[GaugeMetricFamily]:
        keeper = self._parts.keeper
        held, total = (len(keeper.held()), keeper.total) if keeper is not None else (1, 1)
        yield _family(catalogue.LEADER, [([], bool(held))])
        yield _family(catalogue.SHARDS, [([], total)])
        yield _family(catalogue.SHARDS_HELD, [([], held)])
        yield _family(catalogue.LEASES_STALE, [([], keeper.silent_seconds() if keeper is not None else 0.0)])

    def _sources(self) -> Iterator[GaugeMetricFamily]:
        fleet, now = self._parts.fleet, time.monotonic()
        pulses = {name: source.pulse() for name, source in fleet.sources.items()}
        held = fleet.held
        yield _family(catalogue.SOURCE_STALE, (([name], max(0.0, now - it.heard)) for name, it in pulses.items()))
        yield _family(catalogue.SOURCE_LISTED, (([name], fleet.is_listed(name)) for name in pulses))
        yield _family(
            catalogue.SOURCE_HEALTHY, (([name], not source.healthy(now)) for name, source in fleet.sources.items())
        )
        yield _family(catalogue.SOURCE_HELD, (([name], it.held + held.get(name, 0)) for name, it in pulses.items()))

    def _policies(self) -> Iterator[GaugeMetricFamily]:
        board = self._parts.policies
        known = board.known() if board is not None else Known()
        yield _family(catalogue.POLICIES, [([], len(known.policies))])
        yield _family(catalogue.POLICIES_UNKNOWN, [([], bool(known.unknown))])
        yield _family(catalogue.TENANCY_OPEN, [([], board is None)])


def _family(metric: Metric, series: Iterable[Series]) -> GaugeMetricFamily:
    made = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for values, value in series:
        made.add_metric(values, value)
    return made


def _named(troubled: Troubled) -> Series:
    key, reason = troubled
    return (key.source, key.tenant, key.name, reason), 1
