"""`uninstall`: nothing of ours stays behind, and nothing hangs."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secretbinding.cli.connect import clients, kubernetes, leases, read_settings
from secretbinding.cli.console import emit, error, say
from secretbinding.cli.options import DEFAULT_TIMEOUT_SECONDS, Connection, DryRun, Timeout
from secretbinding.errors import UsageError
from secretbinding.models.key import WorkloadKey
from secretbinding.settings import Settings

if TYPE_CHECKING:
    from secretbinding.adapters.kubernetes import KubernetesClient
    from secretbinding.app import Clients
    from secretbinding.engine.removal import Ours, Removal


def uninstall(
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            "--purge",
            help="Also take away what the controller made: its part in every job, by a deployment; its policies and "
            "roles in Vault; statuses in Nomad variables.",
        ),
    ] = False,
    retained: Annotated[
        bool, typer.Option("--retained", help="With --all: also what `deletionPolicy: Retain` has left behind.")
    ] = False,
    in_kubernetes: Annotated[
        bool | None,
        typer.Option(
            "--kubernetes/--no-kubernetes",
            help="Whether to take the finalizers from custom resources. [default: yes; with --all only where a cluster "
            "is configured]",
            show_default=False,
        ),
    ] = None,
    deployment: Annotated[
        str,
        typer.Option(
            "--stop-deployment",
            metavar="NAMESPACE/NAME",
            help="First scale the controller's own Deployment to zero, and wait until its pods are gone.",
        ),
    ] = "",
    running: Annotated[
        bool, typer.Option("--even-if-running", help="Go on though a controller of this instance takes part.")
    ] = False,
    connection: Connection = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
) -> int:
    """Take the controller away, after it was stopped: a running one would make it all again.

    Without --all only the finalizers go, so that custom resources and their namespaces can be deleted though nobody is
    left to let go of them; jobs keep their secrets and rights. With --all nothing that carries the mark of this
    instance stays: first each job is registered without our part, then the rights go that no allocation needs any more.
    Run it with an administrator's tokens. What would be done is shown first, and nothing is done before you agree.

    With SECRETBINDING_WATCH_NAMESPACES set, finalizers go from bindings in those namespaces alone.

    Bindings themselves are yours and stay, as do the controller's own policy, role and token that `bootstrap` made.

    Examples:

      secretbinding uninstall

      secretbinding uninstall --all --dry-run

      secretbinding uninstall --all --no-kubernetes --yes
    """
    if retained and not everything:
        raise UsageError("--retained goes with --all", remedy="give both or neither")
    settings = read_settings()
    finalizers = _cluster_configured() if in_kubernetes is None and everything else in_kubernetes is not False
    if not everything and not finalizers:
        raise UsageError("there is nothing to do", remedy="give --all, or leave --no-kubernetes out")
    if deployment and not dry_run:
        _stop_deployment(deployment, timeout)
    done = True
    if everything:
        chosen = settings.of(connection or settings.connection)
        with clients(settings) as keeping, clients(chosen) as connected:
            _refuse_beside_a_running_one(settings, keeping, running)
            done = _remove_all(chosen, connected, retained=retained, yes=yes, dry_run=dry_run, timeout=timeout)
    if finalizers and done:
        with kubernetes() as client:
            _release(client, settings.controller.watched, yes=yes, dry_run=dry_run)
    return 0 if done else 1


def _stop_deployment(deployment: str, timeout: float) -> None:
    namespace, _, name = deployment.partition("/")
    if not namespace or not name:
        raise UsageError(f"{deployment!r} is no Deployment", remedy="write NAMESPACE/NAME")
    with kubernetes() as client:
        client.scale_deployment(namespace, name, 0)
        deadline = time.monotonic() + timeout
        while client.pods_of_deployment(namespace, name):
            if time.monotonic() > deadline:
                raise UsageError(
                    f"pods of Deployment {deployment} still run", remedy="see why, or give it a longer --timeout"
                )
            time.sleep(1.0)


def _cluster_configured() -> bool:
    inside = bool(os.environ.get("KUBECONFIG") or os.environ.get("KUBERNETES_SERVICE_HOST"))
    return inside or Path("~/.kube/config").expanduser().is_file()


def _refuse_beside_a_running_one(settings: Settings, connected: "Clients", running: bool) -> None:
    with leases(settings, connected) as held:
        there = sorted(held.beats()) if held is not None and not running else []
    if there:
        raise UsageError(
            f"controllers of instance {settings.controller.instance} take part: {', '.join(there)}",
            remedy="stop them first; --even-if-running when they are gone and only did not say so",
        )


def _remove_all(
    settings: Settings, connected: "Clients", *, retained: bool, yes: bool, dry_run: bool, timeout: float
) -> bool:
    from secretbinding.app import make_reconciler
    from secretbinding.engine.removal import Removal

    own = settings.controller
    removal = Removal(
        connected.vault,
        connected.nomad,
        make_reconciler(settings, connected),
        jwt_mount=own.jwt_mount,
        retained=retained,
    )
    ours = removal.find()
    for line in _shown(removal, ours):
        emit(line)
    if dry_run or not _agreed(yes, bool(ours.shares or ours.roles or ours.statuses)):
        return dry_run or not (ours.shares or ours.roles or ours.statuses)

    def told(workload: WorkloadKey) -> None:
        emit(f"done: job {workload.job} (namespace {workload.namespace})")

    left = removal.remove(ours, timeout_seconds=timeout, told=told)
    for one in left:
        error(f"job {one.workload.job} (namespace {one.workload.namespace}) is not done: {one.why}")
    if left:
        say("roles and statuses stay until that is done; run it again")
        return False
    for name in removal.sweep(ours):
        emit(f"- {name}")
    return True


def _shown(removal: "Removal", ours: "Ours") -> Iterator[str]:
    from secretbinding.plan_text import show_plan

    for workload, preview in removal.preview(ours).items():
        bindings = ", ".join(str(key) for key in sorted(ours.shares[workload]))
        yield f"job {workload.job} (namespace {workload.namespace}), for {bindings}:"
        yield show_plan(preview.plan, diffs=False).rstrip("\n")
    yield from _lines("login role, if it is not gone by then", ours.roles)
    yield from _lines("variable", [f"{path} (namespace {namespace})" for namespace, path in ours.statuses])
    for name in ours.retained:
        yield f"= policy {name} was left behind on purpose (Retain) and stays; --retained takes it away"
    for name in ours.foreign:
        yield f"= policy {name} has a name of ours and is not ours; it stays"


def _lines(what: str, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield f"- {what}: {name}"


def _release(client: "KubernetesClient", namespaces: Sequence[str], *, yes: bool, dry_run: bool) -> None:
    from secretbinding.sources.kubernetes.items import FINALIZER

    held = [
        (str(item["metadata"]["namespace"]), str(item["metadata"]["name"]))
        for namespace in namespaces or [""]
        for item in client.each(namespace)
        if FINALIZER in (item["metadata"].get("finalizers") or ())
    ]
    for namespace, name in held:
        emit(f"- finalizer of SecretBinding {namespace}/{name}")
    if dry_run or not _agreed(yes, bool(held)):
        return
    for namespace, name in held:
        client.remove_finalizer(namespace, name, FINALIZER)
    emit(
        f"{len(held)} finalizer(s) removed; the definition goes with `kubectl delete crd secretbindings.nomad-vault.io`"
    )


def _agreed(yes: bool, anything: bool) -> bool:
    """True when it is to be done. Raises `UsageError` where nobody can be asked."""
    if not anything:
        emit("nothing of ours is there")
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to agree", remedy="give --yes, or --dry-run to see what would be done")
    if not typer.confirm("Do all of this?"):
        raise typer.Abort
    return True
