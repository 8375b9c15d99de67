"""Literal secrets in environments: measured on a corpus, and the rules one by one."""

import re
from pathlib import Path

import pytest

from secretbinding.ops.doctor.literals import literal_secret, literal_secrets

CORPUS = Path(__file__).parents[2] / "corpus" / "environments.txt"


def listed(title: str) -> list[tuple[str, str]]:
    """The variables of all lists of that title."""
    found: list[tuple[str, str]] = []
    current = ""
    for line in CORPUS.read_text().splitlines():
        head = re.fullmatch(r"\[(.*)\]", line)
        if head is not None:
            current = head[1]
        elif line and not line.startswith("#") and current == title:
            name, _, value = line.partition("=")
            found.append((name, value.replace("·", "").replace("\\n", "\n")))
    return found


def test_of_the_lists_that_the_rules_were_made_with_no_plain_one_is_called() -> None:
    plain = listed("plain")
    assert len(plain) > 250
    assert [name for name, value in plain if literal_secret(name, value)] == []


def test_of_the_lists_that_the_rules_were_made_with_these_secrets_are_missed() -> None:
    secrets = listed("secrets")
    assert len(secrets) > 140
    missed = [name for name, value in secrets if not literal_secret(name, value)]
    assert missed == ["KEY", "PLEX_CLAIM", "RESEND_KEY", "snmpCommunity"]


def test_of_the_lists_that_were_held_out_few_plain_ones_are_called_and_most_secrets_are_found() -> None:
    plain, secrets = listed("held out plain"), listed("held out secrets")
    called = [name for name, value in plain if literal_secret(name, value)]
    found = [name for name, value in secrets if literal_secret(name, value)]
    assert called == ["FIREWALL_PASS"]
    assert (len(called) / len(plain) < 0.02, len(found) / len(secrets) > 0.8) == (True, True)


@pytest.mark.parametrize(
    "value", ["", " ", "${X}", "$X", "{{ x }}", "true", "30s", "42", "/secrets/x", "<set>", "null"]
)
def test_a_value_that_stands_for_something_else_is_no_secret(value: str) -> None:
    assert literal_secret("DB_PASSWORD", value) == ""


def test_what_is_said_holds_nothing_of_the_value() -> None:
    for name, value in (*listed("secrets"), *listed("held out secrets")):
        said = literal_secret(name, value)
        assert len(value) < 6 or value not in said


def test_variables_come_in_order_and_only_those_that_are_called() -> None:
    found = literal_secrets({"Z_TOKEN": "abcdef", "A_PASSWORD": "abcdef", "PORT": "80"})
    assert list(found) == ["A_PASSWORD", "Z_TOKEN"]


def test_a_broken_url_is_no_error() -> None:
    assert literal_secret("X", "http://[::1") == ""
