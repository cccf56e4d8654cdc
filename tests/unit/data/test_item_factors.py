"""Item vectors from co-occurrence: items of one crowd point the same way."""

import numpy as np
import pytest

from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences
from retrank.data.item_factors import ItemFactors

TWO_CROWDS = Sequences.from_lists([[1, 2], [1, 3], [2, 3], [4, 5], [4, 6], [5, 6], [1, 2, 3], [4, 5, 6]])


def test_items_of_one_crowd_are_alike_and_of_two_are_not() -> None:
    vectors = ItemFactors()(TWO_CROWDS, 7, 2)
    unit = vectors[1:7] / np.linalg.norm(vectors[1:7], axis=1, keepdims=True)
    likeness = unit @ unit.T
    assert likeness[:3, :3].min() > 0.99
    assert np.abs(likeness[:3, 3:]).max() < 0.01


def test_padding_and_items_nobody_had_are_zero() -> None:
    vectors = ItemFactors()(TWO_CROWDS, 7, 2)
    assert vectors.shape == (8, 2)
    assert not vectors[0].any()
    np.testing.assert_allclose(vectors[7], 0, atol=1e-6)


def test_the_same_histories_give_the_same_vectors() -> None:
    assert np.array_equal(ItemFactors()(TWO_CROWDS, 7, 2), ItemFactors()(TWO_CROWDS, 7, 2))


def test_a_width_that_the_data_cannot_fill_is_refused() -> None:
    with pytest.raises(ConfigError, match="width 8 must be below 8 users"):
        ItemFactors()(TWO_CROWDS, 7, 8)
