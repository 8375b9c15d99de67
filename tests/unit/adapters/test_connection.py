"""Connections refuse what can never work and hide their token; a token file follows its file."""

import os
from pathlib import Path

import pytest

from secretbinding.adapters.connection import (
    Connection,
    NomadConnection,
    TokenFile,
    VaultConnection,
    check,
    current_token,
)
from secretbinding.adapters.nomad import NomadAdapter
from secretbinding.adapters.vault import VaultAdapter
from secretbinding.errors import UsageError


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        (Connection(address=""), "is not a URL"),
        (Connection(address="vault:8200"), "is not a URL"),
        (Connection(address="ftp://vault:8200"), "is not a URL"),
        (Connection(address="http://user:word@vault:8200"), "holds a user or password"),
        (Connection(address="http://vault:8200/?a=b"), "holds a query"),
        (Connection(address="https://vault", client_cert="/there/cert.pem"), "only one of client certificate and key"),
        (Connection(address="https://vault", ca_cert="/there/ca.pem"), "the CA certificate for Vault, /there/ca.pem"),
        (Connection(address="https://vault", ca_path="/there"), "the CA directory for Vault, /there"),
        (VaultConnection(address="https://vault", namespace="a\nb"), "namespace has odd characters"),
    ],
)
def test_a_connection_that_can_never_work_is_a_usage_error(connection: Connection, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(connection, "vault")


@pytest.mark.parametrize(
    ("silent", "whole", "limit"), [(1.0, 0.0, 60.0), (30.0, 0.0, 60.0), (45.0, 0.0, 90.0), (45.0, 5.0, 5.0)]
)
def test_an_answer_has_a_minute_or_twice_the_silence_unless_told_otherwise(
    silent: float, whole: float, limit: float
) -> None:
    connection = Connection(address="http://vault", timeout_seconds=silent, answer_seconds=whole)
    assert connection.answer_limit_seconds == limit


def test_the_error_for_an_address_with_a_password_does_not_repeat_it() -> None:
    with pytest.raises(UsageError) as caught:
        check(Connection(address="http://user:opensesame@vault:8200"), "vault")
    assert "opensesame" not in str(caught.value)


def test_no_repr_shows_the_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("opensesame")
    for source in ("opensesame", TokenFile(path)):
        vault = VaultConnection(address="http://localhost:8200", token=source)
        nomad = NomadConnection(address="http://localhost:4646", token=source)
        shown = repr([vault, nomad, VaultAdapter(vault), NomadAdapter(nomad), TokenFile(path)])
        assert "opensesame" not in shown
        assert "http://localhost:4646" in shown


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    token = TokenFile(path)
    assert token() == "first"
    replacement = tmp_path / "new"
    replacement.write_text("second\n")
    os.replace(replacement, path)
    assert token() == "second"


def test_a_token_file_of_equal_length_and_new_time_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("aaaa")
    token = TokenFile(path)
    assert token() == "aaaa"
    path.write_text("bbbb")
    os.utime(path, ns=(1, 1))
    assert token() == "bbbb"


def test_a_token_file_that_vanished_gives_the_last_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("last")
    token = TokenFile(path)
    assert token() == "last"
    path.unlink()
    assert token() == "last"


def test_a_token_file_that_never_was_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="token"):
        TokenFile(tmp_path / "token")()


def test_a_token_may_come_from_a_callable_that_is_asked_each_time() -> None:
    tokens = iter(["one", "two"])

    def source() -> str:
        return next(tokens)

    assert (current_token(source), current_token(source)) == ("one", "two")


def test_a_token_that_would_break_out_of_its_header_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="cannot carry") as caught:
        current_token("opensesame\r\nX-Evil: 1")
    assert "opensesame" not in str(caught.value)


def test_the_environment_is_never_asked_for_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("VAULT_TOKEN", "BAO_TOKEN", "NOMAD_TOKEN"):
        monkeypatch.setenv(name, "opensesame")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".vault-token").write_text("opensesame")
    assert current_token(VaultConnection(address="http://localhost:8200").token) == ""
    assert current_token(NomadConnection(address="http://localhost:4646").token) == ""
