"""What has been measured so far, told as it comes."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.performance.bench.figures import Row


@dataclass
class Found:
    """What was measured: rows of the table, and raw figures that are in no row."""

    rows: list[Row] = field(default_factory=list)
    raw: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, *rows: Row) -> None:
        """Take rows, and tell of them."""
        for row in rows:
            ratio = f", {row.ratio} times the bare client" if row.ratio is not None else ""
            say(f"{row.case}, {row.size}: {row.ours}{ratio} {row.verdict}")
        self.rows += rows

    def note(self, what: str, size: int, **figures: Any) -> None:
        """Take raw figures."""
        self.raw.append({"what": what, "size": size, **figures})


def say(text: str) -> None:
    """To whoever watches the measurement."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)
