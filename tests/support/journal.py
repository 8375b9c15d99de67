"""The controller's own log, at DEBUG and as JSON, while a block runs: every line of every thread."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from secretbinding import logs


class Journal:
    """What was logged so far."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """The lines, or those of one event."""
        found = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in found if not event or line.get("event") == event]

    def changes(self, **fields: str) -> list[dict[str, Any]]:
        """The trail of changes; only lines with these values."""
        return [line for line in self.lines("change") if fields.items() <= line.items()]


@contextmanager
def journal(level: str = "DEBUG") -> Iterator[Journal]:
    """Log to memory while the block runs; logging is put back afterwards."""
    root = logging.getLogger()
    handlers, old = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure(level, "json", stream)
    try:
        yield Journal(stream)
    finally:
        root.handlers = handlers
        root.setLevel(old)
        structlog.reset_defaults()
