"""Waiting for SIGTERM and SIGINT."""

import os
import signal
import threading

import pytest

from secretbinding.cli.signals import Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_came_before_the_wait_is_not_lost(number: signal.Signals) -> None:
    with Signals() as signals:
        os.kill(os.getpid(), number)
        assert signals.wait() == number


def test_each_signal_ends_one_wait() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert {signals.wait(), signals.wait()} == {signal.SIGTERM, signal.SIGINT}


def test_a_wait_ends_without_a_signal_when_it_is_woken() -> None:
    with Signals() as signals:
        threading.Thread(target=signals.wake).start()
        assert signals.wait() == 0


def test_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Signals():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
