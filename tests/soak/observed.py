"""What happens to the tasks of some jobs, as Nomad's API tells it, from a moment on that counts as the beginning."""

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import urllib3

from secretbinding.devstack.api import Api, ApiError, quoted

_SECONDS = 1_000_000_000
_ENDINGS = ("Killing", "Killed", "Restarting", "Restart Signaled", "Terminated", "Not Restarting", "Driver Failure")


@dataclass(frozen=True, slots=True, order=True)
class TaskEvent:
    """One event of a task: `at` seconds after the beginning (negative before it)."""

    at: float
    allocation: str
    kind: str
    message: str


@dataclass(slots=True)
class JobStory:
    """What happened to a job's tasks.

    Attributes:
        before: allocations that ran at the beginning: ID, and when their task had started.
        after: those that run at the end, in the same shape.
        restarts: restarts of tasks, of all allocations together, since the beginning.
        registrations: job versions that came after the beginning.
        down: spells, in seconds since the beginning, in which fewer allocations ran than at it.
        events: the tasks' events since the beginning, in order.
    """

    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    restarts: int = 0
    registrations: int = 0
    down: list[tuple[float, float]] = field(default_factory=list)
    events: list[TaskEvent] = field(default_factory=list)

    @property
    def untouched(self) -> bool:
        """The same allocations run, their tasks never started anew, and no version of the job came."""
        return bool(self.before) and self.before == self.after and self.restarts == 0 and self.registrations == 0

    @property
    def endings(self) -> list[TaskEvent]:
        """The events by which tasks were killed, restarted or failed."""
        return [event for event in self.events if event.kind in _ENDINGS]

    @property
    def ended_at(self) -> float | None:
        """Seconds until a task was first killed, restarted or failed; None when none was."""
        return min((event.at for event in self.endings), default=None)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "untouched": self.untouched, "ended_at": self.ended_at}


class Observer:
    """Looks at all allocations of the given jobs every `interval_seconds`, in a thread of its own, between `begin` and
    `end`. A time without an answer of Nomad (its agent restarts) is no time without tasks."""

    def __init__(self, api: Api, jobs: Iterable[str], *, interval_seconds: float = 2.0) -> None:
        self._api = api
        self._interval = interval_seconds
        self._stories = {job: JobStory() for job in jobs}
        self._versions: dict[str, int] = {}
        self._events: dict[str, set[TaskEvent]] = {job: set() for job in self._stories}
        self._restarts: dict[str, dict[str, int]] = {job: {} for job in self._stories}
        self._down_since: dict[str, float] = {}
        self._began = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def begin(self) -> None:
        """Take what runs now as the beginning."""
        self._began = time.time()
        for job, story in self._stories.items():
            rows = self._allocations(job)
            story.before = _running(rows)
            self._versions[job] = self._version(job)
            self._restarts[job] = {row["ID"]: _restarts(row) for row in rows}
        self._thread.start()

    def end(self) -> Mapping[str, JobStory]:
        """Stop looking; what was seen, by job."""
        self._stopping.set()
        self._thread.join()
        self._look()
        now = time.time() - self._began
        for job, story in self._stories.items():
            if job in self._down_since:
                story.down.append((round(self._down_since[job], 1), round(now, 1)))
            story.events = sorted(self._events[job])
            story.registrations = self._version(job) - self._versions[job]
        return self._stories

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self._look()
            except (urllib3.exceptions.HTTPError, ApiError):
                continue

    def _look(self) -> None:
        now = time.time() - self._began
        for job, story in self._stories.items():
            rows = self._allocations(job)
            story.after = _running(rows)
            for row in rows:
                before = self._restarts[job].setdefault(row["ID"], 0)
                story.restarts += max(0, _restarts(row) - before)
                self._restarts[job][row["ID"]] = max(before, _restarts(row))
                self._events[job].update(event for event in self._told(row) if event.at >= 0)
            if len(story.after) < len(story.before):
                self._down_since.setdefault(job, now)
            elif job in self._down_since:
                story.down.append((round(self._down_since.pop(job), 1), round(now, 1)))

    def _told(self, row: Mapping[str, Any]) -> Iterable[TaskEvent]:
        for state in (row.get("TaskStates") or {}).values():
            for event in state.get("Events") or []:
                at = event["Time"] / _SECONDS - self._began
                yield TaskEvent(round(at, 1), row["ID"][:8], event["Type"], event.get("DisplayMessage") or "")

    def _allocations(self, job: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._api.get(f"/v1/job/{quoted(job)}/allocations", all="true").expect().json()
        return found

    def _version(self, job: str) -> int:
        return int(self._api.get(f"/v1/job/{quoted(job)}").expect().json()["Version"])


def _running(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Allocations all of whose tasks run: ID, and when the first of them started."""
    found: dict[str, str] = {}
    for row in rows:
        states = list((row.get("TaskStates") or {}).values())
        if row["ClientStatus"] == "running" and states and all(state["State"] == "running" for state in states):
            found[row["ID"]] = min(str(state["StartedAt"]) for state in states)
    return found


def _restarts(row: Mapping[str, Any]) -> int:
    return sum(int(state.get("Restarts") or 0) for state in (row.get("TaskStates") or {}).values())


def clock() -> str:
    """The time of day, for the log of a run."""
    return datetime.now(UTC).strftime("%H:%M:%S")
