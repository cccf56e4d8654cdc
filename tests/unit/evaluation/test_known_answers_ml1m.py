"""Known answers on the MovieLens-1M file of the SASRec papers, protocol P1: the evaluator and the baselines at once."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retrank.contract.sequences import Sequences
from retrank.data.splits import LeaveLastOut, Split
from retrank.models.baselines.ease import EASE
from retrank.models.baselines.markov import Markov
from retrank.models.baselines.popularity import Popularity
from retrank.models.protocols import Fittable
from retrank.training.baseline_table import events_before_test
from retrank.training.evaluator import evaluate

DATA = Path(os.environ.get("RETRANK_DATA", "")) / "ml-1m" / "ml-1m.txt"
NUM_ITEMS = 3416

pytestmark = pytest.mark.skipif(
    "RETRANK_DATA" not in os.environ or not DATA.is_file(), reason="RETRANK_DATA names no folder with ml-1m/ml-1m.txt"
)


@pytest.fixture(scope="module")
def split() -> Split:
    users, items = np.loadtxt(DATA, dtype=np.int64).T
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users)[1:])]).astype(np.int64)
    return LeaveLastOut()(Sequences(items.astype(np.int32), offsets))


@pytest.mark.parametrize(
    ("build", "fit_on", "hr", "ndcg"),
    [
        (Popularity, "train+validation", 0.0364, 0.0179),
        (lambda: EASE(regularisation=200), "train+validation", 0.1101, 0.0536),
        (lambda: Markov(max_distance=10, num_recent=10, decay=0.7), "train+validation", 0.2743, 0.1609),
        (lambda: Markov(max_distance=10, num_recent=10, decay=0.7), "train", 0.2737, 0.1604),
    ],
    ids=["popularity", "ease", "markov", "markov-on-train"],
)
def test_baselines_reach_their_known_quality(
    split: Split, build: Callable[[], Fittable], fit_on: str, hr: float, ndcg: float
) -> None:
    scorer = build()
    scorer.fit(split.train if fit_on == "train" else events_before_test(split), NUM_ITEMS)
    metrics = evaluate(scorer, split.test, split.train).metrics
    assert metrics["hr@10"] == pytest.approx(hr, abs=2e-4)
    assert metrics["ndcg@10"] == pytest.approx(ndcg, abs=2e-4)
