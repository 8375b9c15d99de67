"""The queue of workloads: each at most once, urgent ones first, one worker at a time for each."""

import heapq
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from secretbinding.models.key import WorkloadKey


class Priority(IntEnum):
    """A user's change or a rotation is never behind a resync."""

    CHANGE = 0
    PROGRESS = 1
    RESYNC = 2


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is due and waits for a worker: how many workloads, and for how many seconds the oldest of them."""

    depth: int = 0
    oldest_seconds: float = 0.0


class WorkQueue:
    """Thread-safe. A workload that is added while a worker has it is handed out again when the worker is done.

    `clock` gives seconds that never go back (`time.monotonic`). `on_taken` is told, with the lock held, of each
    workload that is handed out: its priority, and how many seconds after it was due.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_taken: Callable[[Priority, float], None] = lambda priority, seconds: None,
    ) -> None:
        self._clock = clock
        self._on_taken = on_taken
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, int, WorkloadKey]] = []  # due, sequence, priority
        self._ready: list[tuple[int, float, int, WorkloadKey]] = []  # priority, due, sequence
        self._due: dict[WorkloadKey, tuple[float, int]] = {}
        self._working: dict[WorkloadKey, float] = {}  # since when
        self._taken_at = clock()
        self._sequence = 0
        self._closed = False

    def add(self, key: WorkloadKey, priority: Priority = Priority.CHANGE, *, after: float = 0.0) -> None:
        """Hand the workload out in `after` seconds at the latest; an earlier or more urgent date is kept."""
        with self._changed:
            due = self._clock() + after
            known = self._due.get(key)
            if known is not None:
                due, priority = min(due, known[0]), Priority(min(priority, known[1]))
                if (due, priority) == known:
                    return
            self._due[key] = (due, priority)
            self._push(key)
            self._changed.notify()

    def get(self, timeout: float | None = None) -> WorkloadKey | None:
        """The next workload that is due, None when the queue is closed or nothing came within `timeout` seconds."""
        deadline = None if timeout is None else self._clock() + timeout
        with self._changed:
            while not self._closed:
                key, wait = self._next()
                if key is not None:
                    self._taken_at = self._working[key] = self._clock()
                    return key
                if deadline is not None:
                    left = deadline - self._clock()
                    if left <= 0:
                        return None
                    wait = left if wait is None else min(wait, left)
                self._changed.wait(wait)
            return None

    def done(self, key: WorkloadKey) -> None:
        """The worker has finished; if the workload was added meanwhile it can be handed out again."""
        with self._changed:
            self._working.pop(key, None)
            if key in self._due:
                self._push(key)
                self._changed.notify()

    def close(self) -> None:
        """Hand out nothing more, and wake every waiting worker."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def depth(self) -> int:
        """How many workloads are due now and wait for a worker."""
        with self._changed:
            now = self._clock()
            return sum(1 for due, _ in self._due.values() if due <= now)

    def backlog(self) -> Mapping[Priority, Backlog]:
        """What is due, by priority."""
        ages: dict[int, list[float]] = {priority: [] for priority in Priority}
        with self._changed:
            now = self._clock()
            for due, priority in self._due.values():
                if due <= now:
                    ages[priority].append(now - due)
        return {priority: Backlog(len(ages[priority]), max(ages[priority], default=0.0)) for priority in Priority}

    def busy(self) -> tuple[int, float]:
        """How many workers are at a pass, and how many seconds the longest of these has taken until now."""
        with self._changed:
            now = self._clock()
            return len(self._working), max((now - since for since in self._working.values()), default=0.0)

    def working(self) -> frozenset[WorkloadKey]:
        """The workloads that workers are at."""
        with self._changed:
            return frozenset(self._working)

    def stalled_seconds(self) -> float:
        """How long there has been something due without anything being handed out; 0 when nothing is due."""
        with self._changed:
            now = self._clock()
            oldest = min((due for due, _ in self._due.values()), default=now)
            return max(0.0, now - max(oldest, self._taken_at))

    def idle(self, within: float = 0.0) -> bool:
        """True when no worker is busy and nothing is due within so many seconds."""
        with self._changed:
            horizon = self._clock() + within
            return not self._working and all(due > horizon for due, _ in self._due.values())

    def _push(self, key: WorkloadKey) -> None:
        due, priority = self._due[key]
        self._sequence += 1
        if due <= self._clock():
            heapq.heappush(self._ready, (priority, due, self._sequence, key))
        else:
            heapq.heappush(self._waiting, (due, self._sequence, priority, key))

    def _next(self) -> tuple[WorkloadKey | None, float | None]:
        """The most urgent of what is due, or how long to wait. Entries that were overtaken by an earlier date, or whose
        workload is with a worker, are dropped: `done` puts the latter in again."""
        now = self._clock()
        while self._waiting and self._waiting[0][0] <= now:
            due, sequence, priority, key = heapq.heappop(self._waiting)
            if self._due.get(key) == (due, priority):
                heapq.heappush(self._ready, (priority, due, sequence, key))
        while self._ready:
            priority, due, _, key = heapq.heappop(self._ready)
            if self._due.get(key) == (due, priority) and key not in self._working:
                del self._due[key]
                self._on_taken(Priority(priority), now - due)
                return key, None
        return None, (self._waiting[0][0] - now if self._waiting else None)
