"""What the source needs of a Kubernetes client."""

import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

Json = dict[str, Any]


class Credentials(Protocol):
    """How to reach the API server, for the client that watches."""

    @property
    def server(self) -> str:
        """The base URL."""

    def authorization(self) -> str:
        """The `Authorization` header as it is now, "" for none."""

    def proxy(self) -> str:
        """The proxy's URL, "" for none."""

    def ssl_context(self) -> ssl.SSLContext:
        """Trusts the server, and shows the client certificate if there is one."""


class BindingsApi(Protocol):
    """SecretBindings of one API server. Every method but `credentials` raises `errors.ServiceError` subclasses."""

    def credentials(self) -> Credentials:
        """Fresh credentials; raises `UsageError` when there are none."""

    def get(self, namespace: str, name: str) -> Json:
        """One object; raises `NotFound` only when the server says that this very object does not exist."""

    def each(self, namespace: str = "") -> Iterator[Json]:
        """All objects of a namespace, of all with ""; reaching the end proves that the listing is complete."""

    def replace_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> Json:
        """Write the whole status; gives the object as it is then."""

    def add_finalizer(
        self, namespace: str, name: str, finalizer: str, observed: tuple[str, Sequence[str]] | None = None
    ) -> Json | None:
        """Add it, starting from the resourceVersion and finalizers observed; the object as it is then, None when it
        had the finalizer already."""

    def remove_finalizer(
        self, namespace: str, name: str, finalizer: str, observed: tuple[str, Sequence[str]] | None = None
    ) -> Json | None:
        """Remove it; None when there was nothing to remove, or no such object."""

    def event(
        self, regarding: Mapping[str, Any], *, warning: bool, reason: str, message: str, action: str = "Reconcile"
    ) -> None:
        """Post a Kubernetes Event about an object."""
