"""Wakes the engine when a secret changes: looks at each distinct secret once an interval, and at once when told to."""

import heapq
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import structlog

from secretbinding.engine.store import Store
from secretbinding.errors import SecretBindingError, Unavailable, Unreachable
from secretbinding.models.key import WorkloadKey
from secretbinding.ports import KvMetadata
from secretbinding.status import Pass
from secretbinding.watch.pacing import RateLimit, Tempo
from secretbinding.watch.targets import (
    ABSENT,
    Folder,
    Look,
    Seen,
    WatchedSecret,
    plan_looks,
    secrets_at,
    secrets_of,
    seen_by_engine,
    seen_in_metadata,
    watched,
)

_log = structlog.get_logger(__name__)

FIRST_LOOK_SECONDS = 30.0
"""A secret that is new here is looked at within this time, however long the interval is."""
COALESCE_SECONDS = 0.1
"""What is pushed within this time of the first word makes one look."""
AGAIN_SECONDS = 1.0
"""A pushed look that shows nothing new is repeated once: another server of the cluster may be asked than written to."""
PUSHED_PER_SECOND = 20.0
PUSHED_BURST = 100
RELIST_SECONDS = 3600.0
"""How long a folder that could not be listed is read one by one."""
_LIST_WASTE = 20
"""A list is not worth it when it brings more than this many secrets for each that is watched."""
_REFRESH_SECONDS = 1.0
_STOP_SECONDS = 2.0


class WatchedVault(Protocol):
    """What is asked of Vault; neither needs a right to a value. Both raise `errors.ServiceError` subclasses."""

    def kv_metadata(self, mount: str, path: str) -> KvMetadata | None:
        """As `ports.Vault`."""

    def kv_folder(self, mount: str, path: str) -> Mapping[str, KvMetadata] | None:
        """The metadata of all secrets directly in a folder, by name; None when there is none, or the server cannot."""


class SecretWatcher:
    """One request for each distinct secret, or folder of several, and interval.

    The measure of a change is what the engine itself has seen, pass by pass (`observed`): a change between the engine's
    read and the first look is found, and a start at which nothing has changed costs no second pass.

    Args:
        store: the bindings.
        on_change: gets the workloads that use a secret of which they have not seen the present state.
        interval_seconds: the time between two looks at one secret; they come up to a tenth earlier or later.
        namespace: the Vault namespace that the bindings' mounts are in.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        vault: WatchedVault,
        store: Store,
        on_change: Callable[[set[WorkloadKey]], None],
        *,
        interval_seconds: float,
        namespace: str = "",
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._vault = vault
        self._store = store
        self._on_change = on_change
        self._interval = interval_seconds
        self._prefix = f"{namespace.strip('/')}/" if namespace.strip("/") else ""
        self._clock = clock
        self._rng = rng or random.Random()
        now = clock()
        self._tempo = Tempo(interval_seconds, now, self._rng)
        self._limit = RateLimit(PUSHED_PER_SECOND, PUSHED_BURST, now)
        self._refresh_at = now
        self._next_poll_at = now
        self._answered_at = now
        self._looks: dict[Look, Collection[WatchedSecret]] = {}
        self._due: dict[Look, float] = {}  # on the tempo's clock
        self._heap: list[tuple[float, int, Look]] = []
        self._pushes = 0
        self._unlistable: dict[Folder | str, float] = {}  # a folder or a whole mount, until when
        self._lock = threading.Lock()  # for what follows
        self._users: dict[WatchedSecret, set[WorkloadKey]] = {}
        self._seen: dict[WatchedSecret, Seen] = {}
        self._engine: dict[WatchedSecret, dict[WorkloadKey, Seen]] = {}
        self._unversioned: set[WatchedSecret] = set()
        self._denied: set[WatchedSecret] = set()
        self._pushed: dict[WatchedSecret, tuple[float, bool]] = {}  # when to look, and whether for the second time
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="secret-watch", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a request that is under way is not waited for longer than two seconds."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def observed(self, workload: WorkloadKey, found: Pass) -> None:
        """Take what a pass of the engine has seen of the workload's secrets."""
        named = {
            (entry.item.key, name): secret
            for entry in self._store.of_workload(workload)
            for name, secret in secrets_of(entry).items()
        }
        for reference, state in found.observed.secrets.items():
            secret = named.get(reference)
            if secret is None:
                continue
            seen = seen_by_engine(state)
            with self._lock:
                if state.engine == "v1":
                    self._unversioned.add(secret)
                    continue
                self._unversioned.discard(secret)
                if seen is None:
                    continue
                known = self._engine.setdefault(secret, {})
                first = workload not in known
                known[workload] = seen
                if first and self._seen.get(secret, seen) != seen:
                    # Which of the two is older cannot be told.
                    self._push(secret)

    def pushed(self, path: str) -> None:
        """A request has changed something at `path`, namespace included: look at once if it is a watched secret."""
        if not path.startswith(self._prefix):
            return
        for secret in secrets_at(path[len(self._prefix) :]):
            with self._lock:
                if secret in self._users:
                    self._push(secret)

    def _push(self, secret: WatchedSecret) -> None:
        when = self._clock() + COALESCE_SECONDS
        known = self._pushed.get(secret)
        if known is None or known[0] > when:
            self._pushed[secret] = (when, False)
            self._wake.set()

    def silent_seconds(self) -> float:
        """How long no look at a secret has been answered; 0 while no secret is watched."""
        return self._clock() - self._answered_at if self._looks else 0.0

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The threads that live from `start` to `stop`."""
        return (self._thread,)

    def step(self) -> float:
        """Do the one request that is due, if any; returns how many seconds may pass until the next step."""
        now = self._clock()
        if now >= self._refresh_at:
            self._refresh(now)
        rest = self._refresh_at - now
        if now < self._tempo.not_before:
            return min(rest, self._tempo.not_before - now)
        look = self._next_look()
        if look is not None:
            until = max(self._next_poll_at - now, self._tempo.seconds_until(self._due[look], now))
            if until <= 0:
                self._poll(look, now)
                return 0.0
            rest = min(rest, until)
        secret, until = self._next_pushed(now)
        if secret is not None:
            self._look_again(secret)
            return 0.0
        return max(0.0, min(rest, until))

    def _next_pushed(self, now: float) -> tuple[WatchedSecret | None, float]:
        """The pushed secret that may be looked at now, or how long there will be none."""
        with self._lock:
            if not self._pushed:
                return None, self._interval
            secret = min(self._pushed, key=lambda each: self._pushed[each])
            until = self._pushed[secret][0] - now
            if until > 0:
                return None, until
            if not self._limit.take(now):
                return None, self._limit.seconds_until(now)
            return secret, 0.0

    def _look_again(self, secret: WatchedSecret) -> None:
        with self._lock:
            second = self._pushed.pop(secret)[1]
            before = self._seen.get(secret)
        answered = self._read(secret)
        with self._lock:
            if not answered:
                self._pushed.setdefault(secret, (self._clock(), second))
            elif not second and self._seen.get(secret) == before:
                self._pushed.setdefault(secret, (self._clock() + AGAIN_SECONDS, True))

    def _poll(self, look: Look, now: float) -> None:
        planned = self._tempo.planned(now)
        self._schedule(look, planned + self._interval * self._rng.uniform(0.9, 1.1))
        answered = self._list(look, self._looks[look]) if isinstance(look, Folder) else self._read(look)
        if not answered and look in self._due:
            self._schedule(look, planned)
        done = self._clock()
        # What has piled up is worked off at a bounded rate, and half of the time at most is spent asking.
        spread = min(self._interval, FIRST_LOOK_SECONDS) * self._tempo.factor(done)
        gap = spread / max(1, len(self._due)) / 2
        self._next_poll_at = done + max(gap, done - now)

    def _read(self, secret: WatchedSecret) -> bool:
        """Look at one secret; False when the server is in trouble, so that it is to be tried again."""
        started = self._clock()
        try:
            metadata = self._vault.kv_metadata(secret.mount, secret.path)
        except (Unavailable, Unreachable) as error:
            self._refused(error)
            return False
        except SecretBindingError as error:
            # The engine's own passes report what is wrong with a secret; here it only means: nothing new.
            _log.debug("secret cannot be looked at", mount=secret.mount, error=type(error).__name__)
            with self._lock:
                self._denied.add(secret)
            return True
        self._worked(started)
        self._take({secret: seen_in_metadata(metadata)})
        return True

    def _list(self, folder: Folder, inside: Collection[WatchedSecret]) -> bool:
        """Look at a folder; when it cannot be listed, its secrets are looked at one by one from now on."""
        started = self._clock()
        try:
            found = self._vault.kv_folder(folder.mount, folder.path)
        except (Unavailable, Unreachable) as error:
            self._refused(error)
            return False
        except SecretBindingError as error:
            self._do_not_list(folder, str(error))
            return True
        self._worked(started)
        if found is None:
            with self._lock:
                there = any(
                    seen != ABSENT
                    for secret in inside
                    for seen in (self._seen.get(secret, ABSENT), *self._engine.get(secret, {}).values())
                )
            # A folder of which nothing is left looks like a server without such lists.
            self._do_not_list(folder.mount if there else folder, "the server has no lists with metadata")
            return True
        self._take({secret: seen_in_metadata(found.get(secret.name)) for secret in inside})
        if len(found) > _LIST_WASTE * len(inside):
            self._do_not_list(folder, f"it holds {len(found)} secrets, of which {len(inside)} are watched")
        return True

    def _do_not_list(self, what: Folder | str, why: str) -> None:
        mount = what.mount if isinstance(what, Folder) else what
        _log.info("secrets are looked at one by one, not by folder", mount=mount, why=why)
        self._unlistable[what] = self._clock() + RELIST_SECONDS
        self._refresh_at = self._clock()

    def _listable(self, folder: Folder) -> bool:
        return folder not in self._unlistable and folder.mount not in self._unlistable

    def _refused(self, error: SecretBindingError) -> None:
        now = self._clock()
        self._tempo.refused(now)
        pause = round(self._tempo.not_before - now, 1)
        _log.debug("secrets are looked at less often", error=error.reason, pause_seconds=pause)

    def _worked(self, started: float) -> None:
        now = self._answered_at = self._clock()
        self._tempo.worked(now, now - started)

    def _take(self, found: Mapping[WatchedSecret, Seen]) -> None:
        """Wake the workloads that have not seen what was found."""
        woken: set[WorkloadKey] = set()
        with self._lock:
            for secret, seen in found.items():
                before = self._seen.get(secret, seen)
                self._seen[secret] = seen
                users = self._users.get(secret, set())
                if secret in self._denied:
                    self._denied.discard(secret)
                    woken |= users
                known = self._engine.get(secret, {})
                for workload in users:
                    if known.get(workload, before) != seen:
                        woken.add(workload)
                    if workload in known:
                        # Told once; a pass that fails is the engine's to repeat.
                        known[workload] = seen
        if woken and not self._stopping.is_set():
            self._on_change(woken)

    def _refresh(self, now: float) -> None:
        """Take the bindings as they are now: plan looks for what is new, forget what is gone."""
        self._refresh_at = now + min(_REFRESH_SECONDS, self._interval)
        self._unlistable = {what: until for what, until in self._unlistable.items() if until > now}
        users = watched(self._store.entries())
        with self._lock:
            users = {secret: workloads for secret, workloads in users.items() if secret not in self._unversioned}
            self._users = users
            self._seen = {secret: seen for secret, seen in self._seen.items() if secret in users}
            self._engine = {
                secret: {workload: seen for workload, seen in known.items() if workload in users[secret]}
                for secret, known in self._engine.items()
                if secret in users
            }
            self._denied &= users.keys()
            self._pushed = {secret: when for secret, when in self._pushed.items() if secret in users}
        looks = plan_looks(users, self._listable)
        planned = self._tempo.planned(now)
        known_looks, self._looks = self._looks, looks
        if not known_looks:
            self._answered_at = now
        for look in known_looks.keys() - looks.keys():
            del self._due[look]
        for look, inside in looks.items():
            if look not in known_looks or not set(inside) <= set(known_looks[look]):
                soon = planned + self._rng.uniform(0, min(self._interval, FIRST_LOOK_SECONDS))
                self._schedule(look, min(soon, self._due.get(look, soon)))

    def _schedule(self, look: Look, planned: float) -> None:
        self._due[look] = planned
        self._pushes += 1
        heapq.heappush(self._heap, (planned, self._pushes, look))

    def _next_look(self) -> Look | None:
        while self._heap:
            planned, _, look = self._heap[0]
            if self._due.get(look) == planned:
                return look
            heapq.heappop(self._heap)
        return None

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                seconds = self.step()
            except Exception as error:  # noqa: BLE001 - a surprise must not end the watch; its text may hold anything
                _log.error("look failed", error=type(error).__name__)
                seconds = _REFRESH_SECONDS
            self._wake.wait(seconds)
