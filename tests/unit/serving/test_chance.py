"""What is left to chance, at the edges: strengths next to nothing, and a deadline that leaves no time for it."""

import math
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.contract.api import Degraded, RecommendRequest
from retrank.contract.decisions import DecisionRecord
from retrank.contract.slate_options import Diversity, Explore
from retrank.serving.decision_log import Decisions
from retrank.serving.gather import Gathered, Who
from retrank.serving.handout import Handout, Question
from retrank.serving.recommender import Recommender
from retrank.serving.surroundings import NOTHING_AROUND, Surroundings
from retrank.serving.tokens import Signer

HISTORY = "u1"


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@settings(max_examples=40)
@given(
    strength=st.sampled_from([5e-324, 1e-310, 1e-300, 1e-12, 1e-6, 1.0]),
    mode=st.sampled_from(["none", "mmr"]),
    seed=st.integers(0, 9),
)
def test_a_strength_next_to_nothing_takes_the_best_and_states_true_chances(
    recommender: Recommender, strength: float, mode: str, seed: int
) -> None:
    explore = Explore(policy="softmax", strength=strength, seed=seed)
    diversity = Diversity.model_validate({"mode": mode})
    asked = RecommendRequest(user_id=HISTORY, k=5, explore=explore, diversity=diversity)
    slate = recommender.recommend(asked, Surroundings(seed=seed))
    assert (len(slate.items), slate.degraded.reasons) == (5, [])
    assert all(0 < item.propensity <= 1 and math.isfinite(item.propensity) for item in slate.items)
    if mode == "none" and strength < 1e-5:
        best = recommender.recommend(RecommendRequest(user_id=HISTORY, k=5))
        assert [item.item_id for item in slate.items] == [item.item_id for item in best.items]


class MemoryLog:
    """Keeps records in a list."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    def append(self, records: Sequence[bytes]) -> Future[None]:
        self.records += records
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("degraded", "drawn"),
    [
        (Degraded(), True),
        (Degraded(is_degraded=True, reasons=["deadline"], stages_skipped=["explain"]), True),
        (Degraded(is_degraded=True, reasons=["deadline"], stages_skipped=["rerank"]), False),
        (Degraded(is_degraded=True, reasons=["rerank_failed"]), False),
    ],
)
def test_a_decision_names_a_policy_only_when_the_slate_was_drawn_by_it(
    recommender: Recommender, degraded: Degraded, drawn: bool
) -> None:
    log = MemoryLog()
    handout = Handout(Signer(b"k" * 32), Decisions(log), lambda: 1.0)
    explore, diversity = Explore(policy="softmax", strength=0.5, seed=7), Diversity(mode="mmr")
    slate = recommender.recommend(RecommendRequest(k=3)).model_copy(update={"degraded": degraded})
    question = Question("recommend", Who("shop"), explore=explore, diversity=diversity)
    handout.finish(slate, question, Gathered(NOTHING_AROUND, 0.0))
    record = DecisionRecord.model_validate_json(log.records[0])
    assert (record.explore, record.diversity) == (explore if drawn else None, diversity)
