"""Calls to a Kubernetes API server: tried again while the trouble passes, with a new login when one was refused."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx2
import stamina
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster, User

from secretbinding import tracing
from secretbinding.adapters.kubernetes.errors import AttemptError, failed
from secretbinding.adapters.kubernetes.kubeconfig import KubernetesCredentials, load_credentials
from secretbinding.adapters.transport import OnCall

T = TypeVar("T")

_METHODS = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}

# At INFO it writes a line for each request.
logging.getLogger("httpx2").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesConnection:
    """Which API server, and how patiently.

    Attributes:
        kubeconfig: path or paths, as `KUBECONFIG` holds them; "" means the pod's own service account.
        context: context of the kubeconfig; "" means the current one.
        timeout_seconds: how long the server may be silent before an answer counts as lost.
        retry_seconds, retry_attempts: how long and how many times one call may go on trying, the first included.
        page_size: objects in one answer of a listing.
    """

    kubeconfig: str = ""
    context: str = ""
    timeout_seconds: float = 15.0
    retry_seconds: float = 10.0
    retry_attempts: int = 4
    page_size: int = 500


class KubernetesSession:
    """Thread-safe. Calls that may be repeated are, with growing, jittered pauses, while the error is transient;
    `on_call` hears of every attempt. Raises `errors.ServiceError` subclasses whose text never holds a credential."""

    def __init__(self, connection: KubernetesConnection, *, on_call: OnCall | None = None) -> None:
        self._connection = connection
        self._on_call = on_call
        self._lock = threading.Lock()
        self._credentials = self.load()
        self._client = self._connected(self._credentials)

    @property
    def client(self) -> Client:
        """The client with the newest credentials."""
        return self._client

    @property
    def server(self) -> str:
        """The server's base URL."""
        return self._credentials.server

    def close(self) -> None:
        self._client.close()

    def call(self, verb: str, resource: str, namespace: str, name: str, function: Callable[[Client], T]) -> T:
        """What `function` makes of a client; `verb`, `resource`, `namespace` and `name` say what it asks for."""
        connection = self._connection
        try:
            for attempt in stamina.retry_context(
                on=_backoff,
                attempts=connection.retry_attempts,
                timeout=connection.retry_seconds,
                wait_initial=0.1,
                wait_max=2.0,
                wait_jitter=0.2,
            ):
                with attempt:
                    return self._attempt(verb, resource, namespace, name, function)
        except AttemptError as failure:
            # Without the cause: lightkube's errors hold the request, and that the credentials.
            raise failure.error from None
        raise AssertionError("a retry loop ends with a result or an error")

    def _attempt(self, verb: str, resource: str, namespace: str, name: str, function: Callable[[Client], T]) -> T:
        started = time.monotonic()
        outcome = "Success"
        with tracing.call("kubernetes", f"{verb} {resource}", _METHODS.get(verb, "")) as traced:
            try:
                client = self._client
                try:
                    return function(client)
                except httpx2.HTTPStatusError as error:
                    if error.response.status_code != 401:
                        raise
                return function(self.logged_in_again(client))
            except Exception as error:
                failure = failed(error, verb, resource, namespace, name)
                if failure is None:
                    raise
                outcome = failure.error.reason
                traced.failed(outcome)
                raise failure from None
            finally:
                self.heard(f"{verb} {resource}", started, outcome)

    def heard(self, operation: str, started: float, outcome: str) -> None:
        """Tell of an attempt that began at `started` (`time.monotonic()`)."""
        if self._on_call is not None:
            self._on_call("kubernetes", operation, time.monotonic() - started, outcome)

    def logged_in_again(self, refused: Client) -> Client:
        """A client with fresh credentials, made once however many threads were refused."""
        with self._lock:
            if self._client is refused:
                self._credentials = self.load()
                self._client = self._connected(self._credentials)
            return self._client

    def load(self) -> KubernetesCredentials:
        """Fresh credentials; raises `UsageError` when there are none."""
        return load_credentials(self._connection.kubeconfig, self._connection.context, os.environ)

    def _connected(self, credentials: KubernetesCredentials) -> Client:
        config = KubeConfig.from_one(
            cluster=Cluster(server=credentials.server), user=User(), namespace=credentials.namespace
        )
        return Client(
            config,
            timeout=httpx2.Timeout(self._connection.timeout_seconds),
            field_manager="secretbinding",
            transport=_Transport(credentials),
        )


class _Transport(httpx2.HTTPTransport):
    """Carries requests with our own TLS context and the credentials as they are at that moment."""

    def __init__(self, credentials: KubernetesCredentials) -> None:
        super().__init__(verify=credentials.ssl_context(), proxy=credentials.proxy() or None)
        self._credentials = credentials

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        authorization = self._credentials.authorization()
        if authorization:
            request.headers["Authorization"] = authorization
        return super().handle_request(request)


def _backoff(error: Exception) -> bool | float:
    """Whether to try again: after the pause that the server asked for, if it did."""
    if not isinstance(error, AttemptError) or not error.repeat:
        return False
    return error.pause or True
