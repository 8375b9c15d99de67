"""What a test makes the server do wrong, and what it has seen."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.support.apiserver import failures
from tests.support.apiserver.resources import Resource

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it was answered. `resource` is `secretbindings` or `secretbindings/status`."""

    verb: str
    resource: str
    namespace: str
    name: str
    status: int
    agent: str


@dataclass(slots=True)
class Fault:
    """A wrong answer. `verb` and `resource` may be `*`, and verb `write` means every write; `times` None: for good."""

    verb: str
    resource: str
    status: int
    times: int | None
    retry_after: int | None

    def fits(self, verb: str, resource: str) -> bool:
        return self.verb in ("*", verb, "write" if verb in WRITES else verb) and self.resource in ("*", resource)


_REASONS = {
    400: "BadRequest",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Faults:
    """The faults that are on, and the record of requests. Used from the server's loop and from tests alike."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.deaf = False
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self, verb: str, resource: str) -> None:
        self._faults = [fault for fault in self._faults if (fault.verb, fault.resource) != (verb, resource)]

    def raise_for(self, verb: str, resource: Resource, subresource: str, namespace: str, name: str) -> None:
        """Raise the error of the first fault that fits this request."""
        label = f"{resource.plural}/{subresource}" if subresource else resource.plural
        for fault in self._faults:
            if not fault.fits(verb, label) or fault.times == 0:
                continue
            if fault.times is not None:
                fault.times -= 1
            if fault.status == 403:
                scope = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
                who = 'User "tester" cannot'
                what = f'{who} {verb} resource "{label}" in API group "{resource.group}" {scope}'
                head = f'{resource.qualified} "{name}"' if name else resource.qualified
                raise failures.ApiError(403, "Forbidden", f"{head} is forbidden: {what}", {"kind": resource.plural})
            if fault.status == 409:
                raise failures.conflict(resource, name)
            message = "too many requests, please try again later" if fault.status == 429 else "injected by the test"
            raise failures.ApiError(fault.status, _REASONS[fault.status], message, {}, fault.retry_after)

    def record(self, request: Request) -> None:
        self.requests.append(request)

    def count(self, agents_without: str, *, writes_only: bool) -> Counter[tuple[str, str]]:
        return Counter(
            (request.verb, request.resource)
            for request in list(self.requests)
            if agents_without not in request.agent and (request.verb in WRITES or not writes_only)
        )


def describe(counts: Counter[tuple[str, str]]) -> dict[str, Any]:
    """Counts under readable keys: `{"patch secretbindings/status": 2}`."""
    return {f"{verb} {resource}": number for (verb, resource), number in sorted(counts.items())}
