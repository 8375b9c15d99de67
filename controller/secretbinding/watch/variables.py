"""Wakes the engine when a Nomad variable changes that a binding takes values from. Values are not read."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog

from secretbinding.engine.store import Entry, Store
from secretbinding.errors import SecretBindingError
from secretbinding.loops import Loop
from secretbinding.models.key import WorkloadKey
from secretbinding.ports import VariableMeta

_CHANCE = random.Random()

_log = structlog.get_logger(__name__)

LIST_FROM = 3
"""How many variables of a namespace are seen with one list of what their paths begin with, instead of one for each."""
_BACKOFF_MAX = 16.0

Variable = tuple[str, str]
"""Nomad namespace and path."""


class Lists(Protocol):
    """What is asked of Nomad."""

    def list_variables(
        self, namespace: str, prefix: str, *, index: int = 0, wait_seconds: float = 0.0
    ) -> tuple[int, Iterable[VariableMeta]]:
        """As `ports.Nomad.list_variables`."""


class VariableWatcher:
    """Looks at the variables of all bindings every `interval_seconds`, less often while Nomad is in trouble.

    A variable that is seen for the first time wakes its workloads as well: it may have changed since the engine's pass.
    """

    def __init__(
        self,
        nomad: Lists,
        store: Store,
        on_change: Callable[[set[WorkloadKey]], None],
        *,
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nomad = nomad
        self._store = store
        self._users: dict[Variable, set[WorkloadKey]] = {}
        self._store_changes = -1
        self._on_change = on_change
        self._interval_seconds = interval_seconds
        self._seen: dict[Variable, int] = {}
        self._clock = clock
        self._answered_at = clock()
        self._stopping = threading.Event()
        self._loop = Loop("nomad-variables", clock=clock)
        self._thread = threading.Thread(target=self._run, name="nomad-variables", daemon=True)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The thread that lives from `start` to `stop`."""
        return (self._thread,)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What comes round from `start` to `stop`."""
        return (self._loop,)

    def silent_seconds(self) -> float:
        """How long not all of them could be looked at; 0 while there are none."""
        return self._clock() - self._answered_at if self._users else 0.0

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; a look that is under way is finished."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> bool:
        """One look at all of them; False when one of the lists could not be had."""
        if self._store_changes != (changes := self._store.changes):
            known, self._users = self._users, variables_of(self._store.entries())
            self._store_changes = changes
            if not known:
                self._answered_at = self._clock()
        users = self._users
        good = True
        for namespace, prefix, paths in plan_lists(users):
            # Many lists of a server that lets each of them wait are no hanging loop.
            self._loop.turned()
            try:
                _, rows = self._nomad.list_variables(namespace, prefix)
            except SecretBindingError as error:
                good = False
                _log.warning("variables cannot be listed", namespace=namespace, prefix=prefix, error=str(error))
                continue
            found = {row.path: row.modify_index for row in rows}
            for path in paths:
                self._note((namespace, path), found.get(path, 0), users)
        self._seen = {variable: index for variable, index in self._seen.items() if variable in users}
        if good:
            self._answered_at = self._clock()
        return good

    def _note(self, variable: Variable, index: int, users: Mapping[Variable, set[WorkloadKey]]) -> None:
        if self._seen.get(variable) != index:
            self._seen[variable] = index
            self._on_change(set(users[variable]))

    def _run(self) -> None:
        factor = 1.0
        while True:
            pause = self._interval_seconds * factor * _CHANCE.uniform(0.9, 1.1)
            self._loop.turned(pause)
            if self._stopping.wait(pause):
                return
            factor = 1.0 if self.look() else min(factor * 2, _BACKOFF_MAX)


def variables_of(entries: Iterable[Entry]) -> dict[Variable, set[WorkloadKey]]:
    """The variables of all bindings that are to be made true, with the workloads that use each."""
    users: dict[Variable, set[WorkloadKey]] = {}
    for entry in entries:
        binding = entry.item.binding
        if binding is None or entry.item.deleting or binding.spec.suspend:
            continue
        for secret in binding.spec.secrets:
            if (spec := secret.nomad_variable) is not None:
                variable = (spec.namespace or entry.workload.namespace, spec.path)
                users.setdefault(variable, set()).add(entry.workload)
    return users


def plan_lists(variables: Iterable[Variable]) -> list[tuple[str, str, tuple[str, ...]]]:
    """The lists to ask for, each as namespace, prefix, and the paths that it shows."""
    by_namespace: dict[str, list[str]] = {}
    for namespace, path in sorted(variables):
        by_namespace.setdefault(namespace, []).append(path)
    lists: list[tuple[str, str, tuple[str, ...]]] = []
    for namespace, paths in by_namespace.items():
        # Of sorted texts, what the first and the last begin with.
        common = _common_beginning(paths[0], paths[-1])
        if len(paths) >= LIST_FROM and "/" in common:
            lists.append((namespace, common, tuple(paths)))
        else:
            lists.extend((namespace, path, (path,)) for path in paths)
    return lists


def _common_beginning(first: str, second: str) -> str:
    length = next((at for at, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None)
    return first[: min(len(first), len(second)) if length is None else length]
