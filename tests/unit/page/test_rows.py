"""How a binding is, in one word; which come first; what is held."""

from datetime import timedelta

import pytest

from secretbinding.models.reasons import Reason
from secretbinding.models.status import SecretBindingStatus
from secretbinding.page.rows import Filter, State, holds, listing, moment, row_of, state_of
from tests.support.builders import binding
from tests.support.page import FALSE, TRUE, UNKNOWN, Told, a_secret, a_status, an_entry

READY: Told = (TRUE, Reason.READY, "")
UP_TO_DATE: Told = (TRUE, Reason.UP_TO_DATE, "")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (a_status(), State.WELL),
        (SecretBindingStatus(), State.WAITING),
        (a_status((UNKNOWN, Reason.PENDING, "")), State.WAITING),
        (a_status((UNKNOWN, Reason.VAULT_UNREACHABLE, "")), State.WAITING),
        (a_status((FALSE, Reason.SECRET_NOT_FOUND, "")), State.PROBLEM),
        (a_status((FALSE, Reason.ROLLING_OUT, "")), State.ROLLING),
        (a_status(stalled=(TRUE, Reason.VAULT_BLOCK_CONFLICT, "")), State.PROBLEM),
        (a_status(READY, (FALSE, Reason.DEPLOYMENT_REVERTED, "")), State.PROBLEM),
        (a_status(READY, (TRUE, Reason.DEPLOYMENT_RUNNING, "")), State.ROLLING),
        (a_status(READY, (TRUE, Reason.WAITING_FOR_PROMOTION, "")), State.ROLLING),
        (a_status(READY, (TRUE, Reason.NEW_VERSION_HELD, "")), State.HELD),
        (a_status(READY, (TRUE, Reason.MANUAL_ROTATION_PENDING, "")), State.HELD),
        (a_status(READY, UP_TO_DATE, a_secret("app", "1", "2", message="waits")), State.HELD),
        (a_status(READY, UP_TO_DATE, a_secret("app", "1", message="is made anew on Monday")), State.WELL),
    ],
)
def test_a_binding_is_in_the_state_that_its_conditions_tell(status: SecretBindingStatus, state: State) -> None:
    assert state_of(an_entry("app", status)) is state


def test_one_that_is_suspended_is_held_and_one_that_is_going_waits() -> None:
    def suspended(obj: dict[str, object]) -> None:
        obj["spec"] = {**obj["spec"], "suspend": True}  # type: ignore[dict-item]

    assert state_of(an_entry("app", binding=binding(suspended))) is State.HELD
    assert state_of(an_entry("app", deleting=True)) is State.WAITING


def test_problems_come_first_and_then_the_names_in_order() -> None:
    entries = [
        an_entry("b"),
        an_entry("a"),
        an_entry("z", a_status((FALSE, Reason.SECRET_NOT_FOUND, ""))),
        an_entry("m", a_status(READY, (TRUE, Reason.DEPLOYMENT_RUNNING, ""))),
    ]
    assert [row.key.name for row in listing(entries, Filter(), page=1, size=10).rows] == ["z", "m", "a", "b"]


def test_a_listing_has_pages_of_which_the_nearest_is_given() -> None:
    entries = [an_entry(f"app-{number:03}") for number in range(25)]
    last = listing(entries, Filter(), page=99, size=10)
    assert (last.page, last.pages, last.total, last.rows[0].key.name) == (3, 3, 25, "app-020")
    assert listing(entries, Filter(), page=0, size=10).page == 1
    assert listing([], Filter(), page=5, size=10).pages == 1


@pytest.mark.parametrize("text", ["pay", "PAYMENTS/api", "kubernetes/", "default/shop", "SecretNot"])
def test_a_binding_is_found_by_a_part_of_its_names_its_job_or_its_reason(text: str) -> None:
    found = an_entry("api", a_status((FALSE, Reason.SECRET_NOT_FOUND, "")), tenant="payments", job="shop")
    other = an_entry("web", tenant="front", source="nomad")
    assert [row.key.name for row in listing([found, other], Filter(text), page=1, size=9).rows] == ["api"]


def test_the_counts_are_of_what_the_text_matches_whatever_state_is_chosen() -> None:
    entries = [an_entry("a"), an_entry("b", a_status((FALSE, Reason.ERROR, ""))), an_entry("c", tenant="other")]
    found = listing(entries, Filter("payments", State.PROBLEM), page=1, size=9)
    assert ([row.key.name for row in found.rows], found.total) == (["b"], 1)
    assert (found.counts[State.WELL], found.counts[State.PROBLEM]) == (1, 1)


def test_the_row_tells_the_condition_that_matters_most_and_only_its_first_line() -> None:
    refused = a_status((FALSE, Reason.REFUSED_BY_POLICY, "no policy does\n# kind: SecretBindingPolicy"))
    row = row_of(an_entry("app", refused))
    assert (row.reason, row.message, row.more) == ("RefusedByPolicy", "no policy does", "# kind: SecretBindingPolicy")
    rotation = row_of(an_entry("app", a_status(READY, (FALSE, Reason.SECRET_FIELD_MISSING, "lacks a field"))))
    assert rotation.message == "lacks a field"
    stalled = row_of(an_entry("app", a_status(stalled=(TRUE, Reason.ROLE_CONFLICT, "not ours"))))
    assert stalled.reason == "RoleConflict"
    assert row_of(an_entry("app", SecretBindingStatus())).reason == "Pending"


def test_held_is_a_secret_whose_wanted_version_something_hinders_the_longest_first() -> None:
    young = a_secret("young", "1", "2", made=timedelta(hours=1), message="waits")
    old = a_secret("old", "1", "2", made=timedelta(hours=9), message="waits")
    missing = a_secret("missing", None, None, made=None, message="is not there")
    told = a_secret("told", "3", message="is made anew on Monday")
    entry = an_entry("app", a_status(READY, UP_TO_DATE, young, told, missing, old, a_secret("fine")))
    assert [hold.secret.name for hold in holds([entry])] == ["old", "young", "missing"]


@pytest.mark.parametrize("text", ["", None, "yesterday", "1970-01-01T00:00:00Z"])
def test_a_time_that_is_none_is_not_shown(text: str | None) -> None:
    assert moment(text) is None
