"""Which version of a secret a job reads, in every case."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from secretbinding.desired.compute import desire
from secretbinding.kinds.base import Fault, Pin, SecretState
from secretbinding.models.binding import SecretEntry
from secretbinding.models.reasons import Reason
from secretbinding.rotation import (
    FailedState,
    SecretDecision,
    Turn,
    decide_version,
    good_version,
    held_failure,
    nanoseconds_to_time,
)
from tests.support import builders as make
from tests.support.builders import INSTANCE, created, kv_state
from tests.unit.core.world import World

DENIED = SecretState(engine="v2", pinnable=True, fault=Fault(Reason.PERMISSION_DENIED, "no right"))
MISSING = SecretState(engine="v2", pinnable=True, fault=Fault(Reason.SECRET_NOT_FOUND, "no secret"))
UNPINNABLE = SecretState(engine="v1")
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
V1, V2 = Pin(1, created(1)), Pin(2, created(2))


def entry(**spec: Any) -> SecretEntry:
    return make.binding(make.kv("app", env={"DB_PASS": "password"}, **spec)).spec.secrets[0]


def decide(
    state: SecretState, serving: Pin | None = None, *, strategy: str = "Rolling", requested: bool = False, **spec: Any
) -> SecretDecision:
    turn = Turn(requested_at=NOW if requested else None)
    return decide_version(entry(**spec), state, serving, strategy=strategy, turn=turn)


def object_field(*versions: int) -> dict[int, dict[str, Any]]:
    return {number: {"password": {"inner": None}} for number in versions}


@pytest.mark.parametrize(
    ("state", "serving", "options", "pin"),
    [
        pytest.param(kv_state(1), None, {}, V1, id="first injection"),
        pytest.param(kv_state(2), None, {}, V2, id="first injection of a secret with a history"),
        pytest.param(kv_state(2), V1, {}, V2, id="a newer version"),
        pytest.param(kv_state(2), V2, {}, V2, id="nothing new"),
        pytest.param(kv_state(1, era=1), V1, {}, Pin(1, created(1, era=1)), id="made again under the same number"),
        pytest.param(kv_state(3), V1, {"version": 2}, V2, id="frozen at a version"),
        pytest.param(kv_state(3), V2, {"version": 2}, V2, id="frozen where it is"),
        pytest.param(kv_state(3), V2, {"version": 2, "strategy": "Native"}, V2, id="frozen, whatever the strategy"),
        pytest.param(kv_state(3), V1, {"version": 2, "strategy": "Manual"}, V2, id="frozen elsewhere with Manual"),
        pytest.param(kv_state(2), None, {"strategy": "Manual"}, V2, id="Manual, first injection"),
        pytest.param(kv_state(2), V1, {"strategy": "Manual", "requested": True}, V2, id="Manual, on request"),
        pytest.param(kv_state(2), V2, {"strategy": "Manual"}, V2, id="Manual, nothing new"),
        pytest.param(kv_state(2), None, {"strategy": "Native"}, None, id="Native pins nothing"),
        pytest.param(kv_state(2), V1, {"strategy": "Native"}, None, id="from Rolling to Native"),
        pytest.param(UNPINNABLE, None, {}, None, id="what cannot be pinned"),
        pytest.param(kv_state(3, gone=[1]), V1, {}, Pin(3, created(3)), id="the serving version is pruned"),
        pytest.param(kv_state(2, destroyed=[1]), V1, {}, V2, id="the serving version is destroyed"),
    ],
)
def test_a_version_is_chosen(state: SecretState, serving: Pin | None, options: dict[str, Any], pin: Pin | None) -> None:
    decision = decide(state, serving, **options)
    assert decision.pin == pin
    assert decision.fault is None
    assert decision.hold is None
    assert not decision.unreadable


@pytest.mark.parametrize(
    ("state", "options", "reason"),
    [
        pytest.param(kv_state(1, fields=["other"]), {}, Reason.SECRET_FIELD_MISSING, id="a field is missing"),
        pytest.param(
            kv_state(1, by_version=object_field(1)), {}, Reason.SECRET_FIELD_MISSING, id="a field is an object"
        ),
        pytest.param(kv_state(2, deleted=[2]), {}, Reason.SECRET_VERSION_DELETED, id="deleted"),
        pytest.param(kv_state(2, destroyed=[2]), {}, Reason.SECRET_VERSION_DESTROYED, id="destroyed"),
        pytest.param(kv_state(2), {"version": 7}, Reason.SECRET_NOT_FOUND, id="frozen at what does not exist"),
        pytest.param(kv_state(4, gone=[1]), {"version": 1}, Reason.SECRET_NOT_FOUND, id="frozen at what is pruned"),
        pytest.param(DENIED, {}, Reason.PERMISSION_DENIED, id="not allowed to look"),
        pytest.param(MISSING, {}, Reason.SECRET_NOT_FOUND, id="no secret"),
        pytest.param(
            SecretState("v2", True, 1, kv_state(1).versions), {}, Reason.SECRET_UNREADABLE, id="fields unknown"
        ),
    ],
)
def test_what_cannot_be_used_is_a_fault_until_something_serves(
    state: SecretState, options: dict[str, Any], reason: Reason
) -> None:
    decision = decide(state, **options)
    assert decision.pin is None
    assert decision.fault is not None
    assert decision.fault.reason is reason


@pytest.mark.parametrize(
    ("state", "options", "reason", "unreadable"),
    [
        pytest.param(
            kv_state(2, by_version={2: {"other": None}}),
            {},
            Reason.SECRET_FIELD_MISSING,
            False,
            id="a field is missing",
        ),
        pytest.param(kv_state(2, by_version=object_field(2)), {}, Reason.SECRET_FIELD_MISSING, False, id="an object"),
        pytest.param(kv_state(2, deleted=[2]), {}, Reason.SECRET_VERSION_DELETED, False, id="the newer one is deleted"),
        pytest.param(kv_state(2, destroyed=[2]), {}, Reason.SECRET_VERSION_DESTROYED, False, id="destroyed"),
        pytest.param(kv_state(2), {"version": 7}, Reason.SECRET_NOT_FOUND, False, id="frozen at what does not exist"),
        pytest.param(kv_state(2), {"strategy": "Manual"}, Reason.MANUAL_ROTATION_PENDING, False, id="Manual"),
        pytest.param(kv_state(1, deleted=[1]), {}, Reason.SECRET_VERSION_DELETED, True, id="what serves is deleted"),
        pytest.param(kv_state(2, destroyed=[1, 2]), {}, Reason.SECRET_VERSION_DESTROYED, True, id="all is destroyed"),
        pytest.param(
            kv_state(2, gone=[1]), {"strategy": "Manual"}, Reason.MANUAL_ROTATION_PENDING, True, id="Manual, pruned"
        ),
        pytest.param(kv_state(2, era=1, deleted=[2]), {}, Reason.SECRET_VERSION_DELETED, True, id="another secret"),
        pytest.param(DENIED, {}, Reason.PERMISSION_DENIED, True, id="not allowed to look"),
        pytest.param(MISSING, {}, Reason.SECRET_NOT_FOUND, True, id="the secret is gone for good"),
    ],
)
def test_what_serves_is_held_while_nothing_newer_can_be_used(
    state: SecretState, options: dict[str, Any], reason: Reason, unreadable: bool
) -> None:
    decision = decide(state, V1, **options)
    assert decision.pin == decision.serving == V1
    assert decision.fault is None
    assert decision.hold is not None
    assert decision.hold.reason is reason
    assert decision.unreadable is unreadable


@pytest.mark.parametrize(
    ("current", "pruned", "own", "of_mount", "oldest"),
    [
        pytest.param(10, 0, 0, None, 1, id="nobody says: ten"),
        pytest.param(10, 0, 0, 0, 1, id="the mount leaves it to the engine: ten"),
        pytest.param(3, 0, 0, 3, 1, id="the mount, before it has pruned any"),
        pytest.param(7, 4, 0, 3, 5, id="the mount"),
        pytest.param(12, 0, 0, 20, None, id="the mount keeps more"),
        pytest.param(3, 0, 3, None, 1, id="the secret"),
        pytest.param(5, 0, 3, 5, 1, id="the larger of both, the mount's"),
        pytest.param(5, 0, 5, 3, 1, id="the larger of both, the secret's"),
        pytest.param(4, 1, 0, None, 2, id="what is left after a pruning tells of the mount"),
        pytest.param(12, 9, 0, None, 10, id="what is left after many"),
        pytest.param(4, 1, 0, 10, None, id="the mount's number was raised since"),
    ],
)
def test_the_oldest_version_that_vault_keeps_is_at_risk_and_no_other(
    current: int, pruned: int, own: int, of_mount: int | None, oldest: int | None
) -> None:
    state = kv_state(current, gone=range(1, pruned + 1))
    state = replace(state, max_versions=own, mount_max_versions=of_mount)
    kept = range(pruned + 1, current + 1)
    risky = [number for number in kept if decide(state, Pin(number, created(number))).at_risk]
    assert risky == ([oldest] if oldest is not None else [])


def test_a_version_that_the_binding_names_is_its_users_choice_and_told_when_it_is_at_risk() -> None:
    state = replace(kv_state(3), mount_max_versions=3)
    item = decide(state, V1, version=1)
    assert (item.pin, item.chosen, item.at_risk) == (V1, True, True)
    assert decide(state, V1, version=2).chosen
    assert not decide(state, V2, version=2).at_risk
    assert not decide(state, V1).chosen


def test_of_a_mount_that_keeps_one_version_the_newest_is_not_at_risk() -> None:
    state = replace(kv_state(3, gone=[1, 2]), mount_max_versions=1)
    assert not decide(state, Pin(3, created(3))).at_risk


def test_a_field_that_neither_the_newest_nor_the_serving_version_has_is_the_bindings_fault() -> None:
    decision = decide(kv_state(2, fields=["other"]), V1)
    assert decision.fault is not None
    assert decision.fault.reason is Reason.SECRET_FIELD_MISSING
    assert "DB_PASS" in decision.fault.message
    assert decision.pin is None


def test_messages_name_secret_version_and_field_and_never_a_value() -> None:
    decision = decide(kv_state(3, fields=["user", "pass"]))
    assert decision.fault is not None
    assert decision.fault.message == (
        "version 3 of secret app has no field password, which DB_PASS needs (it has: pass, user)"
    )


# --- requests ---------------------------------------------------------------------------------------------------------


def rotating(*, written_before_request: timedelta, watched: bool = True) -> str | None:
    """The version that a Manual binding reads after a request made so long after the newest version was written, as
    this process watched, or before it."""
    world = World()
    world.user_registers(make.job())
    made = make.binding(make.kv("app", path="app"), make.strategy("Manual"))
    world.secrets["kv", "app"] = kv_state(1)
    world.settle([make.given(made)])
    world.secrets["kv", "app"] = kv_state(2)
    at = datetime.fromisoformat(created(2)) + written_before_request
    item = replace(make.given(made, requested_at=at), rotate_arrived_at=at if watched else None)
    desired = desire(world.observe([item]), [item], INSTANCE)
    (decision,) = desired.results[item.key].secrets
    return None if decision.pin is None else str(decision.pin.version)


def test_a_request_is_for_the_versions_that_were_there_when_it_was_made() -> None:
    assert rotating(written_before_request=timedelta(hours=1)) == "2"
    assert rotating(written_before_request=timedelta(hours=-1)) == "1"


def test_a_request_right_after_the_write_counts_though_clocks_differ() -> None:
    assert rotating(written_before_request=timedelta(seconds=-20)) == "2"


def test_of_a_request_that_was_there_before_the_clocks_are_believed_since_it_may_have_been_answered() -> None:
    assert rotating(written_before_request=timedelta(seconds=-1), watched=False) == "1"
    assert rotating(written_before_request=timedelta(seconds=0), watched=False) == "2"


# --- failures ---------------------------------------------------------------------------------------------------------

FAILURE = FailedState("part", "user", 4, 1_800_000_000_000_000_000, False)


@pytest.mark.parametrize(
    ("part", "user", "asked", "held"),
    [
        ("part", "user", None, True),
        ("other", "user", None, False),
        ("part", "other", None, False),
        ("part", "user", -1, True),
        ("part", "user", 1, False),
    ],
)
def test_a_failed_state_is_held_until_something_changes_or_somebody_asks(
    part: str, user: str, asked: int | None, held: bool
) -> None:
    at = None if asked is None else nanoseconds_to_time(FAILURE.at) + timedelta(seconds=asked)
    assert (held_failure([FAILURE], part, user, at) is not None) is held


def test_a_retry_that_failed_needs_a_younger_request() -> None:
    retried = FailedState("part", "user", 6, FAILURE.at + 10_000_000_000, False)
    asked = nanoseconds_to_time(FAILURE.at) + timedelta(seconds=5)
    assert held_failure([FAILURE, retried], "part", "user", asked) == retried


def test_there_is_no_good_version_when_all_have_failed() -> None:
    bad = FailedState("", "user", 0, 0, False)
    assert good_version([make.job(Version=0)], [bad], None, INSTANCE) is None
    newest = make.job(Version=1)
    assert good_version([make.job(Version=0), newest], [], None, INSTANCE) is newest


def test_nomads_times_are_utc() -> None:
    assert nanoseconds_to_time(0) == datetime(1970, 1, 1, tzinfo=UTC)


def dotenv_entry() -> SecretEntry:
    files = [{"destination": "secrets/app.env", "format": "Dotenv"}]
    return make.binding(make.kv("app", files=files)).spec.secrets[0]


def test_a_field_whose_name_could_add_a_line_never_reaches_a_dotenv_file() -> None:
    odd = kv_state(1, fields=("ok", "B=x\nLD_PRELOAD"))
    found = decide_version(dotenv_entry(), odd, None, strategy="Rolling")
    assert found.fault is not None
    assert "cannot be a variable in a file" in found.fault.message
    assert decide_version(dotenv_entry(), kv_state(1), None, strategy="Rolling").fault is None


@pytest.mark.parametrize(("state", "strategy"), [(UNPINNABLE, "Rolling"), (kv_state(1), "Native")])
def test_a_dotenv_file_of_a_secret_whose_fields_may_change_any_time_is_refused(
    state: SecretState, strategy: str
) -> None:
    found = decide_version(dotenv_entry(), state, None, strategy=strategy)
    assert found.fault is not None
    assert found.fault.reason is Reason.UNSUPPORTED_KIND
