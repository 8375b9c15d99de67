"""Answers that change so seldom that they are asked for once in a while only."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

_UNKNOWN_SECONDS = 30.0

T = TypeVar("T")


class Remembered(Generic[T]):
    """Thread-safe. An answer is remembered for `seconds`, None for half a minute at most; an error is not."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._answers: dict[str, tuple[float, T | None]] = {}
        self._lock = threading.Lock()

    def get(self, key: str, ask: Callable[[str], T | None]) -> T | None:
        """What `ask` says of the key. It is called without a lock, so twice when two threads want it at once."""
        with self._lock:
            until, answer = self._answers.get(key, (0.0, None))
        if time.monotonic() < until:
            return answer
        answer = ask(key)
        seconds = min(self._seconds, _UNKNOWN_SECONDS) if answer is None else self._seconds
        with self._lock:
            self._answers[key] = (time.monotonic() + seconds, answer)
        return answer
