"""Which version of a secret a job should read now, and which states of our part have failed: pure decisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from secretbinding.gate import Obstacle
from secretbinding.job.inject import user_state
from secretbinding.job.marks import part_state, share_states
from secretbinding.kinds.base import Fault, Pin, SecretState
from secretbinding.models.binding import FileFormat, SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.naming import mark_json, name_prefix, read_mark_json
from secretbinding.ports import Json
from secretbinding.render.text import is_identifier

_DEFAULT_MAX_VERSIONS = 10
_DESCRIPTION = "secretbinding: this state of the secrets failed "
_MOST_SUSPECTS = 50


@dataclass(frozen=True, slots=True)
class SecretDecision:
    """What is decided for one secret of one binding.

    Attributes:
        pin: the version that the job should read; None for what cannot be pinned, or when nothing can be read.
        serving: the version that the job reads now, None when it reads none.
        newest: the newest version's number, 0 when unknown.
        fault: why the secret cannot be used at all: nothing may be injected for it.
        hold: why a newer version is not rolled while `serving` goes on.
        unreadable: `serving` cannot be read any more, or nobody knows: what runs goes on, but a task that starts anew
            would not get it, so that nothing may be registered that starts its group anew.
        at_risk: `serving` is gone, or goes with the next version that is written.
        until: when what holds the newer version may end, None when nobody knows.
        obstacle: what the newer version waits for, when a setting or a limit holds it.
    """

    name: str
    pin: Pin | None = None
    serving: Pin | None = None
    newest: int = 0
    fault: Fault | None = None
    hold: Fault | None = None
    unreadable: bool = False
    at_risk: bool = False
    until: datetime | None = None
    obstacle: Obstacle | None = None


def decide_version(
    entry: SecretEntry, state: SecretState, serving: Pin | None, *, strategy: str, requested: bool
) -> SecretDecision:
    """Choose the version for one secret.

    `serving` is the pin in the job, already known to be of this very secret. `strategy` is `Rolling`, `Native` or
    `Manual`; `requested` is true when somebody asked for a roll since the last one.

    A newer version is taken only when it can be read and has every field that the binding uses; until then what runs
    is held. Without anything that runs, or when what runs lacks a field that the binding uses now, the same finding is
    a fault.
    """
    if state.fault is not None:
        return _held_or_fault(entry, serving, state, state.fault)
    frozen = entry.kv.version if entry.kv is not None else None
    pinned = state.pinnable and (strategy != "Native" or frozen is not None)
    if not pinned and _as_dotenv(entry):
        message = (
            f"secret {entry.name}: format Dotenv needs field names that are known beforehand, which only a version of "
            "a KV v2 secret has; use Json or a template"
        )
        return SecretDecision(entry.name, fault=Fault(Reason.UNSUPPORTED_KIND, message))
    if not state.pinnable:
        return SecretDecision(entry.name)
    wanted = frozen if frozen is not None else state.current
    finding = _unusable(entry, state, wanted)
    if finding is not None:
        return _held_or_fault(entry, serving, state, finding)
    pin = Pin(wanted, state.versions[wanted].created)
    if strategy == "Native" and frozen is None:
        return SecretDecision(entry.name, newest=state.current)
    if strategy == "Manual" and frozen is None and serving not in (None, pin) and not requested:
        message = f"version {pin.version} of {entry.name} waits for `rotate`"
        hold = Fault(Reason.MANUAL_ROTATION_PENDING, message)
        return SecretDecision(
            entry.name,
            pin=serving,
            serving=serving,
            newest=state.current,
            hold=hold,
            unreadable=serving is not None and not _readable(state, serving),
            at_risk=_at_risk(state, serving),
        )
    return SecretDecision(
        entry.name, pin=pin, serving=serving, newest=state.current, at_risk=pin != serving and _at_risk(state, serving)
    )


def _held_or_fault(entry: SecretEntry, serving: Pin | None, state: SecretState, finding: Fault) -> SecretDecision:
    if serving is None:
        return SecretDecision(entry.name, newest=state.current, fault=finding)
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
    is written prunes it. KV v2 keeps 10 versions where neither the secret nor its mount says otherwise; what the mount
    says cannot be read without a right to its configuration."""
    if pin is None or state.fault is not None:
        return False
    kept = state.max_versions or _DEFAULT_MAX_VERSIONS
    return not _readable(state, pin) or pin.version <= state.current - kept + 1 < state.current


def _readable(state: SecretState, pin: Pin) -> bool:
    """True when a task that starts now is known to get this very version."""
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
    if _as_dotenv(entry):
        odd = next((name for name in sorted(fields) if not is_identifier(name)), None)
        if odd is not None:
            message = f"{label} has a field {odd!r}, which cannot be the name of a variable in a Dotenv file"
            return Fault(Reason.SECRET_UNREADABLE, message)
    for variable, source in sorted((entry.env or {}).items()):
        if source not in fields:
            message = (
                f"{label} has no field {source}, which {variable} needs (it has: {', '.join(sorted(fields)) or 'none'})"
            )
            return Fault(Reason.SECRET_FIELD_MISSING, message)
        if isinstance(fields[source], Mapping):
            message = (
                f"field {source} of {label}, which {variable} needs, is an object; an env variable takes plain text"
            )
            return Fault(Reason.SECRET_FIELD_MISSING, message)
    return None


def _as_dotenv(entry: SecretEntry) -> bool:
    return any(target.format is FileFormat.DOTENV for target in entry.files)


def _known(state: SecretState) -> str:
    numbers = sorted(state.versions)
    return f"versions {numbers[0]} to {numbers[-1]}" if numbers else "none"


@dataclass(frozen=True, slots=True, order=True)
class FailedState:
    """A state of our part that was rolled and did not work, together with the user's part that it was rolled with.

    `version` is the job version, `at` the time of the registration in nanoseconds since the epoch.
    `tagged` tells whether the version carries our tag already; it survives Nomad's garbage collection then.
    `suspects` are the shares of bindings (`job.marks.share_states`) that were new in it: what is not tried again, in
    whatever company. The other bindings of the job go on.
    """

    part: str
    user: str
    version: int
    at: int
    tagged: bool
    suspects: frozenset[str] = frozenset()


def failed_states(versions: Sequence[Json], deployments: Sequence[Json], instance: str) -> tuple[FailedState, ...]:
    """The failed states that the job's history tells, each once: its newest attempt that came to an end or is under way
    decides.

    An attempt failed when its deployment did, or when we tagged its version: Nomad forgets deployments after an hour
    and versions after six, a tagged version is kept. A cancelled deployment, and one that Nomad no longer knows of a
    version that it does not call stable, say nothing. A version whose part is that of the one before it failed for the
    user's own change: it is no failure of ours.
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
        if status in ("", "cancelled"):
            continue
        part, user = part_state(job, instance), user_state(job, instance)
        before = by_number.get(number - 1)
        users_own = not tagged and before is not None and part_state(before, instance) == part
        if (part, user) in decided or (status == "failed" and users_own):
            continue
        decided.add((part, user))
        if status == "failed":
            # What a cancelled deployment brought in is as new as the rest: the last version that came through tells.
            good = _came_through(by_number, states, number)
            suspects = _suspects(job, good if good is not None else before, instance, tagged=tagged) - worked
            found.append(FailedState(part, user, number, int(job.get("SubmitTime") or 0), tagged, suspects))
    return tuple(reversed(found))


def _came_through(versions: Mapping[int, Json], states: Mapping[int, str], number: int) -> Json | None:
    """The newest version before `number` that is known to have come through its deployment."""
    good = [n for n, job in versions.items() if n < number and (job.get("Stable") or states.get(n) == "successful")]
    return versions[max(good)] if good else None


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


def good_version(versions: Sequence[Json], failures: Sequence[FailedState], instance: str) -> Json | None:
    """The newest version of the job whose part of ours did not fail: where to go back to. None when there is none."""
    bad = {failure.part for failure in failures}
    newest_first = sorted(versions, key=lambda job: int(job.get("Version") or 0), reverse=True)
    return next((job for job in newest_first if part_state(job, instance) not in bad), None)


def last_stable(versions: Sequence[Json], part: str, instance: str) -> int:
    """The newest version with this state of our part that has come through its deployment, -1 when none has."""
    stable = [
        int(job.get("Version") or 0) for job in versions if job.get("Stable") and part_state(job, instance) == part
    ]
    return max(stable, default=-1)


def last_roll(versions: Sequence[Json], instance: str) -> datetime | None:
    """When a version of the job was last registered that changed our part, as far as Nomad still knows its versions."""
    by_number = {int(job.get("Version") or 0): job for job in versions}
    for number, job in sorted(by_number.items(), reverse=True):
        before = by_number.get(number - 1)
        if before is not None and part_state(before, instance) != part_state(job, instance):
            return nanoseconds_to_time(int(job.get("SubmitTime") or 0))
    return None


def nanoseconds_to_time(value: int) -> datetime:
    """Nomad's times (nanoseconds since the epoch) as an aware datetime in UTC."""
    return datetime.fromtimestamp(value / 1_000_000_000, tz=UTC)
