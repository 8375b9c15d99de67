"""Which states of our part have failed, as the job's history tells: pure decisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from secretbinding.job.inject import user_state
from secretbinding.job.marks import part_state, placed_marks, renewals, share_states
from secretbinding.models.key import BindingKey
from secretbinding.naming import mark_json, name_prefix, read_mark_json
from secretbinding.ports import Json

_DESCRIPTION = "secretbinding: this state of the secrets failed "
_MOST_SUSPECTS = 50


@dataclass(frozen=True, slots=True, order=True)
class FailedState:
    """A state of our part that was rolled and did not work, together with the user's part that it was rolled with.

    `version` is the job version, `at` the time of the registration in nanoseconds since the epoch.
    `tagged` tells whether the version carries our tag already; it survives Nomad's garbage collection then.
    `suspects` are the shares of bindings (`job.marks.share_states`) that were new in it: what is not tried again, in
    whatever company. The other bindings of the job go on. `renewed` are the suspects that had their leases renewed in
    it (`job.marks.renewals`), with the moment.
    """

    part: str
    user: str
    version: int
    at: int
    tagged: bool
    suspects: frozenset[str] = frozenset()
    renewed: Mapping[str, str] = field(default_factory=dict, compare=False)


def failed_states(versions: Sequence[Json], deployments: Sequence[Json], instance: str) -> tuple[FailedState, ...]:
    """The failed states that the job's history tells, each once: its newest attempt that came to an end or is under way
    decides.

    An attempt failed when its deployment did, when we tagged its version, or when Nomad itself went back from it: Nomad
    forgets deployments after an hour and versions after six, a tagged version is kept. A cancelled deployment, and one
    that Nomad no longer knows of a version that it does not call stable, say nothing. A version whose part is that of
    the last one that came through failed for the user's own change: it is no failure of ours. What a roll brought in is
    still ours when its user registers the job again in the middle of it.
    """
    states = {int(item.get("JobVersion", -1)): str(item.get("Status")) for item in reversed(deployments)}
    by_number = {int(job.get("Version") or 0): job for job in versions}
    # What has been stable once is not what is wrong when it fails later.
    worked = {share for job in versions if job.get("Stable") for share in share_states(job, instance).values()}
    decided: set[tuple[str, str]] = set()
    found: list[FailedState] = []
    for number, job in sorted(by_number.items(), reverse=True):
        tagged = is_failed_tag(job, instance)
        status = "failed" if tagged else "successful" if job.get("Stable") else states.get(number, "")
        if not status and _gone_back_from(by_number, number):
            status = "failed"
        if status in ("", "cancelled"):
            continue
        part, user = part_state(job, instance), user_state(job, instance)
        before = _compared_with(by_number, states, number, instance)
        users_own = not tagged and before is not None and part_state(before, instance) == part
        if (part, user) in decided or (status == "failed" and users_own):
            continue
        decided.add((part, user))
        if status == "failed":
            suspects = _suspects(job, before, instance, tagged=tagged) - worked
            submitted = int(job.get("SubmitTime") or 0)
            renewed = _renewed_of(job, suspects, instance)
            found.append(FailedState(part, user, number, submitted, tagged, suspects, renewed))
    return tuple(reversed(found))


def _gone_back_from(versions: Mapping[int, Json], number: int) -> bool:
    """True when the version after this one is an older one that Nomad put back after a failure: such a copy has the
    submit time of its original; what somebody registers or reverts to has one of its own (Nomad's deployment watcher,
    and `Job.Register`)."""
    copied = versions.get(number + 1)
    if copied is None or not copied.get("Stable") or not copied.get("SubmitTime"):
        return False
    return any(job.get("SubmitTime") == copied["SubmitTime"] for older, job in versions.items() if older < number)


def _renewed_of(job: Json, suspects: frozenset[str], instance: str) -> dict[str, str]:
    shares = share_states(job, instance)
    return dict(row for key, row in renewals(job, instance).items() if shares.get(key) in suspects)


def _came_through(versions: Mapping[int, Json], states: Mapping[int, str], number: int) -> Json | None:
    """The newest version before `number` that is known to have come through its deployment."""
    good = [n for n, job in versions.items() if n < number and (job.get("Stable") or states.get(n) == "successful")]
    return versions[max(good)] if good else None


def _compared_with(versions: Mapping[int, Json], states: Mapping[int, str], number: int, instance: str) -> Json | None:
    """The version that tells what was new in version `number`: the last one that came through, since what a cancelled
    deployment brought in is as new as the rest. Where none did, the one before it and before all that brought the same
    part and never came to an end; None when that is not known."""
    good = _came_through(versions, states, number)
    if good is not None:
        return good
    part = part_state(versions[number], instance)
    before = number - 1
    while (
        {before, before - 1} <= versions.keys()
        and states.get(before, "") in ("", "cancelled")
        and part_state(versions[before], instance) == part
    ):
        before -= 1
    return versions.get(before)


def suspected(
    failures: Sequence[FailedState], user: str, share: str, requested_at: datetime | None
) -> FailedState | None:
    """The newest failure, with this part of the user's, that a binding's share is suspected of; None when there is
    none, or when somebody has asked for the binding since.

    A later failure of fewer shares clears the others of an earlier one.
    """
    mine = [failure for failure in failures if failure.user == user]
    found = [
        failure
        for failure in mine
        if share in failure.suspects
        and not any(other.suspects < failure.suspects and other.suspects and other.at > failure.at for other in mine)
    ]
    newest = max(found, key=lambda failure: failure.at, default=None)
    if newest is not None and requested_at is not None and requested_at > nanoseconds_to_time(newest.at):
        return None
    return newest


def renewal_failed(
    failures: Sequence[FailedState], user: str, share: str, since: str, requested_at: datetime | None
) -> FailedState | None:
    """The newest failure, with this part of the user's, of a roll that was to renew leases of this share
    (`job.marks.renewals`); None when there is none, when leases were renewed since (at `since`), or when somebody has
    asked since. The allocations whose turn it is may be others by now: it is the same roll still."""
    found = [item for item in failures if item.user == user and item.renewed.get(share, "") > since]
    newest = max(found, key=lambda failure: failure.at, default=None)
    if newest is not None and requested_at is not None and requested_at > nanoseconds_to_time(newest.at):
        return None
    return newest


def failed_description(failure: FailedState) -> str:
    """The description of the tag that remembers a failure: what was new in it, as far as Nomad's limit of 1,000
    characters allows (a longer one would make the job itself invalid)."""
    suspects = sorted(failure.suspects)
    fields = {"part": failure.part, "suspects": suspects} if len(suspects) <= _MOST_SUSPECTS else {"part": failure.part}
    return f"{_DESCRIPTION}{mark_json(fields)}"


def _suspects(job: Json, before: Json | None, instance: str, *, tagged: bool) -> frozenset[str]:
    """The shares that were new in a failed version: as our tag says, since the version before it may be forgotten."""
    if tagged:
        tag: Mapping[str, Any] = job.get("VersionTag") or {}
        fields = read_mark_json(str(tag.get("Description") or "").removeprefix(_DESCRIPTION)) or {}
        listed = fields.get("suspects")
        if isinstance(listed, list):
            return frozenset(str(item) for item in listed)
    if before is None:
        return frozenset()
    return frozenset(share_states(job, instance).values()) - frozenset(share_states(before, instance).values())


def failed_tag(instance: str, version: int) -> str:
    """The name of the version tag that remembers a failed state. Tag names are unique in a job."""
    return f"{name_prefix(instance)}failed.{version}"


def is_failed_tag(job: Json, instance: str) -> bool:
    """True when a version of a job carries our tag for a failed state."""
    tag: Mapping[str, Any] = job.get("VersionTag") or {}
    return str(tag.get("Name") or "").startswith(f"{name_prefix(instance)}failed.")


def held_failure(
    failures: Sequence[FailedState], part: str, user: str, requested_at: datetime | None
) -> FailedState | None:
    """The failure for which a wanted state must not be tried again, None when it may.

    Somebody who asks after the failure gets one more try.
    """
    matching = [failure for failure in failures if (failure.part, failure.user) == (part, user)]
    if not matching:
        return None
    newest = max(matching, key=lambda failure: failure.at)
    if requested_at is not None and requested_at > nanoseconds_to_time(newest.at):
        return None
    return newest


def failed_parts(versions: Sequence[Json], failures: Sequence[FailedState], instance: str) -> frozenset[str]:
    """The parts of ours that failed and have not come through in a later version."""
    return frozenset(item.part for item in failures if item.version > last_stable(versions, item.part, instance))


def good_version(
    versions: Sequence[Json], failures: Sequence[FailedState], job: Json | None, instance: str
) -> Json | None:
    """The version to take our part of `job` back to; None when there is none.

    That is the newest stable one that has something for a binding of the job's, and a part that did not fail. Where our
    part was gone since, it must read nothing but what the job reads: rights to more may have been taken back. Where no
    version is such, the newest whose part did not fail, which a first injection is taken out with. What has been stable
    is never taken out.
    """
    bad = failed_parts(versions, failures, instance)
    newest_first = sorted(versions, key=lambda item: int(item.get("Version") or 0), reverse=True)
    good = [item for item in newest_first if part_state(item, instance) not in bad]
    reads = _reads(job, instance)
    keys = {key for key, _ in reads}
    gone = False
    for version in good:
        there = _reads(version, instance) if version.get("Stable") else frozenset()
        if there and (there <= reads if gone else not keys or keys & {key for key, _ in there}):
            return version
        gone = gone or bool(version.get("Stable") and not there)
    newest = next(iter(good), None)
    if newest is not None and not part_state(newest, instance) and _worked(versions, job, instance):
        return None
    return newest


def _reads(job: Json | None, instance: str) -> frozenset[tuple[BindingKey, str]]:
    """Which secrets a job's bindings read in it."""
    return frozenset((placed.key, placed.mark.of) for placed in placed_marks(job, instance))


def _worked(versions: Sequence[Json], job: Json | None, instance: str) -> bool:
    """True when each binding's share of the job has been in a stable version."""
    stable = {share for item in versions if item.get("Stable") for share in share_states(item, instance).values()}
    shares = set(share_states(job, instance).values())
    return bool(shares) and shares <= stable


def last_stable(versions: Sequence[Json], part: str, instance: str) -> int:
    """The newest version with this state of our part that has come through its deployment, -1 when none has."""
    stable = [
        int(job.get("Version") or 0) for job in versions if job.get("Stable") and part_state(job, instance) == part
    ]
    return max(stable, default=-1)


def last_roll(versions: Sequence[Json], instance: str) -> datetime | None:
    """When a version of the job was last registered that changed our part, as far as Nomad still knows its versions. A
    version that Nomad reverted to has the time of the one that it is a copy of. One that a user registered without our
    part changes nothing, and neither does the one that puts the same part in again."""
    parts = {int(job.get("Version") or 0): part_state(job, instance) for job in versions}
    moments = [
        int(job.get("SubmitTime") or 0)
        for job in versions
        if parts[number := int(job.get("Version") or 0)] and _part_before(parts, number) not in (None, parts[number])
    ]
    return nanoseconds_to_time(max(moments)) if moments else None


def _part_before(parts: Mapping[int, str], number: int) -> str | None:
    """The part that the job had before a version, in whichever version had one last, "" when none had; None when that
    is not known."""
    before = number - 1
    while before - 1 in parts and parts.get(before) == "":
        before -= 1
    # Versions before this one are forgotten.
    forgotten = before > 0 and not parts.get(before)
    return None if forgotten else parts.get(before)


def nanoseconds_to_time(value: int) -> datetime:
    """Nomad's times (nanoseconds since the epoch) as an aware datetime in UTC."""
    return datetime.fromtimestamp(value / 1_000_000_000, tz=UTC)
