"""The figures and the table of the measurement against a bare client are what they are called."""

import pytest

from tests.performance.bench.__main__ import main
from tests.performance.bench.figures import Budget, Row, Series, growth, number, ratios, table
from tests.performance.bench.subject import of_system, since, writes


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (1234.0, "1234"),
        (1234.5, "1234"),
        (12.345, "12.3"),
        (0.012345, "0.0123"),
        (0.999, "0.999"),
    ],
)
def test_a_number_is_shown_with_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_several_runs_are_shown_as_median_and_spread_and_one_as_it_is() -> None:
    assert str(Series((3.0, 1.0, 2.0))) == "2 s (1-3)"
    assert str(Series((1.5,), "MiB")) == "1.50 MiB"


def test_ratios_are_of_one_run_each_not_of_medians() -> None:
    found = ratios(Series((2.0, 30.0, 4.0)), Series((1.0, 10.0, 4.0)))
    assert (found.values, found.unit) == ((2.0, 3.0, 1.0), "")
    with pytest.raises(ValueError, match="shorter"):
        ratios(Series((1.0, 2.0)), Series((1.0,)))


def test_a_budget_is_held_against_the_ratio_where_there_is_one_and_else_against_the_figure() -> None:
    ratio = Row("cold start", 1000, Series((3.0,)), Series((2.0,)), Budget(1.5, "times"))
    assert ratio.verdict == "met (at most 1.50 times)"
    figure = Row("memory", 10000, Series((250.5,), "MiB"), budget=Budget(250.0, "MiB"))
    assert figure.verdict == "NOT MET (at most 250 MiB)"
    assert Row("memory", 100, Series((1.0,))).verdict == ""


def test_growth_compares_two_sizes_and_is_not_told_of_one() -> None:
    rows = [Row("cold", 1000, Series((10.0,))), Row("cold", 10000, Series((120.0,)))]
    found = growth(rows, "cold", 1000, 10000)
    assert found is not None
    assert (found.ours.middle, found.verdict) == (12.0, "NOT MET (at most 11 times)")
    assert growth(rows[:1], "cold", 1000, 10000) is None


def test_the_table_has_a_line_for_each_row_and_aligned_columns() -> None:
    lines = table(
        [Row("cold", 10000, Series((3.0,)), Series((2.0,)), Budget(1.5)), Row("idle", 1, Series((0.0,)))]
    ).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        "cold",
        "10,000",
        "3 s",
        "2 s",
        "1.50",
        "met (at most 1.50)",
    ]


def test_what_counts_as_a_write_are_changes_but_not_events_leases_and_renewals_of_the_own_token() -> None:
    calls = {
        ("kubernetes", "patch secretbindings/status"): 2,
        ("kubernetes", "create events"): 5,
        ("kubernetes", "update leases"): 5,
        ("kubernetes", "list secretbindings"): 1,
        ("nomad", "events"): 1,
        ("nomad", "job_register"): 1,
        ("nomad", "version_tag"): 1,
        ("vault", "policy_write"): 3,
        ("vault", "policy_read"): 9,
        ("vault", "token_renew"): 4,
        ("vault", "role_delete"): 0,
    }
    written = writes(calls)
    assert [of_system(written, system) for system in ("kubernetes", "nomad", "vault")] == [2, 2, 3]
    assert since(calls, {**calls, ("vault", "policy_read"): 7}) == {("vault", "policy_read"): 2}


def test_a_case_that_there_is_not_is_refused_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--cases", "cold,nonsense"])
    assert "no such case: nonsense" in capsys.readouterr().err
