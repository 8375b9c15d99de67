"""What is counted of a workload's rotations and of its drift: a pure function of what is remembered and of one pass.

Each thing is counted once when it happens, not again by the passes that still see it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from secretbinding.kinds.base import Pin
from secretbinding.metrics.sight import Obstruction, Registration, SecretSight, Sight, Stage
from secretbinding.metrics.words import AGAIN, LEASE, VERSION, Cause, Decision, Outcome, Part
from secretbinding.models.reasons import Reason


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, `count` times."""

    decision: Decision
    reason: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Registered:
    """A job was registered. `changed` are the times at which the versions that it brings were made in Vault."""

    cause: Cause
    changed: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """A roll came to an end, or waits; `changed` as for `Registered`, when all went well."""

    outcome: Outcome
    changed: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Drifted:
    """Something of ours was found altered by somebody else, or was mended."""

    what: Part
    mended: bool = False


Occurrence = Decided | Registered | Ended | Drifted


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of one secret.

    Attributes:
        newest: the newest version or revision that was seen.
        renewal: the last moment for which new credentials were wanted.
        pending: how many versions were detected that no roll has brought.
        told: what hinders the newest version, as far as it was counted.
    """

    newest: Pin | None = None
    renewal: str = ""
    pending: int = 0
    told: frozenset[Obstruction] = frozenset()


@dataclass(frozen=True, slots=True)
class Roll:
    """A roll whose end is not known: the job version that it made, and what it brought, by secret.

    `waiting` when it was seen to wait for its promotion; `failed` when it has failed and the job is not back yet.
    """

    version: int
    brought: Mapping[str, Pin]
    changed: tuple[datetime, ...] = ()
    waiting: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a workload between two passes.

    Attributes:
        secrets: by the digest of which secret it is.
        holding: job versions whose failure holds something.
        roll: the last roll, while its end is not known.
        lost: a registration to which no answer came.
        wants: digests of what was as it should be.
        drifting: those of what was found altered, and is not mended.
        at_risk: how many secrets are served in a version that is at risk.
    """

    secrets: Mapping[str, Known] = field(default_factory=dict)
    holding: frozenset[int] = frozenset()
    roll: Roll | None = None
    lost: Registration | None = None
    wants: frozenset[int] = frozenset()
    drifting: frozenset[int] = frozenset()
    at_risk: int = 0


def follow(memory: Memory | None, sight: Sight) -> tuple[Memory, tuple[Occurrence, ...]]:
    """What to remember after a pass, and what happened in it.

    Without memory (the process has just started, or the workload is new) what is pending counts as detected now, and of
    a roll that is under way the end is counted.
    """
    if not sight.decided:
        return memory if memory is not None else Memory(), ()
    found: list[Occurrence] = []
    before = memory if memory is not None else Memory(roll=_under_way(sight))
    after = _answered(before, sight, found)
    after = replace(after, roll=_progress(after.roll, sight, found), secrets=_secrets(after, sight, found))
    found += [Decided(Decision.HELD, Reason.DEPLOYMENT_FAILED.value) for _ in sight.holding - before.holding]
    after = _drift(after, sight, found)
    if sight.registered is not None:
        after = _start(after, sight.registered, _cause(sight.registered, before), found)
    after = replace(
        after,
        holding=sight.holding,
        lost=sight.lost,
        wants=sight.wants if sight.settled else before.wants & sight.wants,
        at_risk=sum(1 for secret in sight.secrets.values() if secret.at_risk),
    )
    return after, tuple(found)


def _under_way(sight: Sight) -> Roll | None:
    """A roll that another process has begun."""
    running = sight.stages.get(sight.version) in (Stage.RUNNING, Stage.WAITING)
    made = sight.rolling
    return Roll(made.version, made.brought, made.changed) if running and made is not None and made.brought else None


def _answered(memory: Memory, sight: Sight, found: list[Occurrence]) -> Memory:
    """Whether a registration to which no answer came has reached Nomad all the same."""
    lost = memory.lost
    if lost is None or (sight.version, sight.part) != (lost.version, lost.part):
        return memory
    return _start(memory, lost, _cause(lost, memory), found)


def _cause(registration: Registration, memory: Memory) -> Cause:
    if registration.brought:
        return Cause.ROTATION
    if registration.restores:
        return Cause.RESTORE
    return Cause.DRIFT if registration.want in memory.wants else Cause.CHANGE


def _start(memory: Memory, registration: Registration, cause: Cause, found: list[Occurrence]) -> Memory:
    found.append(Registered(cause, registration.changed if cause is Cause.ROTATION else ()))
    if cause is not Cause.ROTATION:
        return memory
    if memory.roll is not None and not memory.roll.failed:
        found.append(Ended(Outcome.SUPERSEDED))
    secrets = dict(memory.secrets)
    pending = 0
    for of in registration.brought:
        known = secrets.get(of, Known())
        pending += known.pending
        secrets[of] = replace(known, pending=0)
    found.append(Decided(Decision.STARTED, "" if pending else AGAIN))
    if pending > 1:
        found.append(Decided(Decision.COALESCED, count=pending - 1))
    roll = Roll(registration.version, registration.brought, registration.changed)
    return replace(memory, secrets=secrets, roll=roll)


def _progress(roll: Roll | None, sight: Sight, found: list[Occurrence]) -> Roll | None:
    """The roll as far as its end is still open."""
    if roll is None:
        return None
    if not roll.failed:
        stage = sight.stages.get(roll.version)
        if stage is Stage.SUCCESSFUL or (stage is None and sight.version == roll.version and sight.rolled):
            found.append(Ended(Outcome.SUCCEEDED, roll.changed))
            return None
        if stage is Stage.CANCELLED or (stage is None and (sight.version != roll.version or sight.stopped)):
            found.append(Ended(Outcome.SUPERSEDED))
            return None
        if stage is Stage.WAITING and not roll.waiting:
            found.append(Ended(Outcome.WAITING_FOR_PROMOTION))
        if stage is not Stage.FAILED:
            return replace(roll, waiting=stage is Stage.WAITING)
        found.append(Ended(Outcome.FAILED))
        roll = replace(roll, failed=True, waiting=False)
    if all(of in sight.pins and pin not in sight.pins[of] for of, pin in roll.brought.items()):
        found.append(Ended(Outcome.REVERTED))
        return None
    # Without our part there is nothing to go back to.
    return roll if all(of in sight.pins for of in roll.brought) else None


def _secrets(memory: Memory, sight: Sight, found: list[Occurrence]) -> dict[str, Known]:
    after: dict[str, Known] = {}
    for of, secret in sight.secrets.items():
        if not secret.followed:
            continue
        known = memory.secrets.get(of)
        after[of] = _arrived(_detect(known, secret, found), secret, found) if secret.serving else _first(known, secret)
        for obstruction in sorted(secret.obstructions - after[of].told):
            found.append(Decided(obstruction.decision, obstruction.reason))
        after[of] = replace(after[of], told=after[of].told | secret.obstructions)
    return after


def _first(known: Known | None, secret: SecretSight) -> Known:
    """A secret that the job does not have: whatever it gets first is no rotation. What was detected before somebody
    registered the job without it is remembered until that has arrived."""
    known = known or Known()
    return Known(secret.newest if secret.newest is not None else known.newest, pending=known.pending)


def _arrived(known: Known, secret: SecretSight, found: list[Occurrence]) -> Known:
    """Versions that came into the job by no roll of the controller: with somebody's own registration of it."""
    newest = secret.newest
    if not known.pending or newest is None or secret.renewal:
        return known
    if any(pin != newest if newest.version else pin.told != newest.told for pin in secret.serving):
        return known
    found.append(Decided(Decision.COALESCED, count=known.pending))
    return replace(known, pending=0)


def _detect(known: Known | None, secret: SecretSight, found: list[Occurrence]) -> Known:
    # What serves says what the newest was when this process did not look.
    base = known.newest if known is not None and known.newest is not None else max(secret.serving)
    versions = secret.written_since(base)
    leases = int(bool(secret.renewal) and (known is None or secret.renewal != known.renewal))
    found += [Decided(Decision.DETECTED, VERSION, versions)] if versions else []
    found += [Decided(Decision.DETECTED, LEASE)] if leases else []
    known = known or Known()
    return Known(
        newest=secret.newest if secret.newest is not None else known.newest,
        renewal=secret.renewal or known.renewal,
        pending=known.pending + versions + leases,
        told=frozenset() if versions or leases else known.told,
    )


def _drift(memory: Memory, sight: Sight, found: list[Occurrence]) -> Memory:
    drifting = set(memory.drifting)
    for repair in sight.repairs:
        if repair.want not in memory.wants:
            continue
        if repair.want not in drifting:
            found.append(Drifted(repair.what))
        if repair.done:
            found.append(Drifted(repair.what, mended=True))
            drifting.discard(repair.want)
        else:
            drifting.add(repair.want)
    # What is not to be written any more is as it should be, by whosever hand.
    drifting &= {repair.want for repair in sight.repairs}
    return replace(memory, drifting=frozenset(drifting))
