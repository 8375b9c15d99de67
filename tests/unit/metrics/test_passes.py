"""What the decisions of the pure core amount to when they are counted, on a Vault and a Nomad of plain values."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from secretbinding.desired import BindingInput
from secretbinding.gate import Gate
from secretbinding.kinds.base import Fault, Pin, SecretState
from secretbinding.metrics.decisions import Decided, Drifted, Ended, Memory, Occurrence, Registered, follow
from secretbinding.metrics.passes import references_of, sight_of
from secretbinding.models.reasons import Reason
from secretbinding.plan import RegisterJob
from secretbinding.status import Pass
from tests.support import builders as make
from tests.support.builders import INSTANCE, binding, kv_state
from tests.unit.core.world import World

CLOSED = {"windows": [{"kind": "Deny", "schedule": "* * * * *", "duration": "1h"}]}
NOW = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
Words = Counter[str]


def word(occurrence: Occurrence) -> tuple[str, int]:
    match occurrence:
        case Decided(decision=decision, reason=reason, count=count):
            return f"{decision} {reason}".strip(), count
        case Registered(cause=cause):
            return f"registered for {cause}", 1
        case Ended(outcome=outcome):
            return outcome, 1
        case Drifted(what=what, mended=mended):
            return f"{what} {'mended' if mended else 'altered'}", 1


class Counted:
    """A world in which each pass is counted."""

    def __init__(self, *items: BindingInput, **world: Any) -> None:
        self.items = list(items)
        self.world = World(**world)
        self.memory: Memory | None = None
        self.changed: list[datetime] = []

    def start(self, job: dict[str, Any] | None = None) -> None:
        """The job is there, has its secrets, and all is well."""
        self.world.user_registers(job or make.job())
        self.world.finish_deployment()
        self.world.settle(self.items)
        self.passes()

    def one_pass(self) -> Words:
        observed = self.world.observe(self.items)
        desired, _ = self.world.decide(self.items)
        plan = self.world.run(self.items)
        return self.count(Pass(INSTANCE, observed, desired, plan, registered=plan.registers), list(plan.actions))

    def passes(self, number: int = 3) -> Words:
        found: Words = Counter()
        for _ in range(number):
            found += self.one_pass()
        return found

    def unanswered(self, *, arrives: bool) -> Words:
        """A pass whose registration gets no answer from Nomad, though it may have arrived."""
        observed = self.world.observe(self.items)
        desired, plan = self.world.decide(self.items)
        done = [action for action in plan.actions if not isinstance(action, RegisterJob)]
        error = Fault(Reason.NOMAD_UNREACHABLE, "no answer")
        found = Pass(INSTANCE, observed, error=error, error_system="nomad", cut_short=(desired, plan))
        if arrives:
            self.world.run(self.items)
        return self.count(found, done)

    def count(self, found: Pass, done: list[Any]) -> Words:
        references = references_of((item.key, item.binding) for item in self.items if item.binding is not None)
        self.memory, occurrences = follow(self.memory, sight_of(found, references, done))
        words: Words = Counter()
        for occurrence in occurrences:
            name, count = word(occurrence)
            words[name] += count
            if isinstance(occurrence, Registered | Ended):
                self.changed += occurrence.changed
        return words


def counted(*modifiers: make.Modifier, secrets: int = 1, **world: Any) -> Counted:
    """A job that is served version 1 of its secrets."""
    names = [f"s{number}" for number in range(secrets)]
    kvs = [make.kv(name, path=name) for name in names]
    made = Counted(make.given(binding(*kvs, *modifiers)), **world)
    for name in names:
        made.world.secrets["kv", name] = kv_state(1)
    made.start()
    return made


def test_a_steady_state_counts_nothing() -> None:
    assert counted().passes(5) == Counter()


def test_a_first_injection_is_a_change_and_no_rotation() -> None:
    made = Counted(make.given(binding(make.kv("s0", path="s0"))))
    made.world.secrets["kv", "s0"] = kv_state(3)
    made.world.user_registers(make.job())
    made.world.finish_deployment()
    assert made.one_pass() == {"registered for change": 1}
    made.world.finish_deployment()
    assert made.passes() == Counter()


def test_a_rotation_is_detected_started_and_succeeds() -> None:
    made = counted()
    made.world.secrets["kv", "s0"] = kv_state(2)
    assert made.one_pass() == {"detected Version": 1, "registered for rotation": 1, "started": 1}
    assert made.passes() == Counter(), "its deployment is running"
    made.world.finish_deployment()
    assert made.passes() == {"succeeded": 1}
    assert made.changed == [datetime(2026, 1, 1, 0, 2, tzinfo=UTC)] * 2


def test_five_secrets_in_one_roll_coalesce_four() -> None:
    made = counted(secrets=5)
    for number in range(5):
        made.world.secrets["kv", f"s{number}"] = kv_state(2)
    assert made.one_pass() == {"detected Version": 5, "registered for rotation": 1, "started": 1, "coalesced": 4}


def test_a_secret_that_two_bindings_use_is_one() -> None:
    items = [make.given(binding(make.kv(name, path="shared"), name=name)) for name in ("one", "two")]
    made = Counted(*items)
    made.world.secrets["kv", "shared"] = kv_state(1)
    made.start()
    made.world.secrets["kv", "shared"] = kv_state(2)
    assert made.one_pass() == {"detected Version": 1, "registered for rotation": 1, "started": 1}


def test_a_roll_that_fails_is_reverted_by_nomad_and_its_state_is_held() -> None:
    made = counted()
    made.world.secrets["kv", "s0"] = kv_state(2)
    made.one_pass()
    made.world.finish_deployment(success=False)
    assert made.passes(5) == {"failed": 1, "reverted": 1, "held DeploymentFailed": 1}
    made.world.secrets["kv", "s0"] = kv_state(3)
    assert made.one_pass() == {"detected Version": 1, "registered for rotation": 1, "started": 1}


def test_a_roll_that_fails_is_taken_back_by_the_controller_where_nomad_does_not() -> None:
    made = counted(auto_revert=False)
    made.world.secrets["kv", "s0"] = kv_state(2)
    made.one_pass()
    made.world.finish_deployment(success=False)
    assert made.one_pass() == {"failed": 1, "held DeploymentFailed": 1, "registered for restore": 1}
    assert made.passes() == {"reverted": 1}


def test_a_version_that_the_next_one_overtakes_is_superseded() -> None:
    made = counted()
    for version in (2, 3):
        made.world.secrets["kv", "s0"] = kv_state(version)
        overtaken = made.one_pass()
    assert overtaken == {"detected Version": 1, "registered for rotation": 1, "started": 1, "superseded": 1}
    made.world.finish_deployment()
    assert made.passes() == {"succeeded": 1}


def test_a_job_that_its_user_registers_during_a_roll_supersedes_it() -> None:
    made = counted()
    made.world.secrets["kv", "s0"] = kv_state(2)
    made.one_pass()
    assert made.world.job is not None
    made.world.user_registers({**made.world.job, "Priority": 70})
    assert made.passes() == {"superseded": 1}


@pytest.mark.parametrize(
    ("rotation", "gate", "says"),
    [
        (CLOSED, Gate(now=NOW), "deferred Window"),
        ({}, Gate(now=NOW, slot_free=False), "limited Slot"),
        ({"strategy": "Manual"}, Gate(), "deferred ManualRotationPending"),
    ],
)
def test_what_holds_a_version_back_is_counted_once(rotation: dict[str, Any], gate: Gate, says: str) -> None:
    made = counted(make.spec(rotation=rotation))
    made.world.gate = gate
    made.world.secrets["kv", "s0"] = kv_state(2)
    assert made.passes(4) == {"detected Version": 1, says: 1}


def test_a_version_that_settles_and_then_finds_the_window_closed_is_deferred_for_both() -> None:
    made = counted(make.spec(rotation={"settle": "1h", **CLOSED}))
    made.world.gate = Gate(now=NOW)
    just_now = kv_state(2).versions[2]
    written = made.world.observe(made.items).gate.now
    assert written is not None
    fresh = replace(just_now, created=written.isoformat())
    made.world.secrets["kv", "s0"] = replace(kv_state(2), versions={1: kv_state(2).versions[1], 2: fresh})
    assert made.passes() == {"detected Version": 1, "deferred Settle": 1}
    made.world.wait(3700)
    assert made.passes() == {"deferred Window": 1}


def test_a_version_that_lacks_a_field_is_held_and_coalesced_when_a_better_one_comes() -> None:
    made = counted()
    made.world.secrets["kv", "s0"] = kv_state(2, by_version={2: {"username": None}})
    assert made.passes() == {"detected Version": 1, "held SecretFieldMissing": 1}
    made.world.secrets["kv", "s0"] = kv_state(3)
    assert made.one_pass() == {"detected Version": 1, "registered for rotation": 1, "started": 1, "coalesced": 1}


def test_a_version_that_was_deleted_while_it_serves_is_no_decision_about_a_new_one() -> None:
    made = counted()
    made.world.secrets["kv", "s0"] = kv_state(1, deleted=[1])
    assert made.passes() == Counter()
    assert made.memory is not None
    assert made.memory.at_risk == 1


def test_a_new_state_of_a_secret_without_versions_is_detected_and_rolled() -> None:
    made = Counted(make.given(binding(make.database("db", staticRole="app"))))
    made.world.secrets["database", "app"] = static("2026-01-01T00:00:00Z")
    made.start()
    made.world.secrets["database", "app"] = static("2026-02-01T00:00:00Z")
    assert made.one_pass() == {"detected Version": 1, "registered for rotation": 1, "started": 1}
    made.world.finish_deployment()
    assert made.passes() == {"succeeded": 1}
    assert made.changed == [datetime(2026, 2, 1, tzinfo=UTC)] * 2


def test_a_roll_of_a_secret_without_versions_that_is_taken_back_is_a_restore() -> None:
    made = Counted(make.given(binding(make.database("db", staticRole="app"))), auto_revert=False)
    made.world.secrets["database", "app"] = static("2026-01-01T00:00:00Z")
    made.start()
    made.world.secrets["database", "app"] = static("2026-02-01T00:00:00Z")
    made.one_pass()
    made.world.finish_deployment(success=False)
    assert made.one_pass() == {"failed": 1, "held DeploymentFailed": 1, "registered for restore": 1}
    assert made.passes() == {"reverted": 1}


def static(rotated: str) -> SecretState:
    fields = {0: {"username": None, "password": None}}
    return SecretState("database", fields=fields, revision=Pin(0, rotated), invalidates=True)


def test_leases_that_are_replaced_in_time_are_a_rotation_that_is_no_change_of_the_secret() -> None:
    made = Counted(make.given(binding(make.database("db"))))
    fields = {0: {"username": None, "password": None}}
    made.world.secrets["database", "app"] = SecretState("database", fields=fields, lease_seconds=3600.0)
    made.start()
    made.world.gate = Gate(now=NOW)
    assert made.passes() == Counter()
    made.world.wait(3500)
    assert made.one_pass() == {"detected Lease": 1, "registered for rotation": 1, "started": 1}
    made.world.finish_deployment()
    assert made.passes() == {"succeeded": 1}
    assert made.changed == []


def test_what_another_tool_takes_out_of_the_job_is_drift_that_is_mended() -> None:
    made = counted()
    made.world.user_registers(make.job())
    made.world.finish_deployment()
    assert made.one_pass() == {"job altered": 1, "job mended": 1, "registered for drift": 1}
    made.world.finish_deployment()
    assert made.passes() == Counter()


@pytest.mark.parametrize("what", ["policy", "role"])
def test_what_somebody_alters_in_vault_is_drift_that_is_mended(what: str) -> None:
    made = counted()
    if what == "policy":
        name = next(iter(made.world.policies))
        made.world.policies[name] = made.world.policies[name].replace("read", "list")
    else:
        name = next(iter(made.world.roles))
        made.world.roles[name]["token_policies"] = [*made.world.roles[name]["token_policies"], "root"]
        made.world.roles[name]["bound_claims"] = {"nomad_job_id": "another"}
    assert made.one_pass() == {f"{what} altered": 1, f"{what} mended": 1}
    assert made.passes() == Counter()


def test_a_binding_that_its_user_changes_is_no_drift() -> None:
    made = counted()
    made.world.secrets["kv", "other"] = kv_state(1)
    wider = binding(make.kv("s0", path="s0"), make.kv("other", path="other"))
    made.items = [make.given(wider)]
    assert made.one_pass() == {"registered for change": 1}
    made.world.finish_deployment()
    assert made.passes() == Counter()
    made.items = [make.given(binding(make.kv("s0", path="s0")))]
    assert made.one_pass() == {"registered for change": 1}
    made.world.finish_deployment()
    assert made.passes() == Counter(), "rights that are narrowed are no drift"


def test_a_controller_that_starts_finds_nothing_to_count_but_what_was_written_meanwhile() -> None:
    made = counted()
    made.memory = None
    assert made.passes() == Counter()
    made.memory = None
    made.world.secrets["kv", "s0"] = kv_state(3)
    assert made.one_pass() == {"detected Version": 2, "registered for rotation": 1, "started": 1, "coalesced": 1}


def test_the_end_of_a_roll_under_way_is_counted_by_the_controller_that_takes_over() -> None:
    made = counted()
    made.world.secrets["kv", "s0"] = kv_state(2)
    made.one_pass()
    made.memory = None
    assert made.passes() == Counter()
    made.world.finish_deployment()
    assert made.passes() == {"succeeded": 1}


@pytest.mark.parametrize("arrives", [True, False])
def test_a_registration_without_an_answer_counts_when_it_arrived(arrives: bool) -> None:
    made = counted()
    made.world.secrets["kv", "s0"] = kv_state(2)
    assert made.unanswered(arrives=arrives) == {"detected Version": 1}
    assert made.passes() == {"registered for rotation": 1, "started": 1}
    made.world.finish_deployment()
    assert made.passes() == {"succeeded": 1}


def test_a_pass_that_vault_cut_short_has_found_what_it_could_not_mend() -> None:
    made = counted()
    name = next(iter(made.world.policies))
    made.world.policies[name] = made.world.policies[name].replace("read", "list")
    error = Fault(Reason.PERMISSION_DENIED, "no right to write it")
    for expected in ({"policy altered": 1}, {}):
        observed, decided = made.world.observe(made.items), made.world.decide(made.items)
        found = Pass(INSTANCE, observed, error=error, error_system="vault", cut_short=decided)
        assert made.count(found, []) == expected
    assert made.passes() == {"policy mended": 1}


def test_a_roll_that_is_put_off_while_other_allocations_start_is_deferred() -> None:
    made = counted()
    made.world.secrets["kv", "s0"] = kv_state(2)
    observed, (desired, plan) = made.world.observe(made.items), made.world.decide(made.items)
    put_off = replace(plan, actions=(), deferred="allocations of group api, which stay as they are, are starting")
    found = Pass(INSTANCE, observed, desired, put_off)
    assert made.count(found, []) == {"detected Version": 1, "deferred Starting": 1}
    assert made.count(found, []) == Counter()
    assert made.one_pass() == {"registered for rotation": 1, "started": 1}


def test_drift_that_is_mended_while_the_registration_is_put_off_stays_drift() -> None:
    made = counted()
    made.world.user_registers(make.job())
    made.world.finish_deployment()
    observed, (desired, plan) = made.world.observe(made.items), made.world.decide(made.items)
    put_off = replace(plan, actions=(), deferred="allocations of group api, which stay as they are, are starting")
    made.count(Pass(INSTANCE, observed, desired, put_off), [])
    assert made.one_pass() == {"job altered": 1, "job mended": 1, "registered for drift": 1}


def test_what_an_earlier_look_of_the_same_pass_has_mended_counts() -> None:
    made = counted()
    name = next(iter(made.world.policies))
    made.world.policies[name] = made.world.policies[name].replace("read", "list")
    _, earlier = made.world.decide(made.items)
    made.world.run(made.items)
    observed, (desired, plan) = made.world.observe(made.items), made.world.decide(made.items)
    assert plan.actions == ()
    found = Pass(INSTANCE, observed, desired, plan)
    assert made.count(found, list(earlier.actions)) == {"policy altered": 1, "policy mended": 1}


def test_without_a_look_at_vault_nothing_is_counted() -> None:
    made = counted()
    error = Fault(Reason.VAULT_UNREACHABLE, "no answer")
    found = Pass(INSTANCE, made.world.observe(made.items), error=error, error_system="vault")
    assert made.count(found, []) == Counter()
    assert made.passes() == Counter()
