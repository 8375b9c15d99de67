"""Which start of an agent accounts for the opening of a wrapping token: one opening for each, matched by time. Pure.

What is known of an opening is when the token was last seen sealed and when it was seen opened. What is known of an
agent is when Nomad started it and when that run ended. A run accounts for an opening when it had not ended before the
token was last seen sealed, and has accounted for none yet. So one that opened nothing accounts for nothing afterwards.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from secretbinding.models.agent import AGENT_TASK
from secretbinding.ports import Json

SETTLE = timedelta(seconds=10)
"""How long an opening waits for its start to become known: Nomad's clients tell their events in batches."""

_SKEW = timedelta(seconds=5)
"""How far the clock of a client may be behind Vault's without an agent's last moments being misjudged."""

_CATCH_UP = timedelta(minutes=2)
"""How long an agent may take to open the token that follows one which was opened beside it: it tries again every
half minute (`max_backoff`), once Nomad has given it the new one."""

_ENDS = frozenset({"Terminated", "Killed", "Restarting", "Not Restarting", "Failed Restoring Task", "Started"})
"""The types of Nomad's events that tell that the run before them is over."""

LIVE = ("pending", "running", "unknown")
"""The client statuses of allocations whose agents run, or may run again."""


@dataclass(frozen=True, slots=True)
class Start:
    """One run of an allocation's agent, by its client's clock. `ended` is None while it runs."""

    allocation: str
    at: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class Opening:
    """A wrapping token that somebody opened and logged in with, by Vault's clock.

    Attributes:
        made: when the token was made.
        since: when it was last seen sealed.
        seen: when it was seen opened.
    """

    index: int
    made: datetime
    since: datetime
    seen: datetime


def starts_of(allocation: Json) -> list[Start]:
    """The runs of an allocation's agent that Nomad still tells of (it keeps ten events of a task), oldest first."""
    state: Mapping[str, Any] = (allocation.get("TaskStates") or {}).get(AGENT_TASK) or {}
    events = [
        (_moment(event.get("Time")), str(event.get("Type") or ""))
        for event in state.get("Events") or []
        if event.get("Time")
    ]
    over = state.get("State") == "dead" or allocation.get("ClientStatus") not in LIVE
    last = max([moment for moment, _ in events], default=None)
    if over and allocation.get("ModifyTime"):
        last = _moment(allocation["ModifyTime"])
    found: list[Start] = []
    for number, (at, kind) in enumerate(events):
        if kind == "Started":
            after = next((moment for moment, later in events[number + 1 :] if later in _ENDS), None)
            found.append(Start(str(allocation["ID"]), at, after or (last if over else None)))
    return found


def accounting(
    opening: Opening, starts: Iterable[Start], spent: Mapping[str, datetime], last: datetime | None
) -> Start | None:
    """The start that accounts for an opening; None when none does.

    Of several the earliest is taken: an agent that was started again after the opening still has to open one.

    Args:
        starts: of all allocations of the index.
        spent: by allocation, when the last run began that has accounted for an opening; earlier ones account for none.
        last: when the opening before this one was seen. It may have been that of any run which had begun by then. Such
            a run takes the next token soon, or it needs none.
    """
    late = last is not None and opening.since > max(last, opening.made) + _CATCH_UP
    for start in sorted(starts, key=lambda one: one.at):
        if start.allocation in spent and start.at <= spent[start.allocation]:
            continue
        if start.ended is not None and start.ended < opening.since - _SKEW:
            continue
        if late and last is not None and start.at <= last:
            continue
        return start
    return None


def is_due(allocation: Json, spent: Mapping[str, datetime], last: datetime | None, now: datetime) -> bool:
    """Whether an allocation's agent is about to open a token."""
    if allocation.get("ClientStatus") not in LIVE:
        return False
    starts: Sequence[Start] = starts_of(allocation)
    if not starts:
        return str(allocation["ID"]) not in spent
    newest = starts[-1]
    if newest.ended is not None:
        return True
    if newest.allocation in spent and newest.at <= spent[newest.allocation]:
        return False
    return last is None or newest.at > last or now <= last + _CATCH_UP


def _moment(nanoseconds: Any) -> datetime:
    return datetime.fromtimestamp(int(nanoseconds) / 1_000_000_000, UTC)
