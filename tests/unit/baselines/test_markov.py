import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences
from retrank.models.baselines.markov import Markov

HISTORIES = st.lists(st.lists(st.integers(1, 6), max_size=9), min_size=1, max_size=6)


def _fitted(histories: list[list[int]], num_items: int, **settings: float) -> Markov:
    scorer = Markov(
        max_distance=int(settings.get("max_distance", 10)),
        num_recent=int(settings.get("num_recent", 10)),
        decay=settings.get("decay", 0.7),
    )
    scorer.fit(Sequences.from_lists(histories), num_items)
    return scorer


def test_a_follower_counts_less_the_farther_it_is() -> None:
    scorer = _fitted([[1, 2, 3]], 3)
    # after 1: item 2 at distance 1 weighs 1, item 3 at distance 2 weighs 1/2; the row is divided by 3/2
    assert scorer.transitions.toarray()[1] == pytest.approx([0, 0, 2 / 3, 1 / 3])


def test_histories_of_different_users_do_not_touch() -> None:
    assert _fitted([[1], [2]], 2).transitions.nnz == 0


def test_an_item_is_not_its_own_successor() -> None:
    assert _fitted([[1, 1, 1, 2]], 2).transitions.toarray()[1].tolist() == [0, 0, 1]


def test_the_newest_event_weighs_most() -> None:
    scorer = _fitted([[1, 3], [2, 4]], 4, decay=0.5)
    assert scorer.score(Sequences.from_lists([[1, 2]]))[0] == pytest.approx([0, 0, 0, 0.5, 1])


def test_events_beyond_the_recent_ones_do_not_count() -> None:
    scorer = _fitted([[1, 3], [2, 4]], 4, num_recent=1)
    assert scorer.score(Sequences.from_lists([[1, 2], []])).tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]


@given(HISTORIES, st.lists(st.integers(1, 6), max_size=8), st.integers(1, 4), st.integers(1, 5))
def test_it_agrees_with_counting_by_hand(
    histories: list[list[int]], query: list[int], max_distance: int, num_recent: int
) -> None:
    counts = np.zeros((7, 7))
    for history in histories:
        for place, item in enumerate(history):
            for distance, follower in enumerate(history[place + 1 : place + 1 + max_distance], start=1):
                counts[item, follower] += (item != follower) / distance
    rows = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
    expected = sum((0.7**age * rows[item] for age, item in enumerate(query[::-1][:num_recent])), start=np.zeros(7))
    scorer = _fitted(histories, 6, max_distance=max_distance, num_recent=num_recent)
    assert scorer.score(Sequences.from_lists([query]))[0] == pytest.approx(expected, abs=1e-5)


def test_successors_come_strongest_first_and_padded_with_zero() -> None:
    items, weights = _fitted([[1, 2, 3], [1, 2], [4]], 4).successors(2)
    assert items.tolist() == [[0, 0], [2, 3], [3, 0], [0, 0], [0, 0]]
    assert weights[1] == pytest.approx([0.8, 0.2])
    assert items.dtype == np.int32
    assert weights.dtype == np.float32


def test_equally_strong_successors_go_by_item_row() -> None:
    items, _ = _fitted([[1, 4], [1, 2], [1, 3]], 4).successors(2)
    assert items[1].tolist() == [2, 3]


def test_there_are_never_more_successors_than_items() -> None:
    items, _ = _fitted([[1, 2]], 2).successors(50)
    assert items.shape == (3, 2)


@pytest.mark.parametrize("settings", [{"max_distance": 0}, {"num_recent": 0}, {"decay": 0.0}, {"decay": 1.1}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        _fitted([[1]], 1, **settings)
