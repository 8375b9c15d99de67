"""Connections for commands that talk to the servers. What is heavy to import is imported only here."""

import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from secretbinding import logs
from secretbinding.models.key import WorkloadKey
from secretbinding.plan import Action
from secretbinding.settings import ControllerSettings, Settings
from secretbinding.sources.base import SourceItem

if TYPE_CHECKING:
    from secretbinding.adapters.kubernetes import KubernetesClient, KubernetesConnection
    from secretbinding.adapters.transport import OnCall
    from secretbinding.app import Clients
    from secretbinding.engine.oneshot import OneShots
    from secretbinding.ports import Leases
    from secretbinding.sources.kubernetes.source import KubernetesSource

OnAction = Callable[[WorkloadKey, Action], None]


def read_settings(connection: str | None = None, *, quiet: bool = True) -> Settings:
    """The settings of a connection, or of the default one, with logging set up from them. A `quiet` command logs
    warnings only, unless a level is asked for."""
    settings = Settings()
    settings = settings.of(connection or settings.connection)
    own = settings.controller
    chosen = "log_level" in own.model_fields_set
    logs.configure("WARNING" if quiet and not chosen else own.log_level, own.log_format)
    return settings


@contextmanager
def clients(settings: Settings, on_call: "OnCall | None" = None, *, keep: bool = False) -> "Iterator[Clients]":
    """Connections to Vault and Nomad, closed at the end; with `keep` Vault's token is kept alive.
    Raises `errors.UsageError` for settings that cannot work."""
    from secretbinding.app import Clients

    made = Clients(settings, on_call=on_call, keep=keep)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def one_shot(items: Iterable[SourceItem], on_action: OnAction = lambda workload, action: None) -> "Iterator[OneShots]":
    """A fixed set of bindings, with the connections that they name to work on them. Raises `errors.UsageError` for a
    connection that there is not."""
    from secretbinding.app import make_reconciler
    from secretbinding.engine.oneshot import OneShot, OneShots
    from secretbinding.engine.store import connection_of

    settings = read_settings()
    by_connection: dict[str, list[SourceItem]] = {}
    for item in items:
        by_connection.setdefault(connection_of(item) or settings.connection, []).append(item)
    with ExitStack() as stack:
        shots: dict[str, OneShot] = {}
        for name, chosen in sorted(by_connection.items()):
            own = settings.of(name)
            connected = stack.enter_context(clients(own))
            shots[name] = OneShot(make_reconciler(own, connected, on_action), chosen)
        yield OneShots(shots)


@contextmanager
def kubernetes() -> "Iterator[KubernetesClient]":
    """A connection to the API server that `KUBECONFIG`, `~/.kube/config` or the own pod names."""
    from secretbinding.adapters.kubernetes import KubernetesClient

    client = KubernetesClient(kubernetes_connection())
    try:
        yield client
    finally:
        client.close()


def kubernetes_connection() -> "KubernetesConnection":
    """`KUBECONFIG`, else the own pod's service account, else `~/.kube/config`."""
    from secretbinding.adapters.kubernetes import KubernetesConnection

    chosen = os.environ.get("KUBECONFIG", "")
    if not chosen and not os.environ.get("KUBERNETES_SERVICE_HOST"):
        chosen = os.path.expanduser("~/.kube/config")
    return KubernetesConnection(kubeconfig=chosen)


def kubernetes_client(on_call: "OnCall | None" = None) -> "KubernetesClient":
    """A connection to the same API server, for as long as the process lives."""
    from secretbinding.adapters.kubernetes import KubernetesClient

    return KubernetesClient(kubernetes_connection(), on_call=on_call)


def kubernetes_source(
    nomad_namespace: str, on_call: "OnCall | None" = None, namespaces: Sequence[str] = ()
) -> "KubernetesSource":
    """The source of custom resources in the given Kubernetes namespaces, or in all without any."""
    from secretbinding.sources.kubernetes.source import KubernetesSource

    return KubernetesSource(kubernetes_client(on_call), namespaces, nomad_namespace=nomad_namespace)


@contextmanager
def leases(settings: Settings, connected: "Clients", on_call: "OnCall | None" = None) -> "Iterator[Leases | None]":
    """The leases by which several controllers agree; None for a controller alone."""
    from secretbinding.adapters.nomad.leases import NomadLeases

    own = settings.controller
    identity = own.identity or f"{_host()}-{secrets.token_hex(3)}"
    if own.election == "nomad":
        namespace = own.election_namespace or "default"
        yield NomadLeases(
            connected.nomad,
            namespace=namespace,
            instance=own.instance,
            identity=identity,
            seconds=own.election_seconds,
        )
    elif own.election == "kubernetes":
        with _kubernetes_leases(own, identity, on_call) as made:
            yield made
    else:
        yield None


@contextmanager
def _kubernetes_leases(own: ControllerSettings, identity: str, on_call: "OnCall | None") -> "Iterator[Leases]":
    from secretbinding.adapters.kubernetes import KubernetesClient
    from secretbinding.adapters.kubernetes.leases import KubernetesLeases

    # An answer that comes late is worth nothing here, and the next look is the second attempt.
    connection = replace(kubernetes_connection(), timeout_seconds=own.election_seconds / 4, retry_attempts=1)
    client = KubernetesClient(connection, on_call=on_call)
    try:
        yield KubernetesLeases(
            client,
            namespace=own.election_namespace or client.credentials().namespace or "default",
            instance=own.instance,
            identity=identity,
            seconds=own.election_seconds,
        )
    finally:
        client.close()


def _host() -> str:
    """This host's name (a pod's is the pod's), as far as it may stand in the name of a Lease."""
    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")
    return name[:40].strip("-") or "controller"
