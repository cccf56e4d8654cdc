import numpy as np
import pytest

from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences
from retrank.models.baselines.item_knn import ItemKNN

HISTORIES = Sequences.from_lists([[1, 2], [2, 1, 1], [1, 3], [4]])


def _fitted(top_k: int = 10, shrink: float = 0.0) -> ItemKNN:
    scorer = ItemKNN(top_k=top_k, shrink=shrink)
    scorer.fit(HISTORIES, 4)
    return scorer


def test_similarity_is_the_cosine_over_users_however_often_they_came() -> None:
    similarities = _fitted().similarities.toarray()
    assert similarities[1] == pytest.approx([0, 0, 2 / np.sqrt(6), 1 / np.sqrt(3), 0])
    assert similarities[4].tolist() == [0, 0, 0, 0, 0]
    assert similarities == pytest.approx(similarities.T)


def test_shrinkage_pulls_rare_pairs_down_more() -> None:
    plain, shrunk = _fitted().similarities.toarray(), _fitted(shrink=2).similarities.toarray()
    assert shrunk[1, 2] == pytest.approx(2 / (np.sqrt(6) + 2))
    assert shrunk[1, 3] / plain[1, 3] < shrunk[1, 2] / plain[1, 2]


def test_only_the_nearest_neighbours_are_kept() -> None:
    assert _fitted(top_k=1).similarities.toarray()[1].nonzero()[0].tolist() == [2]


def test_the_score_is_the_sum_over_the_history() -> None:
    similarities = _fitted().similarities.toarray()
    scores = _fitted().score(Sequences.from_lists([[2, 3, 3], []]))
    assert scores[0] == pytest.approx(similarities[2] + similarities[3])
    assert scores[1].tolist() == [0, 0, 0, 0, 0]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="top_k=0"):
        ItemKNN(top_k=0)


def test_of_equal_neighbours_at_the_cut_the_first_in_the_catalogue_stay() -> None:
    """Every pair is bought together once, so all similarities are equal."""
    scorer = ItemKNN(top_k=3, shrink=0.0)
    scorer.fit(Sequences.from_lists([list(range(1, 41))]), 40)
    similarities = scorer.similarities.toarray()
    assert similarities[1].nonzero()[0].tolist() == [2, 3, 4]
    assert similarities[40].nonzero()[0].tolist() == [1, 2, 3]
