"""Go's durations: text such as `1m30s` to nanoseconds and back."""

import re
from typing import Any

NANOS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
SECOND = NANOS["s"]
MINUTE = NANOS["m"]
HOUR = NANOS["h"]

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def parse_duration(text: str) -> int:
    """Nanoseconds. Raises ValueError with Go's words for text that is no duration."""
    rest = text[1:] if text[:1] in "+-" else text
    if rest == "0":
        return 0
    total, position = 0.0, 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if match is None:
            break
        total += float(match[1]) * NANOS[match[2]]
        position = match.end()
    if not rest or position != len(rest):
        raise ValueError(f'time: invalid duration "{text}"')
    return -int(total) if text[0] == "-" else int(total)


def nanoseconds(value: Any) -> int:
    """A duration as Nomad's API takes it: a number of nanoseconds, or text."""
    return parse_duration(value) if isinstance(value, str) else int(value)


def format_duration(nanos: int) -> str:
    """Go's `Duration.String()`: `1h0m0s`, `1.5s`, `250ms`, `0s`."""
    if nanos == 0:
        return "0s"
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    if nanos < SECOND:
        for unit in ("ms", "µs", "ns"):
            if nanos >= NANOS[unit]:
                return f"{sign}{_decimal(nanos, NANOS[unit])}{unit}"
    hours, rest = divmod(nanos, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    seconds = f"{_decimal(rest, SECOND)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else sign + seconds


def _decimal(nanos: int, unit: int) -> str:
    whole, part = divmod(nanos, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{part:0{digits}d}".rstrip("0").rstrip(".") if part else str(whole)
