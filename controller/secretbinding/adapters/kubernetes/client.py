"""SecretBindings, their policies and Events, and Leases on a Kubernetes API server."""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx2
from lightkube import Client
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.resources.core_v1 import Namespace
from lightkube.types import PatchType

from secretbinding.adapters.kubernetes.errors import API_GROUP, failed
from secretbinding.adapters.kubernetes.kubeconfig import KubernetesCredentials
from secretbinding.adapters.kubernetes.session import KubernetesConnection, KubernetesSession
from secretbinding.adapters.transport import OnCall
from secretbinding.errors import Conflict, NotFound, ServiceError
from secretbinding.trail import told

Json = dict[str, Any]
T = TypeVar("T")

GROUP, VERSION, KIND, PLURAL = API_GROUP, "v1alpha1", "SecretBinding", "secretbindings"
POLICY_PLURAL = "secretbindingpolicies"
API_VERSION = f"{GROUP}/{VERSION}"
REPORTING_CONTROLLER = "nomad-vault.io/secretbinding"
_ALL_NAMESPACES = "*"
_NOTE_BYTES = 1024
_WORD_LIMIT = 128

_SecretBinding = create_namespaced_resource(GROUP, VERSION, KIND, PLURAL)
_Policy = create_global_resource(GROUP, VERSION, "SecretBindingPolicy", POLICY_PLURAL)
_Event = create_namespaced_resource("events.k8s.io", "v1", "Event", "events")
_Deployment = create_namespaced_resource("apps", "v1", "Deployment", "deployments")
_Lease = create_namespaced_resource("coordination.k8s.io", "v1", "Lease", "leases")


Observed = tuple[str, Sequence[str]]
"""What a finalizer write starts from: `metadata.resourceVersion` and `metadata.finalizers` of an object as seen."""


class KubernetesClient:
    """Thread-safe. Every method raises `errors.ServiceError` subclasses whose text never holds a credential.

    `instance` names this process in Events; `on_call` hears of every attempt.
    """

    def __init__(self, connection: KubernetesConnection, *, instance: str = "", on_call: OnCall | None = None) -> None:
        self._connection = connection
        self._instance = (instance or os.uname().nodename)[:_WORD_LIMIT]
        self._session = KubernetesSession(connection, on_call=on_call)

    def credentials(self) -> KubernetesCredentials:
        """Fresh credentials for another client of the same server; raises `UsageError` when there are none."""
        return self._session.load()

    @property
    def server(self) -> str:
        """The server's base URL."""
        return self._session.server

    def close(self) -> None:
        self._session.close()

    def get(self, namespace: str, name: str) -> Json:
        """The SecretBinding; raises `NotFound` when the server says that there is none."""
        return self._call(
            "get", PLURAL, namespace, name, lambda client: _lean(client.get(_SecretBinding, name, namespace=namespace))
        )

    def list(self, namespace: str = "") -> list[Json]:
        """All SecretBindings of a namespace, or of all with "", without `managedFields`. That it returns at all proves
        the right to list."""
        return self._call("list", PLURAL, namespace, "", lambda client: [*self._pages(client, namespace)])

    def each(self, namespace: str = "") -> Iterator[Json]:
        """Like `list`, page by page and without trying again: an error may come after some objects. Only an iteration
        that reaches its end is a complete listing."""
        started, failure = time.monotonic(), None
        try:
            yield from self._pages(self._session.client, namespace)
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == 401:
                self._session.logged_in_again(self._session.client)
            failure = failed(error, "list", PLURAL, namespace, "")
        except (httpx2.HTTPError, ValueError, KeyError) as error:
            failure = failed(error, "list", PLURAL, namespace, "")
        finally:
            outcome = failure.error.reason if failure is not None else "Success"
            self._session.heard(f"list {PLURAL}", started, outcome)
        if failure is not None:
            raise failure.error

    def patch_status(
        self, namespace: str, name: str, status: Mapping[str, Any], *, resource_version: str | None = None
    ) -> Json:
        """Write the status by merge patch; what is None in it is removed. With `resource_version` only if the object is
        still that version, else raises `Conflict`. Gives the object as it is then."""
        patch: Json = {"status": dict(status)}
        if resource_version is not None:
            patch["metadata"] = {"resourceVersion": resource_version}

        def patched(client: Client) -> Json:
            answer = client.patch(_SecretBinding.Status, name, patch, namespace=namespace, patch_type=PatchType.MERGE)
            return _lean(answer)

        return self._call("patch", f"{PLURAL}/status", namespace, name, patched)

    def replace_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> Json:
        """Write the whole status in place of the old one. Gives the object as it is then."""
        operations = [{"op": "add", "path": "/status", "value": dict(status)}]

        def replaced(client: Client) -> Json:
            answer = client.patch(
                _SecretBinding.Status, name, operations, namespace=namespace, patch_type=PatchType.JSON
            )
            return _lean(answer)

        return self._call("patch", f"{PLURAL}/status", namespace, name, replaced)

    def policies(self) -> Sequence[Json]:
        """All SecretBindingPolicies, which are the cluster's own. That it returns at all proves the right to list."""
        return self._call("list", POLICY_PLURAL, "", "", lambda client: [_lean(one) for one in client.list(_Policy)])

    def namespace_labels(self) -> dict[str, dict[str, str]]:
        """The labels of all namespaces, by name."""

        def listed(client: Client) -> dict[str, dict[str, str]]:
            found = [one.metadata for one in client.list(Namespace)]
            return {str(one.name): dict(one.labels or {}) for one in found if one is not None}

        return self._call("list", "namespaces", "", "", listed)

    def annotate(self, namespace: str, name: str, annotations: Mapping[str, str], version: str = "") -> Json:
        """Set annotations of the SecretBinding, leaving its others. Gives the object as it is then. With `version`
        raises `Conflict` when the object's resourceVersion is another."""

        def patched(client: Client) -> Json:
            metadata: Json = {"annotations": dict(annotations)}
            if version:
                metadata["resourceVersion"] = version
            patch = {"metadata": metadata}
            return _lean(client.patch(_SecretBinding, name, patch, namespace=namespace, patch_type=PatchType.MERGE))

        return self._call("patch", PLURAL, namespace, name, patched)

    def add_finalizer(self, namespace: str, name: str, finalizer: str, observed: Observed | None = None) -> Json | None:
        """Add the finalizer. Starts from `observed` when it is given, and reads the object when that is out of date.

        Gives the object as it is then; None when it has the finalizer already (nothing is written). Raises `NotFound`,
        `Rejected` when the object is being deleted, `Conflict` when others keep changing it.
        """
        return self._change_finalizers(
            namespace, name, observed, lambda old: [*old, finalizer] if finalizer not in old else None
        )

    def remove_finalizer(
        self, namespace: str, name: str, finalizer: str, observed: Observed | None = None
    ) -> Json | None:
        """Remove the finalizer; an object that is not there, or does not have it, is success (None).

        Gives the object as it was last; with the last finalizer of an object that is being deleted, it is gone.
        """
        try:
            return self._change_finalizers(
                namespace,
                name,
                observed,
                lambda old: [other for other in old if other != finalizer] if finalizer in old else None,
            )
        except NotFound:
            return None

    def event(
        self, regarding: Mapping[str, Any], *, warning: bool, reason: str, message: str, action: str = "Reconcile"
    ) -> None:
        """Post an Event (`events.k8s.io/v1`) about a SecretBinding. `regarding` is the object, or at least its
        `metadata` with name, namespace and uid. Telling apart what was said before is the caller's part."""
        metadata = regarding["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        body: Json = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            # Named here, not by the server: a repeated request then finds its own first one.
            "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": REPORTING_CONTROLLER,
            "reportingInstance": self._instance,
            "action": action[:_WORD_LIMIT],
            "reason": reason[:_WORD_LIMIT],
            "type": "Warning" if warning else "Normal",
            "note": message.encode()[:_NOTE_BYTES].decode(errors="ignore"),
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": name,
                "namespace": namespace,
                "uid": metadata.get("uid", ""),
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
        }

        def posted(client: Client) -> None:
            try:
                client.create(_Event(**body), namespace=namespace)
            except ApiError as error:
                if error.status.reason != "AlreadyExists":
                    raise

        self._call("create", "events", namespace, name, posted)

    def read_lease(self, namespace: str, name: str) -> Json | None:
        """A Lease (`coordination.k8s.io/v1`), None when there is none."""
        try:
            return self._call(
                "get", "leases", namespace, name, lambda client: _lean(client.get(_Lease, name, namespace=namespace))
            )
        except NotFound:
            return None

    def list_leases(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Json]:
        """The Leases of a namespace that have these labels."""

        def listed(client: Client) -> list[Json]:
            return [_lean(item) for item in client.list(_Lease, namespace=namespace, labels=dict(labels))]

        return self._call("list", "leases", namespace, "", listed)

    def write_lease(self, lease: Mapping[str, Any]) -> Json:
        """Create a Lease that has no `metadata.resourceVersion`, else replace just that version. Raises `Conflict` when
        it is there already, or is another version."""
        metadata = lease["metadata"]
        verb = "update" if metadata.get("resourceVersion") else "create"

        def written(client: Client) -> Json:
            made = _Lease(**lease)
            return _lean(client.replace(made) if verb == "update" else client.create(made))

        return self._call(verb, "leases", metadata["namespace"], metadata["name"], written)

    def delete_lease(self, namespace: str, name: str) -> None:
        """Delete a Lease; one that is not there is success."""
        try:
            self._call(
                "delete", "leases", namespace, name, lambda client: client.delete(_Lease, name, namespace=namespace)
            )
        except NotFound:
            return

    def scale_deployment(self, namespace: str, name: str, replicas: int) -> None:
        """Have a Deployment run so many pods (`deployments/scale`); one that is not there is success."""
        patch = {"spec": {"replicas": replicas}}

        def scaled(client: Client) -> None:
            client.patch(_Deployment.Scale, name, patch, namespace=namespace, patch_type=PatchType.MERGE)

        try:
            self._call("patch", "deployments/scale", namespace, name, scaled)
        except NotFound:
            return

    def pods_of_deployment(self, namespace: str, name: str) -> int:
        """How many pods a Deployment has, as its status says (also those that are ending); 0 for one that is not
        there."""
        try:
            found = self._call(
                "get",
                "deployments",
                namespace,
                name,
                lambda client: dict(client.get(_Deployment, name, namespace=namespace)),
            )
        except NotFound:
            return 0
        status = found.get("status") or {}
        current = int(status.get("observedGeneration") or 0) >= int(found["metadata"].get("generation") or 0)
        return int(status.get("replicas") or 0) if current else 1

    def _change_finalizers(
        self,
        namespace: str,
        name: str,
        observed: Observed | None,
        change: Callable[[Sequence[str]], Sequence[str] | None],
    ) -> Json | None:
        for attempt in range(self._connection.retry_attempts):
            if observed is None:
                metadata = self.get(namespace, name)["metadata"]
                observed = (metadata["resourceVersion"], metadata.get("finalizers") or ())
            wanted = change(observed[1])
            if wanted is None:
                return None
            try:
                return self._write_finalizers(namespace, name, observed[0], wanted)
            except Conflict:
                if attempt == self._connection.retry_attempts - 1:
                    raise
                observed = None
        return None

    def _write_finalizers(self, namespace: str, name: str, resource_version: str, finalizers: Sequence[str]) -> Json:
        # A merge patch: a JSON patch whose test fails is answered with 422, which says nothing of a conflict.
        metadata = {"resourceVersion": resource_version, "finalizers": list(finalizers) or None}

        def patched(client: Client) -> Json:
            return _lean(
                client.patch(
                    _SecretBinding, name, {"metadata": metadata}, namespace=namespace, patch_type=PatchType.MERGE
                )
            )

        return self._call("patch", PLURAL, namespace, name, patched)

    def _call(self, verb: str, resource: str, namespace: str, name: str, function: Callable[[Client], T]) -> T:
        """Every change of a binding is a patch: events tell of changes, and leases are our own."""
        if verb != "patch" or not resource.startswith(PLURAL):
            return self._session.call(verb, resource, namespace, name, function)
        outcome = "Success"
        try:
            return self._session.call(verb, resource, namespace, name, function)
        except ServiceError as error:
            outcome = error.reason
            raise
        finally:
            told("kubernetes", f"{verb} {resource}", f"{verb} {resource} {name}", outcome, namespace=namespace)

    def _pages(self, client: Client, namespace: str) -> Iterator[Json]:
        place = namespace or _ALL_NAMESPACES
        for item in client.list(_SecretBinding, namespace=place, chunk_size=self._connection.page_size):
            yield _lean(item)


def _lean(item: Mapping[str, Any]) -> Json:
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "metadata": metadata}
