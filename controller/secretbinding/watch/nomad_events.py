"""Wakes the engine when a job, a deployment or an allocation of a bound job changes: Nomad's event stream."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from secretbinding.errors import SecretBindingError
from secretbinding.loops import Loop
from secretbinding.models.key import WorkloadKey
from secretbinding.ports import Event, Nomad

_CHANCE = random.Random()

_log = structlog.get_logger(__name__)

COALESCE_SECONDS = 0.2
"""Nomad tells of one registration by several events: those that come within this time make one look."""
TOPICS = ("Job:*", "Deployment:*", "Allocation:*")
_RETRY_SECONDS = 1.0
_RETRY_MAX_SECONDS = 30.0


class Named(Protocol):
    """The workloads that bindings name (`engine.store.Store`)."""

    def namespaces(self) -> set[str]:
        """The Nomad namespaces of all that name a job."""

    def workloads(self, namespace: str | None = None) -> Sequence[WorkloadKey]:
        """All of a namespace."""

    def named(self, namespace: str, job: str) -> set[WorkloadKey]:
        """Those of a job: it is asked with every event."""


class NomadEventWatcher:
    """One stream for each Nomad namespace that bindings name, since a stream's namespaces are fixed when it begins, and
    `*` needs the right in every namespace.

    After each reconnect all workloads of the namespace are looked at: the stream's buffer is short, and an index that
    is too old silently starts at the closest one. `workloads` lists those of a namespace; after `quiet_seconds` without
    a heartbeat the connection gives a stream up.
    """

    def __init__(
        self,
        nomad: Nomad,
        store: Named,
        on_change: Callable[[set[WorkloadKey]], None],
        on_reconnect: Callable[[set[WorkloadKey]], None],
        *,
        namespaces_seconds: float = 1.0,
        quiet_seconds: float = 60.0,
    ) -> None:
        self._nomad = nomad
        self._store = store
        self._on_change = on_change
        self._on_reconnect = on_reconnect
        self._namespaces_seconds = namespaces_seconds
        self._quiet_seconds = quiet_seconds
        self._streams: dict[str, threading.Thread] = {}
        self._loop = Loop("nomad-events")
        self._loops: dict[str, Loop] = {}
        self._named: set[str] = set()
        self._begun: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nomad-events", daemon=True)

    def start(self) -> None:
        """Start listening."""
        self._loop.turned()
        self._thread.start()

    def stop(self) -> None:
        """Stop listening. Streams that wait for their next event end with the connection."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def last_heard(self) -> dict[str, float]:
        """For each namespace, when its stream last brought something, heartbeats included (`time.monotonic()`)."""
        return dict(self._heard)

    def silent_seconds(self) -> float:
        """How long the quietest stream of a namespace that bindings name has brought nothing, not even a heartbeat; 0
        without any."""
        known = {**self._begun, **self._heard}
        heard = [moment for namespace, moment in known.items() if namespace in self._named]
        return time.monotonic() - min(heard) if heard else 0.0

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """The threads that live from `start` to `stop`, and those of the streams."""
        return (self._thread, *list(self._streams.values()))

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What comes round from `start` to `stop`, and one for each stream: a turn of it is whatever it brings, and a
        connection that was given up since it brought nothing."""
        return (self._loop, *list(self._loops.values()))

    def _run(self) -> None:
        while not self._stopping.wait(self._namespaces_seconds):
            self._loop.turned(self._namespaces_seconds)
            self._named = self._store.namespaces()
            for namespace in self._named:
                if namespace not in self._streams:
                    thread = threading.Thread(
                        target=self._listen, args=(namespace,), name=f"nomad-events-{namespace}", daemon=True
                    )
                    self._streams[namespace] = thread
                    self._begun[namespace] = time.monotonic()
                    self._loops[namespace] = loop = Loop(thread.name)
                    loop.turned(self._quiet_seconds)
                    thread.start()

    def _listen(self, namespace: str) -> None:
        failures = 0
        connected_before = False
        while not self._stopping.is_set():
            try:
                for event in self._nomad.events(TOPICS, namespace):
                    if self._stopping.is_set():
                        return
                    self._heard[namespace] = time.monotonic()
                    self._loops[namespace].turned(self._quiet_seconds)
                    if failures or not connected_before:
                        # Whatever happened before the stream began, or while it was cut, brought no event.
                        self._on_reconnect(set(self._store.workloads(namespace)))
                    failures, connected_before = 0, True
                    self._take(namespace, event)
                failures += 1
            except SecretBindingError as error:
                failures += 1
                _log.warning("event stream ended", namespace=namespace, error=str(error))
            pause = min(_RETRY_MAX_SECONDS, _RETRY_SECONDS * 2 ** min(failures - 1, 8))
            self._loops[namespace].turned(pause + self._quiet_seconds)
            self._stopping.wait(pause * _CHANCE.uniform(0.5, 1.0))

    def _take(self, namespace: str, event: Event) -> None:
        job_id = job_of(event)
        if not job_id:
            return
        touched = self._store.named(namespace, job_id)
        if touched:
            self._on_change(touched)


def job_of(event: Event) -> str:
    """The ID of the job that an event is about, the parent's for a child of a periodic or parameterized job; "" for a
    heartbeat and for what is about no job."""
    if event.topic not in ("Job", "Deployment", "Allocation"):
        return ""
    found = event.payload.get(event.topic)
    body = found if isinstance(found, dict) else {}
    return str(body.get("ParentID") or event.key) if event.topic == "Job" else str(body.get("JobID") or "")
