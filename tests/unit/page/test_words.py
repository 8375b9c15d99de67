"""Times and shares, as the page writes them."""

from datetime import timedelta

import pytest

from secretbinding.page.words import exactly, part_of, span, when
from tests.support.page import NOW


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_800, "2 d"),
        (9_000_000, "104 d"),
    ],
)
def test_a_length_is_told_in_one_unit(seconds: int, text: str) -> None:
    assert span(timedelta(seconds=seconds)) == text


def test_a_moment_is_told_from_now_on_and_to_the_second() -> None:
    assert when(NOW - timedelta(hours=3), NOW) == "3 h ago"
    assert when(NOW + timedelta(minutes=5), NOW) == "in 5 min"
    assert when(NOW + timedelta(milliseconds=400), NOW) == "now"
    assert exactly(NOW) == "2027-03-04 12:00:00 UTC"


@pytest.mark.parametrize(
    ("held", "total", "text"),
    [((), 1, "stands by"), ((0,), 1, "leads"), ((3, 0), 8, "shards 0, 3 of 8"), ((), 8, "stands by")],
)
def test_one_of_several_controllers_tells_its_part(held: tuple[int, ...], total: int, text: str) -> None:
    assert part_of(held, total) == text
