"""What counts as growth in a soak."""

import pytest

from tests.soak.growth import Bound, growth

BOUND = Bound("MiB", per_hour=10.0, allowance=2.0)


def test_what_grew_while_it_warmed_up_does_not_count() -> None:
    warm = [(float(at), min(at, 50) * 1.0) for at in range(0, 3600, 10)]
    assert growth("memory", warm, BOUND).within


def test_steady_growth_beyond_the_bound_is_found() -> None:
    found = growth("memory", [(float(at), 100 + at * 20 / 3600) for at in range(0, 3600, 10)], BOUND)
    assert not found.within
    assert found.per_hour == pytest.approx(20.0)


def test_a_short_look_allows_for_what_comes_and_goes() -> None:
    assert growth("files", [(0.0, 10.0), (10.0, 11.0), (20.0, 10.0), (30.0, 11.0)], BOUND).within


def test_too_few_samples_are_no_finding() -> None:
    with pytest.raises(ValueError, match="3 samples"):
        growth("files", [(0.0, 1.0)] * 3, BOUND)
