"""Whether a role of a secrets engine is as a binding has it made."""

from collections.abc import Mapping
from typing import Any

from secretbinding.kinds.base import EngineRole, seconds_of

_NOTHING = (None, "", 0, False)


def same_engine_role(current: Mapping[str, Any], wanted: EngineRole) -> bool:
    """True when the engine's role has every value that we set, and nothing in place of what is to be as the engine
    makes it; what else it holds is the engine's own."""
    if any(name in current and not _same(current[name], value) for name, value in wanted.untouched.items()):
        return False
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
