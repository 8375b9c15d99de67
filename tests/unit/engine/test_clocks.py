"""Clocks that jump, and clocks of servers that are off: nothing rolls twice, too early or in a closed window, and
nothing waits for longer than it has to."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from secretbinding.desired.values import BindingResult, Desired, Observed
from secretbinding.engine.gatekeeper import Gatekeeper, Limits
from secretbinding.engine.reconciler import Pace, next_pass_seconds
from secretbinding.gate import Gate, first_seen
from secretbinding.kinds.base import Pin
from secretbinding.models.rotation import Window
from secretbinding.rotation import SecretDecision
from secretbinding.status import Pass
from secretbinding.windows import opening
from tests.support.builders import WORKLOAD, binding, job, key, kv
from tests.support.builders import spec as with_spec
from tests.unit.engine.memory import Process, Servers

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SETTLE = 20.0
LOOKS = 40.0
"""What a change may take to be seen: a poll interval with its jitter, and some passes."""
EVENINGS = {"kind": "Deny", "schedule": "0 18 * * *", "duration": "6h"}
NOON = {"kind": "Allow", "schedule": "30 12 * * *", "duration": "30m"}


class Rolls:
    """When each registration began, in true seconds since the start, and by the controller's clock."""

    def __init__(self, servers: Servers) -> None:
        self.at: list[float] = []
        self.by_our_clock: list[datetime] = []
        self._servers = servers
        servers.writes.before = self._note

    def _note(self, kind: str, name: str) -> None:
        if kind == "registration":
            self.at.append(self._servers.clocks.passed)
            self.by_our_clock.append(self._servers.clocks.now())


def stage(*, secrets: int = 1, **rotation: Any) -> tuple[Servers, Process]:
    """A job that is injected with some secrets, under a binding with these limits, and the controller that did it."""
    servers = Servers()
    servers.nomad.add({**job(), "ID": "j", "Name": "j"})
    servers.nomad.finish()
    for number in range(secrets):
        servers.vault.put(f"s{number}")
    entries = [kv(f"s{number}", path=f"s{number}") for number in range(secrets)]
    servers.bind(binding(*entries, with_spec(rotation=rotation), name="b", job="j"))
    process = Process(servers).start()
    process.run(12.0)
    assert servers.reason("b", "Ready") == "Ready"
    return servers, process


def off(servers: Servers, whose: str, by: timedelta) -> None:
    setattr(servers.clocks, whose, by)


every_clock = pytest.mark.parametrize("whose", ["ours", "vaults", "nomads"])
either_way = pytest.mark.parametrize(
    "by", [HOUR, -HOUR, DAY, -DAY], ids=["1h ahead", "1h behind", "1d ahead", "1d behind"]
)


# --- new values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True], ids=["set while it runs", "set before it starts"])
@pytest.mark.parametrize("by", [HOUR, -HOUR, 6 * DAY, -6 * DAY, 40 * DAY], ids=str)
def test_a_new_value_is_made_at_its_tick_by_vaults_clock_and_once_whatever_ours_shows(
    by: timedelta, restarted: bool
) -> None:
    servers, process = stage(generate=[{"secret": "s0", "schedule": "0 3 * * *", "fields": ["password"]}])
    off(servers, "ours", by)
    if restarted:
        process = Process(servers).start()
    process.run(400.0)
    assert servers.nomad.pins("j") == {1}
    now = servers.clocks.vault_now()
    tick = (now + DAY).replace(hour=3, minute=0, second=0, microsecond=0)
    tick = tick - DAY if tick - DAY > now else tick
    servers.clocks.passed += (tick - now).total_seconds() - 20.0
    process.run(15.0)
    assert servers.writes.done["value"] == 0
    process.run(400.0)
    assert servers.writes.done["value"] == 1
    assert servers.nomad.pins("j") == {2}
    off(servers, "ours", timedelta(0))
    process.run(400.0)
    assert servers.writes.done["value"] == 1


# --- settling ---------------------------------------------------------------------------------------------------------


@every_clock
@either_way
def test_changes_settle_for_just_as_long_whatever_clock_is_off(whose: str, by: timedelta) -> None:
    servers, process = stage(secrets=5, settle=f"{SETTLE:.0f}s")
    off(servers, whose, by)
    process.run(400.0)
    rolls = Rolls(servers)
    began = servers.clocks.passed
    for number in range(5):
        servers.vault.put(f"s{number}")
        process.run(1.0)
    process.run(SETTLE + LOOKS)
    assert servers.nomad.pins("j") == {2}
    assert len(rolls.at) == 1
    assert SETTLE - 1 <= rolls.at[0] - began <= SETTLE + LOOKS


@either_way
def test_a_clock_that_is_set_while_changes_settle_makes_no_difference(by: timedelta) -> None:
    servers, process = stage(secrets=5, settle="60s")
    rolls = Rolls(servers)
    began = servers.clocks.passed
    servers.vault.put("s0")
    process.run(35.0)
    assert servers.reason("b", "RotationHealthy") == "NewVersionHeld"
    off(servers, "ours", by)
    for number in range(1, 5):
        servers.vault.put(f"s{number}")
    process.run(90.0)
    assert servers.nomad.pins("j") == {2}
    assert [60 - 1 <= at - began <= 60 + LOOKS for at in rolls.at] == [True]


@pytest.mark.parametrize("whose", ["ours", "nomads"])
@either_way
def test_what_was_written_long_before_the_start_does_not_settle_again(whose: str, by: timedelta) -> None:
    servers, _ = stage(settle="5m")
    servers.vault.put("s0")
    servers.clocks.passed += 3600.0
    off(servers, whose, by)
    rolls = Rolls(servers)
    began = servers.clocks.passed
    Process(servers).start().run(10.0)
    assert [at - began for at in rolls.at] == [pytest.approx(0.0, abs=2.0)]


def test_a_change_from_the_future_is_known_from_now_on() -> None:
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    change = (key(), "app", Pin(2, "2026-03-02T13:00:00.000000Z"))
    assert first_seen(Gate(now=now), change) == now
    assert first_seen(Gate(now=now, seen={change: now - HOUR}), change) == now - HOUR
    assert first_seen(Gate(now=now, vault_ahead=2 * HOUR), change) == now - HOUR


# --- least interval ---------------------------------------------------------------------------------------------------


@every_clock
@either_way
def test_a_job_is_not_rolled_again_before_its_interval_is_over_nor_much_later(whose: str, by: timedelta) -> None:
    servers, process = stage(settle="0s", minInterval="10m")
    off(servers, whose, by)
    process.run(900.0)
    rolls = Rolls(servers)
    servers.vault.put("s0")
    process.run(LOOKS)
    servers.vault.put("s0")
    process.run(900.0)
    assert len(rolls.at) == 2
    assert 600 - 2 <= rolls.at[1] - rolls.at[0] <= 600 + LOOKS


@either_way
def test_a_clock_that_is_set_within_the_interval_neither_ends_it_nor_makes_it_longer(by: timedelta) -> None:
    servers, process = stage(settle="0s", minInterval="10m")
    process.run(900.0)
    rolls = Rolls(servers)
    servers.vault.put("s0")
    process.run(LOOKS)
    servers.vault.put("s0")
    process.run(LOOKS)
    off(servers, "ours", by)
    process.run(900.0)
    assert len(rolls.at) == 2
    assert 600 - 2 <= rolls.at[1] - rolls.at[0] <= 600 + 2 * 300 * 1.2


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [EVENINGS, NOON], ids=["Deny", "Allow"])
@either_way
def test_a_window_is_open_or_closed_by_our_clock_as_it_is_now(window: dict[str, Any], by: timedelta) -> None:
    servers, process = stage(settle="0s", windows=[window])
    rolls = Rolls(servers)
    windows = (Window.model_validate(window, strict=False),)
    for _ in range(6):
        servers.vault.put("s0")
        off(servers, "ours", by)
        process.run(600.0)
        off(servers, "ours", timedelta(0))
        process.run(600.0)
        servers.clocks.passed += 3600.0
    servers.clocks.passed = 86400.0 + 2000.0
    process.run(400.0)
    assert all(opening(windows, moment).allowed for moment in rolls.by_our_clock)
    assert servers.nomad.pins("j") == {7}


# --- rolls under way --------------------------------------------------------------------------------------------------


@every_clock
@either_way
def test_a_clock_that_is_set_while_a_roll_is_running_registers_nothing(whose: str, by: timedelta) -> None:
    servers, process = stage(settle="0s")
    servers.vault.put("s0")
    process.run(LOOKS, finish=False)
    rolls = Rolls(servers)
    off(servers, whose, by)
    process.run(400.0, finish=False)
    off(servers, whose, timedelta(0))
    process.run(400.0)
    assert rolls.at == []
    assert servers.reason("b", "RotationHealthy") == "UpToDate"


# --- requests ---------------------------------------------------------------------------------------------------------


@every_clock
@either_way
def test_a_request_opens_a_closed_window_whatever_clock_is_off(whose: str, by: timedelta) -> None:
    servers, process = stage(settle="0s", windows=[{"kind": "Deny", "schedule": "* * * * *", "duration": "2m"}])
    off(servers, whose, by)
    process.run(LOOKS)
    servers.vault.put("s0")
    process.run(120.0)
    assert servers.nomad.pins("j") == {1}
    servers.ask("b")
    process.source.deliver(next(iter(servers.items)))
    process.run(5.0)
    assert servers.nomad.pins("j") == {2}


@every_clock
@either_way
def test_a_request_after_a_failure_gets_another_try_whatever_clock_is_off(whose: str, by: timedelta) -> None:
    servers, process = stage(settle="0s")
    off(servers, whose, by)
    process.run(LOOKS)
    servers.vault.put("s0")
    process.run(LOOKS, finish=False)
    servers.nomad.finish(success=False)
    process.run(120.0)
    assert servers.nomad.pins("j") == {1}
    rolls = Rolls(servers)
    process.run(60.0)
    assert rolls.at == []
    servers.ask("b")
    process.source.deliver(next(iter(servers.items)))
    process.run(10.0)
    assert len(rolls.at) == 1
    assert servers.nomad.pins("j") == {2}


# --- leases -----------------------------------------------------------------------------------------------------------


def test_turns_of_leases_are_timed_by_a_clock_that_nobody_sets() -> None:
    wall, passed = [datetime(2026, 3, 2, 12, tzinfo=UTC)], [0.0]
    gates = Gatekeeper(Limits(), lambda: wall[0], clock=lambda: passed[0])
    due = SecretDecision("db", pin=Pin.revision("", "x"), serving=Pin.revision(""), lease_seconds=86400.0)
    desired = Desired(None, {}, {}, {key(): BindingResult(key(), secrets=(due,))})
    assert gates.enter(WORKLOAD, desired)
    wall[0] += DAY
    assert not gates.enter(WORKLOAD, desired)
    passed[0] += 61.0
    wall[0] -= 2 * DAY
    assert gates.enter(WORKLOAD, desired)


def test_a_date_that_has_passed_without_anything_to_do_is_not_waited_for_in_a_loop() -> None:
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    pace = Pace(progress_seconds=5.0)

    def found(until: datetime) -> Pass:
        result = BindingResult(key(), secrets=(SecretDecision("db", until=until),))
        observed = Observed(WORKLOAD, job={"Version": 0}, gate=Gate(now=now))
        return Pass("test", observed, Desired(None, {}, {}, {key(): result}))

    assert next_pass_seconds(found(now - HOUR), failures=0, settings=pace) >= 240.0
    assert next_pass_seconds(found(now + timedelta(seconds=2)), failures=0, settings=pace) == pytest.approx(2.05)


# --- anything ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that happens, `after` seconds after the one before it."""

    after: float
    what: str
    by: timedelta = timedelta(0)

    def do(self, servers: Servers) -> None:
        if self.what == "version":
            servers.vault.put("s0", max_versions=90)
        else:
            off(servers, self.what, self.by)


_jumps = st.builds(
    Deed,
    st.floats(0, 900),
    st.sampled_from(["ours", "ours", "vaults", "nomads"]),
    st.timedeltas(-timedelta(days=2), timedelta(days=2)),
)
_versions = st.builds(Deed, st.floats(0, 900), st.just("version"))
_limits: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"settle": st.sampled_from(["0s", "20s", "2m"])},
    optional={
        "minInterval": st.sampled_from(["1m", "10m"]),
        "windows": st.sampled_from([[EVENINGS], [NOON], [NOON, EVENINGS]]),
    },
)


@given(_limits, st.lists(st.one_of(_jumps, _versions), min_size=2, max_size=8), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_whatever_clocks_do_no_version_rolls_twice_nor_in_a_closed_window_and_the_newest_serves_in_the_end(
    limits: dict[str, Any], deeds: list[Deed], restarted: bool
) -> None:
    servers, process = stage(**limits)
    process.run(700.0)
    rolls = Rolls(servers)
    for deed in deeds:
        process.run(deed.after)
        deed.do(servers)
    if restarted:
        process = Process(servers).start()
    for whose in ("ours", "vaults", "nomads"):
        off(servers, whose, timedelta(0))
    # Until the next noon, and through the window that opens then.
    process.run(400.0)
    servers.clocks.passed = 86400.0 * (servers.clocks.passed // 86400.0 + 1) + 1900.0
    process.run(1100.0)
    versions = [deed for deed in deeds if deed.what == "version"]
    windows = tuple(Window.model_validate(each, strict=False) for each in limits.get("windows", []))
    event(f"{len(rolls.at)} rolls of {len(versions)} versions")
    assert all(opening(windows, moment).allowed for moment in rolls.by_our_clock)
    assert servers.nomad.pins("j") == {len(versions) + 1}
    assert len(rolls.at) <= len(versions)
    pinned = [pins_of(servers, number) for number in range(1, servers.nomad.registrations()["j"] + 1)]
    assert pinned == sorted(set(pinned))
    if "minInterval" in limits:
        least = 60.0 if limits["minInterval"] == "1m" else 600.0
        assert all(later - earlier >= least - 2 for earlier, later in zip(rolls.at, rolls.at[1:], strict=False))


def pins_of(servers: Servers, number: int) -> int:
    """The version of the secret that a version of the job reads."""
    templates: Callable[[Any], Any] = lambda each: each["TaskGroups"][0]["Tasks"][0]["Templates"]  # noqa: E731
    text = str(templates(servers.nomad.jobs["j"].versions[number]))
    return int(text.partition("?version=")[2].partition('"')[0].rstrip("\\"))
