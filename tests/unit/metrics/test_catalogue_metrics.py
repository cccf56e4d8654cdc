import numpy as np
import pytest

from retrank.contract.errors import DataError
from retrank.contract.sequences import Sequences
from retrank.metrics.catalogue import Counts, coverage, gini, item_counts, novelty, popularity_lift


def _counts(*items: int) -> Counts:
    return np.array([99, *items], dtype=np.int64)  # entry 0 must never matter


@pytest.mark.parametrize(
    ("shown", "expected_coverage", "expected_gini"),
    [
        (_counts(5, 5, 5, 5), 1.0, 0.0),
        (_counts(0, 0, 0, 8), 0.25, 0.75),  # one item has all: (N - 1) / N
        (_counts(0, 0, 4, 4), 0.5, 0.5),
        (_counts(1, 3), 1.0, 0.25),
        (_counts(0, 0), 0.0, 0.0),
    ],
)
def test_coverage_and_gini(shown: Counts, expected_coverage: float, expected_gini: float) -> None:
    assert coverage(shown) == pytest.approx(expected_coverage)
    assert gini(shown) == pytest.approx(expected_gini)


def test_novelty_is_the_mean_information_of_recommended_items() -> None:
    train = _counts(6, 0, 0)  # smoothed shares 7/9, 1/9, 1/9
    assert novelty(_counts(1, 0, 0), train) == pytest.approx(np.log2(9 / 7))
    assert novelty(_counts(1, 1, 0), train) == pytest.approx((np.log2(9 / 7) + np.log2(9)) / 2)
    assert novelty(_counts(0, 0, 0), train) == 0


def test_popularity_lift_compares_with_what_people_had() -> None:
    train = _counts(30, 10)
    assert popularity_lift(_counts(1, 0), _counts(0, 1), train) == pytest.approx(2.0)  # three times as popular
    assert popularity_lift(_counts(2, 2), _counts(5, 5), train) == pytest.approx(0.0)
    assert popularity_lift(_counts(0, 1), _counts(1, 0), train) == pytest.approx(-2 / 3)
    assert popularity_lift(_counts(1, 0), _counts(0, 0), train) == 0


def test_items_are_counted_by_row() -> None:
    histories = Sequences.from_lists([[1, 3], [], [3]])
    assert item_counts(histories, 4).tolist() == [0, 1, 0, 2, 0]
    with pytest.raises(DataError, match="item row 3"):
        item_counts(histories, 2)
