"""The newest events, kept in memory."""

from datetime import timedelta

from secretbinding.models.key import BindingKey
from secretbinding.models.reasons import Reason
from secretbinding.models.status import SecretBindingStatus
from secretbinding.page.journal import Journal
from secretbinding.status import Transition
from tests.support.page import NOW, Clock, a_secret, a_status

KEY = BindingKey("nomad", "team", "app")


def told(message: str = "") -> Transition:
    return Transition("Normal", Reason.DEPLOYMENT_RUNNING, message)


def test_an_event_has_its_time_and_the_versions_that_were_wanted_then() -> None:
    clock = Clock()
    journal = Journal(clock)
    clock.at = NOW + timedelta(minutes=5)
    status = a_status().model_copy(update={"secrets": (a_secret("app", "1", "2"), a_secret("db", None, None))})
    journal.reported(KEY, SecretBindingStatus(), status, [told("begins")])
    (event,) = journal.events()
    assert (event.at, event.key, event.message, event.versions) == (clock.at, KEY, "begins", "app 2")
    assert journal.since == NOW


def test_a_status_that_is_no_event_leaves_none() -> None:
    journal = Journal()
    journal.reported(KEY, SecretBindingStatus(), a_status(), [])
    assert not journal.events()


def test_only_the_newest_are_kept_and_long_messages_are_cut() -> None:
    journal = Journal(kept=3)
    for number in range(5):
        journal.reported(KEY, SecretBindingStatus(), a_status(), [told(f"{number}" + "x" * 5000)])
    assert [event.message[0] for event in journal.events()] == ["2", "3", "4"]
    assert max(len(event.message) for event in journal.events()) == 600
    assert journal.is_full
