"""`run`: the controller."""

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from secretbinding.cli.connect import clients, kubernetes_source, leases, read_settings
from secretbinding.cli.options import Namespace, SourceName
from secretbinding.cli.signals import Signals
from secretbinding.errors import UsageError
from secretbinding.models.key import WorkloadKey
from secretbinding.settings import Settings
from secretbinding.sources.base import Source

if TYPE_CHECKING:
    from secretbinding.adapters.transport import OnCall
    from secretbinding.app import Clients, Controller
    from secretbinding.metrics import Monitoring
    from secretbinding.ports import Leases
    from secretbinding.status import Pass

_log = structlog.get_logger(__name__)


def run(
    source: Annotated[
        list[str],
        typer.Option(
            "--source",
            metavar="kubernetes|nomad|files=PATH",
            help="Where bindings come from: custom resources of a cluster, Nomad variables, or a file or directory "
            "that is watched. May be repeated.",
        ),
    ],
    namespace: Namespace = "default",
) -> int:
    """Run the controller until SIGTERM or SIGINT; a second signal ends it at once.

    With `files=DIR`, a binding that is taken out of the directory is taken out of its job, unless the directory is
    empty or most of it is gone at once; a file `.secretbinding-confirm-removal` in it, with `tenant/name` lines or `*`,
    confirms.

    Examples:

      secretbinding run --source nomad

      secretbinding run --source kubernetes --source files=/etc/secretbinding
    """
    names, paths = parse_sources(source)
    settings = read_settings(quiet=False)
    monitoring = _monitoring(settings)
    on_call = monitoring.called if monitoring is not None else None
    with clients(settings, on_call, keep=True) as connected:
        sources = _sources(names, paths, settings, connected, namespace, on_call)
        with leases(settings, connected, on_call) as held:
            return _serve(settings, connected, sources, monitoring, held)


def parse_sources(texts: Sequence[str]) -> tuple[list[SourceName], list[str]]:
    """The sources asked for, each once, and the paths of `files`. Raises `UsageError`."""
    names: dict[SourceName, None] = {}
    paths: list[str] = []
    for text in texts:
        name, equals, path = text.partition("=")
        known = next((one for one in SourceName if one.value == name), None)
        if known is None:
            raise UsageError(f"no source is named {name!r}", remedy="use kubernetes, nomad or files=PATH")
        if known is SourceName.FILES and not path:
            raise UsageError("--source files names no path", remedy="write files=PATH")
        if known is not SourceName.FILES and equals:
            raise UsageError(f"--source {name} takes no value", remedy=f"write --source {name}")
        names[known] = None
        paths += [path] if path else []
    return list(names), paths


def _monitoring(settings: Settings) -> "Monitoring | None":
    from secretbinding.metrics import Monitoring

    own = settings.controller
    return Monitoring(own.metrics_bind, stuck_seconds=own.stuck_seconds) if own.metrics_bind is not None else None


def _sources(
    names: Sequence[SourceName],
    paths: Sequence[str],
    settings: Settings,
    connected: "Clients",
    namespace: str,
    on_call: "OnCall | None",
) -> list[Source]:
    from secretbinding.sources.files import FilesSource
    from secretbinding.sources.nomad import NomadSource

    made: list[Source] = []
    for name in names:
        if name is SourceName.NOMAD:
            made.append(NomadSource(connected.nomad))
        elif name is SourceName.KUBERNETES:
            made.append(kubernetes_source(namespace, on_call))
        else:
            interval = settings.controller.files_seconds
            made.append(FilesSource(paths, nomad_namespace=namespace, interval_seconds=interval))
    return made


def _serve(
    settings: Settings,
    connected: "Clients",
    sources: Sequence[Source],
    monitoring: "Monitoring | None",
    held: "Leases | None",
) -> int:
    from secretbinding.app import Controller

    controller = Controller(settings, connected, sources, on_pass=_log_pass, monitoring=monitoring, leases=held)
    with Signals() as signals:
        controller.start()
        _log.info(
            "started",
            sources=[source.name for source in sources],
            instance=settings.controller.instance,
            vault=settings.vault.address,
            nomad=settings.nomad.address,
        )
        signals.wait()
        _log.info("stopping; passes under way are finished first")
        stopping = threading.Thread(target=_stop, args=(controller, signals), name="stop", daemon=True)
        stopping.start()
        if signals.wait():
            _log.warning("stopped at once")
            os._exit(1)
    _log.info("stopped")
    return 0


def _stop(controller: "Controller", signals: Signals) -> None:
    try:
        controller.stop()
    finally:
        signals.wake()


def _log_pass(workload: WorkloadKey, found: "Pass", seconds: float) -> None:
    """A line for each pass that did something, or could not."""
    if found.error is not None:
        _log.warning("pass failed", workload=str(workload), reason=found.error.reason.value, error=found.error.message)
    elif found.plan is not None and found.plan.actions:
        _log.info("pass done", workload=str(workload), actions=len(found.plan.actions), seconds=round(seconds, 3))
