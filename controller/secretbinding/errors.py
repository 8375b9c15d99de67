"""Every error this project raises on purpose: what was wrong, with which thing, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass


class SecretBindingError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        reason: the CamelCase word that conditions, events and metrics carry.
        message: one sentence that names the thing and what is wrong with it. Never holds a secret value.
        remedy: one sentence that says what to do; empty when nothing can be said.
        transient: True when trying again later may succeed without anybody doing anything.
    """

    reason = "Error"
    transient = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a manifest.

    `field` is a path such as `spec.secrets[0].env`; `line` and `column` count from 1 and are 0 when unknown.
    """

    message: str
    remedy: str = ""
    field: str = ""
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        head = ": ".join(part for part in (place, self.field) if part)
        body = f"{self.message}; {self.remedy}" if self.remedy else self.message
        return f"{head}: {body}" if head else body


class ManifestError(SecretBindingError):
    """A manifest that cannot be used. `problems` holds every fault found, at least one."""

    reason = "InvalidManifest"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class UsageError(SecretBindingError):
    """The command line or a setting is wrong."""

    reason = "InvalidUsage"


class ServiceError(SecretBindingError):
    """A server (Vault, Nomad, Kubernetes) did not do what was asked.

    Attributes:
        system: `vault`, `nomad` or `kubernetes`.
        operation: what was asked, such as `read policy app`; names and paths only.
        status: the HTTP status, 0 when there was no answer.
    """

    reason = "ServiceError"

    def __init__(self, message: str, *, system: str, operation: str = "", status: int = 0, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.system = system
        self.operation = operation
        self.status = status


class Unreachable(ServiceError):
    """No answer: refused, reset, timed out, or TLS failed."""

    reason = "Unreachable"
    transient = True


class Unavailable(ServiceError):
    """The server answered that it cannot work now: 5xx, 429, sealed, no leader."""

    reason = "Unavailable"
    transient = True


class VaultSealed(Unavailable):
    """Vault is sealed or not initialized (HTTP 503 of `sys/health`)."""

    reason = "VaultSealed"


class NoLeader(Unavailable):
    """Nomad has no leader (HTTP 500 `No cluster leader`)."""

    reason = "NomadNoLeader"


class Denied(ServiceError):
    """The token may not do this (HTTP 403)."""

    reason = "PermissionDenied"


class NotFound(ServiceError):
    """The thing is not there (HTTP 404) where it has to be."""

    reason = "NotFound"


class Conflict(ServiceError):
    """Somebody else changed the thing since it was read (CAS, EnforceIndex, resourceVersion)."""

    reason = "WriteConflict"
    transient = True


class Rejected(ServiceError):
    """The server understood and refused (HTTP 400, 422, a validation failure)."""

    reason = "Rejected"


class NotLeading(SecretBindingError):
    """Another controller works on the job now, or may: nothing more is written for it."""

    reason = "NotLeading"
    transient = True

    def __init__(self) -> None:
        super().__init__("another controller works on this job now")
