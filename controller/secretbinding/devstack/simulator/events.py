"""The event stream: a bounded buffer of events, and subscriptions by topic, key and namespace."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Json = dict[str, Any]

BUFFER_SIZE = 100
"""Batches kept, as Nomad's default `event_buffer_size`. An older index silently starts at the oldest one kept."""


class EventBuffer:
    """Batches of events, one for each index."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._batches: deque[tuple[int, list[Json]]] = deque(maxlen=BUFFER_SIZE)
        self._closed = False

    def publish(self, index: int, events: list[Json]) -> None:
        """Append the events of one index, all at once: a subscriber never comes back to an index."""
        with self._changed:
            self._batches.append((index, events))
            self._changed.notify_all()

    def close(self) -> None:
        """End all subscriptions."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def subscribe(
        self,
        topics: Mapping[str, list[str]],
        allowed: Callable[[str, str], bool],
        *,
        index: int,
        heartbeat_seconds: float,
    ) -> Iterator[Json]:
        """Batches `{"Index": n, "Events": [...]}` from `index` on (0: all that are kept), `{}` as heartbeat.

        `allowed` takes topic and namespace. Ends when the buffer is closed.
        """
        with self._changed:
            position = index - 1
        quiet_until = time.monotonic() + heartbeat_seconds
        while True:
            with self._changed:
                if self._closed:
                    return
                fresh = [(number, list(events)) for number, events in self._batches if number > position]
                if not fresh:
                    remaining = quiet_until - time.monotonic()
                    if remaining > 0:
                        self._changed.wait(remaining)
                        continue
            if not fresh:
                quiet_until = time.monotonic() + heartbeat_seconds
                yield {}
                continue
            for number, events in fresh:
                position = number
                wanted = [one for one in events if _matches(topics, one) and allowed(one["Topic"], one["Namespace"])]
                if wanted:
                    quiet_until = time.monotonic() + heartbeat_seconds
                    yield {"Index": number, "Events": wanted}


def _matches(topics: Mapping[str, list[str]], event: Mapping[str, Any]) -> bool:
    for topic in (event["Topic"], "*"):
        keys = topics.get(topic, [])
        if "*" in keys or event["Key"] in keys or not set(event["FilterKeys"] or ()).isdisjoint(keys):
            return True
    return False
