"""How fast a server is asked, on a clock of the test's own."""

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from secretbinding.watch.pacing import SLOW_SECONDS, RateLimit, Tempo


def tempo(interval: float = 30.0) -> Tempo:
    return Tempo(interval, 0.0, random.Random(1))


def test_without_trouble_plans_keep_to_the_clock() -> None:
    made = tempo()
    for second in range(100):
        made.worked(float(second), 0.01)
    assert made.planned(100.0) == 100.0
    assert made.seconds_until(130.0, 100.0) == 30.0


def test_a_refusal_forbids_everything_for_a_while_that_doubles_up_to_a_minute() -> None:
    made = tempo()
    now, pauses = 0.0, []
    for _ in range(12):
        made.refused(now)
        pauses.append(made.not_before - now)
        now = made.not_before
    assert 0.5 <= pauses[0] <= 1.0
    assert all(later > sooner / 2 for sooner, later in pairwise(pauses))
    assert all(30.0 <= pause <= 60.0 for pause in pauses[6:])


def test_an_answer_ends_the_doubling() -> None:
    made = tempo()
    for _ in range(5):
        made.refused(made.not_before)
    made.worked(made.not_before, 0.01)
    before = made.not_before
    made.refused(before)
    assert made.not_before - before <= 1.0


def test_intervals_stretch_under_trouble_at_most_sixteenfold_and_come_back_by_themselves() -> None:
    made = tempo()
    for _ in range(10):
        made.refused(0.0)
    assert made.factor(0.0) == 16.0
    assert [made.factor(seconds) for seconds in (29.0, 31.0, 61.0, 91.0, 121.0)] == [16.0, 8.0, 4.0, 2.0, 1.0]


def test_a_slow_server_is_asked_less_often_without_a_pause() -> None:
    made = tempo()
    made.worked(0.0, SLOW_SECONDS)
    assert made.factor(0.0) == 2.0
    assert made.seconds_until(30.0, 0.0) == 60.0
    assert made.not_before <= 0.0


def test_many_slow_answers_at_once_are_one_sign() -> None:
    made = tempo()
    for number in range(20):
        made.worked(number / 10, SLOW_SECONDS)
    assert made.factor(2.0) == 2.0


def test_an_hours_interval_recovers_within_minutes() -> None:
    made = tempo(3600.0)
    made.refused(0.0)
    assert made.factor(61.0) == 1.0


_TROUBLE = st.lists(st.tuples(st.floats(0.0, 300.0), st.sampled_from(["refused", "slow", "fine"])), max_size=30)


@given(_TROUBLE)
def test_the_slower_clock_never_goes_back_and_never_overtakes(steps: list[tuple[float, str]]) -> None:
    made, now, shown = tempo(), 0.0, 0.0
    for seconds, what in steps:
        now += seconds
        if what == "refused":
            made.refused(now)
        else:
            made.worked(now, SLOW_SECONDS if what == "slow" else 0.0)
        planned = made.planned(now)
        assert shown <= planned <= now + 1e-6
        assert planned - shown >= seconds / 16 - 1e-6
        shown = planned


def test_a_rate_limit_lets_a_burst_through_and_then_the_rate() -> None:
    limit = RateLimit(per_second=10.0, burst=5, now=0.0)
    assert [limit.take(0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert 0.0 < limit.seconds_until(0.0) <= 0.1
    assert sum(limit.take(tenth / 10 + 0.001) for tenth in range(1, 11)) == 10


def test_what_was_not_used_for_long_is_no_more_than_one_burst() -> None:
    limit = RateLimit(per_second=10.0, burst=5, now=0.0)
    assert sum(limit.take(1000.0) for _ in range(100)) == 5
