"""When the new values of a workload are made: after rights, beside no registration, together with their roll."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretbinding.desired.values import BindingInput
from secretbinding.gate import Gate, Obstacle
from secretbinding.generation import Attempts, GenerateRequest, GenerateValue, Generation, Tried
from secretbinding.kinds.base import Fault, Pin, SecretState
from secretbinding.models.binding import Generate
from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import SecretBindingStatus
from secretbinding.plan import Plan, RegisterJob, WritePolicy, WriteRole
from secretbinding.plan_text import describe
from secretbinding.render.policy import read_policy
from secretbinding.rotation import nanoseconds_to_time
from secretbinding.status import Pass, Requests, compute_status
from tests.support import builders as make
from tests.support.builders import INSTANCE
from tests.unit.core.world import World

NIGHTLY = "0 3 * * *"
TICK = datetime(2027, 1, 15, 3, 0, tzinfo=UTC)
DAY = 86400.0
FIELDS = {0: {"username": None, "password": None}}
OVERDUE: dict[str, Any] = {"secret": "app", "schedule": NIGHTLY, "fields": ["password"]}
ON_REQUEST: dict[str, Any] = {"secret": "app", "fields": ["password"]}


def world(**gate: Any) -> World:
    """A deployed job and a KV secret that is a year old; it is eight in the morning."""
    made = World()
    made.gate = replace(Gate(now=TICK), **gate)
    made.secrets["kv", "myapp"] = make.kv_state()
    made.user_registers(make.job())
    made.finish_deployment()
    return made


def of_kv(*generate: dict[str, Any], **rotation: Any) -> BindingInput:
    return make.given(make.binding(make.kv(), make.spec(rotation={"generate": list(generate), **rotation})))


def of_static_role(*generate: dict[str, Any], **rotation: Any) -> BindingInput:
    entry = make.database("app", staticRole="app")
    return make.given(make.binding(entry, make.spec(rotation={"generate": list(generate), **rotation})))


def static(rotated: datetime) -> SecretState:
    return SecretState("database", fields=FIELDS, revision=Pin.revision(rotated.isoformat()), invalidates=True)


def injected(made: World, item: BindingInput) -> World:
    """The world with the binding in its job, as it is before anything was generated."""
    assert item.binding is not None
    plain = item.binding.model_copy(
        update={
            "spec": item.binding.spec.model_copy(
                update={"rotation": item.binding.spec.rotation.model_copy(update={"generate": ()})}
            )
        }
    )
    made.settle([replace(item, binding=plain)])
    return made


def now(made: World) -> datetime:
    return nanoseconds_to_time(made.now)


def ask(item: BindingInput, at: datetime, *secrets: str) -> BindingInput:
    return replace(item, generate_request=GenerateRequest(at, secrets))


def decided(made: World, item: BindingInput) -> Generation:
    found, _ = made.decide([item])
    return found.generations[item.key, "app"]


def newest(made: World) -> int:
    return made.secrets["kv", "myapp"].current


def pinned(made: World) -> str:
    """What the job reads."""
    (template,) = make.templates_of(made.job or {})
    return str(template["EmbeddedTmpl"])


# --- the order of things ----------------------------------------------------------------------------------------------


def test_a_value_that_is_due_is_made_and_the_next_pass_rolls_it() -> None:
    item = of_kv(OVERDUE)
    made = injected(world(), item)
    plan = made.run([item])
    (action,) = plan.actions
    assert isinstance(action, GenerateValue)
    assert (action.seen, action.due, action.requested) == ("1", TICK, False)
    assert describe(action) == "~ version 2 of secret secret/myapp with new password: due at 2027-01-15T03:00:00Z"
    assert made.run([item]).registers
    assert "?version=2" in pinned(made)
    made.finish_deployment()
    assert made.settle([item]).actions == ()
    assert len(made.generated) == 1


def test_a_first_injection_is_not_held_up_and_the_value_follows_when_it_is_deployed() -> None:
    made, item = world(), of_kv(OVERDUE)
    assert made.run([item]).registers
    assert made.generated == []
    assert made.run([item]).actions == ()
    assert decided(made, item).wait is not None
    made.finish_deployment()
    assert made.run([item]).generates


def test_a_secret_that_is_not_there_is_made_before_the_job_needs_it() -> None:
    made, item = world(), of_kv(OVERDUE)
    missing = Fault(Reason.SECRET_NOT_FOUND, "no secret")
    made.secrets["kv", "myapp"] = SecretState(engine="v2", pinnable=True, fault=missing)
    plan = made.run([item])
    assert not plan.registers
    assert [type(action) for action in plan.actions][-1] is GenerateValue
    assert describe(plan.actions[-1]) == "+ version 1 of secret secret/myapp with new password: it is not there"
    assert made.run([item]).registers


def test_rights_come_first_and_no_plan_both_registers_and_makes_a_value() -> None:
    made, item = world(), of_kv(OVERDUE)
    for _ in range(8):
        plan = made.run([item])
        kinds = [type(action) for action in plan.actions]
        assert not (RegisterJob in kinds and GenerateValue in kinds)
        if GenerateValue in kinds:
            written = [place for place, kind in enumerate(kinds) if kind in (WritePolicy, WriteRole)]
            assert all(place < kinds.index(GenerateValue) for place in written)
        made.finish_deployment()
    assert len(made.generated) == 1


@pytest.mark.parametrize("change", ["suspended", "invalid", "deleting"])
def test_a_binding_that_is_suspended_invalid_or_going_makes_no_value(change: str) -> None:
    item = of_kv(OVERDUE)
    made = injected(world(), item)
    changed = make.given(item.binding, **{change: True})
    assert not any(isinstance(action, GenerateValue) for action in made.run([changed]).actions)


def test_a_binding_that_is_refused_makes_no_value() -> None:
    made, item = World(), of_kv(OVERDUE)
    made.gate = Gate(now=TICK)
    made.secrets["kv", "myapp"] = make.kv_state()
    made.user_registers(make.job(make.group(make.task(Vault={"Role": "own"}))))
    made.finish_deployment()
    assert not made.run([item]).generates
    found, _ = made.decide([item])
    assert found.generations == {}


def test_two_bindings_that_want_one_secret_anew_make_one_value() -> None:
    first = of_kv(OVERDUE)
    second = make.given(
        make.binding(make.kv(env={"OTHER": "password"}), make.spec(rotation={"generate": [OVERDUE]}), name="other")
    )
    made = world()
    made.settle([first, second])
    assert [action.key.name for action in made.generated] == ["app"]


def of_one_kv(*generate: dict[str, Any], **rotation: Any) -> BindingInput:
    """Two entries of one KV secret, of which one reads the password and one the username."""
    secrets = make.kv(env={"DB_PASS": "password"}), make.kv("tok", env={"DB_USER": "username"})
    return make.given(make.binding(*secrets, make.spec(rotation={"generate": list(generate), **rotation})))


TOKEN: dict[str, Any] = {"secret": "tok", "fields": ["username"]}


def made_fields(made: World) -> list[tuple[str, ...]]:
    return [action.fields for action in made.generated]


def test_all_entries_of_one_secret_that_are_due_make_one_version_and_one_roll() -> None:
    item = of_one_kv(OVERDUE, {**TOKEN, "schedule": "0 2 * * *"})
    made = injected(world(), item)
    plan = made.run([item])
    assert [describe(action) for action in plan.actions] == [
        "~ version 2 of secret secret/myapp with new password, username: due at 2027-01-15T03:00:00Z"
    ]
    (action,) = made.generated
    assert [(part.entry.secret, part.due.hour) for part in action.parts] == [("app", 3), ("tok", 2)]
    before = (made.job or {})["Version"]
    made.settle([item])
    assert ((made.job or {})["Version"], newest(made), len(made.generated)) == (before + 1, 2, 1)


def test_a_secret_that_is_not_there_begins_with_the_fields_of_all_its_entries() -> None:
    made, item = world(), of_one_kv(OVERDUE, {**TOKEN, "schedule": "0 2 1 * *"})
    missing = Fault(Reason.SECRET_NOT_FOUND, "no secret")
    made.secrets["kv", "myapp"] = SecretState(engine="v2", pinnable=True, fault=missing)
    made.run([item])
    assert made_fields(made) == [("password", "username")]


def test_a_request_is_answered_when_every_entry_of_the_secret_was_made_and_one_that_names_one_makes_that_alone() -> (
    None
):
    item = of_one_kv(ON_REQUEST, TOKEN)
    made = injected(world(), item)
    asked = ask(item, now(made))
    assert status(made, asked, "the request").last_handled_generate_at is None
    made.wait(10)
    made.run([asked])
    assert made_fields(made) == [("password", "username")]
    assert status(made, asked, "the request").last_handled_generate_at == "the request"
    made.settle([asked])
    made.finish_deployment()
    one = ask(item, now(made), "tok")
    made.wait(10)
    made.settle([one])
    assert made_fields(made) == [("password", "username"), ("username",)]


def test_entries_of_one_secret_with_different_schedules_each_come_when_they_are_due() -> None:
    item = of_one_kv(OVERDUE, {**TOKEN, "schedule": "0 9 * * 6"})
    made = injected(world(), item)
    made.secrets["kv", "myapp"] = make.kv_state()
    made.run([item])
    first = made_fields(made)
    for _ in range(7 * 24):
        made.settle([item])
        made.finish_deployment()
        made.wait(3600)
    assert first == [("password", "username")]
    after = made_fields(made)[1:]
    assert (after.count(("password",)), after.count(("username",)), len(after)) == (7, 1, 8)


def test_what_waits_for_a_window_comes_with_a_request_for_another_entry_of_the_secret() -> None:
    item = of_one_kv(OVERDUE, TOKEN, windows=[EVENINGS])
    made = injected(world(), item)
    assert made.run([item]).actions == ()
    asked = ask(item, now(made) - timedelta(seconds=5), "tok")
    made.run([asked])
    assert made_fields(made) == [("username", "password")]


def test_what_failed_of_one_entry_is_tried_again_with_the_next_one_that_is_due() -> None:
    item = of_one_kv(OVERDUE, TOKEN)
    made = injected(world(), item)
    due = decided(made, item).due
    assert due is not None
    fault = Fault(Reason.PERMISSION_DENIED, "no right to patch")
    tried = Tried(Generate(**_as_given(OVERDUE)), due, now(made) + timedelta(minutes=5), fault)
    made.attempts = Attempts({(item.key, "app"): tried})
    assert made.run([item]).actions == ()
    made.run([ask(item, now(made) - timedelta(seconds=5), "tok")])
    assert made_fields(made) == [("username", "password")]


# --- what a value waits for -------------------------------------------------------------------------------------------


EVENINGS = {"kind": "Allow", "schedule": "0 20 * * *", "duration": "2h"}


@pytest.mark.parametrize("kind", ["kv", "static role"])
def test_a_value_waits_for_the_window_in_which_it_can_be_rolled(kind: str) -> None:
    if kind == "kv":
        item = of_kv(OVERDUE, windows=[EVENINGS])
    else:
        item = of_static_role({"secret": "app", "schedule": NIGHTLY}, windows=[EVENINGS])
    made = world()
    made.secrets["database", "app"] = static(TICK - timedelta(days=2))
    injected(made, item)
    held = decided(made, item)
    assert held.wait is not None
    assert held.wait.obstacle is Obstacle.WINDOW
    assert held.until == TICK.replace(hour=20)
    assert made.run([item]).actions == ()
    made.wait((TICK.replace(hour=20) - now(made)).total_seconds() + 1)
    assert made.run([item]).generates
    assert made.run([item]).registers


def test_a_request_waits_for_no_window() -> None:
    item = of_kv(ON_REQUEST, windows=[EVENINGS])
    made = injected(world(), item)
    asked = ask(item, now(made) - timedelta(seconds=5))
    assert made.run([asked]).generates
    assert made.run([asked]).registers


def test_a_request_that_comes_while_a_scheduled_value_waits_is_looked_at_when_it_can_be_answered() -> None:
    item = of_kv(OVERDUE, windows=[EVENINGS])
    made = injected(world(), item)
    asked = ask(item, now(made))
    held = decided(made, asked)
    assert held.wait is not None
    assert held.look_at == now(made) + timedelta(seconds=2)
    made.wait(2)
    assert decided(made, asked).now


def test_a_value_waits_for_the_least_interval_between_two_rolls() -> None:
    item = of_kv(OVERDUE, minInterval="5h")
    made = injected(world(), item)
    held = decided(made, item)
    assert held.wait is not None
    assert held.wait.obstacle is Obstacle.MIN_INTERVAL
    made.wait(5 * 3600)
    assert decided(made, item).now


def test_no_value_is_made_in_a_window_that_closes_before_the_change_has_settled() -> None:
    short = {"kind": "Allow", "schedule": "0 20 * * *", "duration": "1m"}
    item = of_kv(OVERDUE, windows=[short], settle="90s")
    made = injected(world(), item)
    made.wait((TICK.replace(hour=20) - now(made)).total_seconds() + 1)
    held = decided(made, item)
    assert held.wait is not None
    assert held.wait.obstacle is Obstacle.WINDOW
    assert "before the change has settled" in held.wait.why
    assert held.until == TICK.replace(hour=20, minute=1)
    assert decided(made, of_kv(OVERDUE, windows=[short], settle="30s")).now


def test_a_scheduled_value_takes_the_place_of_a_roll_and_one_that_is_asked_for_does_not() -> None:
    item = of_kv(OVERDUE)
    made = injected(world(), item)
    assert decided(made, item).rolls
    assert not decided(made, ask(item, now(made) - timedelta(seconds=5))).rolls


def test_a_value_waits_for_a_free_slot() -> None:
    item = of_kv(OVERDUE)
    made = injected(world(), item)
    made.gate = replace(made.gate, slot_free=False)
    held = decided(made, item)
    assert held.wait is not None
    assert held.wait.obstacle is Obstacle.SLOT


def test_where_nomad_would_replace_all_at_once_a_password_that_ends_the_old_one_waits_to_be_asked_for() -> None:
    group = make.group(Update={"MaxParallel": 0})
    for item, waits in ((of_kv(OVERDUE), False), (of_static_role({"secret": "app", "schedule": NIGHTLY}), True)):
        made = World()
        made.gate = Gate(now=TICK)
        made.secrets["kv", "myapp"] = make.kv_state()
        made.secrets["database", "app"] = static(TICK - timedelta(days=2))
        made.user_registers(make.job(group))
        made.finish_deployment()
        injected(made, item)
        found = decided(made, item)
        assert (found.wait is not None and found.wait.obstacle is Obstacle.UNGATED) == waits
        assert decided(made, ask(item, now(made) - timedelta(seconds=5))).now


def test_while_a_deployment_runs_not_even_a_request_makes_a_value() -> None:
    item = of_kv(ON_REQUEST)
    made = injected(world(), item)
    made.user_registers(make.job(make.group(make.task(Env={"A": "2"}))))
    made.run([item])
    asked = ask(item, now(made) - timedelta(seconds=5))
    held = decided(made, asked)
    assert held.wait is not None
    assert held.wait.obstacle is Obstacle.DEPLOYMENT
    made.finish_deployment()
    assert decided(made, asked).now


def test_before_nomad_has_begun_a_deployment_the_allocations_tell_that_one_is_to_come() -> None:
    item = of_kv(OVERDUE)
    made = injected(world(), item)
    made.user_registers({**(made.job or {}), "Meta": {"a": "b"}})
    made.deployments.pop(0)
    held = decided(made, item)
    assert held.wait is not None
    assert held.wait.obstacle is Obstacle.DEPLOYMENT


def test_nothing_waits_where_nomad_acts_by_itself() -> None:
    item = of_kv(OVERDUE, strategy="Native")
    made = injected(world(slot_free=False), item)
    assert decided(made, item).now


# --- what a request brings with it ------------------------------------------------------------------------------------


def test_with_manual_strategy_a_scheduled_value_waits_for_a_person_and_a_requested_one_is_rolled() -> None:
    item = of_kv(OVERDUE, strategy="Manual")
    made = injected(world(), item)
    assert made.run([item]).generates
    assert made.run([item]).actions == ()
    found, _ = made.decide([item])
    hold = found.results[item.key].secrets[0].hold
    assert hold is not None
    assert hold.reason is Reason.MANUAL_ROTATION_PENDING

    asked = ask(item, now(made) + timedelta(seconds=1))
    made.wait(10)
    assert made.run([asked]).generates
    assert made.run([asked]).registers
    assert "?version=3" in pinned(made)


def test_a_version_that_somebody_writes_after_the_requested_one_is_not_rolled_for_that_request() -> None:
    item = of_kv(ON_REQUEST, strategy="Manual")
    made = injected(world(), item)
    asked = ask(item, now(made))
    made.wait(10)
    assert made.run([asked]).generates
    made._generate(replace(made.generated[-1], seen="2"))
    assert made.run([asked]).actions == ()


def test_a_password_that_vault_rotates_after_the_requested_one_is_not_rolled_for_that_request() -> None:
    item = of_static_role({"secret": "app"}, strategy="Manual")
    made = World()
    made.gate = Gate(now=TICK)
    made.secrets["database", "app"] = static(TICK - timedelta(days=2))
    made.user_registers(make.job(make.group()))
    made.finish_deployment()
    injected(made, item)
    asked = ask(item, now(made) + timedelta(seconds=1))
    made.wait(10)
    made.secrets["database", "app"] = static(now(made))
    assert made.run([asked]).registers
    made.finish_deployment()
    made.wait(3600)
    made.secrets["database", "app"] = static(now(made))
    assert not made.run([asked]).registers


def test_a_request_for_one_secret_leaves_the_others_alone() -> None:
    other = {"secret": "other", "fields": ["password"]}
    item = make.given(
        make.binding(make.kv(), make.kv("other", path="other"), make.spec(rotation={"generate": [ON_REQUEST, other]}))
    )
    made = world()
    made.secrets["kv", "other"] = make.kv_state()
    made.settle([item])
    asked = ask(item, now(made), "other")
    made.wait(10)
    made.settle([asked])
    assert [action.entry.secret for action in made.generated] == ["other"]


def test_a_failed_state_is_not_tried_again_for_a_request_but_the_new_value_is() -> None:
    item = of_kv(ON_REQUEST)
    made = injected(world(), item)
    made.secrets["kv", "myapp"] = make.kv_state(2)
    assert made.run([item]).registers
    made.finish_deployment(success=False)
    made.settle([item])
    asked = ask(item, now(made) + timedelta(seconds=1))
    made.wait(10)
    plan = made.run([asked])
    assert plan.generates
    assert not plan.registers
    assert made.run([asked]).registers
    assert "?version=3" in pinned(made)


# --- root passwords ---------------------------------------------------------------------------------------------------


def of_root() -> BindingInput:
    entry = make.database("app", role="app")
    rotation = {"generate": [{"secret": "app", "rotateRoot": "main"}]}
    return make.given(make.binding(entry, make.spec(rotation=rotation)))


def rooted() -> World:
    made = world()
    made.secrets["database", "app"] = SecretState("database", fields=FIELDS, lease_seconds=3600.0)
    return made


def answered(made: World) -> dict[str, str]:
    documents = [read_policy(text) for text in made.policies.values()]
    (found,) = [dict(item[0].answered) for item in documents if item is not None]
    return found


def test_a_root_password_is_made_anew_once_for_a_request_which_the_policy_remembers() -> None:
    made, item = rooted(), of_root()
    made.settle([item])
    assert made.generated == []
    asked = ask(item, now(made))
    made.wait(10)
    plan = made.run([asked])
    assert [describe(action) for action in plan.actions] == [
        "~ password of root user of connection database/main: asked for at "
        f"{asked.generate_request.at:%Y-%m-%dT%H:%M:%SZ}"
        if asked.generate_request is not None
        else ""
    ]
    assert answered(made) == {"app": asked.generate_request.at.isoformat() if asked.generate_request else ""}
    assert made.settle([asked]).actions == ()
    assert len(made.generated) == 1
    assert made.run([ask(item, now(made) - timedelta(seconds=3))]).generates


def test_what_the_policy_remembers_stays_when_it_is_written_anew() -> None:
    made, item = rooted(), of_root()
    made.settle([item])
    asked = ask(item, now(made))
    made.wait(10)
    made.settle([asked])
    remembered = answered(made)
    more = make.binding(
        make.database("app", role="app"),
        make.kv("more"),
        make.spec(rotation={"generate": [{"secret": "app", "rotateRoot": "main"}]}),
    )
    made.settle([replace(asked, binding=more)])
    assert answered(made) == remembered
    assert len(made.generated) == 1


def test_a_root_password_waits_until_its_policy_is_there_to_remember_it() -> None:
    made, item = rooted(), of_root()
    asked = ask(item, now(made) - timedelta(seconds=10))
    first = made.run([asked])
    assert any(isinstance(action, WritePolicy) for action in first.actions)
    assert made.generated == []
    made.finish_deployment()
    made.settle([asked])
    assert len(made.generated) == 1


# --- what is told -----------------------------------------------------------------------------------------------------


def status(made: World, item: BindingInput, request: str = "") -> SecretBindingStatus:
    desired, plan = made.decide([item])
    found = Pass(INSTANCE, made.observe([item]), desired, plan)
    return compute_status(item, found, SecretBindingStatus(), now(made), requests=Requests(generate=request))


def test_the_status_shows_when_the_next_value_is_due() -> None:
    item = of_kv(OVERDUE)
    made = injected(world(), item)
    made.settle([item])
    assert status(made, item).secrets[0].next_rotation_at == "2027-01-16T03:00:00Z"


def test_the_status_shows_what_a_value_waits_for_and_until_when() -> None:
    item = of_kv(OVERDUE, windows=[EVENINGS])
    made = injected(world(), item)
    found = status(made, item).secrets[0]
    assert found.next_rotation_at == "2027-01-15T20:00:00Z"
    assert found.message is not None
    assert found.message.startswith("a new value of app waits: no window is open now")


def test_a_request_is_answered_when_the_value_is_there_and_not_before() -> None:
    item = of_kv(ON_REQUEST)
    made = injected(world(), item)
    asked = ask(item, now(made))
    made.wait(10)
    assert status(made, asked, "the request").last_handled_generate_at is None
    made.run([asked])
    assert status(made, asked, "the request").last_handled_generate_at == "the request"


@pytest.mark.parametrize("missing", [False, True], ids=["there", "missing"])
def test_what_hinders_a_value_shows_in_the_condition_and_does_not_touch_readiness(missing: bool) -> None:
    item = of_kv(OVERDUE)
    made = injected(world(), item)
    if missing:
        fault = Fault(Reason.SECRET_NOT_FOUND, "no secret")
        made = world()
        made.secrets["kv", "myapp"] = SecretState(engine="v2", pinnable=True, fault=fault)
    due = decided(made, item).due
    assert due is not None
    fault = Fault(Reason.PERMISSION_DENIED, "no right to patch")
    retry = now(made) + timedelta(seconds=5)
    made.attempts = Attempts({(item.key, "app"): Tried(Generate(**_as_given(OVERDUE)), due, retry, fault)})
    assert not made.run([item]).generates
    told = status(made, item)
    rotation, ready = told.condition(ConditionType.ROTATION_HEALTHY), told.condition(ConditionType.READY)
    assert rotation is not None
    assert ready is not None
    assert (rotation.status, rotation.reason, rotation.message) == ("False", "PermissionDenied", "no right to patch")
    assert ready.reason == (Reason.SECRET_NOT_FOUND if missing else Reason.READY)


def _as_given(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "fields": tuple(entry["fields"])}


# --- whatever happens -------------------------------------------------------------------------------------------------


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(1.0, 2 * DAY)),
        st.tuples(st.just("pass"), st.integers(1, 4)),
        st.tuples(st.just("user registers"), st.integers(0, 9)),
        st.tuples(st.just("deployment ends"), st.booleans()),
        st.tuples(st.just("somebody writes"), st.just(0)),
        st.tuples(st.just("ask"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_each_tick_and_each_request_makes_one_value_at_most_and_what_is_overdue_makes_one(
    events: list[tuple[str, Any]],
) -> None:
    item = of_kv(OVERDUE)
    made = injected(world(), item)
    moments: list[datetime] = [TICK]
    for event, value in events:
        if event == "wait":
            made.wait(value)
        elif event == "pass":
            for _ in range(value):
                made.run([item])
        elif event == "user registers":
            made.user_registers({**make.job(make.group(make.task(Env={"N": str(value)}))), "Meta": None})
        elif event == "deployment ends":
            made.finish_deployment(success=value)
        elif event == "somebody writes" and made.secrets["kv", "myapp"].current:
            _written(made)
        elif event == "ask":
            item = ask(item, now(made))
            moments.append(now(made))
        _at_most_one_each(made, moments)
    for _ in range(12):
        made.wait(5)
        made.run([item])
        made.finish_deployment()
    _at_most_one_each(made, moments)
    # Whatever came before: at the end nothing is overdue, and the job reads the newest version.
    assert decided(made, item).due is None
    assert f"?version={newest(made)}" in pinned(made)


def _written(made: World) -> None:
    before = made.generated.copy()
    template = GenerateValue(
        make.key(),
        Generate(**_as_given(OVERDUE)),
        decided(made, of_kv(OVERDUE)).target,
        str(newest(made)),
        TICK,
        requested=False,
    )
    made._generate(template)
    made.generated = before


def _at_most_one_each(made: World, asked: list[datetime]) -> None:
    dues = [action.due for action in made.generated]
    assert len(dues) == len(set(dues))
    for due in dues:
        assert due in asked or (due.hour, due.minute, due.second) == (3, 0, 0)


def test_a_plan_says_whether_it_makes_a_value() -> None:
    assert not Plan().generates
