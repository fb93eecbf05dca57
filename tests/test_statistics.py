"""Intervals over prompts against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.statistics import mean_interval, wilson_interval

Z = 1.959964  # of the normal distribution, for 95 %


def test_students_interval_of_three_values() -> None:
    # Two degrees of freedom: t = (2p - 1) / sqrt(2p(1 - p)) with p = 0.975, so 4.3027.
    t = 0.95 / (2 * 0.975 * 0.025) ** 0.5
    values = np.array([[1.0, 10.0], [2.0, 10.0], [3.0, 10.0]])  # deviation 1 and 0
    mean, low, high = mean_interval(values)
    assert mean.tolist() == [2, 10]
    assert low == pytest.approx([2 - t / 3**0.5, 10])
    assert high == pytest.approx([2 + t / 3**0.5, 10])


def test_students_interval_of_two_values() -> None:
    # One degree of freedom: t = tan(π(p - 1/2)), 1 for half confidence; the standard error is 1.
    assert mean_interval(np.array([0.0, 2.0]), confidence=0.5) == pytest.approx((1, 0, 2))
    t = np.tan(np.pi * 0.475)
    assert mean_interval(np.array([0.0, 2.0])) == pytest.approx((1, 1 - t, 1 + t))


def test_one_value_has_no_bounds() -> None:
    assert tuple(map(float, mean_interval(np.array([3.0])))) == (3, -np.inf, np.inf)


@pytest.mark.parametrize(("count", "n"), [(8, 10), (1, 30), (150, 200)])
def test_wilsons_ends_are_the_shares_that_a_count_is_just_compatible_with(
    count: int, n: int
) -> None:
    low, high = wilson_interval(count, n)
    assert low < count / n < high
    for end in (low, high):
        assert abs(count / n - end) == pytest.approx(Z * (end * (1 - end) / n) ** 0.5)


def test_wilsons_interval_of_none_and_of_all() -> None:
    assert wilson_interval(0, 10) == pytest.approx((0, Z**2 / (10 + Z**2)))
    assert wilson_interval(10, 10) == pytest.approx((10 / (10 + Z**2), 1))
