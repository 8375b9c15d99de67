"""Wiring: settings become connections, connections and sources become a running controller."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from secretbinding.adapters.connection import ConsulConnection, NomadConnection, TokenFile, TokenSource, VaultConnection
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.adapters.transport import OnCall
from secretbinding.adapters.vault.listing import ListingVaultAdapter
from secretbinding.engine.admission import Admission
from secretbinding.engine.gatekeeper import Gatekeeper, Limits
from secretbinding.engine.hooks import Hooks, Several
from secretbinding.engine.loop import Engine, EngineSettings
from secretbinding.engine.queue import Priority
from secretbinding.engine.reconciler import Pace, Reconciler
from secretbinding.engine.store import Store
from secretbinding.metrics import Monitoring, Parts
from secretbinding.models.key import WorkloadKey
from secretbinding.plan import Action
from secretbinding.plan_text import describe
from secretbinding.settings import ConsulSettings, NomadSettings, Settings, VaultSettings
from secretbinding.sources.base import Source
from secretbinding.status import Pass
from secretbinding.watch.audit import AuditFile, AuditListener
from secretbinding.watch.nomad_events import NomadEventWatcher
from secretbinding.watch.secrets import SecretWatcher
from secretbinding.watch.variables import VariableWatcher
from secretbinding.webhooks.nacp import Listen, NacpWebhook, OnRefusal

_log = structlog.get_logger(__name__)


class Clients:
    """One adapter for each server, shared by all threads. `on_call` is told of each attempt at a request."""

    def __init__(self, settings: Settings, *, on_call: OnCall | None = None) -> None:
        workers = settings.controller.workers
        self.vault = ListingVaultAdapter(vault_connection(settings.vault, workers, settings.consul), on_call=on_call)
        self.nomad = NomadAdapter(nomad_connection(settings.nomad, workers), on_call=on_call)

    def close(self) -> None:
        """Close all connections."""
        self.vault.close()
        self.nomad.close()


class Controller:
    """The whole of `secretbinding run`: engine, watchers, sources. `on_pass` is told of each pass and its seconds;
    `monitoring` counts and serves, and has been given to the clients' `on_call`."""

    def __init__(
        self,
        settings: Settings,
        clients: Clients,
        sources: Sequence[Source],
        on_pass: Callable[[WorkloadKey, Pass, float], None] = lambda workload, found, seconds: None,
        monitoring: Monitoring | None = None,
    ) -> None:
        own = settings.controller
        self._monitoring = monitoring
        hooks: Hooks = Several([_Passes(self._passed), *([monitoring.hooks] if monitoring is not None else [])])
        pace = Pace(resync_seconds=own.resync_seconds, progress_seconds=own.progress_seconds)
        limits = Limits(
            own.max_rolls, own.max_rolls_per_namespace, own.settle_seconds, own.ungated_rolls, own.lease_share
        )
        self.gates = Gatekeeper(
            limits, vault_ahead=lambda: clients.vault.clock.ahead, nomad_ahead=lambda: clients.nomad.clock.ahead
        )
        self.engine = Engine(
            make_reconciler(settings, clients, _told(hooks), gates=self.gates),
            clients.vault,
            EngineSettings(
                instance=own.instance,
                jwt_mount=own.jwt_mount,
                workers=own.workers,
                pace=pace,
                confirmed_removals=frozenset(name.strip() for name in own.confirm_removals.split(",") if name.strip()),
            ),
            gates=self.gates,
            hooks=hooks,
        )
        self._on_pass = on_pass
        for source in sources:
            self.engine.add_source(source)
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
        self.nacp = _nacp(settings, clients, self.engine.store, self.gates, [source.name for source in sources])
        self.events = NomadEventWatcher(
            clients.nomad,
            self.engine.store.workloads,
            lambda workloads: self.engine.wake(workloads, Priority.PROGRESS),
            lambda workloads: self.engine.wake(workloads, Priority.RESYNC),
        )

        self.variables = VariableWatcher(
            clients.nomad,
            self.engine.store,
            lambda workloads: self.engine.wake(workloads, Priority.PROGRESS),
            interval_seconds=own.poll_seconds,
        )

        if monitoring is not None:
            others = (*self.audits, *([self.nacp] if self.nacp is not None else []))
            parts = Parts(self.engine, own.workers, self.gates, self.secrets, self.variables, self.events, others)
            monitoring.attach(parts, clients.vault, clients.nomad, clients.vault.clock.now)

    def start(self) -> None:
        """Start everything; returns at once. Raises `errors.UsageError` when it cannot listen where it is told to."""
        if self._monitoring is not None:
            self._monitoring.start()
        for audit in self.audits:
            audit.start()
        if self.nacp is not None:
            self.nacp.start()
        self.engine.start()
        self.secrets.start()
        self.events.start()
        self.variables.start()

    def stop(self) -> None:
        """Stop everything; passes that are under way are finished."""
        for audit in self.audits:
            audit.stop()
        if self.nacp is not None:
            self.nacp.stop()
        self.secrets.stop()
        self.events.stop()
        self.variables.stop()
        self.engine.stop()
        if self._monitoring is not None:
            self._monitoring.stop()

    def _passed(self, workload: WorkloadKey, found: Pass, seconds: float) -> None:
        self.secrets.observed(workload, found)
        self._on_pass(workload, found, seconds)


class _Passes(Hooks):
    """Tells of passes only."""

    def __init__(self, passed: Callable[[WorkloadKey, Pass, float], None]) -> None:
        self._passed = passed

    def passed(self, workload: WorkloadKey, found: Pass, seconds: float) -> None:
        self._passed(workload, found, seconds)


def _told(hooks: Hooks) -> Callable[[WorkloadKey, Action], None]:
    """Each write goes to the log, and to the hooks."""

    def tell(workload: WorkloadKey, action: Action) -> None:
        _log_action(workload, action)
        hooks.acted(workload, action)

    return tell


def _log_action(workload: WorkloadKey, action: Action) -> None:
    _log.info(describe(action), workload=str(workload))


def _nacp(
    settings: Settings, clients: Clients, store: Store, gates: Gatekeeper, sources: Sequence[str]
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
        sources=sources,
        gates=gates,
    )
    listen = Listen(*own.nacp_bind, own.nacp_cert, own.nacp_key, own.nacp_client_ca)
    return NacpWebhook(listen, admission.admit, OnRefusal(own.nacp_refusal))


def make_reconciler(
    settings: Settings,
    clients: Clients,
    on_action: Callable[[WorkloadKey, Action], None] = _log_action,
    *,
    gates: Gatekeeper | None = None,
) -> Reconciler:
    """The reconciler for these connections; `on_action` is told of every write, the log is by default. Without `gates`
    no roll waits for a window or a limit: for commands at which somebody waits."""
    return Reconciler(
        clients.vault,
        clients.nomad,
        instance=settings.controller.instance,
        jwt_mount=settings.controller.jwt_mount,
        clock=time.monotonic,
        purge_grace_seconds=settings.controller.purge_grace_seconds,
        on_action=on_action,
        gates=gates,
    )


def vault_connection(settings: VaultSettings, workers: int, consul: ConsulSettings) -> VaultConnection:
    """The connection to Vault that the settings ask for. A token file is read again whenever it changes."""
    catalogue = ConsulConnection(**_common(consul, workers))
    return VaultConnection(**_common(settings, workers), namespace=settings.namespace, consul=catalogue)


def nomad_connection(settings: NomadSettings, workers: int) -> NomadConnection:
    """The connection to Nomad that the settings ask for."""
    return NomadConnection(**_common(settings, workers), region=settings.region, long_pool_size=64)


def _common(settings: VaultSettings | NomadSettings | ConsulSettings, workers: int) -> dict[str, Any]:
    token: TokenSource = TokenFile(settings.token_file) if settings.token_file else settings.token.get_secret_value()
    return {
        "address": settings.address,
        "token": token,
        "ca_cert": settings.ca_cert,
        "ca_path": settings.ca_path,
        "client_cert": settings.client_cert,
        "client_key": settings.client_key,
        "tls_server_name": settings.tls_server_name,
        "skip_verify": settings.skip_verify,
        "pool_size": workers + 2,
    }
