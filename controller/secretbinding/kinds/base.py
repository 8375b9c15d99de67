"""What a kind of secret has to say about itself: rights, versions, fields, and how a template reads it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar, runtime_checkable

import durationpy

from secretbinding.errors import Denied
from secretbinding.models.binding import SecretEntry
from secretbinding.models.kinds import KindSpec, TokenDelivery
from secretbinding.models.reasons import Reason
from secretbinding.naming import stable_digest
from secretbinding.ports import Json, KvVersion, LeaseLimits, Vault


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One path of an ACL policy with its capabilities, sorted."""

    path: str
    capabilities: tuple[str, ...]


_RENEWED = "renewed "


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """What a template of ours reads: a version by its number and its `created_time`, or a revision.

    The number alone is not enough: a secret deleted for good and made again starts at 1. A revision stands for a secret
    that Vault keeps no versions of: its number is 0, and `created` is what tells one state of it from another: what the
    server told (a time, a digest of an issuer), and when the job was last rolled to renew its leases.
    """

    version: int
    created: str

    @classmethod
    def revision(cls, told: str, renewed: str = "") -> "Pin":
        """A revision of what the server told, which has no spaces, and the moment of the last renewal."""
        return cls(0, " ".join(part for part in (told, f"{_RENEWED}{renewed}" if renewed else "") if part))

    @property
    def told(self) -> str:
        """What the server told of a revision."""
        return self.created.partition(_RENEWED)[0].strip()

    @property
    def renewed(self) -> str:
        """When a revision's leases were last renewed, "" when they never were."""
        return self.created.partition(_RENEWED)[2]

    @property
    def label(self) -> str:
        """For people: `7`, or the revision's text."""
        return str(self.version) if self.version else self.created

    @property
    def title(self) -> str:
        """For people, in a sentence: `version 7`, or the revision with its text."""
        if self.version:
            return f"version {self.version}"
        return f"revision {self.created}" if self.created else "the first revision"


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
        max_versions: how many versions the secret itself wants kept, 0 where it leaves that to its mount.
        mount_max_versions: the same of its mount, 0 where that sets nothing either; None when nobody knows.
        fields: names of the fields by version number, for the versions that were looked at; a mapping as value
            means an object, None a plain value.
        revision: for a kind without versions whose server tells when the secret changed: the state it is in now.
        invalidates: a new revision makes the old value worthless at once (a static role's password).
        lease_seconds: how long what one task gets lives at most, renewals included; 0 when nobody knows, or forever.
        next_change: when the server changes the secret by itself the next time.
        made: for an entry that has a role made: the role as it is in the engine, None when it is not there.
        fault: set when nothing may be concluded from the rest.
    """

    engine: str
    pinnable: bool = False
    current: int = 0
    versions: Mapping[int, KvVersion] = field(default_factory=dict)
    fields: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    max_versions: int = 0
    mount_max_versions: int | None = None
    revision: Pin | None = None
    invalidates: bool = False
    lease_seconds: float = 0.0
    next_change: datetime | None = None
    made: Json | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How a template reads a secret.

    Attributes:
        path: the first argument of consul-template's function, query included.
        data: the expression that holds the fields, such as `.Data.data`.
        polls: True when Nomad keeps reading it while the task runs, so that its token has to stay valid.
        leased: True when losing the token takes the credentials away.
        arguments: further arguments of `secret`, `name=value` each, which make it a write.
        followed: the controller rolls the job when the value changes, so that Nomad itself need not restart tasks.
        default: the text of a file for which the binding says nothing else, "" for all fields as JSON.
        function: consul-template's function: `secret`, or `nomadVar` (then Vault has no part in it).
        offers: the fields of a file of all fields, where what is read has others beside them; empty for all.
        made: digest of the role that is made for the entry: another role gives other credentials.
    """

    path: str
    data: str
    polls: bool
    leased: bool = False
    arguments: tuple[str, ...] = ()
    followed: bool = False
    default: str = ""
    function: str = "secret"
    offers: tuple[str, ...] = ()
    made: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """A right that tasks use by themselves: nothing is rendered but a note that stands for it in the job.

    Attributes:
        note: what the note says.
        token: how the task gets its Vault token.
    """

    note: str
    token: TokenDelivery


@dataclass(frozen=True, slots=True)
class EngineRole:
    """A role of a secrets engine that a binding has made for itself.

    Attributes:
        path: where the engine keeps it, such as `database/roles/<name>`.
        body: what is set there; whatever else the engine answers, but for `untouched`, is its own.
        told_later: what the job is to have depends on what the engine tells once the role is there.
        untouched: what the engine itself puts where nothing is set. A write that does not name it brings it back, and
            it is compared where the engine has such a field.
    """

    path: str
    body: Json
    told_later: bool = False
    untouched: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The same for roles that give the same."""
        return stable_digest([self.path, self.body])


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What `Kind.observe` looks at: it sees the same for all entries of which this is the same.

    Attributes:
        name: below the mount: a path or a role.
        detail: what else of an entry the answer depends on.
    """

    kind: str
    mount: str
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """Which requests to an engine may change what `Kind.observe` sees.

    Attributes:
        pattern: matches the whole path of such a request below the mount. Its group `name` is the subject's; where that
            is not set, the request is about everything of the mount.
        hints: each such path, with a slash before it, holds one of these texts.
    """

    pattern: re.Pattern[str]
    hints: tuple[str, ...]


RENEW = Right("sys/leases/renew", ("update",))
"""What a task's token needs to keep a lease; Vault's `default` policy has it too, where nobody took it out."""


class Kind(Protocol):
    """One kind of secret. `name` is the field of `spec.secrets[]` that holds its specification; `changes` is None where
    nothing that is requested of the engine shows in `observe`."""

    name: str
    changes: Changes | None

    def subject(self, entry: SecretEntry) -> Subject | None:
        """What `observe` looks at; None for a secret of which the server tells nothing that may change."""

    def observe(self, entry: SecretEntry, vault: Vault, versions: Sequence[int]) -> SecretState:
        """Read what can be known without the secret's values. `versions` are the numbers that a job pins now;
        their fields are of interest beside those of the newest. Raises `errors.ServiceError` subclasses."""

    def rights(self, entry: SecretEntry, state: SecretState) -> tuple[Right, ...]:
        """The least that a task's token needs to read the secret."""

    def reading(self, entry: SecretEntry, state: SecretState, pin: Pin | None) -> Reading | Use:
        """How a template reads it, at `pin` when given; or what tasks do with it themselves."""


@runtime_checkable
class RoleMaker(Protocol):
    """A kind of which a binding can have a role made in the engine."""

    def engine_role(self, entry: SecretEntry) -> EngineRole | None:
        """The role that is made for an entry whose name is known, None where it names one that is there."""


Spec = TypeVar("Spec", bound=KindSpec)


def spec_of(entry: SecretEntry, model: type[Spec]) -> Spec:
    """The entry's specification; raises `ValueError` when it is of another kind."""
    source = entry.source
    if not isinstance(source, model):
        raise ValueError(f"secret {entry.name} is of kind {entry.kind_name}")
    return source


def not_found(engine: str, entry: SecretEntry, what: str, field: str) -> SecretState:
    """The state of a secret of which the server says that it is not there."""
    place = f"spec.secrets[{entry.name}].{entry.kind_name}.{field}"
    return SecretState(engine=engine, fault=Fault(Reason.SECRET_NOT_FOUND, f"{what}; make it, or mend {place}"))


def denied(engine: str, error: Denied) -> SecretState:
    """The state of a secret of which the controller may not learn what it must know."""
    return SecretState(engine=engine, fault=Fault(Reason.PERMISSION_DENIED, str(error)))


def seconds_of(value: object) -> float:
    """A length of time as engines write it: seconds, or Go's text (`1h0m0s`); 0 for what is none."""
    if isinstance(value, bool) or value is None:
        return 0.0
    if isinstance(value, (int, float)):
        return float(value)
    text = str(value)
    if text.isdigit():
        return float(text)
    try:
        parsed: timedelta = durationpy.from_str(text)
    except (ValueError, durationpy.DurationError):
        return 0.0
    return parsed.total_seconds()


def standing_limits(limits: LeaseLimits, vault: Vault, mount: str) -> LeaseLimits:
    """How long what a role gives out lives: as the role says, and where it does not, as its mount does; 0 where nobody
    says. Raises `errors.ServiceError` subclasses."""
    if limits.ttl and limits.max_ttl:
        return limits
    of_mount = vault.mount_limits(mount) or LeaseLimits()
    return LeaseLimits(limits.ttl or of_mount.ttl, limits.max_ttl or of_mount.max_ttl)
