"""Wrapped secret-ids for the agents of a group: who opened them, and which are to be made anew. Pure.

Each allocation index has one wrapping token at any time, in a Nomad variable that only the agent of the group may read.
An agent opens one at each start. What is opened though no agent was started for it, was opened by somebody else; so it
was when an agent opens more than it was started, since it had to take another one (`desired.openings`).
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from secretbinding.desired.openings import LIVE, SETTLE, Opening, accounting, is_due, starts_of
from secretbinding.models.approle import AppRole
from secretbinding.ports import Json
from secretbinding.render.approle import limits_digest, wrapped_item

STATE_ITEM = "secretbinding"
MOST_INDEXES = 128
"""A Nomad variable holds 64 KiB."""
_INDEX = re.compile(r"\[([0-9]{1,6})\]\Z")
_RENEW_SHARE = 1 / 3
_MOST_TTL_SECONDS = 768 * 3600.0
_MOST_FINDINGS = 8
_EVER = datetime.fromtimestamp(0, UTC)


class Seal(StrEnum):
    """What became of a wrapping token: nobody opened it; it was opened and nobody has logged in (for a moment, or for
    longer than an agent takes); somebody logged in with what was in it; its time is over."""

    SEALED = "Sealed"
    OPENED = "Opened"
    UNUSED = "Unused"
    USED = "Used"
    EXPIRED = "Expired"


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The wrapping token of one index.

    Attributes:
        accessor: names the secret-id in it.
        limits: what it was made with.
        made: when it was made, by Vault's clock.
        sealed: when it was last seen sealed; None when not since it was made. Not kept in the variable.
        digest: of the wrapping token, which tells when another one is in its place; "" where it is not known.
    """

    index: int
    accessor: str
    expires: datetime
    limits: str
    seal: Seal = Seal.SEALED
    made: datetime = _EVER
    sealed: datetime | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Stolen:
    """A wrapping token that somebody else opened. `used`: somebody logged in with what was in it."""

    index: int
    at: datetime
    used: bool


@dataclass(frozen=True, slots=True)
class Brought:
    """What the variable of one group holds, without any token.

    Attributes:
        instance: whose it is; "" for one that is not a controller's.
        modify_index: of the variable, 0 when there is none.
        spent: by allocation, when the last start of its agent was that has accounted for an opening.
        opened: by allocation, when its agent last opened one.
        waiting: openings whose start is not known yet.
        latest: by index, the accessor of the secret-id that was last logged in with, where it is good for more logins.
    """

    path: str
    modify_index: int = 0
    instance: str = ""
    role: str = ""
    tokens: tuple[Wrapped, ...] = ()
    spent: Mapping[str, datetime] = field(default_factory=dict)
    opened: Mapping[str, datetime] = field(default_factory=dict)
    waiting: tuple[Opening, ...] = ()
    latest: Mapping[int, str] = field(default_factory=dict)
    stolen: tuple[Stolen, ...] = ()
    now: datetime = datetime.min

    def state_item(self) -> str:
        """The item that remembers all of it."""
        fields = {
            "instance": self.instance,
            "role": self.role,
            "tokens": [
                [one.index, one.accessor, one.expires.isoformat(), one.limits, one.made.isoformat(), one.digest]
                for one in self.tokens
            ],
            "spent": {name: moment.isoformat() for name, moment in self.spent.items()},
            "opened": {name: moment.isoformat() for name, moment in self.opened.items()},
            "waiting": [
                [one.index, *(moment.isoformat() for moment in (one.made, one.since, one.seen))] for one in self.waiting
            ],
            "latest": [[index, accessor] for index, accessor in self.latest.items()],
            "stolen": [[one.index, one.at.isoformat(), one.used] for one in self.stolen],
        }
        return json.dumps(fields, sort_keys=True)


def read_brought(path: str, modify_index: int, items: Mapping[str, str], now: datetime) -> Brought:
    """The variable as it says of itself; one that is not ours, or whose state somebody altered, is nobody's."""
    try:
        fields: dict[str, Any] = json.loads(items[STATE_ITEM])
        opened = _moments(fields["opened"])
        return Brought(
            path,
            modify_index,
            str(fields["instance"]),
            str(fields["role"]),
            tuple(_token(*row) for row in fields["tokens"] if wrapped_item(row[0]) in items),
            # Version 0.1 counted openings; all starts before the last one were its.
            _moments(fields.get("spent", fields["opened"])),
            opened,
            tuple(
                Opening(int(index), *(datetime.fromisoformat(moment) for moment in moments))
                for index, *moments in fields.get("waiting", [])
            ),
            {int(index): str(accessor) for index, accessor in fields.get("latest", [])},
            tuple(Stolen(int(index), datetime.fromisoformat(at), bool(used)) for index, at, used in fields["stolen"]),
            now,
        )
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return Brought(path, modify_index, now=now)


def is_ahead(brought: Brought, instance: str) -> bool:
    """True for a variable of ours that no agent has opened anything of: where there is no job, it is of one that is
    still to be registered."""
    return bool(brought.modify_index) and brought.instance == instance and not brought.opened


def group_ahead(name: str, brought: Brought) -> Json:
    """A group of a job that is not there yet, with as many allocations as were brought something."""
    return {"Name": name, "Count": max((one.index + 1 for one in brought.tokens), default=0)}


def _moments(found: Mapping[str, str]) -> dict[str, datetime]:
    return {str(name): datetime.fromisoformat(moment) for name, moment in found.items()}


def _token(
    index: Any, accessor: Any, expires: str, limits: Any, made: str = _EVER.isoformat(), digest: str = ""
) -> Wrapped:
    ends, begun = datetime.fromisoformat(expires), datetime.fromisoformat(made)
    return Wrapped(int(index), str(accessor), ends, str(limits), made=begun, digest=str(digest))


@dataclass(frozen=True, slots=True)
class BringSecretIds:
    """Make secret-ids and put them into the variable, over the state of it that was looked at (`modify_index`).

    Attributes:
        group: the task group.
        make: the indexes that get a new one; all others of `wanted` keep theirs.
        destroy: accessors of secret-ids that nobody is to log in with any more.
        wanted: what the variable is to remember, `make` left out.
    """

    group: str
    mount: str
    seconds: int
    limits: str
    make: tuple[int, ...]
    destroy: tuple[str, ...]
    wanted: Brought


@dataclass(frozen=True, slots=True)
class DropSecretIds:
    """Delete the variable of a group that needs none any more."""

    group: str
    path: str


@dataclass(frozen=True, slots=True)
class Bringing:
    """What is decided for one group: the variable as it should be, and the write that it needs, None for none."""

    wanted: Brought
    action: BringSecretIds | None
    soon: bool


def bring(
    group: Json,
    brought: Brought,
    role: str,
    app_role: AppRole,
    limits: Mapping[str, Any],
    allocations: Sequence[Json],
    answered: datetime | None,
    mount: str,
    instance: str,
) -> Bringing:
    """What one group needs. `limits` are those of the role; findings up to `answered` have been answered by somebody.

    Tokens are renewed when a third of their time is left, which is what a controller may be away.
    """
    name, now = str(group["Name"]), brought.now
    here = [item for item in allocations if item.get("TaskGroup") == name and item.get("ID")]
    known = {str(item["ID"]) for item in here}
    spent = {key: moment for key, moment in brought.spent.items() if key in known}
    opened = {key: moment for key, moment in brought.opened.items() if key in known}
    stolen = list(brought.stolen)
    openings = list(brought.waiting)
    made_with = limits_digest(app_role)
    same = brought.role == role
    tokens = {one.index: one for one in brought.tokens} if same else {}
    latest = dict(brought.latest) if same else {}
    destroy: list[str] = []
    for index, token in sorted(tokens.items()):
        if token.seal is Seal.USED:
            openings.append(Opening(index, token.made, token.sealed or token.made, now))
            # Whoever has opened this one has done with the one before, or somebody else has that.
            destroy += [latest.pop(index)] if index in latest else []
            if app_role.uses != 1 or token.limits != made_with:
                latest[index] = token.accessor
        elif token.seal is Seal.UNUSED:
            stolen.append(Stolen(index, now, used=False))
    waiting: list[Opening] = []
    for opening in sorted(openings, key=lambda one: one.seen):
        of_index = [item for item in here if index_of(item) == opening.index]
        if _account(opening, of_index, spent, opened, _lifetime(limits)):
            continue
        # Whosever it is, it has served: an agent takes another one.
        destroy += [latest.pop(opening.index)] if opening.index in latest else []
        # A client that is cut off tells of its starts when it is back.
        away = any(item.get("ClientStatus") == "unknown" for item in of_index)
        if away or now - opening.seen < SETTLE:
            waiting.append(opening)
        else:
            stolen.append(Stolen(opening.index, opening.seen, used=True))
    stolen = [one for one in stolen if answered is None or one.at > answered]
    wanted_indexes = _indexes(group, here)
    destroy += [latest.pop(index) for index in list(latest) if index not in wanted_indexes]
    make: list[int] = []
    keep: list[Wrapped] = []
    for index in wanted_indexes:
        one = tokens.get(index)
        late = one is not None and one.expires - now < timedelta(seconds=app_role.wrapping_seconds * _RENEW_SHARE)
        if (
            one is not None
            and (one.seal is Seal.OPENED or (one.seal is Seal.SEALED and not late))
            and (one.limits == made_with)
        ):
            keep.append(one)
        else:
            make.append(index)
    kept = {one.index for one in keep}
    destroy += [one.accessor for one in tokens.values() if one.index not in kept and one.seal is not Seal.USED]
    wanted = replace(
        brought,
        instance=instance,
        role=role,
        tokens=tuple(keep),
        spent=spent,
        opened=opened,
        waiting=tuple(waiting),
        latest=latest,
        stolen=tuple(stolen[-_MOST_FINDINGS:]),
    )
    changed = bool(make or destroy) or wanted != brought
    seconds = int(app_role.wrapping_seconds)
    action = BringSecretIds(name, mount, seconds, made_with, tuple(make), tuple(destroy), wanted) if changed else None
    due = any(
        is_due(item, spent, _last(opened, [one for one in here if index_of(one) == index_of(item)]), now)
        for item in here
    )
    return Bringing(wanted, action, soon=due or bool(waiting) or any(one.seal is Seal.OPENED for one in keep))


def _account(
    opening: Opening,
    allocations: Sequence[Json],
    spent: dict[str, datetime],
    opened: dict[str, datetime],
    lifetime: float,
) -> bool:
    """Find whose opening it was among the allocations of its index, and note that. An agent whose token cannot be
    renewed any more logs in anew without a start."""
    starts = [start for item in allocations for start in starts_of(item)]
    found = accounting(opening, starts, spent, _last(opened, allocations))
    if found is not None:
        spent[found.allocation], opened[found.allocation] = found.at, opening.seen
        return True
    for item in allocations:
        key = str(item["ID"])
        if lifetime and key in opened and item.get("ClientStatus") in LIVE:
            if opening.seen - opened[key] < timedelta(seconds=lifetime / 2):
                continue
            opened[key] = opening.seen
            return True
    return False


def _last(opened: Mapping[str, datetime], allocations: Iterable[Json]) -> datetime | None:
    """When an agent of these allocations last opened one."""
    return max((opened[key] for item in allocations if (key := str(item["ID"])) in opened), default=None)


def _lifetime(limits: Mapping[str, Any]) -> float:
    """After how long an agent has to log in anew, in seconds; 0 for a periodic token, which it renews for ever."""
    if limits.get("token_period"):
        return 0.0
    return float(limits.get("token_max_ttl") or _MOST_TTL_SECONDS)


def index_of(allocation: Json) -> int:
    """The index of an allocation, which its name ends with; -1 when it has none."""
    found = _INDEX.search(str(allocation.get("Name") or ""))
    return int(found[1]) if found is not None else -1


def count_of(group: Json) -> int:
    """How many indexes a group may have: canaries come beside the others."""
    count = group.get("Count")
    return (1 if count is None else int(count)) + int((group.get("Update") or {}).get("Canary") or 0)


def _indexes(group: Json, allocations: Iterable[Json]) -> list[int]:
    running = {index_of(item) for item in allocations if item.get("ClientStatus") in LIVE}
    return sorted({index for index in {*range(count_of(group)), *running} if 0 <= index < MOST_INDEXES})
