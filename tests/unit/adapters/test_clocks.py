"""How far a server's clock is ahead of ours, by the dates of its answers."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.adapters.clocks import ServerClock

NOON = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Wall:
    """A clock that stands where it is put."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


def date(moment: datetime) -> str:
    """As RFC 9110 has it, without fractions."""
    return format_datetime(moment, usegmt=True)


def asked(ahead: timedelta, *, took: timedelta = timedelta(0)) -> ServerClock:
    """The clock of a server after one answer, dated halfway."""
    wall = Wall()
    clock = ServerClock(wall)
    wall.at += took
    clock.heard(date(NOON + ahead + took / 2), NOON)
    return clock


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 24 * HOUR, timedelta(seconds=10)])
def test_a_clock_that_is_off_is_known_to_a_second(ahead: timedelta) -> None:
    clock = asked(ahead)
    assert abs(clock.ahead - ahead) <= timedelta(seconds=1)
    assert abs(clock.now() - (NOON + ahead)) <= timedelta(seconds=1)
    assert clock.at_latest() >= NOON + ahead
    assert clock.ours() == NOON


@given(
    st.timedeltas(-timedelta(seconds=1), timedelta(seconds=1)),
    st.timedeltas(timedelta(0), timedelta(seconds=5)),
    st.integers(0, 999_999),
)
def test_clocks_that_agree_need_no_correction(ahead: timedelta, took: timedelta, fraction: int) -> None:
    wall = Wall(NOON + timedelta(microseconds=fraction))
    clock = ServerClock(wall)
    sent = wall.at
    wall.at += took
    clock.heard(date(sent + took / 2 + ahead), sent)
    assert clock.ahead == timedelta(0)


def test_an_answer_that_was_long_in_coming_tells_nothing() -> None:
    assert asked(HOUR, took=timedelta(seconds=6)).ahead == timedelta(0)


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_clock_of_ours_that_is_set_between_question_and_answer_tells_nothing(by: timedelta) -> None:
    wall = Wall()
    clock = ServerClock(wall)
    wall.at += by
    clock.heard(date(NOON), NOON)
    assert clock.ahead == timedelta(0)


def test_the_newest_answer_counts_so_that_setting_our_clock_is_made_up_for() -> None:
    wall = Wall()
    clock = ServerClock(wall)
    clock.heard(date(NOON), NOON)
    wall.at = NOON - 24 * HOUR
    clock.heard(date(NOON + timedelta(seconds=5)), wall.at)
    assert abs(clock.now() - NOON) < timedelta(seconds=10)
    wall.at = NOON + timedelta(seconds=9)
    clock.heard(date(NOON + timedelta(seconds=9)), wall.at)
    assert clock.ahead == timedelta(0)


@pytest.mark.parametrize("text", [None, "", "yesterday", "Mon, 99 Mar 2026 12:00:00 GMT"])
def test_an_answer_without_a_date_tells_nothing(text: str | None) -> None:
    wall = Wall()
    clock = ServerClock(wall)
    clock.heard(date(NOON + HOUR), NOON)
    before = clock.ahead
    clock.heard(text, NOON)
    assert clock.ahead == before
