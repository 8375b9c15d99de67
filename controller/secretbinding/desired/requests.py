"""Which requests for a roll are still to be answered, and from when on. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from secretbinding.desired.values import BindingInput, Observed
from secretbinding.kinds.base import SecretState
from secretbinding.rotation import nanoseconds_to_time

CLOCK_SKEW = timedelta(minutes=1)
"""How far apart the clocks of Vault and of who asks for a roll may be."""
_DOUBT = timedelta(seconds=5)
"""How far off what is known of Nomad's clock may be: nobody is rolled twice for that."""


def open_requests(bindings: Sequence[BindingInput], observed: Observed) -> list[BindingInput]:
    """The bindings, without requests that are not to be acted on now: those of bindings that stay as they are, those
    that are dated ahead of our clock, and those of which nothing tells but the job, which was registered since."""
    return [replace(item, rotate_requested_at=None) if not _is_open(item, observed) else item for item in bindings]


def waits_for_its_time(item: BindingInput, now: datetime | None) -> bool:
    """True for a request that is dated ahead of our clock: acted on now, it would count as newer than the roll that
    answered it. `now` is None where nothing waits (one-shot commands)."""
    return item.rotate_requested_at is not None and now is not None and item.rotate_requested_at > now


def next_request(bindings: Iterable[BindingInput], now: datetime | None) -> datetime | None:
    """When the time of the next request comes that is dated ahead of our clock; None when there is none."""
    ahead = [item.rotate_requested_at for item in bindings if waits_for_its_time(item, now)]
    return min((at for at in ahead if at is not None), default=None)


def asks_for(item: BindingInput, state: SecretState, observed: Observed) -> bool:
    """True when somebody asked for a roll since the newest version is there: a request is for what there was to roll
    when it was made, not for whatever comes later. What has no versions is asked for when the job was not registered
    since.

    The clock of who asks may be off by `CLOCK_SKEW` for a request that came while this process watched. One that was
    there before may have been answered by another process: there each clock is believed.
    """
    at = item.rotate_requested_at
    if at is None:
        return False
    slack = CLOCK_SKEW if item.rotate_arrived_at is not None else timedelta(0)
    newest = state.versions.get(state.current)
    if newest is not None:
        try:
            created = datetime.fromisoformat(newest.created[:19]).replace(tzinfo=UTC)
        except ValueError:
            return True
        return created - observed.gate.vault_ahead <= at + slack
    if state.pinnable or not (state.lease_seconds or state.revision) or observed.job is None:
        return False
    if item.rotate_arrived_at is None:
        return not _is_registered_since(at, observed)
    ours = observed.gate.last_registration
    return (ours is None or ours < item.rotate_arrived_at) and at + slack > _registered(observed)


def _is_open(item: BindingInput, observed: Observed) -> bool:
    at = item.rotate_requested_at
    if at is None or item.frozen is not None or waits_for_its_time(item, observed.gate.now):
        return False
    return not (item.rotate_doubtful and observed.job is not None and _is_registered_since(at, observed))


def _is_registered_since(at: datetime, observed: Observed) -> bool:
    return at <= _registered(observed) + _DOUBT


def _registered(observed: Observed) -> datetime:
    """When the job was last registered, by our clock. One that Nomad went back to has the time of the version that it
    is a copy of."""
    jobs = [observed.job or {}, *observed.versions]
    return nanoseconds_to_time(max(int(job.get("SubmitTime") or 0) for job in jobs)) - observed.gate.nomad_ahead
