"""Durations, env files, HCL: the simulator's small languages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretbinding.devstack.simulator.durations import MINUTE, SECOND, format_duration, parse_duration
from secretbinding.devstack.simulator.envfile import EnvFileError, parse_env_file
from secretbinding.devstack.simulator.hcl import HclError, parse_hcl, parse_job
from secretbinding.devstack.simulator.template.values import to_json


@pytest.mark.parametrize(
    ("text", "nanos"),
    [("1m30s", 90 * SECOND), ("1.5s", 1_500_000_000), ("100ms", 100_000_000), ("0", 0), ("-2m", -2 * MINUTE)],
)
def test_durations_are_read_as_go_reads_them(text: str, nanos: int) -> None:
    assert parse_duration(text) == nanos


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "1m 2s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**18))
def test_a_printed_duration_is_read_back(nanos: int) -> None:
    assert abs(parse_duration(format_duration(nanos)) - nanos) <= max(1, nanos >> 50)


def test_durations_are_printed_as_go_prints_them() -> None:
    printed = [format_duration(nanos) for nanos in (0, 250_000_000, SECOND, 90 * SECOND, 3600 * SECOND, 1_201_584_911)]
    assert printed == ["0s", "250ms", "1s", "1m30s", "1h0m0s", "1.201584911s"]


@given(st.text())
def test_any_text_survives_json_and_an_env_file(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    encoded = to_json(text)
    if any(ord(one) < 32 for one in encoded):
        return
    assert parse_env_file(f"A={encoded}\n") == {"A": text}


def test_an_env_file_error_names_the_line_and_no_value() -> None:
    with pytest.raises(EnvFileError, match="error on line 2: unmatched") as caught:
        parse_env_file('A=1\nB="hunter2\n')
    assert "hunter2" not in str(caught.value)


def test_hcl_is_read_into_attributes_and_blocks() -> None:
    body = parse_hcl('a = 1\nb "x" y {\n c = [1, "two", true, null] # no\n d = { e = "f", "g" = 2 }\n}\n')
    assert body.attributes == {"a": 1}
    block = body.blocks[0]
    assert (block.kind, block.labels) == ("b", ["x", "y"])
    assert block.body.attributes == {"c": [1, "two", True, None], "d": {"e": "f", "g": 2}}


def test_a_heredoc_keeps_its_lines_and_an_indented_one_loses_its_indent() -> None:
    assert parse_hcl("a = <<X\n  one\nX\n").attributes == {"a": "  one\n"}
    assert parse_hcl("a = <<-X\n    one\n      two\n    X\n").attributes == {"a": "one\n  two\n"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a = 1\na = 2\n", "line 2: attribute 'a' is set twice"),
        ("a {", "unexpected end"),
        ("a = f(1)", "outside the simulator's subset"),
        ("a = <<X\n", "heredoc X is not closed"),
    ],
)
def test_hcl_outside_the_subset_is_refused_with_its_line(text: str, fault: str) -> None:
    with pytest.raises(HclError) as caught:
        parse_hcl(text)
    assert fault in str(caught.value)


def test_a_job_file_needs_its_variables() -> None:
    text = 'variable "x" {}\njob "j" {\n  group "g" {}\n}\n'
    with pytest.raises(HclError, match="unset variable 'x'"):
        parse_job(text)
    with pytest.raises(HclError, match="undeclared variable 'y'"):
        parse_job(text, "y = 1")


def test_a_groups_vault_block_is_its_tasks() -> None:
    text = 'job "j" {\n group "g" {\n vault {\n role = "r"\n }\n task "t" {\n driver = "d"\n }\n }\n}\n'
    assert parse_job(text)["TaskGroups"][0]["Tasks"][0]["Vault"] == {"Role": "r"}
