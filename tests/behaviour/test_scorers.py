"""What every scorer promises, whether it counts, solves or was trained."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from retrank.contract.cases import Cases
from retrank.contract.sequences import Sequences
from retrank.models.baselines.ease import EASE
from retrank.models.baselines.item_knn import ItemKNN
from retrank.models.baselines.markov import Markov
from retrank.models.baselines.popularity import DecayedPopularity, Popularity
from retrank.models.protocols import Fittable, Scorer
from retrank.models.sasrec import SASRec
from retrank.training.blended import Blended
from retrank.training.evaluator import evaluate
from retrank.training.scorer import ModelScorer

NUM_ITEMS = 12
BASELINES: dict[str, Callable[[], Fittable]] = {
    "popularity": Popularity,
    "decayed_popularity": DecayedPopularity,
    "markov": Markov,
    "item_knn": ItemKNN,
    "ease": EASE,
}


def _world() -> Sequences:
    generator = np.random.default_rng(0)
    lists = [generator.integers(1, NUM_ITEMS + 1, size=size).tolist() for size in (0, 1, 2, 5, 9, 30)]
    return Sequences.from_lists(lists, times=[[1000 * (place + 1) for place in range(len(items))] for items in lists])


def _sasrec() -> Scorer:
    torch.manual_seed(0)
    return ModelScorer(SASRec(num_items=NUM_ITEMS, max_length=8, width=8, num_blocks=1, num_heads=2).eval())


@pytest.fixture(params=[*BASELINES, "sasrec", "blended"])
def scorer(request: pytest.FixtureRequest) -> Scorer:
    if request.param == "blended":
        markov = Markov()
        markov.fit(_world(), NUM_ITEMS)
        return Blended([_sasrec(), markov], [0.7, 0.3])
    if request.param == "sasrec":
        return _sasrec()
    baseline = BASELINES[request.param]()
    baseline.fit(_world(), NUM_ITEMS)
    return baseline


def test_it_scores_the_whole_catalogue_with_numbers(scorer: Scorer) -> None:
    scores = scorer.score(_world())
    assert scores.shape == (6, NUM_ITEMS + 1)
    assert scores.dtype == np.float32
    assert not np.isnan(scores).any()
    assert (scores < np.inf).all()


def test_the_other_histories_of_a_batch_do_not_matter(scorer: Scorer) -> None:
    together = scorer.score(_world())
    alone = np.concatenate([scorer.score(_world().take(np.array([user]))) for user in range(6)])
    assert alone == pytest.approx(together, abs=1e-5)


def test_scoring_twice_gives_the_same(scorer: Scorer) -> None:
    assert np.array_equal(scorer.score(_world()), scorer.score(_world()))


def test_it_leaves_the_histories_as_they_are(scorer: Scorer) -> None:
    histories = _world()
    before = histories.item_rows.copy()
    histories.item_rows.setflags(write=False)  # as in a memory-mapped store
    scorer.score(histories)
    assert np.array_equal(histories.item_rows, before)


@pytest.mark.parametrize("name", BASELINES)
def test_fitting_leaves_the_histories_as_they_are(name: str) -> None:
    histories = _world()
    before = histories.item_rows.copy()
    histories.item_rows.setflags(write=False)
    BASELINES[name]().fit(histories, NUM_ITEMS)
    assert np.array_equal(histories.item_rows, before)


@pytest.mark.parametrize("name", ["markov", "item_knn", "ease"])
def test_it_finds_the_pattern_that_was_planted(name: str) -> None:
    """Item 2k always follows item 2k - 1; after an odd item the even one must be first."""
    pairs = [[2 * k - 1, 2 * k] for k in range(1, 7)]
    train = Sequences.from_lists(pairs * 5)
    baseline = BASELINES[name]()
    baseline.fit(train, NUM_ITEMS)
    odd, even = (Sequences.from_lists([[pair[place]] for pair in pairs]) for place in (0, 1))
    result = evaluate(baseline, Cases(np.arange(6), odd, even), train, ks=(1,))
    assert result.metrics["hr@1"] == 1
