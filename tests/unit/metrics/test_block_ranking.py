"""The fast ranks and lists are those of the key path, ties and bad scores included."""

from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrank.contract.errors import DataError
from retrank.metrics.block_ranking import Pairs, rank_block
from retrank.metrics.ranking import UNRANKED, ranks_of, remove_seen, sort_keys, top_items


def _pairs(random: np.random.Generator, num_cases: int, num_items: int, most: int, least: int) -> Pairs:
    """Between `least` and `most` different items for each case."""
    sizes = random.integers(least, most + 1, num_cases)
    items = [random.choice(num_items, size, replace=False) + 1 for size in sizes]
    return np.repeat(np.arange(num_cases), sizes), np.concatenate([*items, np.zeros(0, dtype=np.int64)]).astype(
        np.int64
    )


def _assert_same(
    scores: NDArray[np.float32],
    users: NDArray[np.int64],
    seen: Pairs,
    targets: Pairs,
    top_ks: tuple[int, ...],
    executor: Executor | None = None,
) -> None:
    untouched = scores.copy()
    found = rank_block(scores, users, seen=seen, targets=targets, top_ks=top_ks, executor=executor)
    keys = sort_keys(scores, users)
    remove_seen(keys, seen, targets)
    np.testing.assert_array_equal(found.ranks, ranks_of(keys, targets))
    for top_k, listed in zip(top_ks, found.listed, strict=True):
        best = top_items(keys, top_k)
        np.testing.assert_array_equal(np.sort(listed), np.sort(best[best > 0]))
    np.testing.assert_array_equal(scores, untouched)


@given(
    seed=st.integers(0, 10**6),
    num_items=st.integers(1, 300),
    levels=st.sampled_from([1, 2, 5, 40, 10**6]),
    top_ks=st.sampled_from([(1,), (3, 2), (10, 100)]),
    barred=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_agrees_with_the_key_path(
    seed: int, num_items: int, levels: int, top_ks: tuple[int, ...], barred: float
) -> None:
    random = np.random.default_rng(seed)
    scores = (random.integers(-levels, levels, (4, num_items + 1)) / 7).astype(np.float32)
    scores[random.random(scores.shape) < barred] = -np.inf
    seen, targets = (
        _pairs(random, 4, num_items, min(20, num_items), 0),
        _pairs(random, 4, num_items, min(3, num_items), 1),
    )
    _assert_same(scores, random.integers(0, 10**6, 4), seen, targets, top_ks)


@pytest.mark.parametrize("levels", [3, 10**7], ids=["nearly all tied", "hardly any tie"])
def test_agrees_over_many_cases_and_items(levels: int) -> None:
    random = np.random.default_rng(5)
    scores = random.integers(0, levels, (400, 4_001)).astype(np.float32)
    seen, targets = _pairs(random, 400, 4_000, 60, 0), _pairs(random, 400, 4_000, 1, 1)
    with ThreadPoolExecutor(2) as executor:
        _assert_same(scores, np.arange(400), seen, targets, (10, 100), executor)


def test_scores_that_may_not_be_written_to_are_ranked_as_well() -> None:
    random = np.random.default_rng(7)
    row = random.standard_normal(50).astype(np.float32)
    seen, targets = _pairs(random, 6, 49, 20, 0), _pairs(random, 6, 49, 1, 1)
    _assert_same(np.broadcast_to(row, (6, 50)), np.arange(6), seen, targets, (10,))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("seen_items", [[], [2]], ids=["open", "seen"])
def test_a_score_that_is_no_number_is_refused_with_its_place(bad: float, seen_items: list[int]) -> None:
    scores = np.zeros((600, 2_001), dtype=np.float32)
    scores[590, 2] = bad
    seen = (np.full(len(seen_items), 590), np.array(seen_items, dtype=np.int64))
    with pytest.raises(DataError, match="item row 2 in case 590"):
        rank_block(scores, np.arange(600), seen=seen, targets=(np.arange(600), np.full(600, 1)), top_ks=(10,))


def test_what_stands_in_column_0_is_ignored() -> None:
    scores = np.array([[np.nan, 1, 2]], dtype=np.float32)
    nothing = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    found = rank_block(
        scores, np.zeros(1, dtype=np.int64), seen=nothing, targets=(np.zeros(1, int), np.ones(1, int)), top_ks=(5,)
    )
    assert (found.ranks.tolist(), sorted(found.listed[0].tolist())) == ([2], [1, 2])


def test_a_target_that_cannot_be_recommended_has_no_rank() -> None:
    scores = np.array([[0, -np.inf, 2]], dtype=np.float32)
    nothing = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    found = rank_block(
        scores, np.zeros(1, dtype=np.int64), seen=nothing, targets=(np.zeros(1, int), np.ones(1, int)), top_ks=(5,)
    )
    assert found.ranks.tolist() == [UNRANKED]
