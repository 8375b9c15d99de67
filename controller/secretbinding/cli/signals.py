"""SIGTERM and SIGINT as something to wait for."""

import os
import signal
from types import FrameType, TracebackType

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Inside the block, both signals do nothing but end a `wait`. For the main thread only.

    They come through the wake-up file descriptor, which Python's C handler writes to: a handler in Python runs only
    between two instructions, and so a signal that comes just before a blocking call would be noticed after it.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)

    def __enter__(self) -> "Signals":
        self._before = {number: signal.signal(number, _nothing) for number in STOPPING}
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def wait(self) -> int:
        """Blocks until a signal has come, and gives its number; 0 when `wake` was called."""
        while True:
            number = os.read(self._read, 1)[0]
            if number == 0 or number in STOPPING:
                return number

    def wake(self) -> None:
        """End a `wait` without a signal; from any thread."""
        os.write(self._write, b"\0")


def _nothing(number: int, frame: FrameType | None) -> None:
    """The signal was noticed already, by the file descriptor."""
