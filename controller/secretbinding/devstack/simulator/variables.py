"""Nomad variables: items under a path, check-and-set, locks."""

import re
import threading
from collections.abc import Mapping
from typing import Any

from secretbinding.devstack.simulator.durations import SECOND, format_duration, nanoseconds
from secretbinding.devstack.simulator.state import State, new_id, now_nanos
from secretbinding.devstack.simulator.timers import Timer, Timers

Json = dict[str, Any]

_PATH = re.compile(r"^[a-zA-Z0-9-_~/]{1,128}$")
_MAX_BYTES = 65536
_LOCK_TTL = 15 * SECOND
_LOCK_DELAY = 15 * SECOND
_LOCK_MIN, _LOCK_MAX = 10 * SECOND, 24 * 3600 * SECOND


class VariableError(ValueError):
    """HTTP 400, the text is the body."""


class VariableConflictError(Exception):
    """HTTP 409: somebody else wrote or holds it. `value` is the variable that is there."""

    def __init__(self, value: Json, index: int) -> None:
        super().__init__("conflict")
        self.value = value
        self.index = index


class VariableLockedError(Exception):
    """HTTP 409: somebody else holds its lock; the text is the body where there is one, else nothing is shown of it."""


class NoVariableError(Exception):
    """There is no such variable to hold a lock on; the text is the body."""

    def __init__(self) -> None:
        super().__init__("variable doesn't exist")


def check_path(path: str) -> None:
    """Raises `VariableError`."""
    if not _PATH.match(path):
        raise VariableError(f'invalid path "{path}"')
    parts = path.split("/")
    if parts[0] != "nomad":
        return
    if len(parts) == 1:
        raise VariableError(
            '"nomad" is a reserved top-level directory path, but you may write variables to "nomad/jobs", '
            '"nomad/job-templates", "nomad/sentinel", or below'
        )
    if parts[1] == "job-templates" and len(parts) != 3:
        raise VariableError(
            '"nomad/job-templates" is a reserved directory path, but you may write variables at the level below it, '
            'for example, "nomad/job-templates/template-name"'
        )
    if parts[1] not in ("jobs", "sentinel", "job-templates"):
        raise VariableError(
            'only paths at "nomad/jobs" or "nomad/job-templates" and below are valid paths under the top-level "nomad" '
            "directory"
        )


def metadata(variable: Mapping[str, Any], *, lock: bool) -> Json:
    """What a listing shows: everything but the items; the lock only to management tokens."""
    names = ["CreateIndex", "CreateTime", "ModifyIndex", "ModifyTime", "Namespace", "Path"]
    result = {name: variable[name] for name in names}
    if lock and variable.get("Lock"):
        result["Lock"] = variable["Lock"]
    return result


def full(variable: Mapping[str, Any], *, lock: bool) -> Json:
    """What reading one gives."""
    return {**metadata(variable, lock=lock), "Items": variable["Items"]}


class Variables:
    """All writes of variables; a lock that is not renewed ends by itself."""

    def __init__(self, state: State, timers: Timers) -> None:
        self._state = state
        self._timers = timers
        self._expiry: dict[tuple[str, str], Timer] = {}
        self._delayed: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def put(
        self, namespace: str, path: str, items: Mapping[str, str], *, cas: int | None, lock_id: str = ""
    ) -> tuple[Json, int]:
        """Replace all items. Raises `VariableError`, `VariableConflictError`, `VariableLockedError`."""
        items = self._checked(path, items)
        key = (namespace, path)
        with self._state.lock:
            old = self._state.variables.get(key)
            self._check(old, cas, lock_id)
            with self._state.write("variables") as index:
                new = self._store(key, items, index, old)
            return new, index

    def delete(self, namespace: str, path: str, *, cas: int | None) -> int:
        """Deleting what is not there is success. Raises `VariableConflictError`, `VariableLockedError`."""
        key = (namespace, path)
        with self._state.lock:
            old = self._state.variables.get(key)
            self._check(old, cas, "")
            with self._state.write("variables") as index:
                if old is not None:
                    del self._state.variables[key]
                    self._publish(old, index, deleted=True)
                return index

    def acquire(self, namespace: str, path: str, body: Mapping[str, Any]) -> tuple[Json, int]:
        """Take the lock (or hold it again with its ID). Raises `VariableError`, `VariableLockedError`."""
        items = self._checked(path, body.get("Items") or {})
        wanted = body.get("Lock") or {}
        ttl = nanoseconds(wanted.get("TTL") or 0) or _LOCK_TTL
        delay = nanoseconds(wanted.get("LockDelay") or 0) or _LOCK_DELAY
        if not _LOCK_MIN <= ttl <= _LOCK_MAX:
            raise VariableError(
                "1 error occurred:\n\t* TTL must be between "
                f"{_LOCK_MIN // SECOND} seconds and {_LOCK_MAX // (3600 * SECOND)} hours\n\n"
            )
        key = (namespace, path)
        with self._state.lock:
            old = self._state.variables.get(key)
            held = (old or {}).get("Lock")
            if old is not None and held and held["ID"] != wanted.get("ID"):
                raise VariableLockedError
            if old is not None and self._delayed.get(key, 0) > now_nanos():
                raise VariableLockedError
            with self._state.write("variables") as index:
                new = self._store(key, items or (old or {}).get("Items") or {}, index, old)
                new["Lock"] = {
                    "ID": held["ID"] if held else new_id(),
                    "LockDelay": format_duration(delay),
                    "TTL": format_duration(ttl),
                }
                new["_ttl"], new["_delay"] = ttl, delay
                self._plan(key, ttl)
            return new, index

    def renew(self, namespace: str, path: str, body: Mapping[str, Any]) -> Json:
        """Hold the lock for another TTL. Raises `NoVariableError`, `VariableLockedError`."""
        key = (namespace, path)
        with self._state.lock:
            old = self._state.variables.get(key)
            if old is None:
                raise NoVariableError
            if not old.get("Lock"):
                raise VariableLockedError("variable doesn't hold a lock")
            if old["Lock"]["ID"] != (body.get("Lock") or {}).get("ID"):
                raise VariableLockedError("attempting to modify locked variable")
            self._plan(key, old["_ttl"])
            return old

    def release(self, namespace: str, path: str, body: Mapping[str, Any]) -> tuple[Json, int]:
        """Give the lock back. Raises `VariableError`, `NoVariableError`, `VariableLockedError`."""
        wanted = (body.get("Lock") or {}).get("ID")
        if not wanted:
            raise VariableError("missing lock information")
        key = (namespace, path)
        with self._state.lock:
            old = self._state.variables.get(key)
            if old is None:
                raise NoVariableError
            if not old.get("Lock") or old["Lock"]["ID"] != wanted:
                raise VariableLockedError
            with self._state.write("variables") as index:
                return self._unlock(key, old, index), index

    # -- inside ----------------------------------------------------------------------------------------------------

    def _checked(self, path: str, items: Mapping[str, str]) -> dict[str, str]:
        check_path(path)
        if sum(len(key.encode()) + len(value.encode()) for key, value in items.items()) > _MAX_BYTES:
            raise VariableError("variables are limited to 64KiB in total size")
        return dict(items)

    def _check(self, old: Json | None, cas: int | None, lock_id: str) -> None:
        if cas is not None and cas != (old["ModifyIndex"] if old else 0):
            raise VariableConflictError(old or {}, old["ModifyIndex"] if old else 0)
        if old is not None and old.get("Lock") and old["Lock"]["ID"] != lock_id:
            raise VariableLockedError

    def _store(self, key: tuple[str, str], items: dict[str, str], index: int, old: Json | None) -> Json:
        now = now_nanos()
        new: Json = {
            "CreateIndex": old["CreateIndex"] if old else index,
            "CreateTime": old["CreateTime"] if old else now,
            "Items": items,
            "ModifyIndex": index,
            "ModifyTime": now,
            "Namespace": key[0],
            "Path": key[1],
        }
        if old is not None:
            new |= {name: old[name] for name in ("Lock", "_ttl", "_delay") if name in old}
        self._state.variables[key] = new
        self._publish(new, index)
        return new

    def _publish(self, variable: Mapping[str, Any], index: int, *, deleted: bool = False) -> None:
        payload: Json = {"Metadata": metadata(variable, lock=False)}
        if deleted:
            payload["Deleted"] = True
        self._state.publish(index, "Variable", "VariableUpdated", variable["Path"], variable["Namespace"], payload)

    def _plan(self, key: tuple[str, str], ttl: int) -> None:
        with self._lock:
            planned = self._expiry.pop(key, None)
            if planned is not None:
                planned.cancel()
            self._expiry[key] = self._timers.after(ttl / 1e9, lambda: self._expired(key))

    def _expired(self, key: tuple[str, str]) -> None:
        with self._state.write("variables") as index:
            old = self._state.variables.get(key)
            if old is not None and old.get("Lock"):
                self._delayed[key] = now_nanos() + old["_delay"]
                self._unlock(key, old, index)

    def _unlock(self, key: tuple[str, str], old: Json, index: int) -> Json:
        with self._lock:
            planned = self._expiry.pop(key, None)
            if planned is not None:
                planned.cancel()
        new = {name: value for name, value in old.items() if name not in ("Lock", "_ttl", "_delay")}
        new["ModifyIndex"], new["ModifyTime"] = index, now_nanos()
        self._state.variables[key] = new
        self._publish(new, index)
        return new
