"""What a kind of secret has to say about itself: rights, versions, fields, and how a template reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from secretbinding.models.binding import SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.ports import KvVersion, Vault


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One path of an ACL policy with its capabilities, sorted."""

    path: str
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """What a template of ours reads: a version by its number and its `created_time`, or a revision.

    The number alone is not enough: a secret deleted for good and made again starts at 1. A revision stands for a secret
    that Vault keeps no versions of: its number is 0, and `created` is what tells one state of it from another (a time,
    a digest of an issuer).
    """

    version: int
    created: str

    @property
    def label(self) -> str:
        """For people: `7`, or the revision's text."""
        return str(self.version) if self.version else self.created


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something cannot be done now: a reason, and a sentence without any value."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class SecretState:
    """What could be learned of a secret without reading it.

    Attributes:
        engine: `v1` or `v2` for KV, the kind's name otherwise.
        pinnable: a template can name one version and gets just that.
        current: the newest version's number, 0 when there is none or the kind has no versions.
        versions: every version that the server still keeps, by number.
        fields: names of the fields by version number, for the versions that were looked at; a mapping as value
            means an object, None a plain value.
        revision: for a kind without versions whose server tells when the secret changed: the state it is in now.
        invalidates: a new revision makes the old value worthless at once (a static role's password).
        lease_seconds: how long what one task gets lives at most, renewals included; 0 when nobody knows, or forever.
        next_change: when the server changes the secret by itself the next time.
        fault: set when nothing may be concluded from the rest.
    """

    engine: str
    pinnable: bool = False
    current: int = 0
    versions: Mapping[int, KvVersion] = field(default_factory=dict)
    fields: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    max_versions: int = 0
    revision: Pin | None = None
    invalidates: bool = False
    lease_seconds: float = 0.0
    next_change: datetime | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How a template reads a secret.

    Attributes:
        path: the argument of consul-template's `secret` function, query included.
        data: the expression that holds the fields, such as `.Data.data`.
        polls: True when Nomad keeps reading it while the task runs, so that its token has to stay valid.
        leased: True when losing the token takes the credentials away.
    """

    path: str
    data: str
    polls: bool
    leased: bool = False


class Kind(Protocol):
    """One kind of secret. `name` is the field of `spec.secrets[]` that holds its specification."""

    name: str

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        """Read what can be known without the secret's values. `versions` are the numbers that a job pins now;
        their fields are of interest beside those of the newest. Raises `errors.ServiceError` subclasses."""

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        """The least that a task's token needs to read the secret."""

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading:
        """How a template reads it, at `pin` when given."""
