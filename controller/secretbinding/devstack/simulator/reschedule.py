"""When a failed allocation may be placed again, by its group's reschedule policy."""

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]


def finished_at(row: Row) -> int:
    """Nanoseconds of the end of its last task; the time of its last change without one."""
    return int(row.get("_finished_at") or row["ModifyTime"])


def eligible(row: Row, policy: Row | None, now: int) -> bool:
    """Whether the policy still allows an attempt."""
    if policy is None:
        return False
    if policy["Unlimited"]:
        return True
    if policy["Attempts"] == 0 or policy["Interval"] == 0:
        return False
    recent = [one for one in past(row) if now - one["RescheduleTime"] < policy["Interval"]]
    return len(recent) < int(policy["Attempts"])


def next_reschedule(row: Row, policy: Row | None, now: int) -> int | None:
    """Nanoseconds since the epoch of the next attempt; None when there will be none."""
    if policy is None or not eligible(row, policy, now):
        return None
    return finished_at(row) + delay(row, policy)


def delay(row: Row, policy: Row) -> int:
    """The delay before the next attempt, by the policy's function and the attempts so far."""
    base, limit, done = int(policy["Delay"]), int(policy["MaxDelay"]), len(past(row))
    if policy["DelayFunction"] == "exponential":
        base *= 2 ** min(done, 30)
    elif policy["DelayFunction"] == "fibonacci":
        one, two = base, base
        for _ in range(min(done, 60)):
            one, two = two, one + two
        base = one
    return min(base, limit) if limit else base


def past(row: Row) -> list[dict[str, Any]]:
    """Reschedule events so far: RescheduleTime (nanoseconds), PrevAllocID, PrevNodeID, Delay."""
    return list((row["RescheduleTracker"] or {}).get("Events") or [])
