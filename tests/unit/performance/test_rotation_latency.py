"""The figures of the measurement are what they are called."""

from datetime import UTC, datetime

import pytest

from tests.performance.bench.figures import percentile
from tests.performance.rotation_latency import Rotation, moment, table


@pytest.mark.parametrize(("percent", "value"), [(1, 1), (50, 50), (90, 90), (99, 99), (100, 100)])
def test_percentiles_are_by_nearest_rank(percent: int, value: int) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == value


def test_of_a_single_value_each_percentile_is_that() -> None:
    assert [percentile([3.0], percent) for percent in (1, 50, 99)] == [3.0] * 3


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@pytest.mark.parametrize(
    "text",
    ["2026-03-02T12:00:00.25Z", "2026-03-02T12:00:00.250000000Z", "2026-03-02T13:00:00.25+01:00"],
)
def test_nomads_times_are_read_with_their_fractions_and_zones(text: str) -> None:
    assert moment(text) == datetime(2026, 3, 2, 12, 0, 0, 250_000, tzinfo=UTC).timestamp()


def test_the_table_has_a_row_for_each_way_and_stage() -> None:
    rotations = [Rotation(2, 0.0, float(number), number + 1.0, number + 2.0, number + 3.0) for number in range(1, 101)]
    rows = table({"poll": rotations, "push": rotations[:1]}).splitlines()
    assert len(rows) == 2 + 2 * 4
    assert rows[2] == "| poll | job registered | 50.00 s | 90.00 s | 99.00 s | 100.00 s |"
    assert rows[-1] == "| push | deployment successful | 4.00 s | 4.00 s | 4.00 s | 4.00 s |"
