"""Settings of the push: where it may listen."""

from pathlib import Path

import pytest

from secretbinding.errors import UsageError
from secretbinding.settings import Settings, listen_address


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:9201", ("127.0.0.1", 9201)),
        ("localhost:9201", ("localhost", 9201)),
        ("[::1]:9201", ("::1", 9201)),
        ("unix:/run/secretbinding/audit.sock", Path("/run/secretbinding/audit.sock")),
    ],
)
def test_a_loopback_address_or_a_unix_socket_may_be_listened_at(
    monkeypatch: pytest.MonkeyPatch, text: str, bind: object
) -> None:
    monkeypatch.setenv("SECRETBINDING_AUDIT_LISTEN", text)
    assert Settings().controller.audit_bind == bind


def test_nothing_is_listened_at_unless_asked_for() -> None:
    own = Settings().controller
    assert (own.audit_bind, own.audit_file) == (None, None)


@pytest.mark.parametrize("text", ["0.0.0.0:9201", "[::]:9201", "10.0.0.7:9201", "vault.example.com:9201"])
def test_any_other_address_needs_a_second_word(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SECRETBINDING_AUDIT_LISTEN", text)
    with pytest.raises(UsageError, match=r"_LISTEN: .*not a loopback address.*SECRETBINDING_AUDIT_LISTEN_ANYWHERE"):
        Settings()
    monkeypatch.setenv("SECRETBINDING_AUDIT_LISTEN_ANYWHERE", "true")
    assert Settings().controller.audit_bind == listen_address(text)


@pytest.mark.parametrize("text", ["9201", "127.0.0.1", ":9201", "127.0.0.1:x", "127.0.0.1:70000", "unix:", "unix:a"])
def test_what_is_no_address_is_a_fault_that_names_the_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SECRETBINDING_AUDIT_LISTEN", text)
    with pytest.raises(UsageError, match="SECRETBINDING_AUDIT_LISTEN: "):
        Settings()
