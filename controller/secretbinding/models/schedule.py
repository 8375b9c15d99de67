"""When something is due: cron expressions and time zones, as manifests hold them."""

from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from secretbinding.models.base import Rule
from secretbinding.models.text import Never, Text, quoted

_LEAP_YEAR = datetime(2024, 1, 1)


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
# For the API server, which has a list of its own; `TimeZone` asks ours.
KNOWN_ZONE = Rule(
    message="timeZone is no name of the IANA database",
    remedy="use a name such as Europe/Berlin or UTC",
    cel="!has(self.timeZone) || timestamp('2024-01-01T00:00:00Z').getFullYear(self.timeZone) > 2000",
    field=".timeZone",
)
