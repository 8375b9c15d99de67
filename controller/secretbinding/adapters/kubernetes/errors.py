"""What went wrong with a Kubernetes API server, as one of our own errors that holds no credential."""

import httpx2
import msgspec

from secretbinding.errors import Conflict, Denied, NotFound, Rejected, ServiceError, Unavailable, Unreachable

API_GROUP = "nomad-vault.io"
_SYSTEM = "kubernetes"
_OTHER_GROUPS = {
    "events": "events.k8s.io",
    "leases": "coordination.k8s.io",
    "namespaces": '""',
    "deployments": "apps",
    "deployments/scale": "apps",
}
_SAID_LIMIT = 1000
_LONGEST_PAUSE = 10.0


class UndefinedError(Unavailable):
    """The resource itself is not served: its definition is not installed (yet)."""

    reason = "ResourceNotDefined"


class AttemptError(Exception):
    """One failed attempt: our error, and after how many seconds the server wants to be asked again (0: any)."""

    def __init__(self, error: ServiceError, pause: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = min(pause, _LONGEST_PAUSE)

    @property
    def repeat(self) -> bool:
        """Whether the same request may succeed in a moment. A conflict's cannot: the object has to be read again."""
        return self.error.transient and not isinstance(self.error, Conflict | UndefinedError)


def failed(error: Exception, verb: str, resource: str, namespace: str, name: str) -> AttemptError | None:
    """The failure that an exception of the Kubernetes client means, None for one that is none of the client's.

    `resource` is a plural, or `plural/subresource`; `name` is "" for what concerns a whole namespace.
    """
    place = f"{namespace}/{name}" if name else f"of {namespace or 'all namespaces'}"
    operation = f"{verb} {resource} {place}"
    if isinstance(error, httpx2.HTTPStatusError):
        return _answered(error, verb, resource, operation)
    if isinstance(error, httpx2.TransportError):
        message = f"Kubernetes did not answer to `{operation}` ({_why(error)})"
        remedy = "see whether the API server can be reached from here"
        return AttemptError(Unreachable(message, system=_SYSTEM, operation=operation, remedy=remedy))
    if isinstance(error, msgspec.MsgspecError | ValueError | KeyError | httpx2.HTTPError):
        # lightkube itself raises KeyError for an error answer without a Content-Type.
        message = f"Kubernetes gave no usable answer to `{operation}`"
        remedy = "see whether something other than an API server answers at that address"
        return AttemptError(Unavailable(message, system=_SYSTEM, operation=operation, remedy=remedy))
    return None


def _answered(error: httpx2.HTTPStatusError, verb: str, resource: str, operation: str) -> AttemptError:
    status = error.response.status_code
    said = _said(error)
    kind: type[ServiceError]
    if status == 401:
        kind, message, remedy = Denied, f"Kubernetes does not accept our credentials for `{operation}`", "renew them"
    elif status == 403:
        group = _OTHER_GROUPS.get(resource, API_GROUP)
        kind, message = Denied, f"the controller's account in Kubernetes may not `{operation}`"
        remedy = f"grant it the verb {verb} on {resource} of the API group {group}"
    elif status == 404 and _names_a_thing(error):
        kind, message, remedy = NotFound, f"Kubernetes has no such thing: `{operation}`{said}", ""
    elif status == 404:
        kind, message = UndefinedError, f"Kubernetes does not know {resource}: `{operation}`"
        remedy = "install the CustomResourceDefinition (`secretbinding crd` prints it)"
    elif status == 409:
        kind, message, remedy = Conflict, f"somebody else changed the object first: `{operation}`", ""
    elif status in (408, 410, 429) or status >= 500:
        kind, message, remedy = Unavailable, f"Kubernetes cannot do `{operation}` now (HTTP {status}){said}", ""
    else:
        kind, message, remedy = Rejected, f"Kubernetes refused `{operation}`{said}", ""
    failure = kind(message, system=_SYSTEM, operation=operation, status=status, remedy=remedy)
    return AttemptError(failure, _seconds(error.response.headers.get("Retry-After")))


def _names_a_thing(error: httpx2.HTTPStatusError) -> bool:
    """Whether a 404 is about one object; a path that is not served, or a proxy's 404, proves nothing about objects."""
    try:
        body = error.response.json()
    except ValueError:
        return False
    details = body.get("details") if isinstance(body, dict) else None
    return isinstance(details, dict) and bool(details.get("name"))


def _said(error: httpx2.HTTPStatusError) -> str:
    """What the server said, shortened; it may repeat fields of the object, never a header of the request."""
    try:
        body = error.response.json()
    except ValueError:
        return ""
    message = body.get("message") if isinstance(body, dict) else None
    return f": {str(message)[:_SAID_LIMIT]}" if message else ""


def _why(error: httpx2.TransportError) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return "it was silent for too long" if isinstance(error, httpx2.ReadTimeout) else "connecting took too long"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "its TLS certificate is not trusted"
    return "cannot connect" if isinstance(error, httpx2.ConnectError) else "the connection broke off"


def _seconds(text: str | None) -> float:
    try:
        return max(float(text or 0), 0.0)
    except ValueError:
        return 0.0
