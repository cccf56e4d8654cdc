import numpy as np
import pytest

from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences
from retrank.models.baselines.ease import EASE

HISTORIES = [[1, 2], [1, 2, 5], [3, 4], [3, 4, 5], [1, 2, 2]]


def test_the_weights_are_the_closed_form_of_the_paper() -> None:
    interactions = np.zeros((5, 5))
    for user, items in enumerate(HISTORIES):
        interactions[user, np.array(items) - 1] = 1
    inverse = np.linalg.inv(interactions.T @ interactions + 3 * np.eye(5))
    expected = np.eye(5) - inverse / np.diag(inverse)
    scorer = EASE(regularisation=3)
    scorer.fit(Sequences.from_lists(HISTORIES), 5)
    assert scorer.weights == pytest.approx(expected, abs=1e-5)
    assert scorer.score(Sequences.from_lists([[1, 5]]))[0] == pytest.approx([0, *(expected[0] + expected[4])], abs=1e-5)


def test_two_groups_of_items_are_told_apart() -> None:
    scorer = EASE(regularisation=1)
    scorer.fit(Sequences.from_lists([[1, 2, 3]] * 5 + [[4, 5, 6]] * 5), 6)
    scores = scorer.score(Sequences.from_lists([[1], [4]]))
    assert scores[0, 2:4].min() > scores[0, 4:].max()
    assert scores[1, 5:].min() > scores[1, 1:4].max()


def test_a_catalogue_above_the_limit_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"EASE over 11 items .* max_items is 10; raise max_items"):
        EASE(max_items=10).fit(Sequences.from_lists([[1]]), 11)


def test_without_regularisation_there_is_no_solution() -> None:
    with pytest.raises(ConfigError, match="regularisation is 0"):
        EASE(regularisation=0)
