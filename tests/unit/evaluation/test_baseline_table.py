from pathlib import Path

import numpy as np
import pytest

from retrank.contract.errors import ConfigError, SourceError
from retrank.contract.sequences import Sequences
from retrank.data.splits import GlobalTemporal, LeaveLastOut, Split
from retrank.models.baselines.ease import EASE
from retrank.models.baselines.markov import Markov
from retrank.models.baselines.popularity import DecayedPopularity, Popularity
from retrank.training.baseline_table import RECIPES, BaselineTable, FitOn, Recipe, baseline_table, events_before_test

NUM_ITEMS = 20
RECIPES_HERE = (Recipe("popularity", Popularity, {}), Recipe("markov", Markov, {"decay": (0.1, 1.0)}))


def _chains(num_users: int = 40) -> Sequences:
    """Every user walks the circle of items from a place of their own: what follows is certain."""
    lists = [[(user + step) % NUM_ITEMS + 1 for step in range(6)] for user in range(num_users)]
    times = [[1000 * step + user for step in range(6)] for user in range(num_users)]
    return Sequences.from_lists(lists, times)


def _table(split: Split, cache: Path | None = None, fit_on: FitOn = "train") -> BaselineTable:
    return baseline_table(split, NUM_ITEMS, data_hash="abc", cache=cache, fit_on=fit_on, recipes=RECIPES_HERE)


def test_the_chain_is_found_by_the_baseline_that_follows_and_not_by_popularity() -> None:
    table = _table(LeaveLastOut()(_chains()))
    popularity, markov = table.rows
    assert markov.metrics["hr@1"] == 1
    assert popularity.metrics["hr@1"] < 0.3
    assert table.best() is markov


def test_settings_are_chosen_on_validation() -> None:
    markov = _table(LeaveLastOut()(_chains())).rows[1]
    assert markov.settings in ({"decay": 0.1}, {"decay": 1.0})
    assert markov.validation == 1


def test_a_baseline_that_cannot_be_fitted_is_named_with_the_reason() -> None:
    recipes = (Recipe("decayed", DecayedPopularity, {}), Recipe("ease", EASE, {"max_items": (5,)}))
    untimed = Sequences(_chains().item_rows, _chains().offsets)
    table = baseline_table(LeaveLastOut()(untimed), NUM_ITEMS, data_hash="abc", recipes=recipes)
    assert table.rows == []
    assert "needs event times" in table.skipped["decayed"]
    assert "max_items is 5" in table.skipped["ease"]


def test_a_table_is_computed_once_per_store_split_and_settings(tmp_path: Path) -> None:
    split = LeaveLastOut()(_chains())
    first, second = _table(split, tmp_path), _table(split, tmp_path)
    assert [path.name for path in tmp_path.glob("*/table.json")] == ["table.json"]
    assert second.rows[1].fit_seconds == first.rows[1].fit_seconds  # to the last digit: not measured again
    assert [row.metrics for row in second.rows] == [row.metrics for row in first.rows]
    assert np.array_equal(second.rows[1].ranks.ranks, first.rows[1].ranks.ranks)
    _table(split, tmp_path, fit_on="train+validation")
    _table(GlobalTemporal(0.2, 0.2)(_chains()), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_table_is_refused_with_what_to_do(tmp_path: Path) -> None:
    split = LeaveLastOut()(_chains())
    _table(split, tmp_path)
    next(tmp_path.glob("*/table.json")).write_text("{")
    with pytest.raises(SourceError, match="delete its folder"):
        _table(split, tmp_path)


def test_an_unknown_way_to_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="fit_on is 'test'"):
        _table(LeaveLastOut()(_chains()), fit_on="test")  # type: ignore[arg-type]  # the point of the test


def test_events_before_the_test_are_all_but_the_last_under_leave_last_out() -> None:
    sequences = _chains()
    known = events_before_test(LeaveLastOut()(sequences))
    expected = sequences.slices(sequences.offsets[:-1], sequences.offsets[1:] - 1)
    assert np.array_equal(known.item_rows, expected.item_rows)
    assert np.array_equal(known.offsets, expected.offsets)
    assert known.times is not None
    assert expected.times is not None
    assert np.array_equal(known.times, expected.times)


def test_events_before_the_test_never_reach_into_the_test_window() -> None:
    sequences = _chains()
    split = GlobalTemporal(0.2, 0.2)(sequences)
    known = events_before_test(split)
    assert len(known) == len(sequences)
    assert known.times is not None
    assert split.test.targets.times is not None
    assert split.validation.targets.times is not None
    assert split.validation.targets.times.max() <= known.times.max() < split.test.targets.times.min()


def test_every_baseline_stands_in_the_default_table() -> None:
    assert [recipe.name for recipe in RECIPES] == ["popularity", "decayed_popularity", "markov", "item_knn", "ease"]
