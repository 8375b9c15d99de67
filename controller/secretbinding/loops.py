"""A loop in a thread of its own tells that it comes round, so that one that hangs is found out."""

import time
from collections.abc import Callable


class Loop:
    """`turned` is for the loop's own thread, the rest for any.

    What counts is that the loop comes round, and not what it brought: a server that is away, or that refuses, is no
    reason to start the process anew. A turn that ended by an error which nobody foresaw does not count.

    Args:
        name: what a health check calls it; no secret, path or address.
        clock: seconds that never go back.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._due: float | None = None
        self.turns = 0  # so often has it begun or come round

    def turned(self, pause_seconds: float = 0.0) -> None:
        """The loop begins, or has come round; it pauses for so long before its next turn."""
        self._due = self._clock() + pause_seconds
        self.turns += 1

    def late_seconds(self) -> float:
        """Since when the next turn should have come to its end, in seconds; 0 before the loop begins."""
        due = self._due
        return max(0.0, self._clock() - due) if due is not None else 0.0
