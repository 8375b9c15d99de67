"""Whether a role of a secrets engine is as a binding has it made."""

from collections.abc import Mapping
from typing import Any

from secretbinding.kinds.base import EngineRole, seconds_of

_NOTHING = (None, "", 0, False)


def same_engine_role(current: Mapping[str, Any], wanted: EngineRole) -> bool:
    """True when the engine's role has every value that we set; what else it holds is the engine's own."""
    return all(_same(current.get(name), value) for name, value in wanted.body.items())


def _same(current: Any, wanted: Any) -> bool:
    """Engines answer with nothing for what is not set, with a list in an order of theirs, and may write lengths of time
    as text."""
    if isinstance(wanted, list):
        there = current if isinstance(current, list) else [] if current in _NOTHING else [current]
        return sorted(map(str, there)) == sorted(map(str, wanted))
    if isinstance(wanted, bool) or wanted in _NOTHING:
        return bool(seconds_of(current) if isinstance(wanted, int) and isinstance(current, str) else current) == bool(
            wanted
        )
    if isinstance(wanted, int):
        return seconds_of(current) == wanted
    return bool(current == wanted)
