"""Maintenance windows: whether a job may be rolled at a moment, and when that changes. Pure; the clock is an argument.

A window opens whenever its cron expression fires in its own time zone, and stays open for its duration in real time:
a duration of four hours is four hours in the night of a clock change too. A time that the clock skips fires when the
clock has jumped, and a time that comes twice fires once (cronsim follows Debian's cron).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from secretbinding.models.rotation import Window, WindowKind

# Clocks are set back by an hour at most today; in the past by up to two.
_SET_BACK = timedelta(hours=3)


@dataclass(frozen=True, slots=True)
class Opening:
    """Whether rolling is allowed. `changes_at` is the earliest moment at which that may change, None for never."""

    allowed: bool
    changes_at: datetime | None = None


def opening(windows: Sequence[Window], now: datetime) -> Opening:
    """Whether all windows together allow a roll at `now` (aware, any zone).

    With any Allow window, one of them has to be open; an open Deny window forbids in any case. Without windows
    everything is allowed at all times.
    """
    moment = now.astimezone(UTC)
    states = [(window, _state(window, moment)) for window in windows]
    denied = any(state.allowed for window, state in states if window.kind is WindowKind.DENY)
    allows = [state.allowed for window, state in states if window.kind is WindowKind.ALLOW]
    changes = [state.changes_at for _, state in states if state.changes_at is not None]
    return Opening(allowed=not denied and (not allows or any(allows)), changes_at=min(changes, default=None))


def _state(window: Window, now: datetime) -> Opening:
    """Whether this one window is open, and when it closes or opens next."""
    length = timedelta(seconds=window.duration.seconds)
    zone = ZoneInfo(window.time_zone or "UTC")
    last = last_fire(window.schedule, now, zone)
    if last is not None and now < last + length:
        # A later opening within the open time makes it longer; that is found when the first one has passed.
        return Opening(allowed=True, changes_at=last + length)
    return Opening(allowed=False, changes_at=next_fire(window.schedule, now, zone))


def next_fire(schedule: str, now: datetime, zone: ZoneInfo) -> datetime | None:
    """The first moment after `now` at which a schedule fires, in UTC; None when it never does."""
    return next(iter(_fires(schedule, now, zone, reverse=False)), None)


def last_fire(schedule: str, now: datetime, zone: ZoneInfo) -> datetime | None:
    """The last moment up to `now` at which a schedule fired, in UTC; None when it never did.

    Searching back, cronsim passes over what fired in the first run of an hour that comes twice; searching forward it
    does not. So the last hours, in which a clock may have been set back, are searched forward as well.
    """
    back = (fire for fire in _fires(schedule, now + timedelta(minutes=1), zone, reverse=True) if fire <= now)
    recent = takewhile(lambda fire: fire <= now, _fires(schedule, now - _SET_BACK, zone, reverse=False))
    return max([*islice(back, 1), *recent], default=None)


def _fires(schedule: str, start: datetime, zone: ZoneInfo, *, reverse: bool) -> Iterable[datetime]:
    """The moments at which a schedule fires, in UTC, from `start` on (excluded) or back."""
    try:
        for fire in CronSim(schedule, start.astimezone(zone), reverse=reverse):
            yield fire.astimezone(UTC)
    except CronSimError:
        return
