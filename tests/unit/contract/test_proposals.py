"""Merging what several sources propose."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.proposals import Proposal, best_of, contained, merge

LIMITS = {"sequence": 3, "popular": 2}


def proposal(*pairs: tuple[int, float]) -> Proposal:
    return Proposal(np.array([row for row, _ in pairs]), np.array([score for _, score in pairs], dtype=np.float32))


def test_candidates_are_the_union_with_rank_and_score_of_each_source() -> None:
    found = merge(
        {"sequence": proposal((7, 0.9), (2, 0.5)), "popular": proposal((2, 1.0), (4, 0.3))}, np.array([]), LIMITS
    )
    assert found.rows.tolist() == [2, 4, 7]
    assert found.ranks.tolist() == [[2, 1], [4, 2], [1, 3]]  # limit + 1 = not proposed
    np.testing.assert_allclose(found.scores, [[0.5, 1.0], [0, 0.3], [0.9, 0]])


def test_hidden_items_take_no_rank_and_no_room() -> None:
    found = merge(
        {"sequence": proposal((5, 4.0), (6, 3.0), (7, 2.0), (8, 1.0))}, np.array([5, 7]), LIMITS | {"sequence": 1}
    )
    assert found.rows.tolist() == [6]
    assert found.ranks.tolist() == [[1, 3]]


def test_a_source_that_proposed_nothing_leaves_an_empty_column() -> None:
    found = merge({}, np.array([1]), LIMITS)
    assert len(found.rows) == 0
    assert found.ranks.shape == found.scores.shape == (0, 2)


@given(
    lists=st.lists(st.lists(st.integers(1, 30), unique=True, max_size=12), min_size=2, max_size=2),
    hidden=st.sets(st.integers(1, 30)),
)
def test_merging_is_the_plain_loop(lists: list[list[int]], hidden: set[int]) -> None:
    proposals = {
        name: proposal(*((row, -float(place)) for place, row in enumerate(rows)))
        for name, rows in zip(LIMITS, lists, strict=True)
    }
    found = merge(proposals, np.array(sorted(hidden), dtype=np.int64), LIMITS)
    kept = {
        name: [row for row in rows if row not in hidden][:limit]
        for (name, limit), rows in zip(LIMITS.items(), lists, strict=True)
    }
    assert found.rows.tolist() == sorted(set().union(*kept.values()))
    for row, ranks in zip(found.rows.tolist(), found.ranks.tolist(), strict=True):
        expected = [kept[name].index(row) + 1 if row in kept[name] else limit + 1 for name, limit in LIMITS.items()]
        assert ranks == expected


def test_the_best_are_ordered_by_score_then_row() -> None:
    found = best_of(np.array([9, 3, 5, 1]), np.array([1.0, 2.0, 1.0, 0.5], dtype=np.float32), 3)
    assert found.rows.tolist() == [3, 5, 9]


def test_membership_in_increasing_rows() -> None:
    rows = np.array([4, 1, 9])
    assert contained(rows, np.array([1, 9])).tolist() == [False, True, True]
    assert not contained(rows, np.array([], dtype=np.int64)).any()
