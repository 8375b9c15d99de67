"""Which new versions wait, why, and until when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from secretbinding.desired.gating import gated, is_rotation
from secretbinding.gate import Gate, Obstacle
from secretbinding.kinds.base import Fault, Pin
from secretbinding.models.binding import SecretBinding
from secretbinding.models.key import BindingKey
from secretbinding.models.loading import parse_object
from secretbinding.models.reasons import Reason
from secretbinding.rotation import SecretDecision

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = BindingKey("files", "default", "app")
OLD = Pin(1, "2026-01-01T00:00:00.000000000Z")


def binding(**rotation: Any) -> SecretBinding:
    secrets = [{"name": "app", "kv": {"mount": "secret", "path": "app"}, "env": {"A": "a"}}]
    spec = {"workload": {"job": "web"}, "secrets": secrets, "rotation": rotation}
    return parse_object({"metadata": {"name": "app"}, "spec": spec}, source="test")


def made(seconds_ago: float, version: int = 2) -> Pin:
    return Pin(version, (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%S.000000000Z"))


def rotation_to(pin: Pin, name: str = "app", **changes: Any) -> SecretDecision:
    return SecretDecision(name, pin=pin, serving=OLD, newest=pin.version, **changes)


def decide(
    *items: SecretDecision,
    rotation: dict[str, Any] | None = None,
    gate: Gate | None = None,
    requested: bool = False,
    ungated: str = "",
    last_roll: datetime | None = None,
) -> tuple[SecretDecision, ...]:
    found = gated(
        {KEY: items},
        {KEY: binding(**(rotation or {}))},
        frozenset({KEY} if requested else ()),
        {KEY: ungated} if ungated else {},
        gate if gate is not None else Gate(now=NOW),
        last_roll,
    )
    return found[KEY]


def reason(item: SecretDecision) -> Reason | None:
    return item.hold.reason if item.hold is not None else None


def test_a_held_rotation_stays_at_what_serves_and_says_until_when() -> None:
    (item,) = decide(rotation_to(made(4)), rotation={"settle": "10s"})
    assert (item.pin, item.serving, item.newest) == (OLD, OLD, 2)
    assert reason(item) is Reason.NEW_VERSION_HELD
    assert item.until == NOW + timedelta(seconds=6)
    assert not is_rotation(item)


def test_a_change_that_has_settled_rolls() -> None:
    (item,) = decide(rotation_to(made(10)), rotation={"settle": "10s"})
    assert is_rotation(item)


def test_changes_that_follow_the_first_roll_with_it() -> None:
    items = decide(rotation_to(made(10)), rotation_to(made(1), "later"), rotation={"settle": "10s"})
    assert all(is_rotation(item) for item in items)


def test_a_version_that_was_written_while_nobody_looked_does_not_settle_again() -> None:
    pin = made(3600)
    (item,) = decide(rotation_to(pin), rotation={"settle": "10s"}, gate=Gate(now=NOW, seen={(KEY, "app", pin): NOW}))
    assert is_rotation(item)


def test_a_vault_whose_clock_is_ahead_delays_by_the_settle_time_at_most() -> None:
    pin = made(-7200)
    seen = NOW - timedelta(seconds=10)
    (item,) = decide(rotation_to(pin), rotation={"settle": "10s"}, gate=Gate(now=NOW, seen={(KEY, "app", pin): seen}))
    assert is_rotation(item)


def test_the_controllers_own_settle_time_counts_where_a_binding_says_nothing() -> None:
    gate = Gate(now=NOW, settle_seconds=30)
    assert reason(decide(rotation_to(made(20)), gate=gate)[0]) is Reason.NEW_VERSION_HELD
    assert is_rotation(decide(rotation_to(made(20)), gate=gate, rotation={"settle": "0s"})[0])


def test_a_job_waits_for_its_interval_since_the_last_roll() -> None:
    last = NOW - timedelta(minutes=4)
    (item,) = decide(rotation_to(made(60)), rotation={"minInterval": "10m"}, last_roll=last)
    assert item.until == last + timedelta(minutes=10)
    assert is_rotation(decide(rotation_to(made(60)), rotation={"minInterval": "3m"}, last_roll=last)[0])


def test_a_closed_window_holds_until_it_opens() -> None:
    windows = [{"kind": "Allow", "schedule": "0 2 * * *", "duration": "1h"}]
    (item,) = decide(rotation_to(made(60)), rotation={"windows": windows})
    assert item.until == datetime(2026, 3, 2, 2, 0, tzinfo=UTC)


def test_without_a_free_slot_a_roll_waits_and_nobody_knows_how_long() -> None:
    (item,) = decide(rotation_to(made(60)), gate=Gate(now=NOW, slot_free=False))
    assert reason(item) is Reason.NEW_VERSION_HELD
    assert item.until is None


def test_a_group_that_is_replaced_all_at_once_waits_for_a_person_or_a_setting() -> None:
    (item,) = decide(rotation_to(made(60)), ungated="api")
    assert reason(item) is Reason.UNGATED_UPDATE
    assert item.hold is not None
    assert "group api" in item.hold.message
    assert is_rotation(decide(rotation_to(made(60)), ungated="api", requested=True)[0])
    assert is_rotation(decide(rotation_to(made(60)), ungated="api", gate=Gate(now=NOW, ungated_allowed=True))[0])


CLOSED: dict[str, Any] = {
    "settle": "1h",
    "minInterval": "24h",
    "windows": [{"kind": "Deny", "schedule": "* * * * *", "duration": "1h"}],
}


@pytest.mark.parametrize(
    ("rotation", "gate", "obstacle"),
    [
        ({"settle": "1h"}, Gate(now=NOW), Obstacle.SETTLE),
        ({"minInterval": "24h"}, Gate(now=NOW), Obstacle.MIN_INTERVAL),
        ({"windows": CLOSED["windows"]}, Gate(now=NOW), Obstacle.WINDOW),
        ({}, Gate(now=NOW, slot_free=False), Obstacle.SLOT),
    ],
)
def test_what_waits_says_in_one_word_for_what(rotation: dict[str, Any], gate: Gate, obstacle: Obstacle) -> None:
    (item,) = decide(rotation_to(made(60)), rotation=rotation, gate=gate, last_roll=NOW)
    assert item.obstacle is obstacle
    (item,) = decide(rotation_to(made(60)), rotation=rotation, gate=gate, last_roll=NOW, requested=True)
    assert item.obstacle is None


def test_a_request_opens_every_gate() -> None:
    gate = Gate(now=NOW, slot_free=False)
    assert is_rotation(decide(rotation_to(made(1)), rotation=CLOSED, gate=gate, last_roll=NOW, requested=True)[0])


def test_what_is_urgent_waits_for_no_window_and_for_its_place() -> None:
    settled = rotation_to(made(3600), urgent=True)
    assert is_rotation(decide(settled, rotation=CLOSED, gate=Gate(now=NOW), last_roll=NOW)[0])
    (item,) = decide(settled, rotation=CLOSED, gate=Gate(now=NOW, slot_free=False), last_roll=NOW)
    assert item.obstacle is Obstacle.SLOT


@pytest.mark.parametrize("why", [{"at_risk": True, "urgent": True, "overdue": True}, {"urgent": True, "overdue": True}])
def test_what_is_overdue_settles_and_waits_for_a_place_as_all_do(why: dict[str, Any]) -> None:
    fresh, settled = rotation_to(made(1), **why), rotation_to(made(3600), **why)
    assert is_rotation(decide(settled, rotation=CLOSED, gate=Gate(now=NOW), last_roll=NOW)[0])
    assert decide(settled, rotation=CLOSED, gate=Gate(now=NOW, slot_free=False))[0].obstacle is Obstacle.SLOT
    assert decide(fresh, rotation=CLOSED, gate=Gate(now=NOW), last_roll=NOW)[0].obstacle is Obstacle.SETTLE


@pytest.mark.parametrize(
    ("why", "rolls"),
    [
        ({"urgent": True}, False),
        ({"urgent": True, "overdue": True}, False),
        ({"at_risk": True, "urgent": True, "overdue": True}, False),
        ({"urgent": True, "overdue": True, "ending": True}, True),
    ],
    ids=["a late lease", "a dead password", "a version that is gone", "a lease of which nothing is left"],
)
def test_a_group_is_replaced_all_at_once_only_for_leases_that_end_now(why: dict[str, Any], rolls: bool) -> None:
    (item,) = decide(rotation_to(made(3600), **why), rotation=CLOSED, ungated="api", last_roll=NOW)
    assert is_rotation(item) is rolls
    assert item.obstacle is (None if rolls else Obstacle.UNGATED)


def test_an_urgent_secret_opens_windows_for_itself_and_not_for_the_others_of_its_binding() -> None:
    urgent, other = decide(
        rotation_to(made(3600), urgent=True), rotation_to(made(3600), "other"), rotation=CLOSED, last_roll=NOW
    )
    assert is_rotation(urgent)
    assert (other.pin, other.obstacle) == (OLD, Obstacle.WINDOW)


def test_what_only_its_interval_holds_back_comes_with_a_roll_that_is_made_anyway() -> None:
    items = decide(
        rotation_to(made(60), urgent=True), rotation_to(made(60), "b"), rotation={"minInterval": "1h"}, last_roll=NOW
    )
    assert all(is_rotation(item) for item in items)


def test_a_version_that_the_binding_names_waits_for_a_place_only() -> None:
    named = rotation_to(made(1), chosen=True)
    assert is_rotation(decide(named, rotation=CLOSED, gate=Gate(now=NOW), last_roll=NOW, ungated="api")[0])
    (item,) = decide(named, rotation=CLOSED, gate=Gate(now=NOW, slot_free=False), last_roll=NOW)
    assert item.obstacle is Obstacle.SLOT


def test_a_lease_that_waits_for_a_window_is_looked_at_when_it_waits_no_more() -> None:
    late = NOW + timedelta(minutes=3)
    (item,) = decide(rotation_to(made(60), presses_at=late), rotation={"windows": CLOSED["windows"]})
    assert item.until == late


@pytest.mark.parametrize(
    "item",
    [
        SecretDecision("app", pin=made(1)),
        SecretDecision("app", pin=OLD, serving=OLD),
        SecretDecision("app", serving=OLD, fault=Fault(Reason.SECRET_FIELD_MISSING, "no")),
        SecretDecision("app", pin=OLD, serving=OLD, hold=Fault(Reason.SECRET_FIELD_MISSING, "no")),
    ],
    ids=["first injection", "nothing new", "fault", "held already"],
)
def test_what_is_no_new_version_in_place_of_one_that_serves_never_waits(item: SecretDecision) -> None:
    assert decide(item, rotation=CLOSED, gate=Gate(now=NOW, slot_free=False), last_roll=NOW, ungated="api") == (item,)


def test_without_a_clock_nothing_waits() -> None:
    assert is_rotation(decide(rotation_to(made(1)), rotation=CLOSED, gate=Gate(slot_free=False), last_roll=NOW)[0])
