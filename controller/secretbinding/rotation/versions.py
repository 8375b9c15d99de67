"""Which version or revision of a secret a job should read now: pure decisions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from secretbinding.gate import Obstacle
from secretbinding.generation import moment
from secretbinding.kinds.base import Fault, Pin, SecretState
from secretbinding.models.binding import SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.models.status import ROTATE_REQUEST_LENGTH
from secretbinding.rotation.fields import needs_names, unfit, unknown_names
from secretbinding.rotation.leases import Lease, lease_turn, renewed_for

_DEFAULT_MAX_VERSIONS = 10
_FEW_VERSIONS = 2
"""Where Vault keeps no more, each new version puts the one that serves at risk: windows would never hold."""
FIRST = Pin(0, "")
"""What a job has that got a secret without versions, and has not been rolled for it yet."""


def read_rotate_request(text: str) -> datetime | None:
    """The time of a request to rotate (RFC 3339), None when there is none, it is no time, or it is longer than a status
    can hold."""
    return moment(text) if 0 < len(text) <= ROTATE_REQUEST_LENGTH else None


@dataclass(frozen=True, slots=True)
class Turn:
    """What the clock and people say about a secret.

    Attributes:
        now: the moment of the decision, by the clock that leases are counted by (Nomad's); None where nothing is to be
            done by the clock.
        requested_at: when somebody asked for a roll that has not been answered yet, None when nobody did.
        lease: the lease to go by, None when there is none.
        vault_ahead, nomad_ahead: how much later it is by the server's clock than by ours.
    """

    now: datetime | None = None
    requested_at: datetime | None = None
    lease: Lease | None = None
    vault_ahead: timedelta = timedelta(0)
    nomad_ahead: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class SecretDecision:
    """What is decided for one secret of one binding.

    Attributes:
        pin: the version or revision that the job should read; None where there is none, or nothing can be read.
        serving: the one that the job reads now, None when it reads none.
        waiting: the one that is held back by `hold`, None when that is not known.
        newest: the newest version's number, 0 when unknown.
        fault: why the secret cannot be used at all: nothing may be injected for it.
        hold: why a newer version is not rolled while `serving` goes on.
        unreadable: `serving` cannot be read any more, or nobody knows: what runs goes on, but a task that starts anew
            would not get it, so that nothing may be registered that starts its group anew.
        at_risk: `serving` is gone, or goes with the next version that is written.
        urgent: what serves ends soon, or goes with the next version that is written: windows are not waited for.
        overdue: it ends very soon, does not work any more, or is gone: it comes first when a place is free.
        ending: it is a lease of which all but nothing is left: its tasks may be stopped all at once.
        chosen: the binding names the version itself, so that the change is somebody's.
        lease_seconds: how long the leases live that the roll to `pin` replaces; 0 when it is no roll for that.
        until: when something is to be done next: what holds the newer version may end, a lease is to be replaced, or
            the server changes the secret by itself. None when nobody knows.
        presses_at: when what waits is to be looked at again whatever it waits for, since a lease then is later.
        obstacle: what the newer one waits for, when a setting or a limit holds it.
    """

    name: str
    pin: Pin | None = None
    serving: Pin | None = None
    waiting: Pin | None = None
    newest: int = 0
    fault: Fault | None = None
    hold: Fault | None = None
    unreadable: bool = False
    at_risk: bool = False
    urgent: bool = False
    overdue: bool = False
    ending: bool = False
    chosen: bool = False
    lease_seconds: float = 0.0
    until: datetime | None = None
    presses_at: datetime | None = None
    obstacle: Obstacle | None = None


def decide_version(
    entry: SecretEntry, state: SecretState, serving: Pin | None, *, strategy: str, turn: Turn | None = None
) -> SecretDecision:
    """Choose the version or revision for one secret.

    `serving` is the one in the job, already known to be of this very secret; `FIRST` for a secret without versions that
    is in the job without a revision. `strategy` is `Rolling`, `Native` or `Manual`.

    A newer version is taken only when it can be read and has every field that the binding uses; until then what runs
    is held. Without anything that runs, or when what runs lacks a field that the binding uses now, the same finding is
    a fault.
    """
    turn = turn or Turn()
    if state.fault is not None:
        return _held_or_fault(entry, serving, state, state.fault)
    frozen = entry.kv.version if entry.kv is not None else None
    native = strategy == "Native" and frozen is None
    if needs_names(entry) and (native if state.pinnable else not state.fields):
        return SecretDecision(entry.name, fault=unknown_names(entry))
    if not state.pinnable:
        return _decide_revision(entry, state, serving, strategy, turn)
    wanted = frozen if frozen is not None else state.current
    finding = _unusable(entry, state, wanted)
    if finding is not None:
        return _held_or_fault(entry, serving, state, finding)
    pin = Pin(wanted, state.versions[wanted].created)
    if native:
        return SecretDecision(entry.name, newest=state.current)
    at_risk = (pin != serving or frozen is not None) and _at_risk(state, serving)
    gone = at_risk and not _readable(state, serving)
    few = _kept(state) <= _FEW_VERSIONS
    decision = SecretDecision(
        entry.name,
        pin=pin,
        serving=serving,
        newest=state.current,
        at_risk=at_risk,
        urgent=at_risk and (gone or not few),
        overdue=gone,
        chosen=frozen is not None,
    )
    if strategy != "Manual" or frozen is not None or serving in (None, pin) or turn.requested_at is not None:
        return decision
    return _held_for_request(decision, unreadable=serving is not None and not _readable(state, serving))


def _decide_revision(
    entry: SecretEntry, state: SecretState, serving: Pin | None, strategy: str, turn: Turn
) -> SecretDecision:
    """For a secret of which a task always gets the present value: the job is rolled when the server tells of another
    one, and before the credentials end that its allocations got."""
    finding = unfit(entry, state.fields[0], f"secret {entry.name}") if 0 in state.fields else None
    if finding is not None:
        return _held_or_fault(entry, serving, state, finding)
    if strategy == "Native" or (state.revision is None and not state.lease_seconds):
        return SecretDecision(entry.name)
    told = state.revision.told if state.revision is not None else ""
    told_before = serving.told if serving is not None else ""
    renewed = ""
    if serving is not None and state.lease_seconds:
        renewed = renewed_for(lease_turn(turn.lease, turn.now, turn.requested_at), serving.renewed, turn.now)
    pin = Pin.revision(told, renewed)
    changed = serving not in (None, pin)
    dead = changed and state.invalidates and told != told_before
    late = _in_life(turn, lambda lease: lease.late)
    last = _in_life(turn, lambda lease: lease.last)
    renewal = changed and told == told_before
    dates = (
        state.next_change - turn.vault_ahead if state.next_change is not None else None,
        turn.lease.due - turn.nomad_ahead if turn.lease is not None and not _is_late(turn) else None,
    )
    decision = SecretDecision(
        entry.name,
        pin=pin,
        serving=serving,
        urgent=changed and (dead or late),
        overdue=changed and (dead or last),
        ending=renewal and _in_life(turn, lambda lease: lease.ending),
        lease_seconds=state.lease_seconds if renewal else 0.0,
        until=min((moment for moment in dates if moment is not None and not changed), default=None),
        presses_at=_presses_at(turn) if changed else None,
    )
    if strategy != "Manual" or not changed or turn.requested_at is not None:
        return decision
    return _held_for_request(decision, unreadable=False)


def _in_life(turn: Turn, since: Callable[[Lease], datetime]) -> bool:
    """True from that moment of the lease to its end. When it has ended, Nomad has brought new credentials already, and
    nothing presses any more."""
    lease, now = turn.lease, turn.now
    return lease is not None and now is not None and since(lease) <= now < lease.end


def _is_late(turn: Turn) -> bool:
    return turn.lease is not None and turn.now is not None and turn.now >= turn.lease.late


def _presses_at(turn: Turn) -> datetime | None:
    """By our clock."""
    lease, now = turn.lease, turn.now
    if lease is None or now is None:
        return None
    ahead = [moment for moment in (lease.late, lease.last, lease.ending) if moment > now]
    return min(ahead) - turn.nomad_ahead if ahead else None


def _held_for_request(decision: SecretDecision, *, unreadable: bool) -> SecretDecision:
    wanted = decision.pin.title if decision.pin is not None else ""
    hold = Fault(Reason.MANUAL_ROTATION_PENDING, f"{wanted} of {decision.name} waits for `rotate`")
    return replace(decision, pin=decision.serving, waiting=decision.pin, hold=hold, unreadable=unreadable)


def _held_or_fault(entry: SecretEntry, serving: Pin | None, state: SecretState, finding: Fault) -> SecretDecision:
    if serving is None:
        return SecretDecision(entry.name, newest=state.current, fault=finding)
    if not state.pinnable and state.fault is None:
        return SecretDecision(entry.name, serving=serving, fault=finding)
    unreadable = not _readable(state, serving)
    if not unreadable and _unusable(entry, state, serving.version) is not None:
        return SecretDecision(entry.name, serving=serving, newest=state.current, fault=finding)
    return SecretDecision(
        entry.name,
        pin=serving,
        serving=serving,
        newest=state.current,
        hold=finding,
        unreadable=unreadable,
        at_risk=_at_risk(state, serving),
    )


def _at_risk(state: SecretState, pin: Pin | None) -> bool:
    """True when the version that serves can no longer be read, or is the oldest that Vault keeps: the next version that
    is written prunes it."""
    if pin is None or state.fault is not None:
        return False
    return not _readable(state, pin) or pin.version <= state.current - _kept(state) + 1 < state.current


def _kept(state: SecretState) -> int:
    """How many versions of a KV v2 secret Vault keeps: as many as the secret or its mount wants, whichever is more, and
    10 where neither says (tried on OpenBao; the engine takes the larger of the two).

    What the mount says takes a right to its configuration. Without it the secret's own number is the least there can
    be; where there is none, those that are left after a pruning tell.
    """
    if state.mount_max_versions is not None:
        return max(state.max_versions, state.mount_max_versions) or _DEFAULT_MAX_VERSIONS
    if state.max_versions:
        return state.max_versions
    oldest = min(state.versions, default=1)
    return state.current - oldest + 1 if oldest > 1 else _DEFAULT_MAX_VERSIONS


def _readable(state: SecretState, pin: Pin | None) -> bool:
    """True when a task that starts now is known to get this very version."""
    if pin is None:
        return False
    version = state.versions.get(pin.version)
    return state.fault is None and version is not None and version.created == pin.created and version.readable


def _unusable(entry: SecretEntry, state: SecretState, number: int) -> Fault | None:
    version = state.versions.get(number)
    label = f"version {number} of secret {entry.name}"
    if version is None:
        return Fault(Reason.SECRET_NOT_FOUND, f"{label} does not exist; Vault keeps {_known(state)}")
    if version.destroyed:
        return Fault(Reason.SECRET_VERSION_DESTROYED, f"{label} is destroyed; write a new version")
    if version.deleted:
        return Fault(Reason.SECRET_VERSION_DELETED, f"{label} is deleted; undelete it or write a new version")
    fields = state.fields.get(number)
    if fields is None:
        return Fault(Reason.SECRET_UNREADABLE, f"{label} cannot be read; its field names could not be listed")
    return unfit(entry, fields, label)


def _known(state: SecretState) -> str:
    numbers = sorted(state.versions)
    return f"versions {numbers[0]} to {numbers[-1]}" if numbers else "none"
