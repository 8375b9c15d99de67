"""Credentials that end are replaced ahead of their end, and what has no versions rolls when the server tells."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretbinding.desired.gating import gated, is_rotation, lease_turn_at
from secretbinding.desired.values import BindingInput, BindingResult, Desired, Observed
from secretbinding.engine.gatekeeper import Gatekeeper, Limits
from secretbinding.gate import Gate
from secretbinding.kinds.base import Fault, Pin, SecretState
from secretbinding.leadership import shard_of
from secretbinding.models.key import WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.models.status import SecretBindingStatus
from secretbinding.plan import RegisterJob
from secretbinding.rotation import (
    FIRST,
    Lease,
    SecretDecision,
    Turn,
    decide_version,
    lease_of,
    nanoseconds_to_time,
    spacing_seconds,
)
from secretbinding.status import Pass, compute_status
from tests.support import builders as make
from tests.support.builders import INSTANCE, WORKLOAD
from tests.unit.core.world import World

HOUR = 3600.0
NOW = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
FIELDS = {0: {"username": None, "password": None}}


def leased(seconds: float = HOUR, **changes: Any) -> SecretState:
    return SecretState("database", fields=FIELDS, lease_seconds=seconds, **changes)


def static(rotated: str, **changes: Any) -> SecretState:
    return SecretState("database", fields=FIELDS, revision=Pin(0, rotated), invalidates=True, **changes)


def issued(issuer: str, seconds: float = HOUR) -> SecretState:
    return SecretState("pki", revision=Pin(0, issuer), lease_seconds=seconds)


def a_lease(*, due: float, late: float = 1.0) -> Lease:
    """A lease of which so many hours are left until it is due."""
    moment = NOW + timedelta(hours=due)
    end = moment + timedelta(hours=4 * late)
    return Lease(HOUR, moment, moment + timedelta(hours=late), moment + timedelta(hours=2 * late), end)


def decide(state: SecretState, serving: Pin | None, *, strategy: str = "Rolling", **turn: Any) -> SecretDecision:
    entry = make.binding(make.database()).spec.secrets[0]
    return decide_version(entry, state, serving, strategy=strategy, turn=Turn(**{"now": NOW, **turn}))


# --- one secret -------------------------------------------------------------------------------------------------------


def test_a_lease_is_first_injected_without_a_revision_and_stays_so_until_it_is_due() -> None:
    assert decide(leased(), None).pin == FIRST
    item = decide(leased(), FIRST, lease=a_lease(due=0.5))
    assert (item.pin, item.until) == (FIRST, NOW + timedelta(hours=0.5))
    assert not is_rotation(item)


def test_a_lease_that_is_due_rolls_once_for_its_moment() -> None:
    item = decide(leased(), FIRST, lease=a_lease(due=-0.1))
    assert item.pin == Pin.revision("", "2027-01-15T07:54:00Z")
    assert is_rotation(item)
    assert (item.urgent, item.lease_seconds) == (False, HOUR)
    assert not is_rotation(decide(leased(), item.pin, lease=a_lease(due=-0.1)))


@pytest.mark.parametrize(("ago", "told"), [(0.5, (False, False)), (1.5, (True, False)), (2.5, (True, True))])
def test_a_lease_that_is_late_is_urgent_and_near_its_end_overdue(ago: float, told: tuple[bool, bool]) -> None:
    item = decide(leased(), FIRST, lease=a_lease(due=-ago, late=1))
    assert (item.urgent, item.overdue) == told


def test_a_lease_that_has_ended_presses_no_more_since_nomad_has_brought_another() -> None:
    item = decide(leased(), FIRST, lease=a_lease(due=-4.01))
    assert is_rotation(item)
    assert (item.urgent, item.overdue, item.ending, item.presses_at) == (False, False, False, None)


@pytest.mark.parametrize(("ago", "ending"), [(3.9, False), (3.98, True), (4.0, False)])
def test_of_a_lease_in_its_last_hundredths_all_tasks_may_be_stopped(ago: float, ending: bool) -> None:
    assert decide(leased(), FIRST, lease=a_lease(due=-ago)).ending is ending


@pytest.mark.parametrize(("ago", "next_hours"), [(0.5, 0.5), (1.5, 0.5), (2.5, 1.47)])
def test_a_lease_that_is_due_tells_when_it_will_wait_for_less(ago: float, next_hours: float) -> None:
    presses_at = decide(leased(), FIRST, lease=a_lease(due=-ago)).presses_at
    assert presses_at == NOW + timedelta(hours=next_hours)


def test_a_turn_that_was_dated_ahead_keeps_no_later_one_away() -> None:
    ahead = Pin.revision("", (NOW + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert not is_rotation(decide(leased(), ahead, lease=a_lease(due=0.5)))
    item = decide(leased(), ahead, lease=a_lease(due=-0.1))
    assert is_rotation(item)
    assert not is_rotation(decide(leased(), item.pin, lease=a_lease(due=-0.1)))
    near = Pin.revision("", (NOW + timedelta(seconds=20)).strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert not is_rotation(decide(leased(), near, lease=a_lease(due=-0.1)))


def test_who_asks_gets_new_leases_now() -> None:
    item = decide(leased(), FIRST, lease=a_lease(due=0.5), requested_at=NOW)
    assert item.pin == Pin.revision("", "2027-01-15T08:00:00Z")


@pytest.mark.parametrize("strategy", ["Native", "Manual"])
def test_only_the_rolling_strategy_replaces_leases_by_itself(strategy: str) -> None:
    item = decide(leased(), FIRST, strategy=strategy, lease=a_lease(due=-0.1))
    assert not is_rotation(item)
    if strategy == "Manual":
        assert item.hold is not None
        assert item.hold.reason is Reason.MANUAL_ROTATION_PENDING
        assert is_rotation(decide(leased(), FIRST, strategy=strategy, requested_at=NOW))


def test_one_shot_commands_roll_nothing_by_the_clock() -> None:
    assert not is_rotation(decide(leased(), FIRST, now=None, lease=a_lease(due=-0.1)))


def test_a_static_role_rolls_when_its_password_was_rotated_and_is_urgent_since_the_old_one_is_dead() -> None:
    before, after = "2027-01-14T08:00:00Z", "2027-01-15T07:59:59.123456Z"
    assert decide(static(before), None).pin == Pin(0, before)
    assert not is_rotation(decide(static(before), Pin(0, before)))
    item = decide(static(after), Pin(0, before))
    assert is_rotation(item)
    assert item.urgent
    assert item.overdue
    assert item.lease_seconds == 0


def test_the_next_rotation_that_vault_makes_by_itself_is_known() -> None:
    soon = NOW + timedelta(hours=1)
    assert decide(static("a", next_change=soon), Pin(0, "a")).until == soon


def test_a_certificate_rolls_for_another_issuer_and_ahead_of_its_end() -> None:
    first = decide(issued("one"), None).pin
    assert first == Pin(0, "one")
    renewed = decide(issued("one"), first, lease=a_lease(due=-0.1))
    assert renewed.pin == Pin.revision("one", "2027-01-15T07:54:00Z")
    assert renewed.lease_seconds == HOUR
    other = decide(issued("two"), renewed.pin, lease=a_lease(due=0.5))
    assert other.pin == Pin.revision("two", "2027-01-15T07:54:00Z")
    assert not other.urgent
    assert other.lease_seconds == 0


@pytest.mark.parametrize("serving", [None, FIRST])
def test_a_field_that_the_kind_does_not_have_is_refused_before_anything_is_rolled(serving: Pin | None) -> None:
    entry = make.binding(make.database(env={"DB_PORT": "port"})).spec.secrets[0]
    found = decide_version(entry, leased(), serving, strategy="Rolling")
    assert found.fault is not None
    assert found.fault.reason is Reason.SECRET_FIELD_MISSING
    assert "password, username" in found.fault.message


def test_a_role_that_is_gone_leaves_what_runs_and_starts_nothing_anew() -> None:
    gone = SecretState("database", fault=Fault(Reason.SECRET_NOT_FOUND, "no role"))
    held = decide(gone, FIRST)
    assert held.hold is not None
    assert held.unreadable
    assert decide(gone, None).fault is not None


# --- when it is due ---------------------------------------------------------------------------------------------------


def allocations(*ages: float, status: str = "running", group: str = "web") -> list[dict[str, Any]]:
    """Allocations of so many hours of age."""
    moments = [int((NOW - timedelta(hours=age)).timestamp()) * 1_000_000_000 for age in ages]
    return [{"TaskGroup": group, "ClientStatus": status, "CreateTime": moment} for moment in moments]


def test_the_oldest_allocation_that_may_run_tells() -> None:
    rows = [*allocations(1, 5), *allocations(9, status="complete"), *allocations(9, group="other")]
    found = lease_of(rows, {"web"}, 24 * HOUR, WORKLOAD, 0.8)
    assert found is not None
    start = NOW - timedelta(hours=5)
    assert start + timedelta(hours=24 * 0.6) <= found.due <= start + timedelta(hours=24 * 0.8)
    assert start + timedelta(hours=24 * 0.85) <= found.late <= start + timedelta(hours=24 * 0.93)
    assert start + timedelta(hours=24 * 0.95) <= found.last <= start + timedelta(hours=24 * 0.98)


def test_an_allocation_that_is_dated_ahead_is_as_old_as_it_has_been_known() -> None:
    (row,) = allocations(-24)
    row["ID"] = "a1"
    seen = NOW - timedelta(hours=2)
    found = lease_of([row], {"web"}, HOUR, WORKLOAD, 0.8, now=NOW, seen={"a1": seen})
    assert found == lease_of(allocations(2), {"web"}, HOUR, WORKLOAD, 0.8)
    unknown = lease_of([row], {"web"}, HOUR, WORKLOAD, 0.8, now=NOW)
    assert unknown == lease_of(allocations(0), {"web"}, HOUR, WORKLOAD, 0.8)


def test_an_allocation_that_a_server_dates_some_seconds_ahead_is_believed() -> None:
    rows = [{**row, "ID": "a1"} for row in allocations(-0.01)]
    found = lease_of(rows, {"web"}, HOUR, WORKLOAD, 0.8, now=NOW, seen={"a1": NOW})
    assert found == lease_of(rows, {"web"}, HOUR, WORKLOAD, 0.8)


def test_leases_of_allocations_that_a_clock_has_dated_ahead_before_it_was_set_back_are_due_in_time() -> None:
    passed = [0.0]
    ahead = [timedelta(days=1)]
    gates = Gatekeeper(
        Limits(),
        now=lambda: NOW + timedelta(seconds=passed[0]),
        clock=lambda: passed[0],
        nomad_ahead=lambda: ahead[0],
    )
    rows = [{**row, "ID": "a1"} for row in allocations(-24)]
    observed = Observed(WORKLOAD, allocations=rows, secrets={(make.key(), "database"): leased(HOUR)})
    gates.note(WORKLOAD, Pass(INSTANCE, observed, Desired(None, {}, {}, {})))
    ahead[0] = timedelta(0)
    passed[0] = 0.9 * HOUR
    gates.note(WORKLOAD, Pass(INSTANCE, observed, Desired(None, {}, {}, {})))
    gate = gates.gate(WORKLOAD)
    assert gate.allocations_seen == {"a1": NOW}
    found = lease_of(rows, {"web"}, HOUR, WORKLOAD, 0.8, now=gate.now, seen=gate.allocations_seen)
    assert found == lease_of(allocations(0), {"web"}, HOUR, WORKLOAD, 0.8)
    gates.forget(WORKLOAD)
    assert gates.gate(WORKLOAD).allocations_seen == {}


def test_an_allocation_that_was_replaced_and_whose_client_is_away_tells_nothing() -> None:
    away = [{**row, "DesiredStatus": "stop"} for row in allocations(20, status="unknown")]
    found, alone = (lease_of(rows, {"web"}, 24 * HOUR, WORKLOAD, 0.8) for rows in ([*away, *allocations(5)], away))
    assert found == lease_of(allocations(5), {"web"}, 24 * HOUR, WORKLOAD, 0.8)
    assert alone is None


@pytest.mark.parametrize(
    ("rows", "seconds"), [([], HOUR), (allocations(1), 0.0), (allocations(1, status="failed"), HOUR)]
)
def test_without_a_running_allocation_or_an_end_nothing_is_due(rows: list[dict[str, Any]], seconds: float) -> None:
    assert lease_of(rows, {"web"}, seconds, WORKLOAD, 0.8) is None


@given(
    name=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30),
    seconds=st.floats(60, 1e7),
    share=st.floats(0.1, 0.9),
)
def test_every_job_has_its_own_moment_which_is_always_the_same_and_before_the_end(
    name: str, seconds: float, share: float
) -> None:
    key = WorkloadKey("default", "", "default", name)
    found = lease_of(allocations(0), {"web"}, seconds, key, share)
    assert found is not None
    assert found == lease_of(allocations(0), {"web"}, seconds, key, share)
    assert NOW <= found.due < found.late < found.last < NOW + timedelta(seconds=seconds)


# --- a hundred jobs ---------------------------------------------------------------------------------------------------


class Fleet:
    """Jobs that were started together, each with one dynamic role, and the limits that they share."""

    def __init__(
        self, jobs: int, lease_seconds: float, *, held: Sequence[frozenset[int]] = (frozenset({0}),), **rotation: Any
    ) -> None:
        """`held` are the shards that each of several controllers has: each has a clock of its own, a second apart."""
        self.moment = NOW
        self.rotation = rotation
        self.seconds = lease_seconds
        self.shards = sum(map(len, held))
        self.keys = [WorkloadKey("default", "", "default", f"job-{number}") for number in range(jobs)]
        self.rolled: dict[WorkloadKey, datetime] = {}
        gates = [(shards, self._controller(number, shards)) for number, shards in enumerate(held)]
        homes = {shard: gate for shards, gate in gates for shard in shards}
        self.gates = {key: homes[shard_of(key, self.shards)] for key in self.keys}
        for key in self.keys:
            self._note(key)

    def _controller(self, number: int, shards: frozenset[int]) -> Gatekeeper:
        ahead = timedelta(seconds=number)
        return Gatekeeper(
            Limits(rolls=0),
            now=lambda: self.moment - ahead,
            clock=lambda: self.moment.timestamp(),
            nomad_ahead=lambda: ahead,
            shards=lambda: (shards, self.shards),
        )

    def _note(self, key: WorkloadKey) -> None:
        item = make.key()
        observed = Observed(key, secrets={(item, "db"): leased(self.seconds)})
        self.gates[key].note(key, Pass(INSTANCE, observed, Desired(None, {}, {}, {})))

    def run(self, *, step: timedelta, since: float = 0.0) -> None:
        """Time passes until every job has been rolled once; nobody looks before that part of the leases is over."""
        item = make.key()
        made = make.binding(make.database(), lambda given: given["spec"].update(rotation=self.rotation))
        end = self.moment + timedelta(seconds=self.seconds)
        self.moment += timedelta(seconds=self.seconds * since)
        leases = {key: lease_of(allocations(0), {"web"}, self.seconds, key, 0.8) for key in self.keys}
        while self.moment < end and len(self.rolled) < len(self.keys):
            self.moment += step
            for key in self.keys:
                lease = leases[key]
                if key in self.rolled or lease is None or self.moment < lease.due:
                    continue
                turn = Turn(self.moment, None, lease)
                entry = made.spec.secrets[0]
                decision = decide_version(entry, leased(self.seconds), FIRST, strategy="Rolling", turn=turn)
                found = gated({item: (decision,)}, {item: made}, frozenset(), {}, self.gates[key].gate(key), None)
                desired = Desired(None, {}, {}, {item: BindingResult(item, secrets=found[item])})
                if is_rotation(found[item][0]) and self.gates[key].enter(key, desired):
                    self.rolled[key] = self.moment


def test_of_a_hundred_jobs_that_were_started_together_no_two_roll_in_the_same_minute() -> None:
    fleet = Fleet(100, 24 * HOUR)
    fleet.run(step=timedelta(seconds=30))
    moments = sorted(fleet.rolled.values())
    assert len(moments) == 100
    assert min(later - earlier for earlier, later in pairwise(moments)) >= timedelta(minutes=1)
    assert moments[-1] < NOW + timedelta(hours=24 * 0.9)
    assert moments[0] >= NOW + timedelta(hours=24 * 0.6)


EVEN, UNEVEN = (frozenset({0, 3}), frozenset({1, 2})), (frozenset({0}), frozenset({1, 2, 3, 4, 5, 6}))


@pytest.mark.parametrize("held", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_no_two_jobs_roll_in_the_same_minute_though_several_controllers_share_them(
    held: Sequence[frozenset[int]],
) -> None:
    fleet = Fleet(100, 24 * HOUR, held=held)
    fleet.run(step=timedelta(seconds=19), since=0.59)
    moments = sorted(fleet.rolled.values())
    assert len(moments) == 100
    minutes = Counter(moment.replace(second=0, microsecond=0) for moment in moments)
    assert max(minutes.values()) == 1
    assert moments[-1] < NOW + timedelta(hours=24 * 0.9)


def test_several_controllers_replace_short_leases_of_many_jobs_in_time() -> None:
    fleet = Fleet(60, HOUR, held=EVEN)
    fleet.run(step=timedelta(seconds=2))
    assert len(fleet.rolled) == 60
    assert max(fleet.rolled.values()) < NOW + timedelta(hours=0.97)


@pytest.mark.parametrize(("second", "waits"), [(0, 3), (3, 0), (56, 0), (57, 66), (59, 64)])
def test_a_turn_is_in_the_middle_of_a_minute_since_clocks_are_known_to_some_seconds(second: int, waits: int) -> None:
    begin = datetime.fromtimestamp(NOW.timestamp() // 120 * 120, UTC)
    now = begin + timedelta(seconds=second)
    until = lease_turn_at(Gate(now=now, leased_jobs=10, shards=frozenset({0}), shards_of=2), 24 * HOUR)
    assert until == (now + timedelta(seconds=waits) if waits else None)


def test_whatever_part_of_the_shards_one_has_turns_are_in_minutes_of_ones_own() -> None:
    begin = datetime.fromtimestamp(NOW.timestamp() // 60 * 60, UTC)
    wrong = []
    for total in range(2, 65):
        for count in range(1, total):
            others = (int(begin.timestamp() // 60) + 1) % total
            shards = frozenset((others + 1 + number) % total for number in range(count))
            gate = Gate(now=begin + timedelta(seconds=90), leased_jobs=10, shards=shards, shards_of=total)
            # It is a minute of somebody else's, and the next one is his.
            if lease_turn_at(gate, 240 * HOUR) != begin + timedelta(seconds=123):
                wrong.append((count, total))
    assert wrong == []


def test_who_has_rolled_in_a_minute_waits_for_another_one_of_his() -> None:
    begin = datetime.fromtimestamp(NOW.timestamp() // 120 * 120, UTC)
    now, last = begin + timedelta(seconds=30), begin + timedelta(seconds=5)
    gate = Gate(now=now, leased_jobs=10, last_lease_roll=last, shards=frozenset({0}), shards_of=2)
    assert lease_turn_at(gate, 24 * HOUR) == begin + timedelta(seconds=123)


def test_who_takes_jobs_over_leaves_a_minute_after_what_another_may_just_have_rolled() -> None:
    fleet = Fleet(1, 24 * HOUR)
    (gates,) = fleet.gates.values()
    fleet.moment = NOW + timedelta(hours=20)
    assert lease_turn_at(gates.gate(fleet.keys[0]), 24 * HOUR) is None
    gates.look_first(lambda looked: False)
    assert lease_turn_at(gates.gate(fleet.keys[0]), 24 * HOUR) == fleet.moment + timedelta(minutes=1)
    fleet.moment += timedelta(minutes=1)
    assert lease_turn_at(gates.gate(fleet.keys[0]), 24 * HOUR) is None


def test_jobs_that_a_window_has_held_up_do_not_roll_at_one_moment() -> None:
    never = {"kind": "Deny", "schedule": "* * * * *", "duration": "2m"}
    fleet = Fleet(40, 24 * HOUR, windows=[never])
    fleet.run(step=timedelta(seconds=30), since=0.845)
    moments = sorted(fleet.rolled.values())
    assert len(moments) == 40
    assert moments[0] >= NOW + timedelta(hours=24 * 0.85)
    assert min(later - earlier for earlier, later in pairwise(moments)) >= timedelta(minutes=1)
    assert moments[-1] < NOW + timedelta(hours=24 * 0.98)


def test_short_leases_of_many_jobs_are_still_replaced_in_time() -> None:
    fleet = Fleet(60, HOUR)
    fleet.run(step=timedelta(seconds=2))
    assert len(fleet.rolled) == 60
    assert max(fleet.rolled.values()) < NOW + timedelta(hours=0.95)
    assert max(Counter(moment for moment in fleet.rolled.values()).values()) == 1


def test_a_clock_that_was_set_back_holds_nobody_for_long() -> None:
    gate = Gate(now=NOW, leased_jobs=10, last_lease_roll=NOW + timedelta(hours=5))
    assert lease_turn_at(gate, 24 * HOUR) is None


def test_turns_are_a_minute_apart_where_leases_are_long_enough() -> None:
    assert spacing_seconds(24 * HOUR, 100, 0.8) == 60
    assert spacing_seconds(HOUR, 100, 0.8) == pytest.approx(7.2)


def test_who_has_a_part_of_all_jobs_has_fewer_turns_so_that_all_together_keep_the_pace() -> None:
    assert spacing_seconds(24 * HOUR, 50, 0.8, part=0.5) == 120


def test_what_is_overdue_has_turns_that_all_come_before_the_end() -> None:
    assert 100 * spacing_seconds(24 * HOUR, 100, 0.8, pressing=True) <= 24 * HOUR * 0.02


# --- the job ----------------------------------------------------------------------------------------------------------


def world_with(*secrets: tuple[str, str, SecretState], now: bool = True) -> World:
    world = World()
    world.secrets.update({(kind, name): state for kind, name, state in secrets})
    world.gate = Gate(now=NOW) if now else Gate()
    world.user_registers(make.job())
    return world


def registrations(world: World) -> int:
    return sum(isinstance(action, RegisterJob) for action in world.log)


def test_a_job_with_dynamic_credentials_is_rolled_once_in_each_life_of_a_lease() -> None:
    world = world_with(("database", "app", leased(24 * HOUR)))
    bindings = [make.given(make.binding(make.database()))]
    world.settle(bindings)
    assert registrations(world) == 1
    for life in range(1, 4):
        world.wait(23 * HOUR)
        world.settle(bindings)
        assert registrations(world) == 1 + life
        world.wait(HOUR)
        world.settle(bindings)
        assert registrations(world) == 1 + life


@pytest.mark.parametrize("ahead", [timedelta(hours=5), timedelta(hours=-5)])
def test_leases_are_counted_by_nomads_clock_whatever_ours_says(ahead: timedelta) -> None:
    world = world_with(("database", "app", leased(24 * HOUR)))
    world.gate = replace(world.gate, nomad_ahead=ahead)
    bindings = [make.given(make.binding(make.database()))]
    world.settle(bindings)
    until = world.decide(bindings)[0].results[bindings[0].key].secrets[0].until
    assert until is not None
    left = until - (nanoseconds_to_time(world.now) - ahead)
    assert timedelta(hours=24 * 0.6) <= left <= timedelta(hours=24 * 0.8)
    world.wait(24 * HOUR * 0.59)
    world.settle(bindings)
    assert registrations(world) == 1
    world.wait(24 * HOUR * 0.22)
    world.settle(bindings)
    assert registrations(world) == 2


@pytest.mark.parametrize("ahead", [timedelta(hours=5), timedelta(hours=-5)])
def test_the_next_rotation_of_a_password_is_told_by_our_clock(ahead: timedelta) -> None:
    state = static("2026-01-01T00:00:00Z", next_change=NOW)
    decision = decide(state, Pin.revision("2026-01-01T00:00:00Z"), vault_ahead=ahead)
    assert decision.until == NOW - ahead


def test_a_lease_that_is_renewable_far_beyond_is_left_alone() -> None:
    world = world_with(("database", "app", leased(768 * HOUR)))
    bindings = [make.given(make.binding(make.database()))]
    for _ in range(5):
        world.settle(bindings)
        world.wait(24 * HOUR)
    assert registrations(world) == 1


def test_a_roll_for_another_reason_starts_the_leases_anew() -> None:
    world = world_with(("database", "app", leased(24 * HOUR)), ("kv", "myapp", make.kv_state(1)))
    bindings = [make.given(make.binding(make.database(), make.kv()))]
    world.settle(bindings)
    world.wait(12 * HOUR)
    world.secrets["kv", "myapp"] = make.kv_state(2)
    world.settle(bindings)
    world.wait(12 * HOUR)
    world.settle(bindings)
    assert registrations(world) == 2


@pytest.mark.parametrize("older", [0, 1])
def test_a_failed_roll_for_a_lease_is_held_whichever_allocation_is_the_oldest_now(older: int) -> None:
    world = world_with(("database", "app", leased(24 * HOUR)))
    bindings = [make.given(make.binding(make.database()))]
    world.settle(bindings)
    world.wait(23 * HOUR)
    world.run(bindings)
    world.finish_deployment(success=False)
    # Allocations that the roll had not come to still have their old credentials, and their own dates.
    world.allocations[older]["ClientStatus"] = "running"
    for _ in range(4):
        world.run(bindings)
    assert registrations(world) == 2
    desired, _ = world.decide(bindings)
    assert desired.results[bindings[0].key].failed is not None
    at = nanoseconds_to_time(world.now)
    asked = [replace(bindings[0], rotate_requested_at=at, rotate_arrived_at=at)]
    world.settle(asked)
    assert registrations(world) == 3
    world.wait(23 * HOUR)
    world.settle(bindings)
    assert registrations(world) == 4


@pytest.mark.parametrize("kind", [{"Periodic": {"Spec": "@daily"}}, {"ParameterizedJob": {"Payload": "optional"}}])
def test_children_end_by_themselves_and_are_not_rolled_for_their_leases(kind: dict[str, Any]) -> None:
    world = World()
    world.secrets["database", "app"] = leased(HOUR)
    world.gate = Gate(now=NOW)
    world.user_registers(make.job(kind="service", **kind))
    bindings = [make.given(make.binding(make.database()))]
    world.settle(bindings)
    before = registrations(world)
    world.wait(10 * HOUR)
    world.settle(bindings)
    assert registrations(world) == before


def test_a_static_role_rolls_the_job_and_its_template_never_restarts_a_task_by_itself() -> None:
    world = world_with(("database", "app", static("2027-01-01T00:00:00Z")))
    bindings = [make.given(make.binding(make.database(staticRole="app")))]
    world.settle(bindings)
    assert world.job is not None
    assert {template["ChangeMode"] for template in make.templates_of(world.job)} == {"noop"}
    world.secrets["database", "app"] = static("2027-01-02T00:00:00Z")
    world.settle(bindings)
    assert registrations(world) == 2


def test_a_revision_is_a_word_of_the_status_and_the_first_one_is_none() -> None:
    world = world_with(("database", "app", leased(24 * HOUR)))
    bindings = [make.given(make.binding(make.database()))]
    world.settle(bindings)
    assert serving(world, bindings) == (None, "2027-01-1")
    world.wait(23 * HOUR)
    world.settle(bindings)
    version, _ = serving(world, bindings)
    assert version is not None
    assert version.startswith("renewed 2027-01-1")


def serving(world: World, bindings: list[BindingInput]) -> tuple[str | None, str]:
    """The version that serves, and the beginning of the day of the next one."""
    desired, plan = world.decide(bindings)
    found = Pass(INSTANCE, world.observe(bindings), desired, plan)
    status = compute_status(bindings[0], found, SecretBindingStatus(), NOW)
    (secret,) = status.secrets
    return secret.serving_version, (secret.next_rotation_at or "")[:9]


@settings(max_examples=60)
@given(
    hours=st.lists(st.floats(0.1, 40), min_size=1, max_size=12),
    outcomes=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_a_job_never_rolls_twice_for_one_life_whatever_the_times_at_which_it_is_looked_at(
    hours: list[float], outcomes: list[bool]
) -> None:
    world = world_with(("database", "app", leased(24 * HOUR)))
    bindings = [make.given(make.binding(make.database()))]
    world.settle(bindings)
    for wait, success in zip(hours, outcomes, strict=False):
        world.wait(wait * HOUR)
        before = registrations(world)
        for _ in range(3):
            world.run(bindings)
        assert registrations(world) <= before + 1
        world.finish_deployment(success=success)
        world.run(bindings)
        assert registrations(world) <= before + 1
