"""Rotations as a time line: what rolled when, what came of it, and what is expected. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from secretbinding.engine.store import Entry
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.page.journal import Event
from secretbinding.page.rows import moment


class Mark(StrEnum):
    """What a mark on a line stands for."""

    MADE = "made"  # a version was made in Vault
    RUNNING = "running"  # a roll under way
    DONE = "done"
    FAILED = "failed"
    EXPECTED = "expected"


@dataclass(frozen=True, slots=True)
class Roll:
    """A roll of a binding's secrets. `end` is None while it is under way."""

    start: datetime
    end: datetime | None
    mark: Mark
    what: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A mark as it is drawn: from `x` on, `width` wide, both in percent of the line."""

    mark: Mark
    x: float
    width: float
    at: datetime
    told: str


@dataclass(frozen=True, slots=True)
class Lane:
    """The line of one binding. `latest` is the newest moment on it that is past, `next` the first that is to come."""

    key: BindingKey
    drawn: Sequence[Drawn]
    latest: datetime | None
    next: datetime | None

    @property
    def text(self) -> str:
        """The same in words."""
        return "; ".join(f"{one.at:%Y-%m-%d %H:%M:%S} UTC {one.told}" for one in self.drawn) or "nothing in this time"


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the scale."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is shown: so much of the past, and a fifth of the whole for what is expected."""

    now: datetime
    past: timedelta

    @property
    def start(self) -> datetime:
        return self.now - self.past

    @property
    def end(self) -> datetime:
        return self.now + self.past / 4

    @property
    def now_x(self) -> float:
        return self.x(self.now)

    def x(self, at: datetime) -> float:
        """Where a moment stands, in percent."""
        return round(100 * ((at - self.start) / (self.end - self.start)), 2)

    def holds(self, at: datetime | None) -> bool:
        return at is not None and self.start <= at <= self.end

    def ticks(self) -> Sequence[Tick]:
        """The scale, at round moments (UTC)."""
        step = next(step for step in _STEPS if (self.end - self.start) / step <= _TICKS)
        first = int(self.start.timestamp() // step.total_seconds() + 1) * step.total_seconds()
        moments = (datetime.fromtimestamp(first, UTC) + number * step for number in range(_TICKS + 1))
        shown = [at for at in moments if 2 <= self.x(at) <= 96]
        return [Tick(self.x(at), f"{at:%d %b}" if step >= timedelta(days=1) else f"{at:%H:%M}") for at in shown]


SPANS: Mapping[str, timedelta] = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
"""The spans that can be asked for."""
_TICKS = 5
_STEPS = [timedelta(minutes=minutes) for minutes in (5, 15, 30, 60, 120, 360, 720, 1440, 2 * 1440, 7 * 1440, 14 * 1440)]
_NARROWEST = 0.6
_SAME = timedelta(seconds=30)
_BEGINS = frozenset({Reason.ROLLING_OUT, Reason.DEPLOYMENT_RUNNING, Reason.WAITING_FOR_PROMOTION})
_SUCCEEDS = frozenset({Reason.UP_TO_DATE})
_FAILS = frozenset({Reason.DEPLOYMENT_FAILED, Reason.DEPLOYMENT_REVERTED})


def rolls_of(events: Iterable[Event]) -> list[Roll]:
    """The rolls that the events of one binding tell of, oldest first. What else is told meanwhile, that Vault does not
    answer or that a newer version is held, ends none."""
    found: list[Roll] = []
    begun: Event | None = None
    for event in events:
        if event.reason in _BEGINS:
            begun = begun or event
        elif event.reason in _FAILS:
            if begun is not None:
                found.append(Roll(begun.at, event.at, Mark.FAILED, begun.versions))
            begun = None
        elif event.reason in _SUCCEEDS and begun is not None:
            found.append(Roll(begun.at, event.at, Mark.DONE, begun.versions))
            begun = None
    if begun is not None:
        found.append(Roll(begun.at, None, Mark.RUNNING, begun.versions))
    return found


def by_binding(events: Iterable[Event]) -> dict[BindingKey, list[Event]]:
    """The events of each binding."""
    found: dict[BindingKey, list[Event]] = {}
    for event in events:
        found.setdefault(event.key, []).append(event)
    return found


def lanes(entries: Iterable[Entry], events: Iterable[Event], window: Window) -> list[Lane]:
    """A line for each binding of which anything falls into the window; the newest first, then by what comes next."""
    told = by_binding(events)
    found = [lane(entry, told.get(entry.item.key, ()), window) for entry in entries]
    shown = [one for one in found if one.drawn]
    far = datetime.max.replace(tzinfo=UTC)
    oldest = datetime.min.replace(tzinfo=UTC)
    shown.sort(key=lambda one: (one.next or far, one.key))
    shown.sort(key=lambda one: one.latest or oldest, reverse=True)
    return shown


def lane(entry: Entry, events: Iterable[Event], window: Window) -> Lane:
    """The line of one binding: its rolls, what its status remembers of earlier ones, and its secrets' versions."""
    status = entry.status
    rolls = rolls_of(events)
    drawn = [_bar(roll, window) for roll in rolls if window.start <= (roll.end or window.now)]
    last, failed = moment(status.last_rotation_time), moment(status.failed.at if status.failed is not None else None)
    if last is not None and window.holds(last) and not _told(rolls, last):
        drawn.append(_point(Mark.DONE, last, "new versions came to serve everywhere", window))
    if failed is not None and window.holds(failed) and not _told(rolls, failed, over=True):
        drawn.append(_point(Mark.FAILED, failed, "a deployment failed", window))
    drawn += _of_secrets(entry, window)
    drawn.sort(key=lambda one: one.at)
    coming = [one.at for one in drawn if one.mark is Mark.EXPECTED]
    past = [_ended(roll, window) for roll in rolls] + [at for at in (last, failed) if at is not None]
    past = [at for at in past if window.holds(at)] + [one.at for one in drawn if one.mark is Mark.MADE]
    return Lane(entry.item.key, drawn, max(past, default=None), min(coming, default=None))


def _of_secrets(entry: Entry, window: Window) -> Iterator[Drawn]:
    for secret in entry.status.secrets:
        made, coming = moment(secret.changed_at), moment(secret.next_rotation_at)
        if made is not None and window.start <= made <= window.now:
            yield _point(Mark.MADE, made, f"{secret.name} {secret.wanted_version or ''} was made".strip(), window)
        if coming is not None and window.now < coming <= window.end:
            yield _point(Mark.EXPECTED, coming, f"{secret.name} is expected to change", window)


def _told(rolls: Iterable[Roll], at: datetime, *, over: bool = False) -> bool:
    """Whether a roll ended about then, or with `over` went on then: what failed is dated by the server."""
    return any(
        roll.end is not None and (abs(roll.end - at) < _SAME or (over and roll.start - _SAME <= at <= roll.end))
        for roll in rolls
    )


def _ended(roll: Roll, window: Window) -> datetime:
    return roll.end or window.now


def _bar(roll: Roll, window: Window) -> Drawn:
    start = max(roll.start, window.start)
    x, end = window.x(start), window.x(_ended(roll, window))
    words = {Mark.DONE: "came through after", Mark.FAILED: "failed after"}.get(roll.mark, "is under way for")
    seconds = round((_ended(roll, window) - roll.start).total_seconds())
    told = f"the roll of {roll.what or 'its secrets'} {words} {seconds} s"
    return Drawn(roll.mark, min(x, 100 - _NARROWEST), max(_NARROWEST, round(end - x, 2)), roll.start, told)


def _point(mark: Mark, at: datetime, told: str, window: Window) -> Drawn:
    return Drawn(mark, window.x(at), 0.0, at, told)


def spanning(entry: Entry, events: Sequence[Event], now: datetime) -> str:
    """The shortest span in which anything of a binding falls, of which the past holds something; a day when none
    does."""
    for name, past in SPANS.items():
        if any(one.at <= now for one in lane(entry, events, Window(now, past)).drawn):
            return name
    return "24h"
