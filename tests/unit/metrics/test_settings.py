"""Where metrics are served, and that an empty variable says nowhere."""

import pytest

from secretbinding.errors import UsageError
from secretbinding.settings import Settings

VARIABLE = "SECRETBINDING_METRICS_ADDRESS"


def test_unless_told_otherwise_only_this_machine_can_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Settings().controller.metrics_bind == ("127.0.0.1", 9464)


@pytest.mark.parametrize(
    ("text", "bind"),
    [("0.0.0.0:8080", ("0.0.0.0", 8080)), ("[::1]:0", ("::1", 0)), ("localhost:9464", ("localhost", 9464)), ("", None)],
)
def test_another_address_or_none(monkeypatch: pytest.MonkeyPatch, text: str, bind: tuple[str, int] | None) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert Settings().controller.metrics_bind == bind


@pytest.mark.parametrize("text", ["9464", "127.0.0.1", ":9464", "127.0.0.1:x", "127.0.0.1:70000", "unix:/run/metrics"])
def test_what_is_no_address_is_a_fault_that_names_the_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=VARIABLE):
        Settings()
