"""Calibration and order of probabilities: known answers, and loops as oracles."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import DataError
from retrank.metrics.calibration import auc, expected_calibration_error, grouped_auc, log_loss, normalised_entropy

HALF = np.array([0.0, 1, 0, 1])


@pytest.mark.parametrize(
    ("probabilities", "labels", "error"),
    [
        ([0, 1, 0, 1], [0, 1, 0, 1], 0),
        ([1, 0, 1, 0], [0, 1, 0, 1], 1),
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1], 0),  # equal probabilities share a bin
        ([0.5, 0.5, 0.5, 0.5], [0, 0, 0, 1], 0.25),
        ([0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1], 0.1),
        ([0.3, 0.3, 0.3, 0.8], [0, 1, 0, 1], 0.75 * (1 / 3 - 0.3) + 0.25 * 0.2),
    ],
)
def test_calibration_errors_that_can_be_counted_by_hand(
    probabilities: list[float], labels: list[float], error: float
) -> None:
    assert expected_calibration_error(np.array(probabilities), np.array(labels)) == pytest.approx(error)


def test_bins_hold_equally_many_rows_not_equal_widths() -> None:
    """All rows lie below .02: bins of equal width would see one bin and call it calibrated."""
    probabilities = np.concatenate([np.full(500, 0.004), np.full(500, 0.016)])
    labels = np.zeros(1000)
    labels[:8], labels[500:512] = 1, 1  # rates .016 and .024
    assert expected_calibration_error(probabilities, labels) == pytest.approx((0.012 + 0.008) / 2)


def test_true_probabilities_have_a_small_error_that_shrinks_with_data() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.beta(1, 6, 200_000)
    assert expected_calibration_error(probabilities, (generator.random(200_000) < probabilities) * 1.0) < 0.004


def test_the_order_of_rows_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    probabilities, labels = generator.integers(0, 20, 500) / 20, np.sort(generator.integers(0, 2, 500)) * 1.0
    order = generator.permutation(500)
    seen = expected_calibration_error(probabilities[order], labels[order])
    assert seen == pytest.approx(expected_calibration_error(probabilities, labels))


def test_the_base_rate_has_an_entropy_of_one() -> None:
    labels = np.array([1.0, 0, 0, 0])
    assert normalised_entropy(np.full(4, 0.25), labels) == pytest.approx(1)
    assert normalised_entropy(np.full(4, 0.5), labels) > 1
    assert log_loss(np.full(4, 0.5), labels) == pytest.approx(math.log(2))
    assert log_loss(labels, labels) == pytest.approx(0, abs=1e-11)
    assert math.isnan(normalised_entropy(np.full(2, 0.5), np.ones(2)))


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0),
        ([1, 1, 1, 1], [0, 1, 0, 1], 0.5),
        ([1, 2, 2, 3], [0, 0, 1, 1], 0.875),
    ],
)
def test_auc_by_hand(scores: list[float], labels: list[float], expected: float) -> None:
    assert auc(np.array(scores), np.array(labels)) == pytest.approx(expected)


rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=40)


@given(rows)
def test_grouped_auc_is_that_of_a_loop_over_pairs(table: list[tuple[int, int, int]]) -> None:
    scores, labels, groups = (np.array(column) for column in zip(*table, strict=True))
    total, weight = 0.0, 0
    for group in set(groups.tolist()):
        own = groups == group
        wins = [
            (good > bad) + (good == bad) / 2
            for good in scores[own & (labels == 1)]
            for bad in scores[own & (labels == 0)]
        ]
        if wins:
            total, weight = total + own.sum() * float(np.mean(wins)), weight + own.sum()
    expected = total / weight if weight else math.nan
    assert grouped_auc(scores, labels, groups) == pytest.approx(expected, nan_ok=True)


def test_one_kind_of_label_has_no_auc() -> None:
    assert math.isnan(auc(np.array([1.0, 2]), np.ones(2)))


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([0.5], [1, 0], r"shape \(1,\) and labels of shape \(2,\)"),
        ([], [], r"shape \(0,\)"),
        ([1.5, 0], [1, 0], "lie in 0..1.5"),
        ([math.nan, 0], [1, 0], "is NaN"),
        ([0.5, 0], [2, 0], "neither 0 nor 1"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities: list[float], labels: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        expected_calibration_error(np.array(probabilities), np.array(labels))


def test_groups_must_belong_to_scores() -> None:
    with pytest.raises(DataError, match="4 scores and 3 groups"):
        grouped_auc(HALF, HALF, np.zeros(3, np.int64))
