"""Slots for rolls in flight, and changes that were seen."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from secretbinding.desired.values import BindingResult, Desired, Observed
from secretbinding.engine.gatekeeper import Gatekeeper, Limits
from secretbinding.gate import Obstacle, Wait
from secretbinding.generation import KV, Changed, GenerateValue, Generation, Made, Target
from secretbinding.kinds.base import Fault, Pin, SecretState
from secretbinding.models.binding import Generate
from secretbinding.models.key import BindingKey, WorkloadKey
from secretbinding.models.reasons import Reason
from secretbinding.plan import Plan
from secretbinding.ports import KvVersion
from secretbinding.rotation import SecretDecision
from secretbinding.status import Pass

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY = BindingKey("files", "default", "app")
OLD, NEW = Pin(1, "2026-01-01T00:00:00Z"), Pin(2, "2026-02-28T00:00:00Z")
HELD = Fault(Reason.NEW_VERSION_HELD, "waits")


def workload(job: str, namespace: str = "default") -> WorkloadKey:
    return WorkloadKey("default", "", namespace, job)


def wanting(item: SecretDecision) -> Desired:
    return Desired(None, {}, {}, {KEY: BindingResult(KEY, secrets=(item,))})


ROTATION = wanting(SecretDecision("app", pin=NEW, serving=OLD, newest=2))
WAITING = wanting(SecretDecision("app", pin=OLD, serving=OLD, waiting=NEW, newest=2, hold=HELD))
DONE = wanting(SecretDecision("app", pin=NEW, serving=NEW, newest=2))
FIRST = wanting(SecretDecision("app", pin=NEW, newest=2))


def a_pass(key: WorkloadKey, desired: Desired, **changes: Any) -> Pass:
    state = SecretState("v2", pinnable=True, current=2, versions={2: KvVersion(2, NEW.created)})
    return Pass("default", Observed(key, secrets={(KEY, "app"): state}), desired, **changes)


def keeper(rolls: int = 1, per_namespace: int = 0) -> Gatekeeper:
    return Gatekeeper(Limits(rolls, per_namespace), now=lambda: NOW, clock=lambda: 0.0)


def test_a_slot_is_taken_by_a_roll_and_free_again_when_it_is_over() -> None:
    gates = keeper()
    a, b = workload("a"), workload("b")
    assert gates.enter(a, ROTATION)
    assert not gates.gate(b).slot_free
    assert not gates.enter(b, ROTATION)
    gates.note(a, a_pass(a, ROTATION, registered=True))
    assert not gates.gate(b).slot_free
    gates.note(a, a_pass(a, DONE))
    assert gates.gate(b).slot_free
    assert gates.rolling() == 0


@pytest.mark.parametrize("begun", ["before", "after"])
def test_a_deployment_that_was_under_way_at_the_start_takes_a_slot_and_a_users_later_one_does_not(begun: str) -> None:
    gates = keeper()
    a, b = workload("a"), workload("b")
    running = {"JobVersion": 3, "Status": "running"}
    still = a_pass(a, DONE)
    moving = replace(still, observed=replace(still.observed, job={"Version": 3}, deployments=[running]))
    if begun == "after":
        gates.note(a, still)
    gates.note(a, moving)
    assert gates.gate(b).slot_free is (begun == "after")
    gates.note(a, still)
    assert gates.gate(b).slot_free


def test_a_job_that_rolls_may_roll_on() -> None:
    gates = keeper()
    assert gates.enter(workload("a"), ROTATION)
    assert gates.gate(workload("a")).slot_free
    assert gates.enter(workload("a"), ROTATION)


def test_what_is_no_rotation_needs_no_slot() -> None:
    gates = keeper()
    gates.enter(workload("a"), ROTATION)
    assert gates.enter(workload("b"), FIRST)
    assert gates.rolling() == 1


def test_a_job_that_waits_for_a_slot_is_woken_when_one_is_free() -> None:
    gates = keeper()
    a, b = workload("a"), workload("b")
    gates.enter(a, ROTATION)
    assert gates.note(b, a_pass(b, WAITING)) == set()
    assert gates.note(a, a_pass(a, DONE)) == {b}
    assert gates.note(a, a_pass(a, DONE)) == set()


def test_the_limit_of_a_namespace_leaves_the_others_free() -> None:
    gates = keeper(rolls=0, per_namespace=1)
    gates.enter(workload("a", "blue"), ROTATION)
    assert not gates.gate(workload("b", "blue")).slot_free
    assert gates.gate(workload("b", "green")).slot_free


def test_zero_is_no_limit() -> None:
    gates = keeper(rolls=0)
    assert all(gates.enter(workload(str(number)), ROTATION) for number in range(100))


def test_a_change_is_remembered_from_when_it_was_first_seen_until_it_is_rolled() -> None:
    moment = [NOW]
    gates = Gatekeeper(Limits(), now=lambda: moment[0], clock=lambda: moment[0].timestamp())
    a = workload("a")
    gates.note(a, a_pass(a, WAITING))
    moment[0] = NOW + timedelta(seconds=5)
    gates.note(a, a_pass(a, WAITING))
    assert gates.gate(a).seen == {(KEY, "app", NEW): NOW}
    gates.note(a, a_pass(a, DONE))
    assert gates.gate(a).seen == {}


@pytest.mark.parametrize("forget", [True, False])
def test_a_job_that_nothing_names_any_more_keeps_no_slot(forget: bool) -> None:
    gates = keeper()
    gates.enter(workload("a"), ROTATION)
    if forget:
        gates.forget(workload("a"))
    assert gates.gate(workload("b")).slot_free is forget


def test_a_pass_that_failed_changes_nothing() -> None:
    gates = keeper()
    a = workload("a")
    gates.enter(a, ROTATION)
    assert gates.note(a, a_pass(a, DONE, error=Fault(Reason.VAULT_SEALED, "sealed"))) == set()
    assert gates.rolling() == 1


LEASE = wanting(SecretDecision("app", pin=NEW, serving=OLD, lease_seconds=86400.0))
LATE = wanting(SecretDecision("app", pin=NEW, serving=OLD, lease_seconds=86400.0, urgent=True, overdue=True))


def test_rolls_for_leases_begin_a_minute_apart_and_others_do_not_wait_for_them() -> None:
    moment = [NOW]
    gates = Gatekeeper(Limits(rolls=0), now=lambda: moment[0], clock=lambda: moment[0].timestamp())
    a, b, c = workload("a"), workload("b"), workload("c")
    assert gates.enter(a, LEASE)
    assert not gates.enter(b, LEASE)
    assert gates.gate(b).last_lease_roll == NOW
    assert gates.enter(c, ROTATION)
    moment[0] += timedelta(seconds=61)
    assert gates.enter(b, LEASE)


def test_a_roll_that_nomad_has_not_begun_keeps_its_place_for_a_while() -> None:
    moment = [0.0]
    gates = Gatekeeper(Limits(1), now=lambda: NOW, clock=lambda: moment[0])
    a, b = workload("a"), workload("b")
    assert gates.enter(a, ROTATION)
    gates.note(a, a_pass(a, ROTATION, registered=True))
    old = {"JobVersion": 1, "ClientStatus": "running", "DesiredStatus": "run"}
    still = a_pass(a, DONE)
    waiting = replace(still, observed=replace(still.observed, job={"Version": 2}, allocations=[old]))
    gates.note(a, waiting)
    assert not gates.gate(b).slot_free
    begun = replace(waiting.observed, deployments=[{"JobVersion": 2, "Status": "running"}])
    gates.note(a, replace(waiting, observed=begun))
    assert not gates.gate(b).slot_free
    moment[0] += 601.0
    gates.note(a, waiting)
    assert gates.gate(b).slot_free, "one that never begins must not stand in the way of all others"


@pytest.mark.parametrize(
    ("reason", "free"), [(Reason.PERMISSION_DENIED, True), (Reason.REJECTED, True), (Reason.NOMAD_UNREACHABLE, False)]
)
def test_a_registration_that_was_refused_gives_its_place_back(reason: Reason, free: bool) -> None:
    gates = keeper(rolls=1)
    a, b = workload("a"), workload("b")
    assert gates.enter(a, ROTATION)
    gates.note(b, a_pass(b, WAITING))
    assert gates.note(a, a_pass(a, ROTATION, error=Fault(reason, "no"))) == ({b} if free else set())
    assert gates.gate(b).slot_free is free


def test_what_is_rolled_anyway_takes_a_place() -> None:
    gates = keeper(rolls=1)
    a, b, c = workload("a"), workload("b"), workload("c")
    assert gates.enter(a, ROTATION)
    assert not gates.enter(b, ROTATION)
    assert gates.enter(b, ROTATION, anyway=True)
    gates.note(a, a_pass(a, DONE))
    assert not gates.gate(c).slot_free
    assert gates.rolling() == 1


def test_what_is_overdue_takes_no_slot_that_is_not_free() -> None:
    gates = keeper(rolls=1)
    assert gates.enter(workload("a"), ROTATION)
    assert not gates.enter(workload("c"), LATE)
    assert gates.rolling() == 1


def test_a_job_without_leases_is_not_counted_among_those_whose_turns_are_spread() -> None:
    gates = Gatekeeper(Limits())
    a = workload("a")
    leased = SecretState("database", lease_seconds=60.0)
    gates.note(a, Pass("default", Observed(a, secrets={(KEY, "app"): leased}), DONE))
    assert gates.gate(a).leased_jobs == 1
    gates.note(a, a_pass(a, DONE))
    assert gates.gate(a).leased_jobs == 0


@pytest.mark.parametrize(("promoted", "free"), [(False, True), (True, False)])
def test_a_roll_that_waits_for_promotion_keeps_no_slot_from_others(promoted: bool, free: bool) -> None:
    gates = keeper()
    a = workload("a")
    gates.enter(a, ROTATION)
    canary = {"DesiredCanaries": 1, "HealthyAllocs": 1, "Promoted": promoted, "AutoPromote": False}
    deployment = {"JobVersion": 1, "Status": "running", "TaskGroups": {"web": canary}}
    gates.note(a, Pass("default", Observed(a, job={"Version": 1}, deployments=(deployment,)), DONE))
    assert gates.gate(workload("b")).slot_free is free


def test_a_job_whose_new_value_waits_for_a_slot_is_woken_when_one_is_free() -> None:
    gates = keeper()
    a, b = workload("a"), workload("b")
    assert gates.enter(a, ROTATION)
    gates.note(a, a_pass(a, ROTATION, registered=True))
    value = Generation(
        Generate(secret="app", fields=("password",)),
        Target(KV, "secret", "app"),
        Changed(NOW, "2"),
        due=NOW,
        wait=Wait("as many jobs as may are rolling now", Obstacle.SLOT),
    )
    waiting = Desired(None, {}, {}, {}, generations={(KEY, "app"): value})
    assert gates.note(b, a_pass(b, waiting)) == set()
    assert gates.note(a, a_pass(a, DONE)) == {b}


def test_no_roll_begins_before_every_job_was_looked_at_once_since_one_may_roll_already() -> None:
    gates = keeper()
    a, b = workload("a"), workload("b")
    gates.look_first(lambda looked: not {a, b} <= looked)
    assert not gates.enter(a, ROTATION)
    assert gates.note(a, a_pass(a, WAITING)) == set()
    running = {"JobVersion": 3, "Status": "running"}
    still = a_pass(b, DONE)
    moving = replace(still, observed=replace(still.observed, job={"Version": 3}, deployments=[running]))
    assert gates.note(b, moving) == set()
    assert not gates.enter(a, ROTATION), "b rolls since before the start"
    assert gates.note(b, still) == {a}
    assert gates.enter(a, ROTATION)


@pytest.mark.parametrize("end", ["error", "time"])
def test_a_job_that_cannot_be_looked_at_keeps_no_other_from_rolling(end: str) -> None:
    moment = [0.0]
    gates = Gatekeeper(Limits(1), now=lambda: NOW, clock=lambda: moment[0])
    a, b = workload("a"), workload("b")
    gates.look_first(lambda looked: b not in looked)
    assert not gates.enter(a, ROTATION)
    assert gates.gate(a).looking_until == NOW + timedelta(seconds=60), "then it is looked at again"
    if end == "error":
        gates.note(b, a_pass(b, DONE, error=Fault(Reason.VAULT_SEALED, "sealed")))
    else:
        moment[0] = 60.0
    assert gates.gate(a).looking_until is None
    assert gates.enter(a, ROTATION)


def test_jobs_that_come_over_from_another_controller_are_looked_at_first_too() -> None:
    gates = keeper()
    jobs = {workload("a")}
    gates.look_first(lambda looked: not jobs <= looked)
    gates.note(workload("a"), a_pass(workload("a"), DONE))
    assert gates.gate(workload("a")).slot_free
    jobs.add(workload("b"))
    gates.look_first()
    assert not gates.gate(workload("a")).slot_free


def test_jobs_that_come_back_from_another_controller_are_looked_at_again_since_he_may_be_rolling_them() -> None:
    gates = keeper(rolls=1)
    a, b, kept = workload("a"), workload("b"), workload("kept")
    gates.look_first(lambda looked: not {a, b, kept} <= looked)
    for job in (a, b, kept):
        gates.note(job, a_pass(job, DONE))
    gates.look_first(of=lambda job: job != kept)
    assert not gates.gate(kept).slot_free
    running = {"JobVersion": 3, "Status": "running"}
    still = a_pass(a, DONE)
    gates.note(b, a_pass(b, DONE))
    gates.note(a, replace(still, observed=replace(still.observed, job={"Version": 3}, deployments=[running])))
    assert not gates.gate(b).slot_free, "a rolls for what the other one has begun"
    gates.note(a, still)
    assert gates.gate(b).slot_free


def settling() -> Desired:
    item = SecretDecision("app", pin=OLD, serving=OLD, waiting=NEW, hold=HELD, obstacle=Obstacle.SETTLE)
    return wanting(item)


def test_a_new_value_takes_the_place_of_its_roll_before_it_is_made() -> None:
    gates = keeper()
    a, b = workload("a"), workload("b")
    assert gates.enter_value(a)
    assert not gates.enter_value(b)
    gates.note(a, a_pass(a, DONE))
    gates.note(a, a_pass(a, settling()))
    assert not gates.enter_value(b), "it settles, and rolls then"
    assert gates.enter(a, ROTATION)
    gates.note(a, a_pass(a, ROTATION, registered=True))
    gates.note(a, a_pass(a, DONE))
    assert gates.enter_value(b)


@pytest.mark.parametrize("why", ["window", "time"])
def test_a_value_whose_roll_does_not_come_gives_its_place_back(why: str) -> None:
    moment = [0.0]
    gates = Gatekeeper(Limits(1), now=lambda: NOW, clock=lambda: moment[0])
    a, b = workload("a"), workload("b")
    assert gates.enter_value(a)
    closed = SecretDecision("app", pin=OLD, serving=OLD, waiting=NEW, hold=HELD, obstacle=Obstacle.WINDOW)
    moment[0] = 31.0 if why == "time" else 1.0
    gates.note(a, a_pass(a, wanting(closed) if why == "window" else DONE))
    assert gates.enter_value(b)


def test_what_is_overdue_comes_first_when_a_place_is_free() -> None:
    gates = keeper()
    a, b, c = workload("a"), workload("b"), workload("c")
    gates.enter(a, ROTATION)
    gates.note(b, a_pass(b, WAITING))
    late = SecretDecision("app", pin=OLD, serving=OLD, waiting=NEW, hold=HELD, obstacle=Obstacle.SLOT, overdue=True)
    gates.note(c, a_pass(c, wanting(late)))
    assert gates.note(a, a_pass(a, DONE)) == {c}
    assert gates.note(c, a_pass(c, DONE)) == {b}


def test_as_many_jobs_are_told_of_places_as_there_are_and_first_who_waits_longest() -> None:
    moment = [0.0]
    gates = Gatekeeper(Limits(2), now=lambda: NOW, clock=lambda: moment[0])
    rolling, waiting = [workload("x"), workload("y")], [workload(name) for name in ("d", "a", "c", "b")]
    for job in rolling:
        assert gates.enter(job, ROTATION)
    for job in waiting:
        assert not gates.enter(job, ROTATION)
        assert gates.note(job, a_pass(job, WAITING)) == set()
    assert gates.note(rolling[0], a_pass(rolling[0], DONE)) == {waiting[0]}
    assert gates.woken() == set(), "the place is kept for whom was told of it"
    assert gates.note(rolling[1], a_pass(rolling[1], DONE)) == {waiting[1]}
    moment[0] = 11.0
    assert gates.woken() == {waiting[2], waiting[3]}, "who was told has not come"


def test_a_job_that_was_told_of_a_place_and_fails_leaves_it_to_the_next() -> None:
    gates = Gatekeeper(Limits(1), now=lambda: NOW)
    rolls, first, second = workload("x"), workload("a"), workload("b")
    assert gates.enter(rolls, ROTATION)
    for job in (first, second):
        gates.note(job, a_pass(job, WAITING))
    assert gates.note(rolls, a_pass(rolls, DONE)) == {first}
    assert gates.note(first, a_pass(first, DONE, error=Fault(Reason.VAULT_SEALED, "sealed"))) == {second}


def with_values(found: Pass, *made: Made) -> Pass:
    """The pass, which was to make a new value, and has made these."""
    value = GenerateValue(
        KEY, Generate(secret="app", fields=("password",)), Target(KV, "secret", "app"), "2", NOW, requested=False
    )
    return replace(found, plan=Plan((value,)), made=made)


@pytest.mark.parametrize("end", ["refused", "cut short"])
def test_a_value_that_was_not_made_gives_its_place_back_at_once_and_who_waits_is_told(end: str) -> None:
    gates = keeper()
    a, b = workload("a"), workload("b")
    assert gates.enter_value(a)
    gates.note(b, a_pass(b, WAITING))
    refused = with_values(a_pass(a, DONE))
    if end == "cut short":
        assert refused.plan is not None
        error = Fault(Reason.VAULT_SEALED, "sealed")
        refused = replace(refused, desired=None, plan=None, cut_short=(DONE, refused.plan), error=error)
    assert gates.note(a, refused) == {b}
    assert gates.gate(b).slot_free


def test_a_value_that_was_made_keeps_its_place_and_says_until_when() -> None:
    moment = [0.0]
    gates = Gatekeeper(Limits(1), now=lambda: NOW, clock=lambda: moment[0])
    a, b = workload("a"), workload("b")
    assert gates.place_ends_in(a) is None
    assert gates.enter_value(a)
    gates.note(b, a_pass(b, WAITING))
    assert gates.note(a, with_values(a_pass(a, DONE), Made(KEY, "app", "made"))) == set()
    moment[0] = 10.0
    assert gates.place_ends_in(a) == 20.0
    moment[0] = 30.0
    assert gates.note(a, a_pass(a, DONE)) == {b}
    assert gates.place_ends_in(a) is None


def test_a_value_settles_for_as_long_as_its_binding_says_and_keeps_its_place() -> None:
    moment = [0.0]
    gates = Gatekeeper(Limits(1), now=lambda: NOW, clock=lambda: moment[0])
    a, b = workload("a"), workload("b")
    assert gates.enter_value(a)
    item = SecretDecision("app", pin=OLD, serving=OLD, waiting=NEW, hold=HELD, obstacle=Obstacle.SETTLE)
    found = a_pass(a, wanting(replace(item, until=NOW + timedelta(seconds=90))))
    gates.note(a, replace(found, observed=replace(found.observed, gate=gates.gate(a))))
    moment[0] = 95.0
    assert not gates.gate(b).slot_free
    assert gates.enter(a, ROTATION)


def test_a_job_that_cannot_be_looked_at_after_its_value_was_made_keeps_no_place() -> None:
    moment = [0.0]
    gates = Gatekeeper(Limits(1), now=lambda: NOW, clock=lambda: moment[0])
    a, b = workload("a"), workload("b")
    assert gates.enter_value(a)
    gates.note(a, with_values(a_pass(a, DONE), Made(KEY, "app", "made")))
    gates.note(a, a_pass(a, DONE, error=Fault(Reason.VAULT_SEALED, "sealed")))
    assert not gates.gate(b).slot_free
    moment[0] = 31.0
    assert gates.gate(b).slot_free
