"""Has new values made and written, and remembers for a while what did not work."""

import secrets
import string
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import SecretStr

from secretbinding.errors import Conflict, Denied, NotFound, Rejected, SecretBindingError, Unreachable
from secretbinding.generation import ABSENT, KV, ROOT, Attempts, GenerateValue, Made, Target, Tried
from secretbinding.kinds.base import Fault
from secretbinding.models.generation import DEFAULT_LENGTH, Generate, SecretIdOf
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.ports import Vault

_log = structlog.get_logger(__name__)

_ALPHABET = string.ascii_letters + string.digits
_FIRST_RETRY_SECONDS = 5.0
_LAST_RETRY_SECONDS = 600.0
_FIRST_LOOK_SECONDS = 1.0
# So often in a row another one can be the first to write, before somebody is told.
_MOST_CONFLICTS = 5
# What is sure not to have been written; of any other failure that is not known.
_REFUSALS = (Conflict, Denied, NotFound, Rejected)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An attempt that did not work, how many there were in a row, and when there may be another (`time.monotonic`)."""

    entry: Generate
    due: datetime
    count: int
    until: float
    fault: Fault | None
    why: str


class Generator:
    """Thread-safe. Forgetting everything loses nothing: what is due is told by Vault's own times.

    `now` is the wall clock, for what is told; `clock` gives seconds that never go back, by which attempts are kept
    apart.
    """

    def __init__(
        self,
        vault: Vault,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vault = vault
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._attempts: dict[tuple[BindingKey, str], _Attempt] = {}
        self._served: dict[Target, datetime] = {}
        self._answered: dict[Target, datetime] = {}
        self._unmarked: dict[Target, datetime] = {}  # roots that were rotated for a request which no policy tells yet
        self._writing: defaultdict[Target, threading.Lock] = defaultdict(threading.Lock)

    def attempts(self) -> Attempts:
        """What is known of attempts, for a decision: those that are not to be repeated yet."""
        with self._lock:
            now, passed = self._now(), self._clock()
            tried = {
                place: Tried(one.entry, one.due, now + timedelta(seconds=one.until - passed), one.fault, one.why)
                for place, one in self._attempts.items()
                if one.until > passed
            }
            return Attempts(tried, dict(self._served), dict(self._answered))

    def make(self, action: GenerateValue) -> tuple[Made, ...]:
        """Make all that an action is for and write it at once; what was made, by entry. Nothing when that did not work,
        which is remembered for every entry and never raised: nothing else of a workload waits for it."""
        with self._lock:
            writing = self._writing[action.target]
        # Vault compares nothing when a password is rotated: of two who want the same one anew, one does it.
        with writing:
            return self._make(action)

    def _make(self, action: GenerateValue) -> tuple[Made, ...]:
        if action.seen != ABSENT and self._is_served(action):
            return ()
        try:
            if action.target.kind == KV:
                version = self._write_kv(action)
                told = [_version(version, part) for part in action.parts]
            else:
                told = [self._rotate(action)]
        except SecretBindingError as error:
            for part in action.parts:
                self._note((part.key, part.entry.secret), part, error)
            return ()
        with self._lock:
            for part in action.parts:
                self._attempts.pop((part.key, part.entry.secret), None)
                known = self._known(part)
                known[action.target] = max(part.due, known.get(action.target, part.due))
        return tuple(
            Made(part.key, part.entry.secret, f"{what}, {_why(part)}")
            for part, what in zip(action.parts, told, strict=True)
        )

    def _is_served(self, action: GenerateValue) -> bool:
        with self._lock:
            served = [self._known(part).get(action.target) for part in action.parts]
        return all(at is not None and part.due <= at for part, at in zip(action.parts, served, strict=True))

    def _known(self, part: GenerateValue) -> dict[Target, datetime]:
        """For what values were made: requests and ticks are dated by clocks that may differ."""
        return self._answered if part.requested else self._served

    def _rotate(self, action: GenerateValue) -> str:
        """Has Vault make a password anew, and says so in words."""
        target = action.target
        if target.kind == ROOT:
            self._rotate_root(action)
            return f"the root password of connection {target.name} was made anew"
        role = self._vault.static_role(target.mount, target.name)
        if role is None or (role.rotated and role.rotated != action.seen):
            raise Conflict(f"{target} was rotated meanwhile", system="vault")
        self._vault.rotate_static_role(target.mount, target.name)
        return f"the password of {target} was made anew"

    def _rotate_root(self, action: GenerateValue) -> None:
        """Once for a request: what is left of an attempt is to write down that it was done."""
        target = action.target
        with self._lock:
            done = self._unmarked.get(target)
        if done is None or done < action.due:
            self._vault.rotate_root(target.mount, target.name)
        if action.answer is not None:
            with self._lock:
                self._unmarked[target] = max(action.due, done or action.due)
            self._vault.write_policy(*action.answer)
            with self._lock:
                self._unmarked.pop(target, None)

    def _write_kv(self, action: GenerateValue) -> int:
        """The fields of every entry in one version, whose number it gives. A field that two entries want is made once.

        Secret-ids that find no place are destroyed: nobody would know of them, and they would open what they open.
        """
        target = action.target
        fields: dict[str, SecretStr] = {}
        of_roles: list[tuple[str, SecretIdOf]] = []
        for entry in (part.entry for part in action.parts):
            for name in entry.fields:
                if name in fields or any(name == taken for taken, _ in of_roles):
                    continue
                if entry.secret_id_of is not None:
                    of_roles.append((name, entry.secret_id_of))
                else:
                    fields[name] = self._value(entry)
        made: list[tuple[SecretIdOf, str]] = []
        try:
            # Last, so that none is made where another value cannot be.
            for name, of in of_roles:
                found = self._vault.new_secret_id(of.mount, of.role)
                made.append((of, found.accessor))
                fields[name] = found.value
        except SecretBindingError:
            self._drop(made)
            raise
        try:
            return self._vault.patch_kv(target.mount, target.name, fields, seen=int(action.seen))
        except _REFUSALS:
            self._drop(made)
            raise

    def _drop(self, made: list[tuple[SecretIdOf, str]]) -> None:
        for of, accessor in made:
            try:
                self._vault.drop_secret_id(of.mount, of.role, accessor)
            except SecretBindingError as error:
                _log.warning("a secret-id that is not used cannot be destroyed", error=str(error))

    def _value(self, entry: Generate) -> SecretStr:
        if entry.password_policy is not None:
            return self._vault.generate_password(entry.password_policy)
        length = entry.length if entry.length is not None else DEFAULT_LENGTH
        return SecretStr("".join(secrets.choice(_ALPHABET) for _ in range(length)))

    def _note(self, place: tuple[BindingKey, str], action: GenerateValue, error: SecretBindingError) -> None:
        with self._lock:
            before = self._attempts.get(place)
            same = before is not None and (before.entry, before.due) == (action.entry, action.due)
            count = before.count + 1 if before is not None and same else 1
            early = isinstance(error, Conflict) and count < _MOST_CONFLICTS
            first = _FIRST_LOOK_SECONDS if isinstance(error, Conflict) else _FIRST_RETRY_SECONDS
            seconds = min(_LAST_RETRY_SECONDS, first * 2.0 ** min(count - 1, 10))
            what = f"no new value of {action.entry.secret}"
            if self._unmarked.get(action.target) == action.due:
                name = action.target.name
                what = f"the root password of connection {name} was made anew, but its policy cannot say so"
            fault = None if early else Fault(_reason(error), f"{what}: {error}")
            self._attempts[place] = _Attempt(
                action.entry, action.due, count, self._clock() + seconds, fault, "somebody else wrote; looked at again"
            )
        if fault is not None:
            _log.warning(
                "no new value could be made", binding=str(action.key), secret=action.entry.secret, error=str(error)
            )


def _reason(error: SecretBindingError) -> Reason:
    if isinstance(error, Denied):
        return Reason.PERMISSION_DENIED
    return Reason.VAULT_UNREACHABLE if isinstance(error, Unreachable) else Reason.GENERATION_FAILED


def _version(number: int, part: GenerateValue) -> str:
    return f"version {number} of secret {part.entry.secret} was made ({', '.join(part.entry.fields)})"


def _why(action: GenerateValue) -> str:
    if action.requested:
        return f"on request of {action.due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if action.seen == ABSENT:
        return "since it was not there"
    return f"by schedule of {action.due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
