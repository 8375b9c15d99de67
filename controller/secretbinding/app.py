"""Wiring: settings become connections, connections and sources become a running controller."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.adapters.transport import OnCall
from secretbinding.adapters.vault.listing import ListingVaultAdapter
from secretbinding.connections import blamed_on, nomad_connection, vault_connection
from secretbinding.engine.admission import Admission
from secretbinding.engine.fleet import Fleet
from secretbinding.engine.gatekeeper import ALL_SHARDS, Gatekeeper, Limits
from secretbinding.engine.hooks import Hooks, Several
from secretbinding.engine.loop import Engine, EngineSettings
from secretbinding.engine.policies import Guard, PolicyBoard, PolicySource
from secretbinding.engine.queue import Priority
from secretbinding.engine.reconciler import Pace, Reconciler
from secretbinding.engine.store import Store
from secretbinding.errors import UsageError
from secretbinding.leadership import Callbacks, Keeper, shard_of
from secretbinding.metrics import Monitoring, Parts, Servers, Unit
from secretbinding.metrics.parts import Looping, Threaded
from secretbinding.models.key import WorkloadKey
from secretbinding.plan import Action
from secretbinding.ports import Leases
from secretbinding.settings import Settings
from secretbinding.sources.base import Source
from secretbinding.sources.policies.labels import LabelBook, Lister
from secretbinding.status import Pass
from secretbinding.watch.audit import AuditFile, AuditListener
from secretbinding.watch.nomad_events import COALESCE_SECONDS, NomadEventWatcher
from secretbinding.watch.secrets import SecretWatcher
from secretbinding.watch.variables import VariableWatcher
from secretbinding.webhooks.nacp import Listen, NacpWebhook, OnRefusal

_log = structlog.get_logger(__name__)

_POLICY_PATIENCE_SECONDS = 10.0


class Clients:
    """One adapter for each server, shared by all threads. `on_call` is told of each attempt at a request; with `keep`
    Vault's token is renewed even when it was given. Raises `errors.UsageError` that names the connection's setting."""

    def __init__(self, settings: Settings, *, on_call: OnCall | None = None, keep: bool = False) -> None:
        workers = settings.controller.workers
        with blamed_on(settings):
            self.vault = ListingVaultAdapter(
                vault_connection(settings, workers, on_call=on_call, keep=keep), on_call=on_call
            )
            self.nomad = NomadAdapter(nomad_connection(settings.nomad, workers), on_call=on_call)

    def close(self) -> None:
        """Close all connections."""
        self.vault.close()
        self.nomad.close()


class Tenancy:
    """The policies and the labels of tenants, and the guard that asks them; with tenancy `open` there is no guard.

    Args:
        sources: where policies come from. None at all is refused, unless tenancy is open.
        listers: how to list the labels of tenants, by source of bindings.
    """

    def __init__(
        self, settings: Settings, sources: Sequence[PolicySource], listers: Mapping[str, Lister] | None = None
    ) -> None:
        own = settings.controller
        self._sources = tuple(sources) if own.tenancy != "open" else ()
        self.board = PolicyBoard([source.name for source in self._sources], settle_seconds=own.policy_settle_seconds)
        self.labels = LabelBook(
            listers or {}, lambda: self.board.known().asks_for_labels, interval_seconds=own.label_seconds
        )
        self.guard = Guard(self.board, self.labels, instance=own.instance) if own.tenancy != "open" else None
        if self.guard is not None and not self._sources:
            raise UsageError(
                "it is not said where policies come from, and without a policy nothing is allowed",
                remedy="give --policies kubernetes, nomad or files=PATH; or set SECRETBINDING_TENANCY=open, where "
                "whoever may create a binding may have every secret that this controller can grant",
            )

    @property
    def watches(self) -> Sequence[Looping]:
        """What looks at policies and labels; none where tenancy is open."""
        return (*self._sources, self.labels) if self.guard is not None else ()

    def guard_of(self, instance: str) -> Guard | None:
        """The guard of a connection, whose marks are of an instance of its own."""
        return Guard(self.board, self.labels, instance=instance) if self.guard is not None else None

    def start(self, changed: Callable[[], None], *, patience_seconds: float = _POLICY_PATIENCE_SECONDS) -> None:
        """Start, and wait a while for the policies: bindings are left as they are until they are known."""
        if self.guard is None:
            _log.warning(
                "tenancy is open: whoever may create a binding gives any job any secret that this controller can grant",
                remedy="unset SECRETBINDING_TENANCY and write a SecretBindingPolicy",
            )
            return
        for source in self._sources:
            source.start(self.board)
        if not self.board.wait(patience_seconds):
            _log.error("policies are not known yet; everything stays as it is", why=self.board.known().unknown)
        elif not self.board.known().policies:
            _log.error("there is no SecretBindingPolicy; nothing is allowed, and what is injected stays as it is")
        if self.board.known().asks_for_labels:
            self.labels.look()
        self.board.changed = self.labels.changed = changed
        self.labels.start()

    def stop(self) -> None:
        """Stop all sources."""
        if self.guard is None:
            return
        for source in self._sources:
            source.stop()
        self.board.stop()
        self.labels.stop()


class Cluster:
    """One connection at work: an engine with its own queue, workers, limits and clocks, and what wakes it. Nothing of
    it waits for another connection's servers.

    Args:
        settings: those of the connection (`Settings.of`).
        hooks: what counts passes.
        guard: asks the policies; None where everything is allowed.
        keeper: says which workloads are this controller's; None for all.
    """

    def __init__(
        self,
        settings: Settings,
        clients: Clients,
        fleet: Fleet,
        *,
        hooks: Sequence[Hooks] = (),
        on_pass: Callable[[WorkloadKey, Pass, float], None] = lambda workload, found, seconds: None,
        guard: Guard | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        own = settings.controller
        self._on_pass = on_pass
        owns = keeper.owns if keeper is not None else _everything
        told: Hooks = Several([_Passes(self._passed), *hooks])
        pace = Pace(
            resync_seconds=own.resync_seconds, progress_seconds=own.progress_seconds, seals_seconds=own.poll_seconds
        )
        limits = Limits(
            own.max_rolls, own.max_rolls_per_namespace, own.settle_seconds, own.ungated_rolls, own.lease_share
        )
        self.gates = Gatekeeper(
            limits,
            vault_ahead=lambda: clients.vault.clock.ahead,
            nomad_ahead=lambda: clients.nomad.clock.ahead,
            shards=(lambda: (keeper.held(), keeper.total)) if keeper is not None else lambda: ALL_SHARDS,
        )
        self.engine = Engine(
            make_reconciler(settings, clients, told.acted, gates=self.gates, guard=guard, may_write=owns),
            clients.vault,
            EngineSettings(
                instance=own.instance,
                jwt_mount=own.jwt_mount,
                workers=own.workers,
                pace=pace,
                confirmed_removals=frozenset(name.strip() for name in own.confirm_removals.split(",") if name.strip()),
            ),
            gates=self.gates,
            hooks=told,
            owns=owns,
            takes_part=(lambda: bool(keeper.held())) if keeper is not None else lambda: True,
            connection=settings.connection,
            elsewhere=fleet.elsewhere(settings.connection),
        )
        self.secrets = SecretWatcher(
            clients.vault,
            self.engine.store,
            self.engine.wake,
            interval_seconds=own.poll_seconds,
            now=clients.vault.clock.now,
            namespace=settings.vault.namespace,
        )
        self.audits: list[AuditListener | AuditFile] = []
        if own.audit_bind is not None:
            self.audits.append(AuditListener(own.audit_bind, self.secrets.pushed))
        if own.audit_file is not None:
            self.audits.append(AuditFile(own.audit_file, self.secrets.pushed))
        self.events = NomadEventWatcher(
            clients.nomad,
            self.engine.store,
            lambda workloads: self.engine.wake(workloads, Priority.PROGRESS, after=COALESCE_SECONDS),
            lambda workloads: self.engine.wake(workloads, Priority.RESYNC),
        )
        self.variables = VariableWatcher(
            clients.nomad,
            self.engine.store,
            lambda workloads: self.engine.wake(workloads, Priority.PROGRESS),
            interval_seconds=own.poll_seconds,
        )
        self.asked = Servers(clients.vault, clients.nomad, clients.vault.clock.now)

    def unit(self) -> Unit:
        """What is looked at for metrics and health checks."""
        return Unit(self.engine, self.gates, self.secrets, self.variables, self.events, self.asked)

    def start(self) -> None:
        """Start what wakes the engine; the engines start together (`Fleet.start`)."""
        self.secrets.start()
        self.events.start()
        self.variables.start()

    def stop(self) -> None:
        """Stop it."""
        self.secrets.stop()
        self.events.stop()
        self.variables.stop()

    def _passed(self, workload: WorkloadKey, found: Pass, seconds: float) -> None:
        self.secrets.observed(workload, found)
        self._on_pass(workload, found, seconds)


class Controller:
    """The whole of `secretbinding run`: sources, and for each connection an engine and watchers. `on_pass` is told of
    each pass and its seconds; `monitoring` counts and serves, and has been given to the clients' `on_call`; `tenancy`
    says what is allowed; `further` are the clients of named connections; `beside` is what runs in the same process, and
    whose threads have to live as well. What is named without a connection (`engine`, `secrets`, ...) is the default
    one's."""

    def __init__(
        self,
        settings: Settings,
        clients: Clients,
        sources: Sequence[Source],
        on_pass: Callable[[WorkloadKey, Pass, float], None] = lambda workload, found, seconds: None,
        monitoring: Monitoring | None = None,
        tenancy: Tenancy | None = None,
        leases: Leases | None = None,
        further: Mapping[str, Clients] | None = None,
        beside: Sequence[Threaded] = (),
    ) -> None:
        own = settings.controller
        self.keeper = self._keeper(leases, own.shards) if leases is not None else None
        self._monitoring = monitoring
        self.tenancy = tenancy or Tenancy(settings, ())
        self.fleet = Fleet()
        self.clusters: dict[str, Cluster] = {}
        for name, connected in {settings.connection: clients, **(further or {})}.items():
            chosen = settings.of(name)
            self.clusters[name] = Cluster(
                chosen,
                connected,
                self.fleet,
                hooks=[monitoring.hooks] if monitoring is not None else [],
                on_pass=on_pass,
                guard=self.tenancy.guard_of(chosen.controller.instance),
                keeper=self.keeper,
            )
            self.fleet.add(self.clusters[name].engine)
        for source in sources:
            self.fleet.add_source(source)
        first = self.clusters[settings.connection]
        self.engine, self.gates, self.secrets = first.engine, first.gates, first.secrets
        self.events, self.variables = first.events, first.variables
        self.audits = [audit for cluster in self.clusters.values() for audit in cluster.audits]
        names = [source.name for source in sources]
        guard = self.tenancy.guard
        self.nacp = _nacp(settings, clients, self.engine.store, self.gates, names, guard)
        if monitoring is not None:
            parts = Parts(
                self.fleet,
                {name: cluster.unit() for name, cluster in self.clusters.items()},
                (*self.audits, *([self.nacp] if self.nacp is not None else []), *beside),
                self.keeper,
                self.tenancy.board if guard is not None else None,
                self.tenancy.watches,
            )
            monitoring.attach(parts)

    def start(self) -> None:
        """Start everything; returns at once. Raises `errors.UsageError` when it cannot listen where it is told to."""
        if self._monitoring is not None:
            self._monitoring.start()
        for audit in self.audits:
            audit.start()
        if self.nacp is not None:
            self.nacp.start()
        self.tenancy.start(self.fleet.wake_all)
        self.fleet.start()
        for cluster in self.clusters.values():
            cluster.start()
        if self.keeper is not None:
            self.keeper.start()

    def stop(self) -> None:
        """Stop everything; passes that are under way are finished."""
        for audit in self.audits:
            audit.stop()
        if self.nacp is not None:
            self.nacp.stop()
        for cluster in self.clusters.values():
            cluster.stop()
        self.fleet.stop()
        self.tenancy.stop()
        if self.keeper is not None:
            self.keeper.stop()
        if self._monitoring is not None:
            self._monitoring.stop()

    def _keeper(self, leases: Leases, shards: int) -> Keeper:
        def gained(taken: Collection[int]) -> None:
            self.fleet.gained(lambda workload: shard_of(workload, shards) in taken)

        callbacks = Callbacks(gained, lambda gone: self.fleet.lost(), lambda of: self.fleet.busy(of))
        return Keeper(leases, total=shards, callbacks=callbacks)


def _everything(workload: WorkloadKey) -> bool:
    return True


class _Passes(Hooks):
    """Tells of passes only."""

    def __init__(self, passed: Callable[[WorkloadKey, Pass, float], None]) -> None:
        self._passed = passed

    def passed(self, workload: WorkloadKey, found: Pass, seconds: float) -> None:
        self._passed(workload, found, seconds)


def _nacp(
    settings: Settings,
    clients: Clients,
    store: Store,
    gates: Gatekeeper,
    sources: Sequence[str],
    guard: Guard | None,
) -> NacpWebhook | None:
    own = settings.controller
    if own.nacp_bind is None:
        return None
    admission = Admission(
        clients.vault,
        clients.nomad,
        store,
        instance=own.instance,
        jwt_mount=own.jwt_mount,
        agents=settings.agents(),
        sources=sources,
        gates=gates,
        guard=guard,
    )
    listen = Listen(*own.nacp_bind, own.nacp_cert, own.nacp_key, own.nacp_client_ca)
    return NacpWebhook(listen, admission.admit, OnRefusal(own.nacp_refusal))


def make_reconciler(
    settings: Settings,
    clients: Clients,
    on_action: Callable[[WorkloadKey, Action], None] = lambda workload, action: None,
    *,
    gates: Gatekeeper | None = None,
    guard: Guard | None = None,
    may_write: Callable[[WorkloadKey], bool] = _everything,
) -> Reconciler:
    """The reconciler for these connections; `on_action` is told of every write. Without `gates` no roll waits for a
    window or a limit: for commands at which somebody waits. Without a `guard` no policy is asked: for commands of
    people, whose own tokens say what they may do."""
    return Reconciler(
        clients.vault,
        clients.nomad,
        instance=settings.controller.instance,
        jwt_mount=settings.controller.jwt_mount,
        agents=settings.agents(),
        clock=time.monotonic,
        purge_grace_seconds=settings.controller.purge_grace_seconds,
        on_action=on_action,
        gates=gates,
        guard=guard,
        may_write=may_write,
        connection=settings.connection,
    )
