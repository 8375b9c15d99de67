"""What a status says, for every turn that a binding's life can take."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from secretbinding.desired import BindingInput
from secretbinding.kinds.base import Fault
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import ConditionStatus, SecretBindingStatus
from secretbinding.status import Pass, Requests, compute_status, transitions
from tests.support import builders as make
from tests.support.builders import INSTANCE, binding, kv_state
from tests.unit.core.world import World

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
EMPTY = SecretBindingStatus()
LACKING = replace(kv_state(2), fields={1: {"password": None}, 2: {"other": None}})


def scene(*, job: bool = True, auto_revert: bool = True) -> tuple[World, BindingInput]:
    world = World(auto_revert=auto_revert)
    world.secrets["kv", "app"] = kv_state(1)
    if job:
        world.user_registers(make.job())
        world.finish_deployment()
    return world, replace(make.given(binding(make.kv("app", path="app"))), generation=3)


def look(
    world: World,
    item: BindingInput,
    previous: SecretBindingStatus = EMPTY,
    *,
    registered: bool = False,
    now: datetime = NOW,
) -> SecretBindingStatus:
    """The status after a pass that found the world as it is."""
    desired, plan = world.decide([item])
    found = Pass(INSTANCE, world.observe([item]), desired, plan, registered=registered)
    return compute_status(item, found, previous, now)


def failing(item: BindingInput, previous: SecretBindingStatus, reason: Reason, system: str) -> SecretBindingStatus:
    world, _ = scene()
    found = Pass(INSTANCE, world.observe([item]), error=Fault(reason, "what went wrong"), error_system=system)
    return compute_status(item, found, previous, NOW)


def at(status: SecretBindingStatus, kind: ConditionType) -> tuple[ConditionStatus, str]:
    condition = status.condition(kind)
    assert condition is not None, kind
    return condition.status, condition.reason


def test_a_missing_job_is_waited_for_and_stalls_nothing() -> None:
    world, item = scene(job=False)
    status = look(world, item)
    assert at(status, ConditionType.READY) == (FALSE, Reason.JOB_NOT_FOUND)
    assert at(status, ConditionType.STALLED) == (FALSE, Reason.SYNCED)
    assert at(status, ConditionType.VAULT_SYNCED) == (TRUE, Reason.SYNCED)
    assert status.observed_generation == 3
    assert len(status.policies) == 1
    assert len(status.roles) == 1


def test_the_first_rollout_is_not_ready_until_its_deployment_has_succeeded() -> None:
    world, item = scene()
    assert world.run([item]).registers
    assert at(look(world, item), ConditionType.READY) == (FALSE, Reason.ROLLING_OUT)
    world.finish_deployment()
    status = look(world, item)
    assert at(status, ConditionType.READY) == (TRUE, Reason.READY)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.UP_TO_DATE)
    assert [(secret.serving_version, secret.wanted_version) for secret in status.secrets] == [("1", "1")]


def test_a_rotation_does_not_flip_ready_and_says_what_serves_until_it_is_over() -> None:
    world, item = scene()
    world.settle([item])
    world.secrets["kv", "app"] = kv_state(2)
    assert world.run([item]).registers
    status = look(world, item)
    assert at(status, ConditionType.READY) == (TRUE, Reason.READY)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.DEPLOYMENT_RUNNING)
    assert (status.secrets[0].serving_version, status.secrets[0].wanted_version) == ("1", "2")
    world.finish_deployment()
    after = look(world, item, status, now=NOW + timedelta(minutes=1))
    assert at(after, ConditionType.ROTATION_HEALTHY) == (TRUE, Reason.UP_TO_DATE)
    assert after.secrets[0].serving_version == "2"
    assert after.last_rotation_time == "2026-03-01T12:01:00Z"


def test_a_binding_that_comes_again_after_its_removal_is_not_ready_by_what_it_had_before() -> None:
    world, item = scene()
    world.settle([item])
    world.settle([replace(item, deleting=True)])
    assert world.run([item]).registers
    assert at(look(world, item), ConditionType.READY) == (FALSE, Reason.ROLLING_OUT)


@pytest.mark.parametrize("auto_revert", [True, False])
def test_a_failed_rotation_leaves_it_ready_and_tells_what_failed_and_what_serves(auto_revert: bool) -> None:
    world, item = scene(auto_revert=auto_revert)
    world.settle([item])
    world.secrets["kv", "app"] = kv_state(2)
    world.run([item])
    world.finish_deployment(success=False)
    world.run([item])
    world.finish_deployment()
    status = look(world, item)
    assert at(status, ConditionType.READY) == (TRUE, Reason.READY)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.DEPLOYMENT_REVERTED)
    assert at(status, ConditionType.STALLED) == (TRUE, Reason.DEPLOYMENT_REVERTED)
    assert status.failed is not None
    assert status.failed.secret_versions == {"app": "2"}
    assert (status.secrets[0].serving_version, status.secrets[0].wanted_version) == ("1", "2")


def test_a_first_injection_that_failed_is_not_ready_and_stalled() -> None:
    world, item = scene()
    world.run([item])
    world.finish_deployment(success=False)
    world.run([item])
    world.finish_deployment()
    status = look(world, item)
    assert at(status, ConditionType.READY) == (FALSE, Reason.DEPLOYMENT_FAILED)
    assert at(status, ConditionType.STALLED) == (TRUE, Reason.DEPLOYMENT_FAILED)


def test_a_version_without_a_field_is_refused_while_the_old_one_serves() -> None:
    world, item = scene()
    world.settle([item])
    world.secrets["kv", "app"] = LACKING
    status = look(world, item)
    assert at(status, ConditionType.READY) == (TRUE, Reason.READY)
    assert at(status, ConditionType.ROTATION_HEALTHY) == (FALSE, Reason.SECRET_FIELD_MISSING)
    assert status.secrets[0].message is not None


@pytest.mark.parametrize(
    ("reason", "system", "kind", "expected", "stalled"),
    [
        (Reason.VAULT_SEALED, "vault", ConditionType.VAULT_SYNCED, UNKNOWN, FALSE),
        (Reason.PERMISSION_DENIED, "vault", ConditionType.VAULT_SYNCED, FALSE, TRUE),
        (Reason.NOMAD_UNREACHABLE, "nomad", ConditionType.JOB_SYNCED, UNKNOWN, FALSE),
    ],
)
def test_an_outage_leaves_ready_as_it_was_and_says_which_side_is_away(
    reason: Reason, system: str, kind: ConditionType, expected: ConditionStatus, stalled: ConditionStatus
) -> None:
    world, item = scene()
    world.settle([item])
    before = look(world, item)
    status = failing(item, before, reason, system)
    assert at(status, ConditionType.READY) == (TRUE, Reason.READY)
    assert at(status, kind) == (expected, reason)
    assert at(status, ConditionType.STALLED)[0] is stalled
    assert status.secrets == before.secrets


def test_an_outage_before_the_first_look_is_not_ready() -> None:
    _, item = scene()
    status = failing(item, EMPTY, Reason.VAULT_SEALED, "vault")
    assert at(status, ConditionType.READY) == (FALSE, Reason.VAULT_SEALED)


def test_a_binding_that_is_going_says_what_it_waits_for() -> None:
    world, item = scene()
    world.settle([item])
    going = replace(item, deleting=True)
    world.run([going])
    status = look(world, going)
    assert at(status, ConditionType.READY) == (FALSE, Reason.DELETING)
    ready = status.condition(ConditionType.READY)
    assert ready is not None
    assert "deployment" in ready.message


def test_a_transition_time_changes_only_when_the_status_does() -> None:
    world, item = scene()
    world.settle([item])
    before = look(world, item)
    later = look(world, item, before, now=NOW + timedelta(hours=1))
    assert later == before
    world.secrets["kv", "app"] = LACKING
    after = look(world, item, before, now=NOW + timedelta(hours=2))
    times = {condition.type: condition.last_transition_time for condition in after.conditions}
    assert times[ConditionType.READY] == "2026-03-01T12:00:00Z"
    assert times[ConditionType.ROTATION_HEALTHY] == "2026-03-01T14:00:00Z"


def test_events_tell_of_what_changed_and_of_nothing_else() -> None:
    world, item = scene()
    world.settle([item])
    before = look(world, item)
    assert [event.reason for event in transitions(EMPTY, before)] == [Reason.READY]
    assert transitions(before, look(world, item, before, now=NOW + timedelta(hours=1))) == ()
    world.secrets["kv", "app"] = LACKING
    (event,) = transitions(before, look(world, item, before))
    assert (event.kind, event.reason) == ("Warning", Reason.SECRET_FIELD_MISSING)


def test_a_request_is_answered_by_a_pass_that_was_not_stopped() -> None:
    world, item = scene()
    world.settle([item])
    desired, plan = world.decide([item])
    found = Pass(INSTANCE, world.observe([item]), desired, plan)
    assert compute_status(item, found, EMPTY, NOW, requests=Requests("now")).last_handled_rotate_at == "now"
    stopped = replace(found, error=Fault(Reason.VAULT_SEALED, "sealed"), error_system="vault")
    assert compute_status(item, stopped, EMPTY, NOW, requests=Requests("now")).last_handled_rotate_at is None


@pytest.mark.parametrize("text", ["now", "soon, please " * 40])
def test_a_request_that_cannot_be_read_is_told_once_and_never_stands_in_the_way(text: str) -> None:
    world, item = scene()
    world.settle([item])
    desired, plan = world.decide([item])
    found = Pass(INSTANCE, world.observe([item]), desired, plan)
    told = compute_status(item, found, EMPTY, NOW, requests=Requests(rotate=text, generate=text))
    events = [event for event in transitions(EMPTY, told) if event.reason is Reason.REQUEST_UNREADABLE]
    assert [event.kind for event in events] == ["Warning", "Warning"]
    assert "rotate-requested-at" in events[0].message
    assert "generate-requested-at" in events[1].message
    assert all(text not in event.message for event in events)
    again = compute_status(item, found, told, NOW, requests=Requests(rotate=text, generate=text))
    assert (again, transitions(told, again)) == (told, ())


def test_a_request_whose_registration_is_put_off_is_not_answered_yet() -> None:
    world, item = scene()
    world.settle([item])
    desired, plan = world.decide([item])
    found = Pass(INSTANCE, world.observe([item]), desired, replace(plan, deferred="an allocation is starting"))
    assert compute_status(item, found, EMPTY, NOW, requests=Requests("now")).last_handled_rotate_at is None
