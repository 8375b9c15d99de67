"""What is told of all bindings together: counts, and names only of those that are not as they should be. Pure."""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from secretbinding.engine.store import Entry
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import ConditionStatus

NAMED = 500
"""How many bindings are named at most, so that a bad day does not become one of Prometheus too."""


class Troubled(NamedTuple):
    """A binding that is not as it should be, and the reason of the condition that says so."""

    key: BindingKey
    reason: str


@dataclass(slots=True)
class Summary:
    """All bindings together.

    Attributes:
        counts: by source, condition and status.
        not_ready_reasons: how many are not Ready, by source and reason.
        not_ready, rotation_unhealthy: the first of them by key, those that rest because somebody wants it after all
            others; `omitted` is how many more there are.
        last, next: the latest rotation, and the earliest that is expected, by source (seconds since the epoch).
    """

    counts: Counter[tuple[str, str, ConditionStatus]] = field(default_factory=Counter)
    not_ready_reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    not_ready: list[Troubled] = field(default_factory=list)
    rotation_unhealthy: list[Troubled] = field(default_factory=list)
    omitted: int = 0
    last: dict[str, float] = field(default_factory=dict)
    next: dict[str, float] = field(default_factory=dict)


def summary_of(entries: Iterable[Entry], limit: int = NAMED) -> Summary:
    """The summary of bindings with the statuses last reported."""
    made = Summary()
    for entry in entries:
        _add(made, entry)
    for troubled in (made.not_ready, made.rotation_unhealthy):
        made.omitted += max(0, len(troubled) - limit)
        # The same ones at each scrape, however many come and go behind them.
        troubled[:] = heapq.nsmallest(limit, troubled, key=lambda one: (one.reason in _RESTING, one))
    return made


def _add(made: Summary, entry: Entry) -> None:
    key, status = entry.item.key, entry.status
    known = {condition.type: condition for condition in status.conditions}
    for kind in _KINDS:
        condition = known.get(kind)
        made.counts[key.source, kind, condition.status if condition is not None else ConditionStatus.UNKNOWN] += 1
    ready, rotation = known.get(ConditionType.READY), known.get(ConditionType.ROTATION_HEALTHY)
    if ready is None or ready.status is not ConditionStatus.TRUE:
        reason = _known(ready.reason) if ready is not None else Reason.PENDING.value
        made.not_ready.append(Troubled(key, reason))
        made.not_ready_reasons[key.source, reason] += 1
    if rotation is not None and rotation.status is ConditionStatus.FALSE:
        made.rotation_unhealthy.append(Troubled(key, _known(rotation.reason)))
    last = _seconds(status.last_rotation_time)
    if last is not None:
        made.last[key.source] = max(last, made.last.get(key.source, last))
    binding = entry.item.binding
    if binding is None or binding.spec.suspend or entry.item.deleting:
        return  # What its status tells of the future is from before.
    for secret in status.secrets:
        upcoming = _seconds(secret.next_rotation_at)
        if upcoming is not None:
            made.next[key.source] = min(upcoming, made.next.get(key.source, upcoming))


_KINDS = tuple(kind.value for kind in ConditionType)
_RESTING = frozenset({Reason.SUSPENDED.value, Reason.JOB_STOPPED.value})
_REASONS = frozenset(reason.value for reason in Reason)


def _known(reason: str) -> str:
    """A reason as a label: a status comes back from its source, where anybody may have written another word."""
    return reason if reason in _REASONS else Reason.ERROR.value


def _seconds(text: str | None) -> float | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
