"""Evaluation cases."""

import numpy as np
import pytest

from retrank.contract.cases import Cases
from retrank.contract.errors import DataError
from retrank.contract.sequences import Sequences


def test_cases_are_taken_together() -> None:
    cases = Cases(
        np.array([7, 8, 9]), Sequences.from_lists([[1], [], [2, 3]]), Sequences.from_lists([[4], [5], [6, 7]])
    )
    taken = cases.take(np.array([2, 0]))
    assert len(taken) == 2
    assert taken.users.tolist() == [9, 7]
    assert [rows.tolist() for rows in taken.inputs] == [[2, 3], [1]]
    assert [rows.tolist() for rows in taken.targets] == [[6, 7], [4]]


def test_parts_of_different_length_are_refused() -> None:
    with pytest.raises(DataError, match="2 users, 1 inputs, 1 targets"):
        Cases(np.array([0, 1]), Sequences.from_lists([[1]]), Sequences.from_lists([[2]]))
