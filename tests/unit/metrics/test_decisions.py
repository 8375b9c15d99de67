"""What is counted of a workload's rotations, each thing once: `follow` as a specification."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from secretbinding.kinds.base import Pin
from secretbinding.metrics.decisions import Decided, Drifted, Ended, Memory, Occurrence, Registered, follow
from secretbinding.metrics.sight import Obstruction, Registration, Repair, SecretSight, Sight, Stage
from secretbinding.metrics.words import AGAIN, LEASE, VERSION, Cause, Decision, Outcome, Part

MADE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WINDOW = Obstruction(Decision.DEFERRED, "Window")
SETTLE = Obstruction(Decision.DEFERRED, "Settle")
SLOT = Obstruction(Decision.LIMITED, "Slot")
LACKING = Obstruction(Decision.HELD, "SecretFieldMissing")
FAILED = Decided(Decision.HELD, "DeploymentFailed")
STARTED = (Registered(Cause.ROTATION, (MADE,)), Decided(Decision.STARTED))
STARTED_AGAIN = (STARTED[0], Decided(Decision.STARTED, AGAIN))


def pin(version: int, era: str = "") -> Pin:
    return Pin(version, f"{era}t{version:02d}")


def secret(newest: int, serving: int, *obstructions: Obstruction, era: str = "", **fields: Any) -> SecretSight:
    versions = {number: pin(number, era).created for number in range(max(1, newest - 9), newest + 1)}
    return SecretSight(
        newest=pin(newest, era),
        versions=versions,
        serving=frozenset({pin(serving)} if serving else ()),
        obstructions=frozenset(obstructions),
        **fields,
    )


def sight(version: int = 1, *, app: SecretSight | None = None, **fields: Any) -> Sight:
    """A pass over a job of that version, whose secret `app` is at version 1 unless another is given."""
    secrets: Mapping[str, SecretSight] = {"app": app or secret(1, 1)}
    pins = {of: each.serving for of, each in secrets.items() if each.serving}
    return Sight(**{"version": version, "secrets": secrets, "pins": pins, "stages": {}, **fields})


def rolls(version: int, newest: int = 2, of: str = "app", **fields: Any) -> Registration:
    """The registration of a job version that brings a new version of a secret."""
    return Registration(version=version, brought={of: pin(newest)}, changed=(MADE,), **fields)


def told(*sights: Sight, memory: Memory | None = None) -> list[Occurrence]:
    """What the passes amount to, one after the other."""
    found: list[Occurrence] = []
    for each in sights:
        memory, occurrences = follow(memory, each)
        found += occurrences
    return found


def rolling(newest: int = 2) -> list[Sight]:
    """Passes that end with the registration of job version 2, for a new version of `app`."""
    return [sight(), sight(app=secret(newest, 1), registered=rolls(2, newest))]


def detected(count: int = 1) -> Decided:
    return Decided(Decision.DETECTED, VERSION, count)


# -- detected


def test_nothing_is_counted_while_nothing_happens() -> None:
    assert told(sight(), sight(), sight()) == []


def test_a_new_version_is_detected_once_however_many_passes_see_it() -> None:
    waiting = sight(app=secret(2, 1, WINDOW))
    assert told(sight(), waiting, waiting, waiting) == [detected(), Decided(*WINDOW)]


def test_versions_between_two_looks_are_detected_each() -> None:
    assert told(sight(), sight(app=secret(4, 1, WINDOW))) == [detected(3), Decided(*WINDOW)]


def test_after_a_start_what_was_written_meanwhile_is_detected() -> None:
    assert told(sight(app=secret(3, 1, WINDOW))) == [detected(2), Decided(*WINDOW)]
    assert told(sight(app=secret(3, 3))) == []


def test_a_secret_that_was_made_again_is_new_though_its_numbers_are_not() -> None:
    assert told(sight(app=secret(7, 7)), sight(app=secret(2, 7, WINDOW, era="again-"))) == [
        detected(2),
        Decided(*WINDOW),
    ]
    assert told(sight(app=secret(2, 2)), sight(app=secret(5, 2, WINDOW, era="again-"))) == [
        detected(5),
        Decided(*WINDOW),
    ]


def test_versions_that_vault_has_pruned_meanwhile_are_detected_all_the_same() -> None:
    assert told(sight(), sight(app=secret(30, 1, WINDOW)))[0] == detected(29)


def test_a_secret_that_cannot_be_looked_at_for_a_while_is_no_new_one_afterwards() -> None:
    blind = SecretSight(serving=frozenset({pin(1)}))
    assert told(sight(), sight(app=blind), sight()) == []


def test_what_the_job_does_not_have_yet_is_no_rotation() -> None:
    assert told(sight(app=secret(1, 0)), sight(app=secret(3, 0)), sight(app=secret(3, 3))) == []


def test_a_secret_that_is_left_to_nomad_or_names_its_version_itself_is_not_followed() -> None:
    assert told(sight(), sight(app=secret(2, 1, followed=False))) == []


def test_leases_that_are_to_be_replaced_are_detected_once() -> None:
    leased = SecretSight(serving=frozenset({Pin(0, "")}), renewal="2026-03-01T12:00:00Z")
    assert told(sight(app=leased), sight(app=leased)) == [Decided(Decision.DETECTED, LEASE)]


def test_a_revision_is_new_when_the_server_tells_another_thing() -> None:
    def password(rotated: str, serving: str) -> SecretSight:
        return SecretSight(newest=Pin(0, rotated), serving=frozenset({Pin.revision(serving, "2026-02-01T00:00:00Z")}))

    assert told(sight(app=password("monday", "monday"))) == []
    assert told(sight(app=password("monday", "monday")), sight(app=password("friday", "monday"))) == [detected()]


# -- deferred, limited, held


def test_what_hinders_a_version_is_counted_once_for_each_reason() -> None:
    passes = [sight(app=secret(2, 1, each)) for each in (SETTLE, SETTLE, WINDOW, SLOT, WINDOW, SLOT)]
    assert told(sight(), *passes) == [detected(), Decided(*SETTLE), Decided(*WINDOW), Decided(*SLOT)]


def test_the_next_version_is_hindered_anew() -> None:
    passes = [sight(app=secret(number, 1, WINDOW)) for number in (2, 3)]
    assert told(sight(), *passes) == [detected(), Decided(*WINDOW), detected(), Decided(*WINDOW)]


def test_a_version_that_lacks_a_field_is_held_once() -> None:
    refused = sight(app=secret(2, 1, LACKING))
    assert told(sight(), refused, refused) == [detected(), Decided(*LACKING)]


def test_a_failed_state_that_is_refused_is_held_once_for_each_failure() -> None:
    def holding(*versions: int) -> Sight:
        return sight(holding=frozenset(versions))

    assert told(sight(), holding(2), holding(2), holding(2, 5), sight(), holding(7)) == [FAILED] * 3


# -- started, coalesced


def test_a_roll_is_started_when_the_job_is_registered_with_a_new_version() -> None:
    assert told(*rolling()) == [detected(), *STARTED]


def test_versions_without_a_roll_of_their_own_are_coalesced() -> None:
    assert told(*rolling(newest=5)) == [detected(4), *STARTED, Decided(Decision.COALESCED, count=3)]


def test_secrets_that_roll_together_are_coalesced() -> None:
    names = [f"s{number}" for number in range(5)]
    before = replace(sight(), secrets={of: secret(1, 1) for of in names})
    brought = {of: pin(2) for of in names}
    after = replace(
        before,
        secrets={of: secret(2, 1) for of in names},
        registered=Registration(version=2, brought=brought, changed=(MADE,) * 5),
    )
    assert told(before, after) == [
        *[detected()] * 5,
        Registered(Cause.ROTATION, (MADE,) * 5),
        Decided(Decision.STARTED),
        Decided(Decision.COALESCED, count=4),
    ]


def test_a_version_that_was_held_and_then_passed_over_is_coalesced_into_the_next_roll() -> None:
    good = sight(app=secret(3, 1), registered=rolls(2, 3))
    assert told(sight(), sight(app=secret(2, 1, LACKING)), good)[2:] == [
        detected(),
        *STARTED,
        Decided(Decision.COALESCED, count=1),
    ]


@pytest.mark.parametrize("between", [[], [sight(2, app=secret(3, 0))]], ids=["with-our-part", "without-it"])
def test_versions_that_come_in_by_somebodys_own_registration_are_coalesced_once(between: list[Sight]) -> None:
    waiting, there = sight(app=secret(3, 1, WINDOW)), sight(3, app=secret(3, 3))
    counted = [detected(2), Decided(*WINDOW), Decided(Decision.COALESCED, count=2)]
    assert told(sight(), waiting, *between, there, there) == counted


def test_a_version_that_is_in_one_group_of_two_waits_still() -> None:
    both = SecretSight(
        newest=pin(2), versions={1: pin(1).created, 2: pin(2).created}, serving=frozenset({pin(1), pin(2)})
    )
    assert told(sight(), sight(app=secret(2, 1, WINDOW)), sight(2, app=both)) == [detected(), Decided(*WINDOW)]


def test_a_version_that_was_rolled_and_failed_is_not_coalesced_into_the_next_roll() -> None:
    back = sight(3, app=secret(2, 1), stages={2: Stage.FAILED, 3: Stage.RUNNING}, holding=frozenset({2}))
    again = sight(3, app=secret(3, 1), registered=rolls(4, 3))
    assert told(*rolling(), back, again)[-3:] == [detected(), *STARTED]


def test_asking_for_a_failed_version_once_more_starts_it_again_and_detects_nothing() -> None:
    back = sight(3, app=secret(2, 1), stages={2: Stage.FAILED, 3: Stage.SUCCESSFUL}, holding=frozenset({2}))
    asked = sight(3, app=secret(2, 1), registered=rolls(4, 2))
    assert told(*rolling(), back, asked)[-2:] == [*STARTED_AGAIN]


def test_a_version_that_reaches_another_binding_of_the_job_later_is_started_again() -> None:
    waits = SecretSight(
        newest=pin(2), versions={1: pin(1).created, 2: pin(2).created}, serving=frozenset({pin(1), pin(2)})
    )
    asked = sight(2, app=waits, stages={2: Stage.SUCCESSFUL}, registered=rolls(3))
    found = told(*rolling(), sight(2, app=waits), asked)
    assert found == [detected(), *STARTED, Ended(Outcome.SUCCEEDED, (MADE,)), *STARTED_AGAIN]


@pytest.mark.parametrize("newest", [2, 5])
def test_first_starts_and_coalesced_versions_are_together_what_was_detected(newest: int) -> None:
    back = sight(3, app=secret(newest, 1), stages={2: Stage.FAILED, 3: Stage.SUCCESSFUL}, holding=frozenset({2}))
    asked = sight(3, app=secret(newest, 1), registered=rolls(4, newest))
    counts = Counter[Decision]()
    for each in told(*rolling(newest), back, asked, asked):
        if isinstance(each, Decided) and each.reason != AGAIN:
            counts[each.decision] += each.count
    assert counts[Decision.DETECTED] == counts[Decision.STARTED] + counts[Decision.COALESCED]


@pytest.mark.parametrize(
    ("registered", "cause"),
    [
        (Registration(version=2), Cause.CHANGE),
        (Registration(version=2, restores=True), Cause.RESTORE),
        (Registration(version=2, want=7), Cause.DRIFT),
    ],
)
def test_a_registration_that_brings_no_new_version_starts_no_roll(registered: Registration, cause: Cause) -> None:
    settled = sight(settled=True, wants=frozenset({7}))
    assert told(settled, sight(registered=registered, wants=frozenset({7}))) == [Registered(cause)]


def test_a_registration_to_which_no_answer_came_counts_when_it_is_found_to_have_arrived() -> None:
    lost = sight(app=secret(2, 1), lost=rolls(2, part="new"))
    unseen = Sight(decided=False)
    arrived = sight(2, app=secret(2, 2), part="new", stages={2: Stage.SUCCESSFUL})
    elsewhere = sight(2, app=secret(2, 1), part="old")
    assert told(sight(), lost, unseen, arrived) == [detected(), *STARTED, Ended(Outcome.SUCCEEDED, (MADE,))]
    assert told(sight(), lost, unseen, elsewhere) == [detected()]


# -- ends


def after_rolling(*passes: Sight) -> list[Occurrence]:
    """What follows the start of a roll of job version 2."""
    return told(*rolling(), *passes)[3:]


def in_stage(stage: Stage | None, version: int = 2, serving: int = 2, **fields: Any) -> Sight:
    stages = {2: stage} if stage is not None else {}
    return sight(version, app=secret(2, serving), stages=stages, **fields)


def test_a_roll_has_succeeded_when_its_deployment_has() -> None:
    done = in_stage(Stage.SUCCESSFUL)
    assert after_rolling(in_stage(Stage.RUNNING), done, done) == [Ended(Outcome.SUCCEEDED, (MADE,))]


def test_without_a_deployment_it_has_succeeded_when_every_allocation_has_the_new_job() -> None:
    assert after_rolling(in_stage(None), in_stage(None, rolled=True)) == [Ended(Outcome.SUCCEEDED, (MADE,))]


def test_a_roll_that_waits_for_promotion_is_counted_once_and_then_by_its_end() -> None:
    passes = [in_stage(stage) for stage in (Stage.RUNNING, Stage.WAITING, Stage.WAITING, Stage.SUCCESSFUL)]
    assert after_rolling(*passes) == [Ended(Outcome.WAITING_FOR_PROMOTION), Ended(Outcome.SUCCEEDED, (MADE,))]


def test_a_roll_that_nomad_reverts_has_failed_and_is_reverted() -> None:
    reverted = in_stage(Stage.FAILED, version=3, serving=1)
    assert after_rolling(reverted, reverted) == [Ended(Outcome.FAILED), Ended(Outcome.REVERTED)]


def test_a_roll_that_nobody_reverts_has_failed_and_no_more() -> None:
    stays = in_stage(Stage.FAILED)
    assert after_rolling(stays, stays, in_stage(None)) == [Ended(Outcome.FAILED)]


def test_a_failed_roll_that_the_controller_takes_back_is_reverted_when_the_job_is_back() -> None:
    restoring = in_stage(Stage.FAILED, registered=Registration(version=3, restores=True))
    back = in_stage(None, version=3, serving=1)
    assert after_rolling(restoring, back, back) == [
        Ended(Outcome.FAILED),
        Registered(Cause.RESTORE),
        Ended(Outcome.REVERTED),
    ]


def test_a_failed_roll_that_a_good_version_follows_was_not_reverted() -> None:
    forward = sight(2, app=secret(3, 2), stages={2: Stage.FAILED}, registered=rolls(3, 3))
    done = sight(3, app=secret(3, 3), stages={2: Stage.FAILED, 3: Stage.SUCCESSFUL})
    assert after_rolling(forward, done) == [
        Ended(Outcome.FAILED),
        detected(),
        *STARTED,
        Ended(Outcome.SUCCEEDED, (MADE,)),
    ]


@pytest.mark.parametrize(
    "seen",
    [
        in_stage(Stage.CANCELLED, version=3),
        in_stage(None, version=3),
        in_stage(None, stopped=True),
        in_stage(None, version=0),
        in_stage(None, version=-1),
    ],
    ids=["cancelled", "registered by its user", "stopped", "purged and made again", "purged"],
)
def test_a_roll_whose_job_goes_on_without_it_is_superseded(seen: Sight) -> None:
    assert after_rolling(seen, seen) == [Ended(Outcome.SUPERSEDED)]


def test_a_roll_that_the_next_version_overtakes_is_superseded() -> None:
    next_one = sight(2, app=secret(3, 2), stages={2: Stage.RUNNING}, registered=rolls(3, 3))
    assert after_rolling(next_one) == [
        detected(),
        Registered(Cause.ROTATION, (MADE,)),
        Ended(Outcome.SUPERSEDED),
        Decided(Decision.STARTED),
    ]


def test_the_end_of_a_roll_that_another_process_began_is_counted_and_its_start_is_not() -> None:
    taken_over = in_stage(Stage.RUNNING, rolling=rolls(2))
    assert told(taken_over, in_stage(Stage.SUCCESSFUL)) == [Ended(Outcome.SUCCEEDED, (MADE,))]
    assert told(in_stage(Stage.RUNNING, rolling=Registration(version=2)), in_stage(Stage.SUCCESSFUL)) == []


# -- drift


def repair(done: bool, want: int = 7, what: Part = Part.POLICY) -> Repair:
    return Repair(what, want, done)


def drifting(*passes: Iterable[Repair]) -> list[Occurrence]:
    settled = sight(settled=True, wants=frozenset({7}))
    return told(settled, *(sight(wants=frozenset({7}), repairs=tuple(repairs)) for repairs in passes), settled)


def test_what_was_as_it_should_be_and_is_written_again_was_altered() -> None:
    assert drifting([repair(True)]) == [Drifted(Part.POLICY), Drifted(Part.POLICY, mended=True)]


def test_drift_that_cannot_be_mended_at_once_is_found_once() -> None:
    assert drifting([repair(False)], [repair(False)], [repair(True)]) == [
        Drifted(Part.POLICY),
        Drifted(Part.POLICY, mended=True),
    ]


def test_drift_that_somebody_else_mends_is_found_and_found_again_when_it_comes_back() -> None:
    assert drifting([repair(False)], [], [repair(False)]) == [Drifted(Part.POLICY)] * 2


def test_a_write_of_what_was_wanted_otherwise_before_is_no_drift() -> None:
    assert drifting([repair(True, want=8)]) == []


def test_before_all_was_well_once_nothing_is_drift() -> None:
    assert told(sight(wants=frozenset({7}), repairs=(repair(True),))) == []


# -- at risk, and passes that failed


def test_secrets_in_a_version_at_risk_are_told_as_long_as_they_are() -> None:
    memory, _ = follow(None, sight(app=secret(2, 1, at_risk=True)))
    assert memory.at_risk == 1
    assert follow(memory, Sight(decided=False))[0].at_risk == 1
    assert follow(memory, sight())[0].at_risk == 0


def test_a_pass_that_did_not_come_to_its_decisions_changes_nothing() -> None:
    memory, _ = follow(None, sight(settled=True, wants=frozenset({7})))
    assert follow(memory, Sight(decided=False)) == (memory, ())
