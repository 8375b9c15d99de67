"""Which of the new versions that could be rolled wait, because of settling, intervals, windows or a full house."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from secretbinding.gate import Gate, Wait, first_seen, waits
from secretbinding.kinds.base import Fault
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.rotation import SecretDecision

Decisions = Mapping[BindingKey, tuple[SecretDecision, ...]]


def gated(
    decisions: Decisions,
    bindings: Mapping[BindingKey, SecretBinding],
    requested: frozenset[BindingKey],
    ungated: Mapping[BindingKey, str],
    gate: Gate,
    last_roll: datetime | None,
) -> dict[BindingKey, tuple[SecretDecision, ...]]:
    """The decisions of all bindings of one job, those that have to wait held at what serves.

    Nothing waits for a binding that somebody asked to roll (`requested`), nor where a version in use is at risk: an
    allocation that starts anew could soon not read it any more. All that is not such a new version (a first injection,
    a changed binding) never waits. `ungated` names, for the bindings that have one, a group of theirs that Nomad would
    replace all at once.
    """
    since = min(
        (
            moment
            for key, items in decisions.items()
            for item in items
            if is_rotation(item) and item.pin is not None
            if (moment := first_seen(gate, (key, item.name, item.pin))) is not None
        ),
        default=None,
    )
    found: dict[BindingKey, tuple[SecretDecision, ...]] = {}
    for key, items in decisions.items():
        urgent = key in requested or any(item.at_risk for item in items)
        rotation = bindings[key].spec.rotation
        wait = None if urgent else waits(rotation, gate, since=since, last_roll=last_roll, ungated=ungated.get(key, ""))
        found[key] = items if wait is None else tuple(_held(item, wait) for item in items)
    return found


def is_rotation(item: SecretDecision) -> bool:
    """True for a decision that puts a newer version in place of one that serves."""
    return item.serving is not None and item.pin != item.serving and item.hold is None and item.fault is None


def _held(item: SecretDecision, wait: Wait) -> SecretDecision:
    if not is_rotation(item) or item.pin is None:
        return item
    message = f"version {item.pin.version} of {item.name} waits: {wait.why}"
    hold = Fault(wait.reason, message)
    return replace(item, pin=item.serving, hold=hold, until=wait.until, obstacle=wait.obstacle)
