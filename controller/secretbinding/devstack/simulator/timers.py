"""One thread that calls functions at given times; nothing runs while nothing is due."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable


class Timer:
    """A planned call that can be taken back."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self._call = None

    def fire(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class Timers:
    """Plans calls. They run one after another in the timers' own thread and must not block for long."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="timers", daemon=True)
        self._thread.start()

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Plan a call that many seconds from now."""
        timer = Timer(call)
        with self._changed:
            heapq.heappush(self._heap, (time.monotonic() + max(seconds, 0.0), next(self._order), timer))
            self._changed.notify()
        return timer

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                timer = heapq.heappop(self._heap)[2]
            timer.fire()
