"""The features of candidates, against values worked out by hand."""

import numpy as np
import pytest

from retrank.contract.candidate_features import Asker, candidate_features, feature_names
from retrank.contract.errors import DataError
from retrank.contract.item_facts import ItemFacts, item_facts
from retrank.contract.proposals import Proposal, merge
from retrank.contract.sequences import Sequences

DAY = 86_400
US = 1_000_000
LIMITS = {"sequence": 3, "popular": 2}
NAMES = feature_names(tuple(LIMITS), ("price",))
VECTORS = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [2, 0]], dtype=np.float32)
PRICES = np.array([np.nan, 10, 20, np.nan, 40], dtype=np.float32)


def facts() -> ItemFacts:
    """Item 1: day 0 and 10, item 2: day 10, item 4: day 10, item 3: never; half-life ten days."""
    histories = Sequences.from_lists([[1, 2], [1, 4]], [[0, 10 * DAY * US], [10 * DAY * US, 10 * DAY * US]])
    return item_facts(histories, 4, half_life_days=10.0, numbers={"price": PRICES})


def features(now_day: float = 13.0, history: tuple[int, ...] = (1, 2)) -> dict[str, np.ndarray]:
    asker = Asker(
        history=np.array(history),
        ages=np.array([5 * DAY, DAY][-len(history) :]),
        actions=np.zeros(len(history), dtype=np.int64),
        query=np.array([3, 4], dtype=np.float32),
        now=now_day * DAY,
    )
    sequence = Proposal(np.array([3, 4]), np.array([7.0, 6.0], dtype=np.float32))
    popular = Proposal(np.array([4]), np.array([0.5], dtype=np.float32))
    merged = merge({"sequence": sequence, "popular": popular}, np.array([]), LIMITS)
    table = candidate_features(merged, tuple(LIMITS), asker, facts(), VECTORS)
    assert table.shape == (2, len(NAMES))
    assert table.dtype == np.float32
    return dict(zip(NAMES, table.T, strict=True))


def test_facts_of_items() -> None:
    found = facts()
    np.testing.assert_allclose(found.popularity, [0, 1, 0.5, 0, 0.5])
    np.testing.assert_allclose(found.recent_popularity, [0, 1, 1 / 1.5, 0, 1 / 1.5], rtol=1e-6)
    np.testing.assert_array_equal(found.first_day, np.array([np.nan, 0, 10, np.nan, 10], dtype=np.float32))
    assert found.fresh(5).tolist() == [2, 4]
    assert found.fresh(20).tolist() == [1, 2, 4]


def test_facts_need_times() -> None:
    with pytest.raises(DataError, match="a ranker needs event times"):
        item_facts(Sequences.from_lists([[1]]), 1, half_life_days=1.0, numbers={})


def test_a_source_speaks_by_score_and_rank_and_the_sequence_score_is_always_exact() -> None:
    found = features()
    np.testing.assert_allclose(found["sequence_score"], [7.0, 6.0])  # query . vector, proposed or not
    np.testing.assert_allclose(found["sequence_rank_log"], np.log([1, 2]), rtol=1e-6)
    np.testing.assert_allclose(found["popular_score"], [0, 0.5])
    np.testing.assert_allclose(found["popular_rank_log"], np.log([3, 1]), rtol=1e-6)


def test_item_facts_are_as_of_the_request() -> None:
    found = features(now_day=13.0)
    np.testing.assert_allclose(found["popularity_log"], np.log([1e-6, 0.5 + 1e-6]), rtol=1e-5)
    np.testing.assert_allclose(found["item_age_days_log"], [np.nan, np.log(4)], rtol=1e-6)
    np.testing.assert_allclose(found["item_idle_days_log"], [np.nan, np.log(4)], rtol=1e-6)


def test_history_speaks_by_length_age_and_closeness() -> None:
    found = features()
    np.testing.assert_allclose(found["history_length_log"], np.log([2, 2]), rtol=1e-6)
    np.testing.assert_allclose(found["newest_event_days_log"], np.log([2, 2]), rtol=1e-6)
    np.testing.assert_allclose(found["closest_recent"], [np.sqrt(0.5), 1.0], rtol=1e-6)
    np.testing.assert_allclose(found["mean_recent"], [np.sqrt(0.5), 0.5], rtol=1e-6)


def test_numbers_are_given_and_compared_with_what_is_usual() -> None:
    found = features()
    np.testing.assert_array_equal(found["price"], np.array([np.nan, 40], dtype=np.float32))
    np.testing.assert_array_equal(found["price_above_recent"], np.array([np.nan, 25], dtype=np.float32))
    unknown = features(history=(3,))
    assert np.isnan(unknown["price_above_recent"]).all()


@pytest.mark.parametrize(("now_day", "expected"), [(0.25, (1, 0)), (0.5, (0, -1)), (3.75, (-1, 0))])
def test_the_hour_goes_round(now_day: float, expected: tuple[float, float]) -> None:
    found = features(now_day=now_day)
    np.testing.assert_allclose([found["hour_sin"][0], found["hour_cos"][0]], expected, atol=1e-6)


def test_monday_is_where_the_week_begins() -> None:
    monday = features(now_day=4.5)  # 5 January 1970
    np.testing.assert_allclose([monday["weekday_sin"][0], monday["weekday_cos"][0]], [0, 1], atol=1e-6)


def test_other_candidates_change_nothing() -> None:
    asker = Asker(np.array([1]), np.array([DAY]), np.array([0]), np.ones(2, dtype=np.float32), 12.0 * DAY)
    both = Proposal(np.array([4, 3]), np.array([2.0, 1.0], dtype=np.float32))
    alone = Proposal(both.rows[:1], both.scores[:1])
    tables = [
        candidate_features(merge({"sequence": found}, np.array([]), LIMITS), tuple(LIMITS), asker, facts(), VECTORS)
        for found in (both, alone)
    ]
    np.testing.assert_allclose(tables[0][1], tables[1][0], rtol=1e-6)
