"""Torch against ONNX Runtime: what counts as the same answer."""

import numpy as np
import pytest
from worlds import TinyEncoder

from retrank.contract.encode import ITEM_ROWS, ModelInputs
from retrank.contract.sequences import Sequences
from retrank.export import parity
from retrank.export.parity import compare, encode_in_batches, torch_queries

ITEMS = np.array([[0, 0], [1, 0], [0, 1], [1, 1 + 1e-7], [-1, -1]], np.float32)
QUERY = np.array([[1.0, 0.5]], np.float32)


@pytest.mark.parametrize(
    ("expected", "seen", "counts"),
    [
        ([[1, 0.5]], [[1, 0.5]], (1, 0, 0)),
        ([[1, 0.5]], [[1, 0.50001]], (1, 0, 0)),
        ([[1, 0.5]], [[0.5, 1]], (0, 0, 1)),
        ([[1, 1 + 4e-6]], [[1 + 4e-6, 1]], (0, 1, 0)),
        ([[1, 1 + 4e-4]], [[1 + 4e-4, 1]], (0, 0, 1)),
        ([[1, 1], [1, 0.5]], [[1, 1], [0.5, 1]], (1, 0, 1)),
    ],
)
def test_lists_are_identical_near_ties_or_different(
    expected: list[list[float]], seen: list[list[float]], counts: tuple[int, int, int]
) -> None:
    result = compare(np.array(expected, np.float32), np.array(seen, np.float32), ITEMS, top_k=3)
    assert (result.identical, result.near_ties, result.different) == counts
    assert result.rows == len(expected)


def test_the_largest_component_difference_is_reported() -> None:
    assert compare(QUERY, QUERY + np.array([[0, 0.25]], np.float32), ITEMS, top_k=2).max_difference == pytest.approx(
        0.25
    )


def test_batches_of_similar_length_come_back_in_the_order_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "_BATCH", 2)
    widths: list[int] = []

    def encode(inputs: ModelInputs) -> np.ndarray:
        widths.append(inputs[ITEM_ROWS].shape[1])
        return inputs[ITEM_ROWS][:, -1:].astype(np.float32)

    histories = Sequences.from_lists([[1, 2, 3], [], [4], [5, 6, 7, 8], [9, 10]])
    assert encode_in_batches(encode, histories, (ITEM_ROWS,), 3).ravel().tolist() == [3, 0, 4, 8, 10]
    assert widths == [1, 3, 3]


def test_queries_do_not_depend_on_the_company_they_are_encoded_in() -> None:
    model = TinyEncoder()
    histories = Sequences.from_lists([[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]])
    together = torch_queries(model, histories)
    alone = [torch_queries(model, histories.take(np.array([user])))[0] for user in range(3)]
    np.testing.assert_allclose(together, np.array(alone), atol=1e-6)
