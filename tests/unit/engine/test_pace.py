"""How long until a job is looked at again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from secretbinding.desired.values import BindingResult, Desired, Observed
from secretbinding.engine.reconciler import Pace, next_pass_seconds
from secretbinding.gate import Gate
from secretbinding.generation import KV, Changed, GenerateValue, Generation, Target
from secretbinding.kinds.base import Pin
from secretbinding.models.binding import Generate
from secretbinding.plan import Plan
from secretbinding.rotation import SecretDecision
from secretbinding.status import Pass
from tests.support import builders as make

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PACE = Pace(resync_seconds=300.0)


def after(*seconds: float) -> float:
    """For secrets of which something is to be done in so many seconds."""
    key = make.key()
    decisions = tuple(
        SecretDecision(f"s{number}", pin=Pin(0, "a"), serving=Pin(0, "a"), until=NOW + timedelta(seconds=each))
        for number, each in enumerate(seconds)
    )
    observed = Observed(make.WORKLOAD, job=make.job(), gate=Gate(now=NOW))
    desired = Desired(make.job(), {}, {}, {key: BindingResult(key, secrets=decisions)})
    return next_pass_seconds(Pass(make.INSTANCE, observed, desired, Plan()), failures=0, settings=PACE)


def test_it_is_looked_at_at_the_first_date_on_which_something_is_to_be_done() -> None:
    assert after(20, 50) == pytest.approx(20.05)


def test_a_date_that_has_passed_without_anything_happening_makes_nobody_look_again_and_again() -> None:
    assert after(-5) >= 240
    assert after(-5, 50) == pytest.approx(50.05)


def test_far_dates_and_none_are_left_to_the_resync() -> None:
    assert 240 <= after(1e6) <= 360
    assert 240 <= after() <= 360


def test_where_there_are_many_jobs_each_is_looked_at_less_often_and_where_there_are_few_as_it_is_set() -> None:
    assert PACE.for_jobs(1) == PACE.for_jobs(1500) == PACE
    assert PACE.for_jobs(10_000) == replace(PACE, resync_seconds=2000.0)


# --- new values -------------------------------------------------------------------------------------------------------

ENTRY = Generate(secret="app", fields=("password",))
TARGET = Target(KV, "secret", "myapp")
DUE = Generation(ENTRY, TARGET, Changed(NOW - timedelta(days=1), "1"), due=NOW)
WRITE = GenerateValue(make.key(), ENTRY, TARGET, "1", NOW, requested=True)


def with_value(value: Generation, *actions: GenerateValue, there: bool = True) -> float:
    observed = Observed(make.WORKLOAD, job=make.job() if there else None, gate=Gate(now=NOW))
    desired = Desired(make.job(), {}, {}, {}, generations={(make.key(), "app"): value})
    return next_pass_seconds(Pass(make.INSTANCE, observed, desired, Plan(actions)), failures=0, settings=PACE)


def test_what_was_made_is_looked_at_at_once_so_that_it_is_rolled() -> None:
    assert with_value(DUE, WRITE) < 1


def test_a_value_that_is_due_and_had_to_stand_back_in_a_plan_is_looked_at_soon() -> None:
    assert with_value(DUE) == PACE.progress_seconds


@pytest.mark.parametrize(("there", "most"), [(True, 300.0), (False, PACE.missing_seconds)])
def test_a_job_is_looked_at_when_its_next_value_is_due(there: bool, most: float) -> None:
    soon = replace(DUE, due=None, until=NOW + timedelta(seconds=10), look_at=NOW + timedelta(seconds=12))
    assert with_value(soon, there=there) == pytest.approx(12.05)
    later = replace(DUE, due=None, look_at=NOW + timedelta(days=1))
    assert with_value(later, there=there) <= most * 1.2
