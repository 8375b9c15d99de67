"""When and how a binding's job gets a new secret: strategy, limits and windows."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field

from secretbinding.models.base import Fault, Model, Rule
from secretbinding.models.text import Never, Text, quoted
from secretbinding.models.types import Bounds, Duration

_LEAP_YEAR = datetime(2024, 1, 1)


class Strategy(StrEnum):
    """Who brings a new secret into the running job."""

    ROLLING = "Rolling"
    NATIVE = "Native"
    MANUAL = "Manual"


class WindowKind(StrEnum):
    """Whether a window is the time to roll, or the time not to."""

    ALLOW = "Allow"
    DENY = "Deny"


def _schedule_complaint(schedule: str) -> str | None:
    """What is wrong with a cron expression; a date that never comes is wrong too."""
    try:
        next(CronSim(schedule, _LEAP_YEAR))
    except (CronSimError, StopIteration) as error:
        detail = str(error).lower() or "the date never comes"
        return f"schedule {quoted(schedule)} is no cron expression ({detail})"
    return None


def _zone_complaint(name: str) -> str | None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"time zone {quoted(name)} is not known"
    return None


Schedule = Annotated[
    str,
    Text(
        "schedule",
        r"^[0-9A-Za-z*/,#-]+( [0-9A-Za-z*/,#-]+){4}$",
        says="is no cron expression",
        remedy="write five fields (minute, hour, day, month, weekday) separated by single spaces, such as `0 2 * * *`",
        max_length=64,
        test=_schedule_complaint,
    ),
]
TimeZone = Annotated[
    str,
    Text(
        "time zone",
        r"^[A-Za-z]+([/_+-][A-Za-z0-9_+-]+)*$",
        says="is no IANA name",
        remedy="use a name of the IANA database, such as Europe/Berlin or UTC",
        max_length=64,
        never=(Never("^Local$", "is no IANA name"),),
        test=_zone_complaint,
    ),
]


class Window(Model):
    """A recurring time in which the job may be rolled (Allow), or may not (Deny)."""

    kind: WindowKind
    """Allow or Deny. With any Allow window, rolls happen inside Allow windows only; Deny wins over Allow."""
    schedule: Schedule
    """When the window opens: a cron expression of five fields."""
    duration: Annotated[Duration, Bounds("1m", "168h")]
    """How long it stays open."""
    time_zone: TimeZone | None = None
    """IANA time zone of the schedule; UTC when left out."""

    rules = (
        Rule(
            message="timeZone is no name of the IANA database",
            remedy="use a name such as Europe/Berlin or UTC",
            cel="!has(self.timeZone) || timestamp('2024-01-01T00:00:00Z').getFullYear(self.timeZone) > 2000",
            field=".timeZone",
        ),
    )


def _native_has_no_gates(obj: Mapping[str, Any]) -> Iterator[Fault]:
    if obj.get("strategy") == Strategy.NATIVE:
        for name in ("settle", "minInterval", "windows"):
            if obj.get(name):
                yield Fault((name,), f"{name} has no effect with strategy Native, where Nomad acts by itself")


class Rotation(Model):
    """How a new version of a secret reaches the running job."""

    strategy: Strategy = Strategy.ROLLING
    """Rolling: a deployment, health-checked and reverted on failure. Native: Nomad's own change mode, every allocation
    by itself. Manual: only on request."""
    settle: Duration | None = None
    """Changes within this time make one roll."""
    min_interval: Duration | None = None
    """Least time between two rolls of the job."""
    windows: Annotated[tuple[Window, ...], Field(max_length=16)] = ()
    """When the job may be rolled; at any time when empty."""

    rules = (
        Rule(
            message="settle, minInterval and windows have no effect with strategy Native, where Nomad acts by itself",
            remedy="leave them out, or use strategy Rolling",
            cel="!has(self.strategy) || self.strategy != 'Native' || (!has(self.settle) && !has(self.minInterval)"
            " && (!has(self.windows) || self.windows.size() == 0))",
            field=".strategy",
            check=_native_has_no_gates,
        ),
    )
