"""What is said about heads, on candidates whose labels are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from retrank.contract.ranker_spec import HeadSpec, RankerSpec
from retrank.training.ranking.head_quality import amount_curves, head_quality, probability_curves, value_quality
from retrank.training.ranking.table import RankingTable

SPEC = RankerSpec(
    limits={"sequence": 5},
    covisit_window=1,
    fresh_days=1,
    history_length=1,
    heads=(HeadSpec(name="buy", kind="binary", weight=1), HeadSpec(name="spent", kind="value", given="buy")),
)


def _table(labels: NDArray[np.float32]) -> RankingTable:
    """One request with a candidate per row of labels; nothing else is looked at."""
    rows, one = np.arange(1, len(labels) + 1), np.zeros((1, 1), np.int64)
    nothing = np.zeros((len(rows), 1), np.float32)
    return RankingTable(
        offsets=np.array([0, len(rows)]),
        rows=rows,
        proposed=nothing > 0,
        features=nothing,
        labels=labels,
        queries=np.zeros((1, 1), np.float32),
        history_rows=one,
        history_ages=one,
        history_actions=one,
        item_vectors=nothing,
        recall=1.0,
    )


LABELS = np.array([[1, 10], [1, 30], [0, 0], [0, 50], [1, 0]], np.float32)
OUTPUTS = np.array([[0, 20], [0, 20], [0, 900], [0, 900], [0, 900]], np.float32)


def test_amounts_are_judged_where_there_was_one_and_what_it_is_given_happened() -> None:
    (quality,) = value_quality(OUTPUTS, _table(LABELS), SPEC, _table(LABELS * 2)).values()
    assert (quality.count, quality.mean, quality.expected) == (2, 20, 20)
    assert quality.error == pytest.approx(10 / 20)
    assert quality.usual_error == pytest.approx((30 + 10) / 40)  # it learned from amounts of 20 and 60
    assert quality.calibration_error == 0
    assert np.isnan(quality.correlation)


def test_a_head_without_amounts_is_left_out() -> None:
    none = np.array([[1, 0], [0, 3]], np.float32)
    assert value_quality(OUTPUTS[:2], _table(none), SPEC, _table(LABELS)) == {}
    assert value_quality(OUTPUTS, _table(LABELS), SPEC, _table(none)) == {}
    assert amount_curves(OUTPUTS[:2], _table(none), SPEC) == {}


def test_curves_are_the_means_of_bins_lowest_first() -> None:
    outputs = np.array([[2, 40], [0, 20], [0, 1], [0, 1], [-2, 30]], np.float32)
    labels = np.array([[1, 10], [1, 30], [0, 0], [0, 50], [1, 5]], np.float32)
    (said, paid) = amount_curves(outputs, _table(labels), SPEC)["spent"]
    assert (said.tolist(), paid.tolist()) == ([20, 30, 40], [30, 5, 10])
    (told, rate) = probability_curves(outputs, _table(labels), SPEC)["buy"]
    assert (np.diff(told) >= 0).all()
    assert rate.tolist() == [1, 1, 0, 0, 1]


def test_a_head_with_one_kind_of_label_says_nothing_about_itself() -> None:
    assert head_quality(OUTPUTS, _table(np.ones_like(LABELS)), SPEC) == {}
    assert probability_curves(OUTPUTS, _table(np.ones_like(LABELS)), SPEC) == {}
    assert head_quality(OUTPUTS, _table(LABELS), SPEC)["buy"].rate == pytest.approx(0.6)
