"""What stands on the time line, and where."""

from datetime import timedelta

from secretbinding.models.reasons import Reason
from secretbinding.models.status import FailedState, SecretBindingStatus
from secretbinding.page.timeline import SPANS, Lane, Mark, Window, lane, lanes, rolls_of, spanning
from tests.support.page import NOW, Sample, a_secret, a_status, an_entry, stamp

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
DAY = Window(NOW, SPANS["24h"])
ROLL, DONE = Reason.DEPLOYMENT_RUNNING, Reason.UP_TO_DATE


def drawn(sample: Sample, window: Window = DAY) -> Lane:
    """The line of the only binding."""
    return lane(next(iter(sample.entries.values())), sample.journal.events(), window)


def marks(found: Lane) -> list[Mark]:
    return [one.mark for one in found.drawn]


def test_now_is_at_four_fifths_and_what_is_past_before_it() -> None:
    assert (DAY.now_x, DAY.x(NOW - 24 * HOUR), DAY.x(NOW + 6 * HOUR)) == (80.0, 0.0, 100.0)
    assert [tick.label for tick in DAY.ticks()] == ["18:00", "00:00", "06:00", "12:00"]
    for past in SPANS.values():
        assert 2 <= len(Window(NOW, past).ticks()) <= 6


def test_a_roll_is_drawn_from_its_beginning_to_its_end() -> None:
    sample = Sample([an_entry("app", a_status())])
    sample.happened("app", 5 * HOUR, ROLL)
    sample.happened("app", 2 * HOUR, DONE)
    (bar,) = drawn(sample).drawn
    assert (bar.mark, bar.x, bar.width) == (Mark.DONE, DAY.x(NOW - 5 * HOUR), 10.0)
    assert bar.told == "the roll of app 1 came through after 10800 s"


def test_one_that_is_under_way_reaches_until_now_and_one_that_failed_says_so() -> None:
    sample = Sample([an_entry("app")])
    sample.happened("app", 9 * HOUR, ROLL)
    sample.happened("app", 8 * HOUR, Reason.DEPLOYMENT_FAILED, warning=True)
    sample.happened("app", 7 * HOUR, Reason.DEPLOYMENT_REVERTED, warning=True)
    sample.happened("app", 1 * HOUR, ROLL)
    failed, running = drawn(sample).drawn
    assert (failed.mark, running.mark) == (Mark.FAILED, Mark.RUNNING)
    assert running.x + running.width == DAY.now_x


def test_what_is_told_while_it_rolls_does_not_end_a_roll() -> None:
    sample = Sample([an_entry("app")])
    sample.happened("app", 3 * HOUR, ROLL)
    sample.happened("app", 2 * HOUR, Reason.NOMAD_UNREACHABLE, warning=True)
    sample.happened("app", 1 * HOUR, Reason.WAITING_FOR_PROMOTION)
    sample.happened("app", MINUTE, DONE)
    (roll,) = rolls_of(sample.journal.events())
    assert (roll.start, roll.end, roll.mark) == (NOW - 3 * HOUR, NOW - MINUTE, Mark.DONE)


def test_what_the_status_remembers_stands_there_after_a_new_start() -> None:
    failed = FailedState(state="x", secret_versions={"app": "3"}, job_version=4, at=stamp(4 * HOUR))
    secrets = a_secret("app", "2", made=10 * HOUR, until=3 * HOUR)
    status = a_status(rotated=9 * HOUR, failed=failed).model_copy(update={"secrets": (secrets,)})
    found = drawn(Sample([an_entry("app", status)]))
    assert marks(found) == [Mark.MADE, Mark.DONE, Mark.FAILED, Mark.EXPECTED]
    assert (found.latest, found.next) == (NOW - 4 * HOUR, NOW + 3 * HOUR)
    assert "app 2 was made" in found.text


def test_what_both_events_and_status_tell_of_is_drawn_once() -> None:
    sample = Sample([an_entry("app", a_status(rotated=2 * HOUR))])
    sample.happened("app", 2 * HOUR + MINUTE, ROLL)
    sample.happened("app", 2 * HOUR, DONE)
    assert marks(drawn(sample)) == [Mark.DONE]


def test_a_roll_that_began_before_the_window_is_cut() -> None:
    sample = Sample([an_entry("app")])
    sample.happened("app", 30 * HOUR, ROLL)
    sample.happened("app", 20 * HOUR, DONE)
    (bar,) = drawn(sample).drawn
    assert (bar.x, bar.width) == (0.0, DAY.x(NOW - 20 * HOUR))
    assert not drawn(sample, Window(NOW, SPANS["1h"])).drawn


def test_lines_are_sorted_by_what_was_latest_and_then_by_what_comes_next() -> None:
    coming = {name: an_entry(name, _expecting(hours * HOUR)) for name, hours in (("late", 5), ("soon", 1))}
    sample = Sample([an_entry("old", a_status(rotated=9 * HOUR)), an_entry("new", a_status(rotated=HOUR))])
    entries = [*sample.entries.values(), *coming.values(), an_entry("never", a_status())]
    assert [one.key.name for one in lanes(entries, (), DAY)] == ["new", "old", "soon", "late"]


def test_of_one_binding_the_shortest_time_is_shown_that_holds_something() -> None:
    assert spanning(an_entry("app", a_status(rotated=3 * HOUR)), (), NOW) == "6h"
    assert spanning(an_entry("app", a_status(rotated=timedelta(days=60))), (), NOW) == "24h"


def _expecting(time: timedelta) -> SecretBindingStatus:
    return a_status().model_copy(update={"secrets": (a_secret("app", until=time),)})
