"""`run`: the controller."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from secretbinding.cli.connect import clients, kubernetes_client, kubernetes_source, leases, read_settings
from secretbinding.cli.options import Namespace, SourceName
from secretbinding.cli.signals import Signals
from secretbinding.errors import UsageError
from secretbinding.models.key import WorkloadKey
from secretbinding.settings import Settings
from secretbinding.sources.base import Source
from secretbinding.sources.files.tenants import is_tenant
from secretbinding.telemetry.asked import asked as asked_for

if TYPE_CHECKING:
    from secretbinding.adapters.kubernetes import KubernetesClient
    from secretbinding.adapters.transport import OnCall
    from secretbinding.app import Clients, Controller, Tenancy
    from secretbinding.engine.policies import PolicySource
    from secretbinding.metrics import Monitoring
    from secretbinding.ports import Leases
    from secretbinding.sources.policies.labels import Lister
    from secretbinding.status import Pass
    from secretbinding.telemetry.running import Telemetry
    from secretbinding.webhooks.kubernetes import AdmissionWebhook

_log = structlog.get_logger(__name__)

_LINGER_SECONDS = 5.0
"""How long the API server may still ask a pod that is being stopped: until all have heard that it is no endpoint."""


def run(
    source: Annotated[
        list[str],
        typer.Option(
            "--source",
            metavar="kubernetes|nomad|files[:TENANT]=PATH",
            help="Where bindings come from: custom resources of a cluster, Nomad variables, or a file or directory "
            "that is watched, whose manifests are those of a tenant (`default` when left out; `files:*=DIR` takes the "
            "name of each directory in it). May be repeated.",
        ),
    ],
    policies: Annotated[
        list[str] | None,
        typer.Option(
            "--policies",
            metavar="kubernetes|nomad|files=PATH",
            help="Where SecretBindingPolicies come from, which say whose bindings are allowed: custom resources, "
            "variables nomad-vault/policies/* of the controller's own Nomad namespace, or a file or directory. May be "
            "repeated. [default: the sources of bindings, files excepted]",
            show_default=False,
        ),
    ] = None,
    namespace: Namespace = "default",
) -> int:
    """Run the controller until SIGTERM or SIGINT; passes under way are finished, for SECRETBINDING_STOP_SECONDS at most
    (25). A second signal ends it at once.

    Only what a SecretBindingPolicy allows is done: a binding that is refused shows the policy that would allow it. For
    a single team that may have every secret, SECRETBINDING_TENANCY=open allows everything.

    With `files=DIR`, a binding that is taken out of the directory is taken out of its job, unless the directory is
    empty or most of it is gone at once; a file `.secretbinding-confirm-removal` in it, with `tenant/name` lines or `*`,
    confirms.

    Examples:

      secretbinding run --source nomad

      secretbinding run --source kubernetes --source files:payments=/etc/bindings/payments

      secretbinding run --source files:*=/etc/bindings --policies files=/etc/policies
    """
    names, paths = parse_sources(source)
    settings = read_settings(quiet=False)
    asked = parse_policies_option(policies, names)
    monitoring = _monitoring(settings)
    telemetry = _telemetry(settings, monitoring)
    on_call = monitoring.called if monitoring is not None else None
    with clients(settings, on_call, keep=True) as connected, _further(settings, monitoring) as further:
        sources = _sources(names, paths, settings, connected, namespace, on_call)
        cluster = _cluster(asked[0], names, settings, on_call)
        tenancy = _tenancy(asked, names, settings, connected, cluster)
        webhook = _webhook(settings, {settings.connection: connected, **further}, cluster, tenancy, namespace)
        with leases(settings, connected, on_call) as held:
            return _serve(settings, connected, further, sources, monitoring, tenancy, webhook, held, telemetry)


def parse_policies_option(
    texts: Sequence[str] | None, sources: Sequence[SourceName]
) -> tuple[list[SourceName], list[str]]:
    """Where policies come from, and the paths of `files`: what is asked for, else the sources of bindings but for
    files, whose writers are tenants. Raises `UsageError`."""
    if not texts:
        return [name for name in sources if name is not SourceName.FILES], []
    for text in texts:
        if text.partition("=")[0] not in {name.value for name in SourceName}:
            raise UsageError(f"--policies {text!r} is not known", remedy="use kubernetes, nomad or files=PATH")
    names, paths = parse_sources(texts)
    if any(tenant for tenant, _ in paths):
        raise UsageError("policies are no tenant's", remedy="write --policies files=PATH")
    return names, [path for _, path in paths]


def parse_sources(texts: Sequence[str]) -> tuple[list[SourceName], list[tuple[str, str]]]:
    """The sources asked for, each once, and tenant and path of each `files`; the tenant is "" where none is named, and
    `*` for the name of each directory. Raises `UsageError`."""
    names: dict[SourceName, None] = {}
    paths: list[tuple[str, str]] = []
    for text in texts:
        head, equals, path = text.partition("=")
        name, colon, tenant = head.partition(":")
        if colon and name == SourceName.FILES.value and not is_tenant(tenant):
            remedy = "use letters, digits, `-`, `_` and `.`; or * for the name of each directory"
            raise UsageError(f"{tenant!r} is no name of a tenant", remedy=remedy)
        if colon and name != SourceName.FILES.value:
            raise UsageError(f"--source {name} takes no tenant", remedy=f"write --source {name}")
        known = next((one for one in SourceName if one.value == name), None)
        if known is None:
            raise UsageError(f"no source is named {name!r}", remedy="use kubernetes, nomad or files=PATH")
        if known is SourceName.FILES and not path:
            raise UsageError("--source files names no path", remedy="write files=PATH")
        if known is not SourceName.FILES and equals:
            raise UsageError(f"--source {name} takes no value", remedy=f"write --source {name}")
        names[known] = None
        paths += [(tenant, path)] if path else []
    return list(names), paths


def _monitoring(settings: Settings) -> "Monitoring | None":
    from secretbinding.metrics import Monitoring
    from secretbinding.page.access import Access

    own = settings.controller
    if own.metrics_bind is None:
        return None
    page = Access(own.page)
    return Monitoring(own.metrics_bind, stuck_seconds=own.stuck_seconds, page=page, instance=own.instance)


def _telemetry(settings: Settings, monitoring: "Monitoring | None") -> "Telemetry | None":
    """What OpenTelemetry's variables ask for; nothing of it is imported unless they do. Raises `UsageError`."""
    wanted = asked_for(os.environ)
    if not wanted.anything:
        return None
    if wanted.metrics and monitoring is None:
        raise UsageError(
            f"{wanted.because} asks for metrics, and SECRETBINDING_METRICS_ADDRESS is empty, so that there are none",
            remedy="give it an address such as 127.0.0.1:9464, or set OTEL_METRICS_EXPORTER=none",
        )
    try:
        from secretbinding.telemetry.running import Telemetry
    except ImportError as failure:
        raise UsageError(
            f"{wanted.because} asks for OpenTelemetry, which needs {failure.name or 'a package'}, and that is not "
            "installed",
            remedy="install the extra: pip install 'secretbinding[otel]'; or unset the variable",
        ) from None
    families = monitoring.registry.collect if monitoring is not None else tuple
    return Telemetry(wanted, families, instance=settings.controller.instance)


def _sources(
    names: Sequence[SourceName],
    paths: Sequence[tuple[str, str]],
    settings: Settings,
    connected: "Clients",
    namespace: str,
    on_call: "OnCall | None",
) -> list[Source]:
    from secretbinding.sources.files import FilesSource, Tenants
    from secretbinding.sources.nomad import NomadSource

    made: list[Source] = []
    for name in names:
        if name is SourceName.NOMAD:
            made.append(NomadSource(connected.nomad))
        elif name is SourceName.KUBERNETES:
            made.append(kubernetes_source(namespace, on_call, settings.controller.watched))
        else:
            interval = settings.controller.files_seconds
            # With open tenancy there are no tenants to tell apart, and a manifest may name its own.
            trusting = settings.controller.tenancy == "open"
            tenants = Tenants(paths, trusting=trusting)
            files = [path for _, path in paths]
            made.append(FilesSource(files, nomad_namespace=namespace, interval_seconds=interval, tenants=tenants))
    return made


@contextmanager
def _further(settings: Settings, monitoring: "Monitoring | None") -> "Iterator[Mapping[str, Clients]]":
    """Clients of the named connections, by name. Nothing is asked of their servers before something is to be done."""
    with ExitStack() as stack:
        made: dict[str, Clients] = {}
        for name in settings.connections:
            on_call = monitoring.called_by(name) if monitoring is not None else None
            made[name] = stack.enter_context(clients(settings.of(name), on_call, keep=True))
        yield made


def _cluster(
    policies: Sequence[SourceName], sources: Sequence[SourceName], settings: Settings, on_call: "OnCall | None"
) -> "KubernetesClient | None":
    """A connection for what is not bindings: policies, labels, the webhook."""
    needed = SourceName.KUBERNETES in (*policies, *sources) or settings.controller.admission_bind is not None
    return kubernetes_client(on_call) if needed else None


def _webhook(
    settings: Settings,
    connected: Mapping[str, "Clients"],
    cluster: "KubernetesClient | None",
    tenancy: "Tenancy",
    namespace: str,
) -> "AdmissionWebhook | None":
    own = settings.controller
    if own.admission_bind is None or cluster is None:
        return None
    from secretbinding.webhooks.admission import Admission
    from secretbinding.webhooks.kubernetes import AdmissionWebhook, Serve

    host, port = own.admission_bind
    serve = Serve(
        host,
        port,
        own.admission_cert,
        own.admission_key,
        own.admission_ca,
        own.admission_manage,
        own.admission_name,
        own.admission_by,
    )
    known = tenancy.board.known if tenancy.guard is not None else None

    def region(connection: str) -> str:
        return connected[connection].nomad.region() if connection in connected else ""

    admission = Admission(known, tenancy.labels, region, nomad_namespace=namespace)
    return AdmissionWebhook(serve, cluster.credentials, admission)


def _tenancy(
    asked: tuple[Sequence[SourceName], Sequence[str]],
    sources: Sequence[SourceName],
    settings: Settings,
    connected: "Clients",
    cluster: "KubernetesClient | None",
) -> "Tenancy":
    from secretbinding.app import Tenancy
    from secretbinding.sources.policies import FilePolicies, KubernetesPolicies, NomadPolicies

    own, (names, paths) = settings.controller, asked
    if own.tenancy == "open":
        return Tenancy(settings, ())
    made: list[PolicySource] = []
    for name in names:
        if name is SourceName.NOMAD:
            made.append(NomadPolicies(connected.nomad, own.policy_namespace or settings.nomad.namespace))
        elif name is SourceName.KUBERNETES and cluster is not None:
            made.append(KubernetesPolicies(cluster))
        elif name is SourceName.FILES:
            made.append(FilePolicies(paths, interval_seconds=own.policy_seconds))
    listers: dict[str, Lister] = {}
    if SourceName.NOMAD in sources:
        listers[SourceName.NOMAD.value] = connected.nomad.namespace_labels
    if SourceName.KUBERNETES in sources and cluster is not None:
        listers[SourceName.KUBERNETES.value] = cluster.namespace_labels
    return Tenancy(settings, made, listers)


def _serve(
    settings: Settings,
    connected: "Clients",
    further: Mapping[str, "Clients"],
    sources: Sequence[Source],
    monitoring: "Monitoring | None",
    tenancy: "Tenancy",
    webhook: "AdmissionWebhook | None",
    held: "Leases | None",
    telemetry: "Telemetry | None",
) -> int:
    from secretbinding.app import Controller

    controller = Controller(
        settings,
        connected,
        sources,
        on_pass=_log_pass,
        monitoring=monitoring,
        tenancy=tenancy,
        leases=held,
        further=further,
        beside=[webhook] if webhook is not None else [],
    )
    with Signals() as signals:
        if telemetry is not None:
            telemetry.start()
        controller.start()
        if webhook is not None:
            webhook.start()
        _log.info(
            "started",
            sources=[source.name for source in sources],
            instance=settings.controller.instance,
            tenancy=settings.controller.tenancy,
            vault=settings.vault.address,
            nomad=settings.nomad.address,
            **({"connections": sorted(further)} if further else {}),
        )
        signals.wait()
        patience = settings.controller.stop_seconds
        _log.info("stopping; passes under way are finished first", seconds=patience)
        done = threading.Event()

        def ended() -> None:
            done.set()
            signals.wake()

        stopping = threading.Thread(
            target=stop,
            args=(controller, webhook, telemetry, min(_LINGER_SECONDS, patience / 2)),
            kwargs={"ended": ended},
            name="stop",
            daemon=True,
        )
        stopping.start()
        overdue = threading.Timer(patience, signals.wake)
        overdue.daemon = True
        overdue.start()
        if signals.wait():
            _log.warning("stopped at once")
            os._exit(1)
        overdue.cancel()
        if not done.is_set():
            # Whoever stops it would kill it soon, in the middle of a line of the log.
            _log.warning("not all passes have ended in time; the next start takes up what was cut off")
            os._exit(1)
    _log.info("stopped")
    return 0


def stop(
    controller: "Controller",
    webhook: "AdmissionWebhook | None",
    telemetry: "Telemetry | None",
    linger_seconds: float,
    *,
    ended: Callable[[], None],
) -> None:
    """Stop everything. The webhook answers on until the end, and for `linger_seconds` at least: so long may the API
    server go on asking here, and where it must have an answer it would refuse changes."""
    until = time.monotonic() + linger_seconds
    try:
        controller.stop()
        if webhook is not None:
            time.sleep(max(0.0, until - time.monotonic()))
            webhook.stop()
        if telemetry is not None:
            telemetry.stop()
    finally:
        ended()


def _log_pass(workload: WorkloadKey, found: "Pass", seconds: float) -> None:
    """One line for each pass: a warning for one that could not do its work, debug for one that had nothing to do."""
    if found.error is not None:
        _log.warning("pass failed", workload=str(workload), reason=found.error.reason.value, error=found.error.message)
        return
    actions = len(found.plan.actions) if found.plan is not None else 0
    tell = _log.info if actions else _log.debug
    tell("pass done", workload=str(workload), actions=actions, seconds=round(seconds, 3))
