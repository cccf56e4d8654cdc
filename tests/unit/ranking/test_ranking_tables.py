"""Candidates as tables: batches, blends, ranks among candidates, and frames of vectors."""

import numpy as np
import pytest

from retrank.contract.cases import Cases
from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences
from retrank.metrics.ranking import UNRANKED
from retrank.training.evaluator import evaluate
from retrank.training.ranking.blend import fit_blend, source_gains
from retrank.training.ranking.module import RankingBatches
from retrank.training.ranking.ranks import candidate_ranks
from retrank.training.ranking.rotation import rotation_between
from retrank.training.ranking.sources import SourceSettings
from retrank.training.ranking.table import RankingTable, newest_events

NUM_ITEMS, NUM_CASES, PER_CASE = 40, 30, 12


def table(seed: int = 0, useful: int = 1) -> tuple[RankingTable, Cases]:
    """Three sources; whoever the useful one scores highest is acted upon, the others are noise.

    The useful source proposes the first nine of twelve candidates, the others all of them.
    """
    random = np.random.default_rng(seed)
    rows = np.stack(
        [np.sort(random.choice(np.arange(1, NUM_ITEMS + 1), PER_CASE, replace=False)) for _ in range(NUM_CASES)]
    )
    scores = random.normal(size=(NUM_CASES, PER_CASE, 3))
    proposed = np.ones((NUM_CASES, PER_CASE, 3), dtype=bool)
    proposed[:, 9:, useful] = False
    scores[~proposed] = 0
    best = scores[:, :9, useful].argmax(axis=1)
    labels = np.zeros((NUM_CASES, PER_CASE, 1), dtype=np.float32)
    labels[np.arange(NUM_CASES), best] = 1
    ranks = 1 + np.argsort(np.argsort(-scores, axis=1), axis=1)
    features = np.stack([scores, np.log(ranks)], axis=3).reshape(NUM_CASES * PER_CASE, 6)
    found = RankingTable(
        offsets=np.arange(0, NUM_CASES * PER_CASE + 1, PER_CASE),
        rows=rows.ravel(),
        proposed=proposed.reshape(-1, 3),
        features=features.astype(np.float32),
        labels=labels.reshape(-1, 1),
        queries=random.normal(size=(NUM_CASES, 4)).astype(np.float32),
        history_rows=random.integers(0, NUM_ITEMS, (NUM_CASES, 3)),
        history_ages=np.full((NUM_CASES, 3), 7),
        history_actions=random.integers(0, 3, (NUM_CASES, 3)),
        item_vectors=random.normal(size=(NUM_ITEMS + 1, 4)).astype(np.float32),
        recall=1.0,
    )
    targets = Sequences.from_lists([[int(row)] for row in rows[np.arange(NUM_CASES), best]])
    inputs = Sequences.from_lists([[1]] * NUM_CASES)
    return found, Cases(np.arange(NUM_CASES), inputs, targets)


@pytest.mark.parametrize("useful", [0, 1, 2])
def test_a_blend_finds_the_source_that_knows(useful: int) -> None:
    (fitted, _), (fresh, cases) = table(1, useful), table(2, useful)
    shown = np.ones(len(fresh.rows), dtype=bool)
    blended = candidate_ranks(fresh, cases, fit_blend(fitted, range(3)).score(fresh), NUM_ITEMS, shown=shown)
    assert blended.mean((1,))["hr@1"] > 0.9
    others = [source for source in range(3) if source != useful]
    without = candidate_ranks(fresh, cases, fit_blend(fitted, others).score(fresh), NUM_ITEMS, shown=shown)
    assert without.mean((1,))["hr@1"] < 0.4


def test_the_gain_of_a_source_counts_only_what_is_proposed() -> None:
    (fitted, _), (fresh, cases) = table(1), table(2)
    gains = {gain.sources: gain for gain in source_gains(fitted, fresh, cases, ("a", "b", "c"), NUM_ITEMS)}
    assert list(gains) == [("a", "b", "c"), ("a",), ("b",), ("c",), ("b", "c"), ("a", "c"), ("a", "b")]
    assert gains[("b",)].recall == 1.0
    assert gains[("b",)].ranks.ranks.max() <= 9
    alone, everything = (gains[names].ranks.mean((1,))["hr@1"] for names in (("a",), ("a", "b", "c")))
    assert everything > alone + 0.4


def test_ranks_among_candidates_are_those_of_the_full_catalogue_with_the_rest_left_out() -> None:
    found, cases = table()
    scores = np.round(np.random.default_rng(3).normal(size=len(found.rows)), 1).astype(np.float32)  # with ties

    class Full:
        def __init__(self) -> None:
            self.at = 0

        def score(self, histories: Sequences) -> np.ndarray:
            whole = np.full((len(histories), NUM_ITEMS + 1), -np.inf, dtype=np.float32)
            for place in range(len(histories)):
                part = slice(found.offsets[self.at], found.offsets[self.at + 1])
                whole[place, found.rows[part]] = scores[part]
                self.at += 1
            return whole

    inputs = Sequences.from_lists([[]] * len(cases))
    expected = evaluate(Full(), Cases(cases.users, inputs, cases.targets), cases.inputs).ranks
    ours = candidate_ranks(found, cases, scores, NUM_ITEMS, shown=np.ones(len(found.rows), dtype=bool))
    np.testing.assert_array_equal(ours.ranks, expected.ranks)
    nothing = candidate_ranks(found, cases, scores, NUM_ITEMS, shown=np.zeros(len(found.rows), dtype=bool))
    assert (nothing.ranks == UNRANKED).all()


def test_a_batch_keeps_what_was_acted_upon_and_weighs_the_rest() -> None:
    found, _ = table()
    for batch in RankingBatches(found, batch_size=7, max_candidates=5, seed=3):
        assert batch.real.shape[1] == 5
        assert (batch.labels[..., 0].sum(dim=1) == 1).all()
        np.testing.assert_allclose(batch.weights.sum(dim=1), PER_CASE, rtol=1e-6)


def test_batches_repeat_with_seed_and_epoch() -> None:
    found, _ = table()

    def first(seed: int, epoch: int) -> np.ndarray:
        batch = next(iter(RankingBatches(found, batch_size=7, max_candidates=5, seed=seed, epoch=epoch)))
        return np.asarray(batch.features)

    np.testing.assert_array_equal(first(1, 0), first(1, 0))
    assert not np.array_equal(first(1, 0), first(1, 1))
    assert not np.array_equal(first(1, 0), first(2, 0))


def test_all_candidates_of_a_request_without_a_draw() -> None:
    found, _ = table()
    batch = found.batch(np.array([4, 2]), max_candidates=1, random=None)
    np.testing.assert_array_equal(batch.features[0], found.features[4 * PER_CASE : 5 * PER_CASE])
    np.testing.assert_array_equal(
        batch.candidate_vectors[1], found.item_vectors[found.rows[2 * PER_CASE : 3 * PER_CASE]]
    )
    np.testing.assert_array_equal(batch.query, found.queries[[4, 2]])
    np.testing.assert_array_equal(batch.history_actions, found.history_actions[[4, 2]])


def test_the_newest_events_of_a_request_keep_their_actions() -> None:
    inputs = Sequences.from_lists([[1, 2, 3], [4]], [[0, 10**6, 2 * 10**6], [0]], [[1, 2, 3], [2]])
    asked = Sequences(inputs.item_rows, inputs.offsets, inputs.times, np.array([3 * 10**6, 5 * 10**6]), inputs.actions)
    rows, ages, actions = newest_events(asked, 2)
    assert (rows.tolist(), ages.tolist(), actions.tolist()) == ([[2, 3], [0, 4]], [[2, 1], [-1, 5]], [[2, 3], [0, 2]])


@pytest.mark.parametrize("settings", [{"batch_size": 0, "max_candidates": 5}, {"batch_size": 2, "max_candidates": 1}])
def test_batches_that_teach_nothing_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="batches: batch_size"):
        RankingBatches(table()[0], **settings, seed=1)


def test_a_rotation_brings_vectors_back_into_their_old_frame() -> None:
    random = np.random.default_rng(0)
    old = random.normal(size=(30, 5)).astype(np.float32)
    turn = np.linalg.qr(random.normal(size=(5, 5)))[0].astype(np.float32)
    weights = random.uniform(0.1, 1, 30)
    rotation = rotation_between(old @ turn, old, weights)
    np.testing.assert_allclose(rotation, turn.T, atol=1e-5)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(5), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limits": {"popular": 5}}, "expected sequence and others"),
        ({"limits": {"sequence": 5, "oracle": 5}}, "expected sequence and others"),
        ({"limits": {"sequence": 0}}, r"limits\.sequence is 0"),
        ({"covisit_window": 0}, "covisit_window is 0"),
        ({"half_life_days": 0.0}, r"half_life_days 0\.0"),
    ],
)
def test_sources_that_propose_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SourceSettings(**settings)  # type: ignore[arg-type]
