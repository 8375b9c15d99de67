"""When Vault and Nomad count as answering, and how often they are asked."""

from datetime import datetime, timedelta

import pytest

from secretbinding.errors import Denied, NoLeader, ServiceError, Unreachable
from secretbinding.metrics.probe import ServerProbe
from secretbinding.ports import VaultHealth
from tests.unit.metrics.parts import EXPIRY, FakeNomad, FakeVault


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Away(FakeVault):
    """A Vault that does not answer."""

    def health(self) -> VaultHealth:
        raise Unreachable("no answer", system="vault")

    def token_expiry(self) -> datetime | None:
        raise Unreachable("no answer", system="vault")


class Moody(FakeVault):
    """A Vault whose token tells its end, unless something is wrong."""

    wrong: ServiceError | None = None
    expiry = EXPIRY

    def token_expiry(self) -> datetime | None:
        if self.wrong is not None:
            raise self.wrong
        return self.expiry


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_server_that_is_used_is_not_asked(clock: Clock) -> None:
    vault, nomad = FakeVault(), FakeNomad()
    probe = ServerProbe(vault, nomad, clock=clock)
    probe.called("vault", "policy_read", "Success")
    probe.look()
    assert (vault.asked, nomad.asked) == (0, 1)
    clock.now += 15
    probe.called("nomad", "job_read", "NotFound")
    probe.look()
    assert (vault.asked, nomad.asked) == (1, 1)
    assert probe.answering("vault")
    assert probe.answering("nomad")


def test_an_answer_is_forgotten_after_a_minute(clock: Clock) -> None:
    probe = ServerProbe(Away(), FakeNomad(), clock=clock)
    assert not probe.answering("vault")
    probe.called("vault", "policy_read", "PermissionDenied")
    clock.now += 60
    assert probe.answering("vault"), "a refusal is an answer"
    clock.now += 1
    probe.look()
    assert not probe.answering("vault")
    assert probe.answering("nomad"), "one that is away hides no other"


@pytest.mark.parametrize("outcome", ["Unreachable", "Unavailable", "VaultSealed", "NomadNoLeader", "ServiceError"])
def test_what_only_a_server_in_trouble_or_somebody_else_says_is_no_answer(clock: Clock, outcome: str) -> None:
    probe = ServerProbe(FakeVault(), FakeNomad(), clock=clock)
    probe.called("vault", "policy_read", outcome)
    assert not probe.answering("vault")


def test_health_that_is_told_while_sealed_is_no_answer(clock: Clock) -> None:
    probe = ServerProbe(FakeVault(), FakeNomad(), clock=clock)
    probe.called("vault", "health", "Success")
    assert not probe.answering("vault")


def test_a_nomad_that_says_it_has_no_leader_does_not_answer(clock: Clock) -> None:
    class Leaderless(FakeNomad):
        def leader(self) -> str:
            raise NoLeader("no leader", system="nomad")

    probe = ServerProbe(FakeVault(), Leaderless(), clock=clock)
    probe.look()
    assert not probe.answering("nomad")
    assert probe.answering("vault")


def test_the_end_of_a_token_is_asked_for_once_a_minute_and_kept_while_nobody_answers(clock: Clock) -> None:
    vault = Moody()
    probe = ServerProbe(vault, FakeNomad(), clock=clock, now=lambda: EXPIRY - timedelta(hours=1))
    probe.look()
    assert (probe.expiry("vault"), probe.expiry("nomad")) == (EXPIRY, None)
    vault.wrong = Denied("the Vault token may not read auth/token/lookup-self", system="vault")
    clock.now += 59
    probe.look()
    assert probe.expiry("vault") == EXPIRY, "nobody has asked again"
    vault.wrong = Unreachable("no answer", system="vault")
    clock.now += 1
    probe.look()
    assert probe.expiry("vault") == EXPIRY, "nobody has answered"
    vault.wrong = Denied("the Vault token may not read auth/token/lookup-self", system="vault")
    clock.now += 60
    probe.look()
    assert probe.expiry("vault") is None, "it may not tell any more"


def test_a_token_that_has_ended_is_told_of_until_there_is_another(clock: Clock) -> None:
    vault, times = Moody(), [EXPIRY - timedelta(hours=1)]
    probe = ServerProbe(vault, FakeNomad(), clock=clock, now=lambda: times[-1])
    probe.look()
    vault.wrong = Denied("the token is not known", system="vault")
    # By our clock it has half a minute left: the server's is the one that counts.
    for passed in (timedelta(seconds=-30), timedelta(minutes=1), timedelta(days=3)):
        times.append(EXPIRY + passed)
        clock.now += 60
        probe.look()
        assert probe.expiry("vault") == EXPIRY
    vault.wrong = None
    vault.expiry = EXPIRY + timedelta(days=30)
    clock.now += 60
    probe.look()
    assert probe.expiry("vault") == EXPIRY + timedelta(days=30)
