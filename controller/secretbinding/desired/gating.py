"""Which of the new versions that could be rolled wait, because of settling, intervals, windows or a full house."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from secretbinding.desired.values import Desired
from secretbinding.gate import Gate, Wait, first_seen, waits
from secretbinding.kinds.base import Fault
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.rotation import SecretDecision, spacing_seconds

Decisions = Mapping[BindingKey, tuple[SecretDecision, ...]]


def gated(
    decisions: Decisions,
    bindings: Mapping[BindingKey, SecretBinding],
    requested: frozenset[BindingKey],
    ungated: Mapping[BindingKey, str],
    gate: Gate,
    last_roll: datetime | None,
    *,
    settles: bool = True,
) -> dict[BindingKey, tuple[SecretDecision, ...]]:
    """The decisions of all bindings of one job, those that have to wait held at what serves.

    Nothing waits for a binding that somebody asked to roll (`requested`). Where a version in use is at risk, since an
    allocation that starts anew could soon not read it any more, and where what serves ends soon, changes wait for no
    window; where it ends very soon or does not work any more, they only settle. All that is not such a new version (a
    first injection, a changed binding) never waits. `ungated` names, for the bindings that have one, a group of theirs
    that Nomad would replace all at once. Without `settles`, nothing settles.
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
    turn = _turn([item for items in decisions.values() for item in items if is_rotation(item)], gate)
    found: dict[BindingKey, tuple[SecretDecision, ...]] = {}
    for key, items in decisions.items():
        wait = None
        if key not in requested:
            wait = waits(
                bindings[key].spec.rotation,
                gate,
                since=since if settles else None,
                last_roll=last_roll,
                ungated="" if _works_no_more(items) else ungated.get(key, ""),
                urgent=any(item.urgent for item in items),
                overdue=any(item.overdue for item in items),
                not_before=turn,
            )
        found[key] = items if wait is None else tuple(_held(item, wait) for item in items)
    return found


def _works_no_more(items: Iterable[SecretDecision]) -> bool:
    """True where tasks lose what they have, or soon will: being replaced all at once is no worse. A pinned version that
    is at risk goes on in what runs."""
    return any((item.urgent or item.overdue) and not item.at_risk for item in items)


def leases_replaced(rotations: Iterable[SecretDecision]) -> float:
    """The shortest of the leases, in seconds, that a roll replaces; 0 for a roll with anything else in it."""
    return min((item.lease_seconds for item in rotations), default=0.0)


def lease_turn_at(gate: Gate, lease_seconds: float) -> datetime | None:
    """When the next job may be rolled for its leases; None when one may now."""
    last = gate.last_lease_roll
    if gate.now is None or last is None or lease_seconds <= 0:
        return None
    until = last + timedelta(seconds=spacing_seconds(lease_seconds, gate.leased_jobs, gate.lease_share))
    # A last roll that lies ahead is the work of a clock that was set back.
    return until if last <= gate.now < until else None


def _turn(rotations: Sequence[SecretDecision], gate: Gate) -> datetime | None:
    return lease_turn_at(gate, leases_replaced(rotations))


def rotations_in(desired: Desired) -> list[SecretDecision]:
    """The decisions of a desired state that put something newer in place of what serves."""
    return [item for result in desired.results.values() for item in result.secrets if is_rotation(item)]


def is_rotation(item: SecretDecision) -> bool:
    """True for a decision that puts a newer version in place of one that serves."""
    return item.serving is not None and item.pin != item.serving and item.hold is None and item.fault is None


def _held(item: SecretDecision, wait: Wait) -> SecretDecision:
    if not is_rotation(item) or item.pin is None:
        return item
    message = f"{item.pin.title} of {item.name} waits: {wait.why}"
    hold = Fault(wait.reason, message)
    return replace(item, pin=item.serving, waiting=item.pin, hold=hold, until=wait.until, obstacle=wait.obstacle)
