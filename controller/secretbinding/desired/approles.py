"""Wrapped secret-ids for the agents of a group: who opened them, and which are to be made anew. Pure.

Each allocation index has one wrapping token at any time, in a Nomad variable that only the agent of the group may read.
An agent opens one at each start. What is opened though no agent was started for it, was opened by somebody else; so it
was when an agent opens more than it was started, since it had to take another one.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from secretbinding.models.agent import AGENT_TASK
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
_LIVE = ("pending", "running", "unknown")


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
    """The wrapping token of one index. `accessor` names the secret-id in it; `limits` is what it was made with."""

    index: int
    accessor: str
    expires: datetime
    limits: str
    seal: Seal = Seal.SEALED


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
        used: by allocation, how many wrapping tokens its agent has opened.
        opened: by allocation, when its agent last opened one.
    """

    path: str
    modify_index: int = 0
    instance: str = ""
    role: str = ""
    tokens: tuple[Wrapped, ...] = ()
    used: Mapping[str, int] = field(default_factory=dict)
    opened: Mapping[str, datetime] = field(default_factory=dict)
    stolen: tuple[Stolen, ...] = ()
    now: datetime = datetime.min

    def state_item(self) -> str:
        """The item that remembers all of it."""
        tokens = [[one.index, one.accessor, one.expires.isoformat(), one.limits] for one in self.tokens]
        found = [[one.index, one.at.isoformat(), one.used] for one in self.stolen]
        opened = {name: moment.isoformat() for name, moment in self.opened.items()}
        fields = {"instance": self.instance, "role": self.role, "tokens": tokens, "used": dict(self.used)}
        return json.dumps({**fields, "opened": opened, "stolen": found}, sort_keys=True)


def read_brought(path: str, modify_index: int, items: Mapping[str, str], now: datetime) -> Brought:
    """The variable as it says of itself; one that is not ours, or whose state somebody altered, is nobody's."""
    try:
        fields: dict[str, Any] = json.loads(items[STATE_ITEM])
        return Brought(
            path,
            modify_index,
            str(fields["instance"]),
            str(fields["role"]),
            tuple(
                Wrapped(int(index), str(accessor), datetime.fromisoformat(expires), str(limits))
                for index, accessor, expires, limits in fields["tokens"]
                if wrapped_item(index) in items
            ),
            {str(name): int(count) for name, count in fields["used"].items()},
            {str(name): datetime.fromisoformat(moment) for name, moment in fields["opened"].items()},
            tuple(Stolen(int(index), datetime.fromisoformat(at), bool(used)) for index, at, used in fields["stolen"]),
            now,
        )
    except (KeyError, ValueError, TypeError, AttributeError):
        return Brought(path, modify_index, now=now)


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
    used = {key: count for key, count in brought.used.items() if key in known}
    opened = {key: moment for key, moment in brought.opened.items() if key in known}
    stolen = [one for one in brought.stolen if answered is None or one.at > answered]
    made_with = limits_digest(app_role)
    same = brought.role == role
    tokens = {one.index: one for one in brought.tokens} if same else {}
    destroy: list[str] = []
    for index, token in sorted(tokens.items()):
        of_index = [item for item in here if index_of(item) == index]
        if token.seal is Seal.USED:
            opener = _opener(of_index, used, opened, _lifetime(limits), now)
            if opener:
                used[opener], opened[opener] = used.get(opener, 0) + 1, now
            else:
                stolen.append(Stolen(index, now, used=True))
        elif token.seal is Seal.UNUSED:
            stolen.append(Stolen(index, now, used=False))
    wanted_indexes = _indexes(group, here)
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
        used=used,
        opened=opened,
        stolen=tuple(stolen[-_MOST_FINDINGS:]),
    )
    changed = bool(make or destroy) or wanted != brought
    seconds = int(app_role.wrapping_seconds)
    action = BringSecretIds(name, mount, seconds, made_with, tuple(make), tuple(destroy), wanted) if changed else None
    due = any(_starts(item) > used.get(str(item["ID"]), 0) for item in here if item.get("ClientStatus") in _LIVE)
    return Bringing(wanted, action, soon=due or any(one.seal is Seal.OPENED for one in keep))


def _opener(
    allocations: Iterable[Json],
    used: Mapping[str, int],
    opened: Mapping[str, datetime],
    lifetime: float,
    now: datetime,
) -> str:
    """The allocation whose agent may have opened one more; "" for none. An agent whose token cannot be renewed any more
    logs in anew without a start."""
    newest_first = sorted(allocations, key=lambda item: int(item.get("CreateIndex") or 0), reverse=True)
    for item in newest_first:
        if _starts(item) > used.get(str(item["ID"]), 0):
            return str(item["ID"])
    for item in newest_first:
        last = opened.get(str(item["ID"]))
        if lifetime and last is not None and item.get("ClientStatus") in _LIVE:
            return str(item["ID"]) if now - last >= timedelta(seconds=lifetime / 2) else ""
    return ""


def _starts(allocation: Json) -> int:
    """How often an allocation's agent was started, or is about to be."""
    states: Mapping[str, Any] = allocation.get("TaskStates") or {}
    if states and AGENT_TASK not in states:
        return 0
    return 1 + int((states.get(AGENT_TASK) or {}).get("Restarts") or 0)


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
    running = {index_of(item) for item in allocations if item.get("ClientStatus") in _LIVE}
    return sorted({index for index in {*range(count_of(group)), *running} if 0 <= index < MOST_INDEXES})
