"""When and how a binding's job gets a new secret: strategy, limits and windows."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from secretbinding.models.base import Fault, Model, Rule, unique
from secretbinding.models.generation import MAX_GENERATED, Generate
from secretbinding.models.schedule import KNOWN_ZONE, Schedule, TimeZone
from secretbinding.models.types import Bounds, Duration

__all__ = ["Rotation", "Schedule", "Strategy", "TimeZone", "Window", "WindowKind"]


class Strategy(StrEnum):
    """Who brings a new secret into the running job."""

    ROLLING = "Rolling"
    NATIVE = "Native"
    MANUAL = "Manual"


class WindowKind(StrEnum):
    """Whether a window is the time to roll, or the time not to."""

    ALLOW = "Allow"
    DENY = "Deny"


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

    rules = (KNOWN_ZONE,)


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
    generate: Annotated[
        tuple[Generate, ...],
        Field(
            max_length=MAX_GENERATED,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["secret"]},
        ),
    ] = ()
    """Secrets of which Vault is to make new values, on a schedule or on request."""

    rules = (
        unique("generate", "secret"),
        Rule(
            message="settle, minInterval and windows have no effect with strategy Native, where Nomad acts by itself",
            remedy="leave them out, or use strategy Rolling",
            cel="!has(self.strategy) || self.strategy != 'Native' || (!has(self.settle) && !has(self.minInterval)"
            " && (!has(self.windows) || self.windows.size() == 0))",
            field=".strategy",
            check=_native_has_no_gates,
        ),
    )
