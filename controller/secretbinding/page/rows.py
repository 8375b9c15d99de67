"""Bindings as rows of the page: how each is, in one word, and why. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from secretbinding.engine.store import Entry
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import EPOCH, Condition, ConditionStatus, SecretStatus


class State(StrEnum):
    """How a binding is, the most urgent first."""

    PROBLEM = "problem"
    WAITING = "waiting"
    HELD = "held"
    ROLLING = "rolling"
    WELL = "well"


_ROLLING = frozenset({Reason.DEPLOYMENT_RUNNING, Reason.WAITING_FOR_PROMOTION, Reason.ROLLING_OUT})
_HELD = frozenset({Reason.NEW_VERSION_HELD, Reason.MANUAL_ROTATION_PENDING, Reason.SUSPENDED})
_URGENCY = {state: number for number, state in enumerate(State)}


@dataclass(frozen=True, slots=True)
class Row:
    """One binding in a list. `condition` is the one that tells most, None before the first status."""

    key: BindingKey
    job: str
    job_namespace: str
    state: State
    condition: Condition | None
    secrets: Sequence[SecretStatus]
    last: datetime | None
    next: datetime | None

    @property
    def reason(self) -> str:
        return self.condition.reason if self.condition is not None else Reason.PENDING.value

    @property
    def message(self) -> str:
        """The first line: what follows is a policy to paste, which a list cannot show."""
        return self.condition.message.partition("\n")[0] if self.condition is not None else ""

    @property
    def more(self) -> str:
        """What follows."""
        return self.condition.message.partition("\n")[2] if self.condition is not None else ""

    @property
    def since(self) -> datetime | None:
        """When the condition's status last changed."""
        return moment(self.condition.last_transition_time) if self.condition is not None else None


@dataclass(frozen=True, slots=True)
class Hold:
    """A secret whose wanted version does not serve, and why not."""

    key: BindingKey
    secret: SecretStatus
    state: State

    @property
    def made(self) -> datetime | None:
        return moment(self.secret.changed_at)

    @property
    def until(self) -> datetime | None:
        return moment(self.secret.next_rotation_at)


def state_of(entry: Entry) -> State:
    """The word for a binding."""
    known = {condition.type: condition for condition in entry.status.conditions}
    ready = known.get(ConditionType.READY)
    rotation = known.get(ConditionType.ROTATION_HEALTHY)
    stalled = known.get(ConditionType.STALLED)
    if ready is None or entry.item.deleting:
        return State.WAITING
    if stalled is not None and stalled.status is ConditionStatus.TRUE:
        return State.PROBLEM
    if ready.status is not ConditionStatus.TRUE:
        if ready.reason in _ROLLING:
            return State.ROLLING
        return State.PROBLEM if ready.status is ConditionStatus.FALSE else State.WAITING
    if rotation is not None and rotation.status is ConditionStatus.FALSE:
        return State.PROBLEM
    if rotation is not None and rotation.reason in _ROLLING:
        return State.ROLLING
    suspended = entry.item.binding is not None and entry.item.binding.spec.suspend
    if suspended or (rotation is not None and rotation.reason in _HELD):
        return State.HELD
    return State.HELD if any(_is_held(secret) for secret in entry.status.secrets) else State.WELL


def row_of(entry: Entry) -> Row:
    """The row of a binding."""
    status = entry.status
    state = state_of(entry)
    dates = [date for secret in status.secrets if (date := moment(secret.next_rotation_at)) is not None]
    return Row(
        entry.item.key,
        entry.workload.job,
        entry.workload.namespace,
        state,
        _telling(entry, state),
        status.secrets,
        moment(status.last_rotation_time),
        min(dates, default=None),
    )


def _telling(entry: Entry, state: State) -> Condition | None:
    """The condition that says why a binding is in its state."""
    status = entry.status
    ready, rotation = status.condition(ConditionType.READY), status.condition(ConditionType.ROTATION_HEALTHY)
    stalled = status.condition(ConditionType.STALLED)
    if ready is not None and ready.status is not ConditionStatus.TRUE:
        return ready
    if stalled is not None and stalled.status is ConditionStatus.TRUE:
        return stalled
    return rotation if rotation is not None and state is not State.WAITING else ready


@dataclass(frozen=True, slots=True)
class Filter:
    """What a visitor looks for: a text in tenant, name, job, source or reason, in whatever case; and a state, None for
    any."""

    text: str = ""
    state: State | None = None

    def matches(self, entry: Entry) -> bool:
        """Whether the text is in it."""
        if not self.text:
            return True
        key, workload = entry.item.key, entry.workload
        words = [f"{key.source}/{key.tenant}/{key.name}", f"{workload.namespace}/{workload.job}"]
        words += [condition.reason for condition in entry.status.conditions]
        return any(self.text.casefold() in word.casefold() for word in words)


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of bindings, those with problems first.

    Attributes:
        counts: of what the text matches, by state.
        total: how many match text and state.
        page, pages: from 1.
    """

    rows: Sequence[Row]
    counts: Counter[State]
    total: int
    page: int
    pages: int


def listing(entries: Iterable[Entry], wanted: Filter, *, page: int, size: int) -> Listing:
    """What matches, sorted by urgency and then by key; a page that is not there counts as the nearest one."""
    found: list[tuple[int, BindingKey, Entry]] = []
    counts: Counter[State] = Counter()
    for entry in entries:
        if not wanted.matches(entry):
            continue
        state = state_of(entry)
        counts[state] += 1
        if wanted.state in (None, state):
            found.append((_URGENCY[state], entry.item.key, entry))
    found.sort(key=lambda one: one[:2])
    pages = max(1, -(-len(found) // size))
    page = min(max(1, page), pages)
    rows = [row_of(entry) for _, _, entry in found[(page - 1) * size : page * size]]
    return Listing(rows, counts, len(found), page, pages)


def holds(entries: Iterable[Entry]) -> list[Hold]:
    """The secrets whose wanted version something hinders, longest first."""
    found = [
        Hold(entry.item.key, secret, state_of(entry))
        for entry in entries
        for secret in entry.status.secrets
        if _is_held(secret)
    ]
    return sorted(found, key=lambda one: (one.secret.changed_at or "9", one.key, one.secret.name))


def _is_held(secret: SecretStatus) -> bool:
    """A message alone may also tell of a new value that is to be made."""
    wanted, serving = secret.wanted_version, secret.serving_version
    return bool(secret.message) and (wanted is None or wanted != serving)


def moment(text: str | None) -> datetime | None:
    """A time of a status; None where there is none, or another text: anybody may have written one there."""
    if not text or text == EPOCH:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
