"""Errors of expected amounts: known answers, and what must hold for any amounts."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import DataError
from retrank.metrics.amounts import rank_correlation, relative_calibration_error, relative_error

AMOUNTS = st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0.01, 1e6)), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("expected", "amounts", "error", "calibration"),
    [
        ([1, 2, 3], [1, 2, 3], 0, 0),
        ([2, 2], [1, 3], 0.5, 0),  # wrong about each, right about the group
        ([3, 3], [1, 3], 0.5, 0.5),
        ([1, 1, 5, 5], [2, 2, 4, 4], 4 / 12, 4 / 12),
        ([4, 1], [1, 4], 6 / 5, 6 / 5),  # the right sum, of the wrong items
    ],
)
def test_errors_that_can_be_counted_by_hand(
    expected: list[float], amounts: list[float], error: float, calibration: float
) -> None:
    said, paid = np.array(expected, np.float64), np.array(amounts, np.float64)
    assert relative_error(said, paid) == pytest.approx(error)
    assert relative_calibration_error(said, paid, num_bins=2) == pytest.approx(calibration)


def test_order_is_told_apart_from_size() -> None:
    paid = np.array([1.0, 10, 100, 1000])
    assert rank_correlation(np.array([0.1, 0.2, 0.3, 0.4]), paid) == pytest.approx(1)
    assert rank_correlation(paid[::-1], paid) == pytest.approx(-1)
    assert math.isnan(rank_correlation(np.full(4, 5.0), paid))


@given(AMOUNTS, st.integers(1, 12), st.randoms())
def test_a_group_is_never_more_wrong_than_its_members_and_rows_may_come_in_any_order(
    rows: list[tuple[float, float]], num_bins: int, random: Random
) -> None:
    said, paid = np.array(rows).T
    error = relative_calibration_error(said, paid, num_bins=num_bins)
    assert error <= relative_error(said, paid) + 1e-9
    random.shuffle(rows)
    mixed, mixed_paid = np.array(rows).T
    assert relative_calibration_error(mixed, mixed_paid, num_bins=num_bins) == pytest.approx(error, abs=1e-9)


@pytest.mark.parametrize(
    ("expected", "amounts", "message"),
    [
        ([1.0], [1.0, 2.0], "two equal lists"),
        ([], [], "two equal lists"),
        ([1.0], [0.0], "not above 0"),
        ([math.nan], [1.0], "not finite"),
        ([math.inf], [1.0], "not finite"),
    ],
)
def test_what_is_no_amount_is_refused(expected: list[float], amounts: list[float], message: str) -> None:
    for metric in (relative_error, relative_calibration_error, rank_correlation):
        with pytest.raises(DataError, match=message):
            metric(np.array(expected), np.array(amounts))
