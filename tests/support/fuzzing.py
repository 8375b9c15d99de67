"""How many cases property tests try: a bounded number in `make test`; in `make fuzz` many more, others each time."""

import os

FACTOR = int(os.environ.get("SECRETBINDING_FUZZ", "1"))
"""How many times as many as usual; with 1 the cases are the same on every run."""


def cases(number: int) -> int:
    """The cases to try where `number` are tried usually."""
    return number * FACTOR
