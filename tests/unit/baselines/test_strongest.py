"""The strongest entries of sparse rows: the same as those of the dense rows, ties included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from retrank.models.baselines import interactions
from retrank.models.baselines.interactions import strongest_of_sparse, strongest_per_row


@given(
    values=st.lists(
        st.lists(st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0]), min_size=6, max_size=6), min_size=1, max_size=9
    ),
    top_k=st.integers(1, 8),
    rows_at_once=st.integers(1, 4),
)
def test_sparse_and_dense_rows_give_the_same(values: list[list[float]], top_k: int, rows_at_once: int) -> None:
    dense = np.array(values, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interactions, "_ROWS", rows_at_once)
        found, weights = strongest_of_sparse(sparse.csr_array(dense), top_k)
    expected, expected_weights = strongest_per_row(dense, top_k)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    assert np.array_equal(weights, expected_weights)


def test_a_catalogue_far_too_large_for_a_dense_row_costs_only_what_is_stored() -> None:
    size = 3_000_000
    matrix = sparse.csr_array(
        (np.array([0.5, 1.0, 0.5], dtype=np.float32), ([7, 7, size - 1], [3, 9, 1])), shape=(size, size)
    )
    found, weights = strongest_of_sparse(matrix, 2)
    assert found[7].tolist() == [9, 3]
    assert weights[size - 1].tolist() == [0.5, 0.0]
    assert np.count_nonzero(found) == 3
