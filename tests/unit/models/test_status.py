"""The status: what is written, and how little is believed of what is read."""

import pytest

from secretbinding.models.reasons import ConditionType, Reason
from secretbinding.models.status import (
    EPOCH,
    Condition,
    ConditionStatus,
    JobStatus,
    SecretBindingStatus,
    SecretStatus,
    initial_status,
)


def a_status() -> SecretBindingStatus:
    ready = Condition(
        type=ConditionType.READY,
        status=ConditionStatus.TRUE,
        reason=Reason.READY,
        message="",
        last_transition_time="2026-01-31T02:00:00Z",
        observed_generation=3,
    )
    return SecretBindingStatus(
        observed_generation=3,
        conditions=(ready,),
        secrets=(SecretStatus(name="app", serving_version="7", wanted_version="8"),),
        policies=("nsb-1",),
        job=JobStatus(namespace="default", id="app", version=2),
    )


def test_a_status_is_written_in_camel_case_without_what_is_not_known() -> None:
    assert a_status().to_json() == {
        "observedGeneration": 3,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Ready",
                "message": "",
                "lastTransitionTime": "2026-01-31T02:00:00Z",
                "observedGeneration": 3,
            }
        ],
        "secrets": [{"name": "app", "servingVersion": "7", "wantedVersion": "8"}],
        "policies": ["nsb-1"],
        "job": {"namespace": "default", "id": "app", "version": 2},
    }


def test_a_status_that_is_read_again_is_the_same() -> None:
    assert SecretBindingStatus.read(a_status().to_json()) == a_status()


def test_what_a_newer_controller_wrote_besides_is_ignored() -> None:
    assert SecretBindingStatus.read(a_status().to_json() | {"somethingNew": {"a": 1}}) == a_status()


@pytest.mark.parametrize("stored", [None, [], "text", {"conditions": 7}, {"job": {"id": 1}}])
def test_a_status_that_does_not_fit_counts_as_none(stored: object) -> None:
    assert SecretBindingStatus.read(stored) == SecretBindingStatus()


def test_a_new_object_is_unknown_and_pending_so_that_no_tool_takes_it_as_ready() -> None:
    ready = SecretBindingStatus.read(initial_status()).condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason, ready.last_transition_time) == (
        ConditionStatus.UNKNOWN,
        Reason.PENDING,
        EPOCH,
    )


def test_a_condition_that_is_not_there_is_none() -> None:
    assert SecretBindingStatus().condition(ConditionType.STALLED) is None


@pytest.mark.parametrize("word", [*ConditionType, *Reason])
def test_every_type_and_reason_is_one_word_with_a_meaning_of_one_sentence(word: ConditionType | Reason) -> None:
    Condition(
        type="Ready", status=ConditionStatus.TRUE, reason=word.value, message=word.meaning, last_transition_time=EPOCH
    )
    assert word == word.value
    assert word.meaning.endswith(".")
    assert "\n" not in word.meaning
