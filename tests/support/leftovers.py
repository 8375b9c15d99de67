"""Takes away what a test has left on servers that it shares: the next controller would work on it."""

from collections.abc import Callable, Iterator

import pytest
import urllib3

from secretbinding.devstack.api import ApiError

_sweeps: list[Callable[[], None]] = []


def at_end(sweep: Callable[[], None]) -> None:
    """Have `sweep` called when the test is over whose fixtures or body call this. What a fixture of a module or a
    session makes stays. A server that is gone by then keeps nothing, so that its silence is no failure."""
    _sweeps.append(sweep)


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Sets up before a test's own fixtures, and so comes after them at the end, when its controllers have stopped."""
    before = len(_sweeps)
    yield
    mine = _sweeps[before:]
    del _sweeps[before:]
    for sweep in reversed(mine):
        try:
            sweep()
        except (urllib3.exceptions.HTTPError, ApiError):
            continue
