import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from retrank.contract.errors import DataError
from retrank.metrics.ranking import UNRANKED, ranks_of, remove_seen, sort_keys, tie_keys, top_items
from retrank.metrics.reference import ranked_items

USERS = np.array([0], dtype=np.int64)


def _rank(scores: list[float], target: int, seen: tuple[int, ...] = (), users: NDArray[np.int64] = USERS) -> int:
    keys = sort_keys(np.array([scores], dtype=np.float32), users)
    first = np.zeros(len(seen), dtype=np.int64)
    targets = (np.zeros(1, dtype=np.int64), np.array([target]))
    remove_seen(keys, (first, np.array(seen, dtype=np.int64)), targets)
    return int(ranks_of(keys, targets)[0])


@pytest.mark.parametrize(
    ("scores", "target", "seen", "rank"),
    [
        ([9, 5, 4, 3], 1, (), 1),  # the column of padding never counts
        ([9, 5, 4, 3], 3, (), 3),
        ([9, 5, 4, 3], 3, (1,), 2),  # seen items leave the list
        ([9, 5, 4, 3], 3, (1, 2), 1),
        ([9, 5, 4, 3], 2, (1, 2), 1),  # a target stays although it was seen
        ([9, -5, -4, -3], 1, (), 3),
        ([9, 1e-40, 0, -1e-40], 2, (), 2),  # subnormal numbers are numbers
        ([9, -np.inf, 0, 1], 1, (), UNRANKED),
        ([9, -np.inf, 0, 1], 2, (), 2),
    ],
)
def test_the_rank_is_the_place_in_the_list(scores: list[float], target: int, seen: tuple[int, ...], rank: int) -> None:
    assert _rank(scores, target, seen) == rank


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_refused_with_its_place(bad: float) -> None:
    with pytest.raises(DataError, match="item row 2 in case 0"):
        sort_keys(np.array([[0, 1, bad]], dtype=np.float32), USERS)


def test_minus_zero_ties_with_zero() -> None:
    zero, minus_zero = ([0, value, 0, 0] for value in (0.0, -0.0))
    assert _rank(zero, 1) == _rank(minus_zero, 1)


@given(
    scores=arrays(np.float32, (3, 9), elements=st.sampled_from([-np.inf, -2, -1, 0, 0.5, 3])),
    seen=st.lists(st.integers(1, 8), max_size=6),
    targets=st.lists(st.integers(1, 8), min_size=1, max_size=4, unique=True),
    first_user=st.integers(0, 10**6),
)
def test_counting_agrees_with_sorting_also_when_scores_tie(
    scores: NDArray[np.float32], seen: list[int], targets: list[int], first_user: int
) -> None:
    users = np.arange(first_user, first_user + 3)
    keys = sort_keys(scores, users)
    cases = np.repeat(np.arange(3), len(targets))
    flat_targets = (cases, np.tile(targets, 3))
    remove_seen(keys, (np.repeat(np.arange(3), len(seen)), np.tile(np.array(seen, dtype=np.int64), 3)), flat_targets)
    ranks = ranks_of(keys, flat_targets, block=2).reshape(3, -1)
    best = top_items(keys, 5)
    for case in range(3):
        ranked = ranked_items(scores[case], int(users[case]), seen, targets)
        assert [item for item in best[case] if item] == ranked[:5]
        expected = [ranked.index(item) + 1 if item in ranked else UNRANKED for item in targets]
        assert ranks[case].tolist() == expected


def test_a_constant_scorer_gets_chance_level() -> None:
    num_items, num_cases = 200, 20_000
    keys = sort_keys(np.zeros((num_cases, num_items + 1), dtype=np.float32), np.arange(num_cases))
    for target in (1, 2, 100, 200):
        ranks = ranks_of(keys, (np.arange(num_cases), np.full(num_cases, target)))
        assert np.mean(ranks <= 10) == pytest.approx(10 / num_items, abs=0.008)
        assert ranks.mean() == pytest.approx((num_items + 1) / 2, rel=0.03)


def test_two_tied_targets_never_share_a_rank() -> None:
    keys = sort_keys(np.zeros((1, 11), dtype=np.float32), USERS)
    ranks = ranks_of(keys, (np.zeros(10, dtype=np.int64), np.arange(1, 11)))
    assert sorted(ranks) == list(range(1, 11))


def test_tie_keys_of_different_items_differ() -> None:
    assert len(np.unique(tie_keys(np.array([17]), np.arange(200_000)))) == 200_000


def test_lists_are_short_when_the_catalogue_is() -> None:
    keys = sort_keys(np.array([[0, 1, -np.inf, 3]], dtype=np.float32), USERS)
    assert top_items(keys, 10).tolist() == [[3, 1, 0]]
