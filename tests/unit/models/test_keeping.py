"""What is kept by the thousand stays equal to what it was, and shares what it has in common."""

from secretbinding.models.keeping import kept
from secretbinding.models.status import Condition, ConditionStatus, SecretBindingStatus
from tests.support.builders import binding


def a_status(message: str) -> SecretBindingStatus:
    """Its texts are objects of their own, as those of an answer are."""
    moment = "".join(["2026-01-01", "T00:00:00Z"])
    condition = Condition(
        type="Ready",
        status=ConditionStatus.TRUE,
        reason="".join(["Re", "ady"]),
        message=message,
        last_transition_time=moment,
    )
    return SecretBindingStatus(conditions=(condition,))


def test_what_is_kept_is_equal_and_is_written_as_before() -> None:
    one, other = a_status("".join(["it ", "works"])), binding()
    before = one.to_json(), other.model_dump(exclude_unset=True)
    kept((one, other))
    assert (one.to_json(), other.model_dump(exclude_unset=True)) == before
    assert (one, other) == (a_status("it works"), binding())


def test_texts_and_names_of_fields_are_held_once() -> None:
    one, other = a_status("".join(["it ", "works"])), a_status("".join(["it works", ""]))
    kept((one, other))
    first, second = one.conditions[0], other.conditions[0]
    assert first.message is second.message
    assert first.model_fields_set is second.model_fields_set


def test_a_copy_with_another_field_leaves_what_is_kept_alone() -> None:
    one = a_status("it works")
    kept(one)
    changed = one.model_copy(update={"observed_generation": 3})
    assert changed.observed_generation == 3
    assert "observed_generation" not in one.model_fields_set
