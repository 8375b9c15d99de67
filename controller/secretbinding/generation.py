"""When a secret is to get a new value, and what making one takes. Pure; the clock is an argument.

Nothing is remembered from one decision to the next: a value is due when the newest moment at which one was wanted (a
tick of the schedule, a request) is later than the secret's last change, which Vault tells. Schedules go by Vault's
clock, as that change does: one of ours that is ahead or behind makes nothing early, late or twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from secretbinding.gate import Obstacle, Wait
from secretbinding.kinds.base import Fault, SecretState
from secretbinding.models.binding import Generate, SecretEntry
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.models.status import GENERATE_REQUEST_LENGTH
from secretbinding.windows import last_fire, next_fire

KV = "kv"
STATIC_ROLE = "static role"
ROOT = "root"
ABSENT = "0"
"""What is seen of a KV secret that is not there: its next version is the first."""

TOLERANCE = timedelta(seconds=2)
"""How far Vault's clock may be from ours without being noticed. Nothing is made so soon after the moment it is for, so
that its time in Vault is surely the later one."""

_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What gets a new value: a KV secret by its path, a static role, or a database connection's root user by name."""

    kind: str
    mount: str
    name: str

    def __str__(self) -> str:
        if self.kind == KV:
            return f"{self.mount}/{self.name}"
        return f"{'static role' if self.kind == STATIC_ROLE else 'root user of connection'} {self.mount}/{self.name}"


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Somebody asks for new values: of all that the binding generates, or of the `secrets` named."""

    at: datetime
    secrets: tuple[str, ...] = ()

    def covers(self, secret: str) -> bool:
        """True when the request is for this entry of spec.secrets."""
        return not self.secrets or secret in self.secrets


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt that did not lead to a new value, and is not repeated before `retry_at`. Without a fault nothing was
    wrong but the moment, and `why` says what: somebody else wrote."""

    entry: Generate
    due: datetime
    retry_at: datetime
    fault: Fault | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Attempts:
    """What this process knows of its own attempts. Without it nothing is lost: it only keeps failures apart in time,
    and a clock that was set back from having values made over and over.

    Attributes:
        tried: by binding and secret, those that are not to be repeated yet.
        served: by target, the newest tick of a schedule for which a value was made, by Vault's clock.
        answered: by target, the newest request for which a value was made, by the clock of who asked.
    """

    tried: Mapping[tuple[BindingKey, str], Tried] = field(default_factory=dict)
    served: Mapping[Target, datetime] = field(default_factory=dict)
    answered: Mapping[Target, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changed:
    """When a secret last changed, and what of it was seen then.

    Attributes:
        at: the moment, by our clock; None for a secret that is not there, or of which nothing tells (`absent` says
            which).
        seen: what a write is to be compared with: the version's number, or the text of `last_vault_rotation`.
        fault: why no value can be made for it as it is.
    """

    at: datetime | None
    seen: str = ""
    absent: bool = False
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """What is decided for one entry of spec.rotation.generate.

    Attributes:
        due: the moment for which a new value is wanted, a tick by Vault's clock and a request by ours; None while the
            one that is there will do.
        requested: somebody asked for it; the schedule did otherwise.
        wait: why a value that is due is not made yet.
        fault: why it cannot be made; an attempt that failed is repeated at `until`.
        until: when something is to be done next, None when nobody knows; a tick by Vault's clock. `look_at` is when it
            can be done by ours, which is a little later where Vault's clock is to have come to it, too.
        open: a request for it is not answered yet.
        rolls: the job is rolled for it, and a place for that is taken before it is made.
    """

    entry: Generate
    target: Target
    changed: Changed
    due: datetime | None = None
    requested: bool = False
    wait: Wait | None = None
    fault: Fault | None = None
    until: datetime | None = None
    look_at: datetime | None = None
    open: bool = False
    rolls: bool = False

    @property
    def now(self) -> bool:
        """True when a value is to be made in this pass."""
        return self.due is not None and self.wait is None and self.fault is None

    @property
    def message(self) -> str:
        """What hinders a value that is due, "" when nothing does."""
        if self.fault is not None:
            return self.fault.message
        return f"a new value of {self.entry.secret} waits: {self.wait.why}" if self.wait is not None else ""


@dataclass(frozen=True, slots=True)
class GenerateValue:
    """Have a new value made and written, for the moment `due`, over what was `seen` (see `Changed`).

    `requested` tells a request from a tick of the schedule. `answer` is the policy to write when it is done, by name
    and text: where the request is remembered that Vault itself does not tell of. `also` are the other entries of the
    same KV secret that are due: one write makes the fields of all, since a version of its own for one of them would
    count as the change that the others are due for.
    """

    key: BindingKey
    entry: Generate
    target: Target
    seen: str
    due: datetime
    requested: bool
    answer: tuple[str, str] | None = None
    also: tuple["GenerateValue", ...] = ()

    @property
    def parts(self) -> tuple["GenerateValue", ...]:
        """Every entry that it is for, this one first."""
        return (self, *self.also)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a KV secret that get a new value, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.entry.fields))


@dataclass(frozen=True, slots=True)
class Made:
    """A new value that was made: for whom, and in words without it."""

    key: BindingKey
    secret: str
    message: str


def moment(text: str) -> datetime | None:
    """A time as Vault writes it (RFC 3339 with nanoseconds, cut to microseconds), None when it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def read_request(text: str) -> GenerateRequest | None:
    """A request as it is written: a time (RFC 3339), then the names of secrets if not all are meant. None when there is
    none, it does not begin with a time, or it is longer than a status can hold."""
    if len(text) > GENERATE_REQUEST_LENGTH:
        return None
    first, *names = text.split() or [""]
    at = moment(first) if first else None
    return GenerateRequest(at, tuple(names)) if at is not None else None


def target_of(entry: Generate, secret: SecretEntry) -> Target:
    """What an entry of spec.rotation.generate is about."""
    if secret.kv is not None:
        return Target(KV, secret.kv.mount, secret.kv.path)
    if secret.database is None:
        raise ValueError(f"secret {secret.name} cannot be generated")
    if entry.rotate_root is not None:
        return Target(ROOT, secret.database.mount, entry.rotate_root)
    return Target(STATIC_ROLE, secret.database.mount, secret.database.static_role or "")


def changed_of(
    target: Target, state: SecretState, done_at: str = "", vault_ahead: timedelta = timedelta(0)
) -> Changed | None:
    """The last change of a target; None when it is not known. `state` is that of the secret, with times by Vault's
    clock, which is `vault_ahead` of ours.

    Of a root password Vault tells nothing: `done_at` is the request that was last answered, as the binding's own policy
    says.
    """
    if target.kind == ROOT:
        return Changed(moment(done_at) if done_at else None)
    if state.fault is not None:
        absent = target.kind == KV and state.engine == "v2" and state.fault.reason is Reason.SECRET_NOT_FOUND
        return Changed(None, ABSENT, absent=True) if absent else None
    if target.kind == STATIC_ROLE:
        told = state.revision.told if state.revision is not None else ""
        rotated = moment(told)
        return Changed(rotated - vault_ahead if rotated is not None else None, told) if told else None
    if state.engine != "v2":
        message = (
            f"{target} is of KV version {state.engine.removeprefix('v')}, where a write replaces what it cannot read"
        )
        return Changed(None, fault=Fault(Reason.GENERATION_FAILED, message))
    version = state.versions.get(state.current)
    at = moment(version.created) if version is not None else None
    if version is None or at is None:
        return None
    fault = None
    if not version.readable:
        gone = "destroyed" if version.destroyed else "deleted"
        message = (
            f"version {version.number} of {target} is {gone}, so that its other fields cannot be kept: "
            "undelete it, or write a new version"
        )
        fault = Fault(Reason.GENERATION_FAILED, message)
    return Changed(at - vault_ahead, str(version.number), fault=fault)


def decide_generation(
    entry: Generate,
    target: Target,
    changed: Changed,
    *,
    now: datetime | None,
    vault_ahead: timedelta = timedelta(0),
    request: GenerateRequest | None = None,
    tried: Tried | None = None,
    served: datetime | None = None,
    answered: datetime | None = None,
) -> Generation:
    """Whether a new value is due, before a look at what it has to wait for.

    `now` is None where nothing is done by the clock (one-shot commands): a schedule then only makes a secret that is
    not there at all. Vault's clock is `vault_ahead` of ours; `request` is one that covers this entry, `tried` the last
    attempt that failed, `served` and `answered` the newest tick and the newest request for which this process has had a
    value made.
    """
    ripe = now - TOLERANCE if now is not None else None
    there = ripe + vault_ahead if ripe is not None else None
    asked = request.at if request is not None and _is_later(request.at, changed.at, answered) else None
    # What is made before a request's own time would count as older than it.
    ahead = asked is not None and ripe is not None and asked > ripe
    tick = _tick(entry, changed, there)
    changed_there = changed.at + vault_ahead if changed.at is not None else None
    if tick is not None and not changed.absent and not _is_later(tick, changed_there, served):
        tick = None
    requested = asked is not None and not ahead and (tick is None or asked + vault_ahead >= tick)
    upcoming = next_fire(entry.schedule, there, _zone(entry)) if entry.schedule and there is not None else None
    tick_at = upcoming - vault_ahead if upcoming is not None else None
    first = _earliest(tick_at, asked if ahead else None)
    due = asked if requested else tick
    found = Generation(
        entry,
        target,
        changed,
        due,
        requested=requested,
        until=upcoming if first == tick_at else first,
        look_at=first + TOLERANCE if first is not None else None,
        open=asked is not None,
    )
    if due is None:
        return found
    if changed.fault is not None:
        return replace(found, fault=changed.fault)
    if tried is None or (tried.entry, tried.due) != (entry, due):
        return found
    wait = Wait(tried.why, Obstacle.RETRY, tried.retry_at) if tried.fault is None else None
    # Another moment that comes before that is another attempt.
    look_at = _earliest(tried.retry_at, found.look_at)
    return replace(found, fault=tried.fault, wait=wait, until=tried.retry_at, look_at=look_at)


def held(found: Generation, wait: Wait | None) -> Generation:
    """The decision with what a value that is due has to wait for. A request that is to come waits for less."""
    if wait is None or not found.now:
        return found
    return replace(found, wait=wait, until=wait.until, look_at=_earliest(wait.until, found.look_at))


def together(found: Generation, others: Iterable[Generation], now: datetime | None) -> Generation:
    """The decision with a wait of seconds where one of the `others` of the same KV secret is to come in a moment: the
    version made now could get a time in Vault that is later than that moment, and pass for the other's value."""
    if not found.now or now is None or found.target.kind != KV:
        return found
    coming = [
        other.look_at
        for other in others
        if other.target == found.target
        and other.due is None
        and other.until is not None
        and other.look_at is not None
        and other.until <= now + TOLERANCE
    ]
    if not coming:
        return found
    return held(found, Wait("another field of the same secret is due in a moment", Obstacle.RETRY, max(coming)))


def _tick(entry: Generate, changed: Changed, now: datetime | None) -> datetime | None:
    """The newest moment at which the schedule wants a value, later than the last change or not. All by one clock."""
    if entry.schedule is None:
        return None
    if now is None:
        return _EPOCH if changed.absent else None
    return last_fire(entry.schedule, now, _zone(entry)) or (_EPOCH if changed.absent else None)


def _is_later(wanted: datetime, *known: datetime | None) -> bool:
    return all(moment is None or wanted > moment for moment in known)


def _zone(entry: Generate) -> ZoneInfo:
    return ZoneInfo(entry.time_zone or "UTC")


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)
