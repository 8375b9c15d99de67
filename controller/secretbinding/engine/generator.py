"""Has new values made and written, and remembers for a while what did not work."""

import secrets
import string
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import SecretStr

from secretbinding.errors import Conflict, Denied, SecretBindingError, Unavailable, Unreachable
from secretbinding.generation import KV, ROOT, Attempts, GenerateValue, Made, Target, Tried
from secretbinding.kinds.base import Fault
from secretbinding.models.generation import DEFAULT_LENGTH, Generate
from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.ports import Vault

_log = structlog.get_logger(__name__)

_ALPHABET = string.ascii_letters + string.digits
_FIRST_RETRY_SECONDS = 5.0
_LAST_RETRY_SECONDS = 600.0
_AFTER_CONFLICT_SECONDS = 1.0


class Generator:
    """Thread-safe. Forgetting everything loses nothing: what is due is told by Vault's own times."""

    def __init__(self, vault: Vault, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._vault = vault
        self._now = now
        self._lock = threading.Lock()
        self._tried: dict[tuple[BindingKey, str], Tried] = {}
        self._failures: dict[tuple[BindingKey, str], int] = {}
        self._served: dict[Target, datetime] = {}

    def attempts(self) -> Attempts:
        """What is known of attempts, for a decision."""
        with self._lock:
            return Attempts(dict(self._tried), dict(self._served))

    def make(self, action: GenerateValue) -> Made | None:
        """Make one value and write it; None when that did not work, which is remembered and never raised: nothing else
        of a workload waits for it."""
        place = (action.key, action.entry.secret)
        try:
            what = self._write(action)
        except SecretBindingError as error:
            self._note(place, action, error)
            return None
        with self._lock:
            self._tried.pop(place, None)
            self._failures.pop(place, None)
            self._served[action.target] = max(action.due, self._served.get(action.target, action.due))
        why = "on request" if action.requested else "by schedule"
        return Made(
            action.key, action.entry.secret, f"{what}, {why} of {action.due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        )

    def _write(self, action: GenerateValue) -> str:
        """Writes, and says what in words."""
        target, entry = action.target, action.entry
        if target.kind == KV:
            fields = {name: self._value(entry) for name in entry.fields}
            version = self._vault.patch_kv(target.mount, target.name, fields, seen=int(action.seen))
            return f"version {version} of secret {entry.secret} was made ({', '.join(entry.fields)})"
        if target.kind == ROOT:
            self._vault.rotate_root(target.mount, target.name)
            if action.answer is not None:
                self._vault.write_policy(*action.answer)
            return f"the root password of connection {target.name} was made anew"
        role = self._vault.static_role(target.mount, target.name)
        if role is None or role.rotated != action.seen:
            raise Conflict(f"{target} was rotated meanwhile", system="vault")
        self._vault.rotate_static_role(target.mount, target.name)
        return f"the password of {target} was made anew"

    def _value(self, entry: Generate) -> SecretStr:
        if entry.password_policy is not None:
            return self._vault.generate_password(entry.password_policy)
        if entry.secret_id_of is not None:
            return self._vault.new_secret_id(entry.secret_id_of.mount, entry.secret_id_of.role)
        length = entry.length if entry.length is not None else DEFAULT_LENGTH
        return SecretStr("".join(secrets.choice(_ALPHABET) for _ in range(length)))

    def _note(self, place: tuple[BindingKey, str], action: GenerateValue, error: SecretBindingError) -> None:
        now = self._now()
        with self._lock:
            if isinstance(error, Conflict):
                wait = timedelta(seconds=_AFTER_CONFLICT_SECONDS)
                self._tried[place] = Tried(
                    action.entry, action.due, now + wait, why="somebody else wrote; looked at again"
                )
                return
            failures = self._failures.get(place, 0)
            self._failures[place] = failures + 1
            seconds = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** min(failures, 10))
            reason = Reason.PERMISSION_DENIED if isinstance(error, Denied) else Reason.GENERATION_FAILED
            if isinstance(error, Unreachable):
                reason = Reason.VAULT_UNREACHABLE
            elif isinstance(error, Unavailable):
                reason = Reason.GENERATION_FAILED
            fault = Fault(reason, f"no new value of {action.entry.secret}: {error}")
            self._tried[place] = Tried(action.entry, action.due, now + timedelta(seconds=seconds), fault)
        _log.warning(
            "no new value could be made", binding=str(action.key), secret=action.entry.secret, error=str(error)
        )
