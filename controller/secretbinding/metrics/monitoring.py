"""Metrics and health checks of one controller, put together."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from prometheus_client import CollectorRegistry

from secretbinding.engine.hooks import Hooks, Several
from secretbinding.engine.store import Entry
from secretbinding.metrics.collector import Gauges
from secretbinding.metrics.health import Check, live, ready
from secretbinding.metrics.instruments import Instruments
from secretbinding.metrics.parts import Parts
from secretbinding.metrics.passes import references_of
from secretbinding.metrics.probe import INTERVAL_SECONDS, SYSTEMS, ServerProbe
from secretbinding.metrics.recorder import Recorder
from secretbinding.metrics.sight import References
from secretbinding.metrics.web import Application, MetricsServer, application
from secretbinding.models.key import DEFAULT_CONNECTION, BindingKey, WorkloadKey
from secretbinding.page.access import Access
from secretbinding.page.journal import Journal
from secretbinding.page.words import part_of


class Monitoring:
    """Made before the connections, which tell it of their requests (`called`); attached to the parts of the controller;
    started before they are and stopped after them.

    Args:
        bind: where to serve, host and port; port 0 for any free one.
        stuck_seconds: how long a worker may be at one workload.
        probe_seconds: how long without a word from a server until it is asked.
        page: whom the web page is shown to.
        instance: the controller's name on it.
    """

    def __init__(
        self,
        bind: tuple[str, int],
        *,
        stuck_seconds: float = 600.0,
        probe_seconds: float = INTERVAL_SECONDS,
        page: Access = Access.OFF,
        instance: str = "default",
    ) -> None:
        self.registry = CollectorRegistry()
        self._stuck_seconds = stuck_seconds
        self._probe_seconds = probe_seconds
        self._recorder = Recorder(Instruments(self.registry), self._references, self._vault_now)
        self._parts: Parts | None = None
        self._probes: dict[str, ServerProbe] = {}
        self._journal = Journal() if page is not Access.OFF else None
        pages = _pages(self._journal, lambda: self._parts, self._ready, page, instance)
        self._server = MetricsServer(bind, application(self.registry, self._live, self._ready, pages))

    @property
    def hooks(self) -> Hooks:
        """What the engine is to tell."""
        return Several([self._recorder, *([self._journal] if self._journal is not None else [])])

    @property
    def address(self) -> str:
        """Where it serves: `host:port`."""
        return self._server.address

    def called(self, system: str, operation: str, seconds: float, outcome: str) -> None:
        """A request of the default connection, or to Kubernetes, was answered, or not (`adapters.transport.OnCall`)."""
        self._called(DEFAULT_CONNECTION, system, operation, seconds, outcome)

    def called_by(self, connection: str) -> Callable[[str, str, float, str], None]:
        """What is to be told of the requests of a connection."""
        return partial(self._called, connection)

    def _called(self, connection: str, system: str, operation: str, seconds: float, outcome: str) -> None:
        of = connection if system in SYSTEMS else ""
        self._recorder.called(of, system, operation, seconds, outcome)
        probe = self._probes.get(of)
        if probe is not None:
            probe.called(system, operation, outcome)

    def attach(self, parts: Parts) -> None:
        """Take the parts to look at, once, before `start`."""
        self._parts = parts
        self._probes = {
            name: ServerProbe(
                unit.servers.vault, unit.servers.nomad, connection=name, interval_seconds=self._probe_seconds
            )
            for name, unit in parts.units.items()
        }
        self.registry.register(Gauges(parts, self._recorder, self._probes, self._live))

    def start(self) -> None:
        """Start serving; returns at once. Raises `errors.UsageError` when it cannot listen where it is told to."""
        self._server.start()
        for probe in self._probes.values():
            probe.start()

    def stop(self) -> None:
        """Stop serving."""
        for probe in self._probes.values():
            probe.stop()
        self._server.stop()

    def _references(self, workload: WorkloadKey) -> References:
        if self._parts is None:
            return {}
        items = (entry.item for entry in self._parts.fleet.of_workload(workload))
        return references_of((item.key, item.binding) for item in items if item.binding is not None)

    def _vault_now(self, workload: WorkloadKey) -> datetime:
        unit = self._parts.units.get(workload.connection) if self._parts is not None else None
        return unit.servers.vault_now() if unit is not None else datetime.now(UTC)

    def _live(self) -> Sequence[Check]:
        if self._parts is None:
            return ()
        return live(self._parts, self._probes, self._stuck_seconds)

    def _ready(self) -> Sequence[Check]:
        if self._parts is None:
            return (Check("start", "is under way"),)
        return ready(self._parts, self._probes)


def _pages(
    journal: Journal | None,
    parts: Callable[[], Parts | None],
    checks: Callable[[], Sequence[Check]],
    access: Access,
    instance: str,
) -> Mapping[str, Application]:
    """The web page's paths; none where nobody may see it."""
    if journal is None:
        return {}
    from secretbinding.page.site import Site
    from secretbinding.page.surroundings import Answering, Surroundings

    def own(key: BindingKey) -> Entry | None:
        now = parts()
        entry = now.fleet.get(key) if now is not None else None
        owned = now is not None and entry is not None and now.fleet.owns(entry.workload)
        return entry if owned else None

    def part() -> str:
        keeper = now.keeper if (now := parts()) is not None else None
        return part_of(keeper.held(), keeper.total) if keeper is not None else ""

    around = Surroundings(
        entries=lambda: now.fleet.snapshot() if (now := parts()) is not None else (),
        get=own,
        checks=lambda: [Answering(check.name, check.problem) for check in checks()],
        held=lambda: now.fleet.held if (now := parts()) is not None else {},
        part=part,
    )
    site = Site(around, journal, instance=instance, access=access)
    return dict.fromkeys(site.paths, site)
