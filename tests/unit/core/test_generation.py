"""When a new value is due, in every case; nothing is remembered from one decision to the next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.generation import (
    ABSENT,
    Changed,
    GenerateRequest,
    Generation,
    Target,
    Tried,
    changed_of,
    decide_generation,
    read_request,
    target_of,
    together,
)
from secretbinding.kinds.base import Fault, Pin, SecretState
from secretbinding.models.binding import Generate
from secretbinding.models.reasons import Reason
from secretbinding.ports import KvVersion
from tests.support import builders as make

NIGHTLY = "0 3 * * *"
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
LAST_NIGHT = datetime(2026, 3, 10, 3, 0, tzinfo=UTC)
BEFORE, AFTER = LAST_NIGHT - timedelta(hours=1), LAST_NIGHT + timedelta(seconds=1)
KV = Target("kv", "secret", "myapp")


def wanting(schedule: str | None = NIGHTLY, **fields: Any) -> Generate:
    return Generate(secret="app", fields=("password",), schedule=schedule, **fields)


def decide(changed: datetime | None, *, schedule: str | None = NIGHTLY, **given_: Any) -> Generation:
    seen = Changed(changed, "3") if changed is not None else Changed(None, ABSENT, absent=True)
    return decide_generation(wanting(schedule), KV, seen, **{"now": NOW, **given_})


def asked(at: datetime, *secrets: str) -> GenerateRequest:
    return GenerateRequest(at, secrets)


def test_a_value_older_than_the_schedules_last_tick_is_due_for_that_tick() -> None:
    found = decide(BEFORE)
    assert (found.due, found.now, found.requested) == (LAST_NIGHT, True, False)


def test_a_value_younger_than_the_last_tick_waits_for_the_next_one() -> None:
    found = decide(AFTER)
    assert found.due is None
    assert found.until == LAST_NIGHT + timedelta(days=1)


def test_after_a_month_down_one_value_is_due_and_not_thirty() -> None:
    assert decide(NOW - timedelta(days=30)).due == LAST_NIGHT


def test_a_secret_that_is_not_there_is_made_at_once_with_a_schedule_and_not_without() -> None:
    assert decide(None).now
    assert decide(None, now=None).now
    assert not decide(None, schedule=None).now


def test_one_shot_commands_make_nothing_by_the_clock() -> None:
    assert not decide(BEFORE, now=None).now


def test_a_request_is_answered_by_the_first_change_after_it() -> None:
    request = asked(NOW - timedelta(seconds=5))
    open_ = decide(AFTER, request=request)
    assert (open_.due, open_.requested, open_.open) == (request.at, True, True)
    done = decide(NOW - timedelta(seconds=4), request=request)
    assert (done.due, done.open) == (None, False)


def test_a_request_from_a_clock_that_is_ahead_waits_until_it_has_come() -> None:
    request = asked(NOW + timedelta(seconds=30))
    found = decide(AFTER, request=request)
    assert (found.due, found.open, found.until) == (None, True, request.at)


def test_what_this_process_has_served_is_not_made_again_though_vaults_clock_is_behind() -> None:
    assert decide(BEFORE, served=LAST_NIGHT).due is None
    assert decide(BEFORE, served=LAST_NIGHT - timedelta(days=1)).due == LAST_NIGHT


def test_an_attempt_that_failed_is_repeated_when_its_time_has_come_and_says_why_until_then() -> None:
    fault = Fault(Reason.PERMISSION_DENIED, "no right")
    tried = Tried(wanting(), LAST_NIGHT, NOW + timedelta(seconds=5), fault)
    found = decide(BEFORE, tried=tried)
    assert (found.now, found.fault, found.until) == (False, fault, tried.retry_at)
    other = decide(BEFORE, tried=Tried(wanting(), LAST_NIGHT - timedelta(days=1), tried.retry_at, fault))
    assert other.now


@pytest.mark.parametrize("seconds", [-1, 1])
def test_a_value_waits_for_another_of_its_secret_that_comes_in_a_moment_so_that_neither_passes_for_the_other(
    seconds: int,
) -> None:
    coming = LAST_NIGHT + timedelta(days=1)
    moment = coming - timedelta(seconds=seconds)
    asked_for = decide(AFTER, schedule=None, now=moment, request=asked(moment - timedelta(seconds=5)))
    by_schedule = decide(AFTER, now=moment)
    assert by_schedule.due is None
    found = together(asked_for, [asked_for, by_schedule], moment)
    assert (found.now, found.look_at) == (False, coming + timedelta(seconds=2))
    later = coming + timedelta(seconds=2)
    again = decide(AFTER, schedule=None, now=later, request=asked(moment - timedelta(seconds=5)))
    assert together(again, [again, decide(AFTER, now=later)], later).now


def test_a_value_waits_for_no_other_that_is_far_away_or_of_another_secret() -> None:
    found = decide(BEFORE)
    near = replace(decide(AFTER), until=NOW, look_at=NOW)
    assert together(found, [decide(AFTER)], NOW).now
    assert together(found, [replace(near, target=Target("kv", "secret", "other"))], NOW).now
    assert not together(found, [near], NOW).now
    assert together(found, [near], None).now


@pytest.mark.parametrize(
    ("text", "at", "names"),
    [
        ("2026-03-10T12:00:00Z", NOW, ()),
        ("2026-03-10T12:00:00.000Z app db", NOW, ("app", "db")),
        ("2026-03-10T13:00:00+01:00", NOW, ()),
    ],
)
def test_a_request_is_a_time_and_names(text: str, at: datetime, names: tuple[str, ...]) -> None:
    assert read_request(text) == GenerateRequest(at, names)


@pytest.mark.parametrize("text", ["", "app", "yesterday app", " "])
def test_what_does_not_begin_with_a_time_is_no_request(text: str) -> None:
    assert read_request(text) is None


def test_daylight_saving_makes_one_value_a_night() -> None:
    entry = Generate(secret="app", fields=("password",), schedule="30 2 * * *", time_zone="Europe/Berlin")
    last = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)
    made = 0
    moment = last
    for _ in range(4 * 24 * 4):
        moment += timedelta(minutes=15)
        found = decide_generation(entry, KV, Changed(last, "1"), now=moment)
        if found.now:
            made += 1
            last = moment
    assert made == 4


@given(
    steps=st.lists(st.tuples(st.floats(1, 90000), st.booleans(), st.booleans()), min_size=1, max_size=40),
    requests=st.lists(st.floats(0, 500000), max_size=5),
)
def test_however_often_it_is_looked_at_each_tick_and_each_request_makes_one_value_at_most(
    steps: list[tuple[float, bool, bool]], requests: list[float]
) -> None:
    moment = changed = NOW
    start, made, served = NOW, 0, None
    pending = sorted(NOW + timedelta(seconds=each) for each in requests)
    ticks = 0
    for seconds, restarted, works in steps:
        before, moment = moment, moment + timedelta(seconds=seconds)
        ticks += (moment - LAST_NIGHT) // timedelta(days=1) - (before - LAST_NIGHT) // timedelta(days=1)
        come = [each for each in pending if each <= moment]
        request = asked(come[-1]) if come else None
        served = None if restarted else served
        for _ in range(3):
            found = decide_generation(wanting(), KV, Changed(changed, "1"), now=moment, request=request, served=served)
            if found.now and works:
                made += 1
                changed, served = moment + timedelta(microseconds=1), found.due
        assert made <= ticks + len(come)
    assert moment > start


# --- clocks that differ -----------------------------------------------------------------------------------------------

MONTHLY = "0 3 1 * *"
MADE = datetime(2026, 11, 1, 3, 0, 3, tzinfo=UTC)
TODAY = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
NEXT = datetime(2026, 12, 1, 3, 0, tzinfo=UTC)


def by_clocks(
    vaults: datetime, made: datetime, ahead: timedelta, *, schedule: str = MONTHLY, wrong: float = 0.0, **given_: Any
) -> Generation:
    """What a controller decides of which Vault's clock is `ahead`, measured `wrong` by some seconds. Times are as Vault
    wrote them."""
    measured = ahead + timedelta(seconds=wrong)
    state = SecretState("v2", pinnable=True, current=5, versions={5: KvVersion(5, made.isoformat())})
    changed = changed_of(KV, state, "", measured)
    assert changed is not None
    return decide_generation(wanting(schedule), KV, changed, now=vaults - ahead, vault_ahead=measured, **given_)


@pytest.mark.parametrize("days", [-400, -30, -10, -6, 0, 6, 30, 400])
def test_a_tick_is_due_when_vaults_clock_has_come_to_it_whatever_ours_shows(days: int) -> None:
    ahead = timedelta(days=days)
    early = by_clocks(TODAY, MADE, ahead)
    assert (early.due, early.until, early.look_at) == (None, NEXT, NEXT - ahead + timedelta(seconds=2))
    assert by_clocks(NEXT + timedelta(seconds=2), MADE, ahead).due == NEXT
    assert by_clocks(NEXT + timedelta(days=40), MADE, ahead).due == datetime(2027, 1, 1, 3, 0, tzinfo=UTC)


def test_a_request_dated_by_a_clock_that_is_ahead_takes_no_later_tick_with_it() -> None:
    ahead = -timedelta(days=10)
    at = TODAY - ahead
    request = asked(at - timedelta(seconds=5))
    found = by_clocks(TODAY, MADE, ahead, request=request)
    assert (found.due, found.requested) == (request.at, True)
    made = TODAY + timedelta(seconds=1)
    assert by_clocks(TODAY + timedelta(seconds=2), made, ahead, request=request, answered=request.at).due is None
    assert by_clocks(NEXT + timedelta(seconds=2), made, ahead, request=request, answered=request.at).due == NEXT


def test_a_request_is_newer_than_a_tick_by_one_clock_for_both() -> None:
    ahead = timedelta(days=6)
    request = asked(NEXT + timedelta(hours=1) - ahead)
    found = by_clocks(NEXT + timedelta(hours=2), MADE, ahead, request=request)
    assert (found.due, found.requested) == (request.at, True)


@given(
    steps=st.lists(
        st.tuples(st.floats(1, 90000), st.floats(-4_000_000, 4_000_000), st.booleans(), st.booleans()),
        min_size=1,
        max_size=40,
    )
)
def test_however_our_clock_is_set_each_tick_of_vaults_makes_one_value_at_most_and_none_before_it(
    steps: list[tuple[float, float, bool, bool]],
) -> None:
    vaults, made, served = NOW, NOW, None
    values: list[datetime] = []
    for seconds, off, restarted, works in steps:
        vaults += timedelta(seconds=seconds)
        served = None if restarted else served
        ahead = timedelta(seconds=off)
        for wrong in (0.0, 1.9, -1.9):
            found = by_clocks(vaults, made, ahead, schedule=NIGHTLY, wrong=wrong, served=served)
            if found.now and works:
                assert found.due is not None
                assert made < found.due <= vaults
                made, served = vaults + timedelta(microseconds=1), found.due
                values.append(found.due)
        assert not works or by_clocks(vaults, made, ahead, schedule=NIGHTLY).due is None
    assert len(values) == len(set(values))


# --- what Vault tells -------------------------------------------------------------------------------------------------


def test_what_gets_a_new_value_follows_from_the_secret() -> None:
    entries = make.binding(make.kv(), make.database(staticRole="app"), make.generic()).spec.secrets
    assert target_of(wanting(), entries[0]) == KV
    assert target_of(Generate(secret="db"), entries[1]) == Target("static role", "database", "app")
    with pytest.raises(ValueError, match="cloud"):
        target_of(Generate(secret="cloud"), entries[2])


def test_the_last_change_of_a_kv_secret_is_that_of_its_newest_version() -> None:
    found = changed_of(KV, make.kv_state(3))
    assert found is not None
    assert (found.at, found.seen) == (datetime(2026, 1, 1, 0, 3, tzinfo=UTC), "3")


def test_a_secret_of_which_nothing_could_be_learned_is_left_alone() -> None:
    denied = SecretState(engine="v2", pinnable=True, fault=Fault(Reason.PERMISSION_DENIED, "no right"))
    assert changed_of(KV, denied) is None
    assert changed_of(Target("static role", "database", "app"), SecretState("database")) is None


def test_a_secret_that_is_not_there_is_seen_as_such() -> None:
    missing = SecretState(engine="v2", pinnable=True, fault=Fault(Reason.SECRET_NOT_FOUND, "no secret"))
    assert changed_of(KV, missing) == Changed(None, ABSENT, absent=True)


@pytest.mark.parametrize("state", [make.kv_state(2, deleted=[2]), make.kv_state(2, destroyed=[2]), SecretState("v1")])
def test_a_value_whose_other_fields_cannot_be_kept_is_not_made(state: SecretState) -> None:
    found = changed_of(KV, state)
    assert found is not None
    assert found.fault is not None
    assert found.fault.reason is Reason.GENERATION_FAILED


def test_a_static_roles_last_change_is_its_last_rotation() -> None:
    state = SecretState("database", revision=Pin.revision("2026-01-01T00:00:00.5Z"))
    found = changed_of(Target("static role", "database", "app"), state)
    assert found is not None
    assert found.seen == "2026-01-01T00:00:00.5Z"
