"""Times, as the page writes them. Pure."""

from collections.abc import Collection
from datetime import datetime, timedelta

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def span(time: timedelta) -> str:
    """A length in its largest unit, two of it at least: `90 s`, `12 min`, `3 h`, `8 d`."""
    seconds = max(0, round(time.total_seconds()))
    size, unit = next(one for one in _UNITS if seconds >= 2 * one[0] or one[0] == 1)
    return f"{seconds // size} {unit}"


def when(at: datetime, now: datetime) -> str:
    """How far from now: `12 min ago`, `in 3 h`, `now`."""
    apart = at - now
    if abs(apart) < timedelta(seconds=1):
        return "now"
    return f"in {span(apart)}" if apart > timedelta(0) else f"{span(-apart)} ago"


def exactly(at: datetime) -> str:
    """To the second, in UTC: `2027-01-31 02:00:00 UTC`."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def part_of(held: Collection[int], total: int) -> str:
    """The part of all jobs that a controller has, who is one of several."""
    if not held:
        return "stands by"
    return "leads" if total == 1 else f"shards {', '.join(map(str, sorted(held)))} of {total}"
