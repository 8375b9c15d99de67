"""Maintenance windows, daylight saving included."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.models.rotation import Window
from secretbinding.windows import opening

BERLIN = ZoneInfo("Europe/Berlin")


def window(kind: str = "Allow", schedule: str = "0 2 * * *", duration: str = "4h", zone: str = "UTC") -> Window:
    return Window.model_validate(
        {"kind": kind, "schedule": schedule, "duration": duration, "timeZone": zone}, strict=False
    )


def at(text: str, zone: ZoneInfo | None = None) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=zone or UTC)


def test_without_windows_everything_is_allowed_at_all_times() -> None:
    found = opening((), at("2026-01-01T12:00"))
    assert found.allowed
    assert found.changes_at is None


@pytest.mark.parametrize(
    ("moment", "allowed", "changes"),
    [
        ("2026-01-01T01:59:59", False, "2026-01-01T02:00"),
        ("2026-01-01T02:00:00", True, "2026-01-01T06:00"),
        ("2026-01-01T05:59:59", True, "2026-01-01T06:00"),
        ("2026-01-01T06:00:00", False, "2026-01-02T02:00"),
    ],
)
def test_an_allow_window_is_open_from_its_first_to_its_last_second(moment: str, allowed: bool, changes: str) -> None:
    found = opening((window(),), at(moment))
    assert found.allowed is allowed
    assert found.changes_at == at(changes)


def test_a_deny_window_wins_over_an_allow_window() -> None:
    both = (window(duration="24h", schedule="0 0 * * *"), window("Deny", "0 12 * * *", "1h"))
    assert opening(both, at("2026-01-01T11:59")).allowed
    assert not opening(both, at("2026-01-01T12:30")).allowed
    assert opening(both, at("2026-01-01T12:30")).changes_at == at("2026-01-01T13:00")


def test_deny_windows_alone_leave_the_rest_allowed() -> None:
    assert opening((window("Deny", "0 12 * * *", "1h"),), at("2026-01-01T11:00")).allowed


def test_one_open_allow_window_of_several_is_enough() -> None:
    two = (window(schedule="0 2 * * *", duration="1h"), window(schedule="0 14 * * *", duration="1h"))
    assert opening(two, at("2026-01-01T14:30")).allowed
    assert not opening(two, at("2026-01-01T08:00")).allowed
    assert opening(two, at("2026-01-01T08:00")).changes_at == at("2026-01-01T14:00")


def test_a_window_opens_by_the_clock_of_its_zone_in_summer_and_in_winter() -> None:
    found = (window(zone="Europe/Berlin", duration="1h"),)
    assert opening(found, at("2026-07-01T02:30", BERLIN)).allowed
    assert opening(found, at("2026-01-01T02:30", BERLIN)).allowed
    assert not opening(found, at("2026-07-01T02:30")).allowed


def test_an_hour_that_the_clock_skips_opens_when_the_clock_has_jumped() -> None:
    # On 29 March 2026 Berlin goes from 02:00 to 03:00, which is 01:00 UTC.
    skipped = (window(schedule="30 2 * * *", duration="1h", zone="Europe/Berlin"),)
    assert opening(skipped, at("2026-03-29T01:15")).allowed
    assert not opening(skipped, at("2026-03-29T00:45")).allowed


def test_an_hour_that_comes_twice_opens_once_and_lasts_its_duration_in_real_time() -> None:
    # On 25 October 2026 Berlin has 02:00 to 03:00 twice: 00:00 to 01:00 UTC and 01:00 to 02:00 UTC.
    twice = (window(schedule="30 2 * * *", duration="1h", zone="Europe/Berlin"),)
    times = [at("2026-10-25T00:00") + timedelta(minutes=minute) for minute in range(180)]
    opened = [moment for moment in times if opening(twice, moment).allowed]
    assert len(opened) == 60
    assert opened == [opened[0] + timedelta(minutes=minute) for minute in range(60)]


def test_windows_longer_than_their_interval_never_close() -> None:
    found = (window(schedule="0 * * * *", duration="2h"),)
    moments = [at("2026-01-01T00:00") + timedelta(minutes=7 * step) for step in range(300)]
    assert all(opening(found, moment).allowed for moment in moments)


@given(
    minutes=st.integers(0, 3 * 365 * 24 * 60),
    kind=st.sampled_from(["Allow", "Deny"]),
    schedule=st.sampled_from(["0 2 * * *", "*/15 9-17 * * 1-5", "30 2 29 2 *", "0 0 1 * *", "30 2 * * 7"]),
    duration=st.sampled_from(["1m", "90m", "24h", "168h"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"]),
)
def test_the_announced_change_is_in_the_future_and_nothing_changes_before_it(
    minutes: int, kind: str, schedule: str, duration: str, zone: str
) -> None:
    found = (window(kind, schedule, duration, zone),)
    now = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    state = opening(found, now)
    assert state.changes_at is not None
    assert state.changes_at > now
    middle = now + (state.changes_at - now) / 2
    assert opening(found, middle).allowed is state.allowed
    assert opening(found, state.changes_at - timedelta(seconds=1)).allowed is state.allowed
