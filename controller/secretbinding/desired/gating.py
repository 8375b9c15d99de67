"""Which of the new versions that could be rolled wait, because of settling, intervals, windows or a full house."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from secretbinding.desired.values import Desired
from secretbinding.gate import Gate, Wait, first_seen, waits, waits_for_place
from secretbinding.kinds.base import Fault
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.rotation import TURN_SECONDS, SecretDecision, spacing_seconds

_MARGIN_SECONDS = 3.0
"""At both ends of a minute: two controllers know Nomad's clock to a second or two each."""
_ROUNDING_SECONDS = 1e-6
"""A minute divided by a part and multiplied by it again may be a little less than a minute."""

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

    Nothing waits for a binding that somebody asked to roll (`requested`). A secret whose version in use is at risk,
    since an allocation that starts anew could soon not read it any more, or of which what serves ends soon, waits for
    no window; the other secrets of its binding do. A version that the binding names itself waits for a place only. All
    that is not such a new version (a first injection, a changed binding) never waits. `ungated` names, for the bindings
    that have one, a group of theirs that Nomad would replace all at once; only what ends at once opens that. Without
    `settles`, nothing settles.
    """
    since = min(
        (
            moment
            for key, items in decisions.items()
            for item in items
            if is_rotation(item) and not item.chosen and item.pin is not None
            if (moment := first_seen(gate, (key, item.name, item.pin))) is not None
        ),
        default=None,
    )
    found: dict[BindingKey, tuple[SecretDecision, ...]] = {}
    for key, items in decisions.items():
        if key in requested:
            found[key] = tuple(items)
            continue

        def held(item: SecretDecision, last: datetime | None, key: BindingKey = key) -> SecretDecision:
            if not is_rotation(item) or item.chosen:
                return item
            wait = waits(
                bindings[key].spec.rotation,
                gate,
                since=since if settles else None,
                last_roll=last,
                ungated="" if item.ending else ungated.get(key, ""),
                urgent=item.urgent,
            )
            return _held(item, wait) if wait is not None else item

        rest = tuple(held(item, last_roll) for item in items)
        if any(is_rotation(item) for item in rest):
            # The job rolls now: what its interval alone holds back comes with it.
            rest = tuple(held(item, None) for item in items)
        found[key] = rest
    going = {key: [item for item in items if is_rotation(item)] for key, items in found.items()}
    if any(going[key] for key in requested if key in going):
        return found
    place = waits_for_place(gate, not_before=turn_of([item for items in going.values() for item in items], gate))
    if place is None:
        return found
    return {key: tuple(_held(item, place) for item in items) for key, items in found.items()}


def leases_replaced(rotations: Iterable[SecretDecision]) -> float:
    """The shortest of the leases, in seconds, that a roll replaces; 0 for a roll with anything else in it."""
    return min((item.lease_seconds for item in rotations), default=0.0)


def turn_of(rotations: Sequence[SecretDecision], gate: Gate) -> datetime | None:
    """When the roll with these may begin, by the turns of jobs that are rolled for their leases; None for now. What is
    overdue has turns as well, so close together that all of them come before the leases end."""
    return lease_turn_at(gate, leases_replaced(rotations), pressing=any(item.overdue for item in rotations))


def lease_turn_at(gate: Gate, lease_seconds: float, *, pressing: bool = False) -> datetime | None:
    """When the next job may be rolled for its leases; None when one may now."""
    last = gate.last_lease_roll
    if gate.now is None or lease_seconds <= 0:
        return None
    spacing = spacing_seconds(lease_seconds, gate.leased_jobs, gate.lease_share, part=gate.part, pressing=pressing)
    if len(gate.shards) < gate.shards_of and spacing * gate.part >= TURN_SECONDS - _ROUNDING_SECONDS:
        return _own_minute(gate, gate.now)
    until = last + timedelta(seconds=spacing) if last is not None else gate.now
    # A last roll that lies ahead is the work of a clock that was set back.
    return until if last is not None and last <= gate.now < until else None


def _own_minute(gate: Gate, now: datetime) -> datetime | None:
    """The same for one of several controllers: each minute is that of one shard, by Nomad's clock, which they all know
    to a few seconds. Whoever has the shard may roll one job in it, of whichever shard that is."""
    second = (now + gate.nomad_ahead).timestamp()
    last = gate.last_lease_roll
    taken = (last + gate.nomad_ahead).timestamp() // TURN_SECONDS if last is not None else None
    present = int(second // TURN_SECONDS)
    for minute in range(present, present + 2 * gate.shards_of + 1):
        begin, end = minute * TURN_SECONDS + _MARGIN_SECONDS, (minute + 1) * TURN_SECONDS - _MARGIN_SECONDS
        if minute % gate.shards_of in gate.shards and minute != taken and second < end:
            return now + timedelta(seconds=begin - second) if second < begin else None
    # It has no shard, and so no job, any more.
    return now + timedelta(seconds=TURN_SECONDS)


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
    # Leases go on meanwhile: what holds them back now may do so no longer a little later.
    until = min((moment for moment in (wait.until, item.presses_at) if moment is not None), default=None)
    return replace(item, pin=item.serving, waiting=item.pin, hold=hold, until=until, obstacle=wait.obstacle)
