"""The oracle of every other search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.export import exact
from retrank.export.exact import exact_top_k, top_k

VECTORS = np.array([[9, 9], [1, 0], [0, 1], [1, 1], [1, 0]], np.float32)


@pytest.mark.parametrize(
    ("query", "rows", "scores"),
    [
        ([1.0, 0.0], [1, 3, 4], [1, 1, 1]),
        ([0.0, 2.0], [2, 3, 1], [2, 2, 0]),
        ([1.0, 1.0], [3, 1, 2], [2, 1, 1]),
        ([0.0, 0.0], [1, 2, 3], [0, 0, 0]),
        ([-1.0, -2.0], [1, 4, 2], [-1, -1, -2]),
    ],
)
def test_the_best_come_first_ties_by_row_and_row_zero_never(
    query: list[float], rows: list[int], scores: list[float]
) -> None:
    found, seen = exact_top_k(np.array([query], np.float32), VECTORS, 3)
    assert found.tolist() == [rows]
    assert seen.tolist() == [scores]


@given(st.lists(st.lists(st.integers(-3, 3), min_size=6, max_size=6), min_size=1, max_size=5), st.integers(1, 6))
def test_top_k_equals_a_stable_sort(table: list[list[int]], k: int) -> None:
    scores = np.array(table, np.float32)
    columns, values = top_k(scores, k)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert columns.tolist() == expected.tolist()
    assert values.tolist() == np.take_along_axis(scores, expected, axis=1).tolist()


def test_working_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, vectors = rng.normal(size=(7, 4)).astype(np.float32), rng.normal(size=(11, 4)).astype(np.float32)
    whole = exact_top_k(queries, vectors, 5)
    monkeypatch.setattr(exact, "_SCORES_AT_ONCE", 20)
    parts = exact_top_k(queries, vectors, 5)
    assert np.array_equal(whole[0], parts[0])
    assert np.allclose(whole[1], parts[1])


def test_no_query_gives_no_answer() -> None:
    rows, scores = exact_top_k(np.zeros((0, 2), np.float32), VECTORS, 3)
    assert rows.shape == scores.shape == (0, 3)
