"""Several scorers as one: what is added up, and what validation chooses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrank.contract.cases import Cases
from retrank.contract.sequences import Sequences
from retrank.models.protocols import Scorer
from retrank.training.blended import Blended, choose_weights, standardised
from retrank.training.evaluator import evaluate

NUM_ITEMS = 40


class Fixed:
    """Scores by the first item of the history: row `first - 1` of a table."""

    def __init__(self, table: NDArray[np.float32]) -> None:
        self.table, self.asked = table, 0

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        self.asked += len(histories)
        return self.table[histories.item_rows[histories.offsets[:-1]] - 1].copy()


def _cases(generator: np.random.Generator) -> Cases:
    """Forty users with one seen item each; each looks for one or two of the others."""
    seen = np.arange(1, NUM_ITEMS + 1)
    targets = [
        generator.choice(np.delete(seen, at), size=1 + at % 2, replace=False).tolist() for at in range(NUM_ITEMS)
    ]
    return Cases(
        np.arange(NUM_ITEMS), Sequences.from_lists([[row] for row in seen.tolist()]), Sequences.from_lists(targets)
    )


def _hints(cases: Cases, knows: NDArray[np.bool_], generator: np.random.Generator, scale: float = 1.0) -> Fixed:
    """Noise, in which the targets of some cases stand out."""
    table = generator.normal(size=(NUM_ITEMS, NUM_ITEMS + 1))
    for case in np.flatnonzero(knows):
        table[case, cases.targets.item_rows[cases.targets.offsets[case] : cases.targets.offsets[case + 1]]] += 8
    return Fixed((scale * table).astype(np.float32))


def _exact(scorer: Scorer, cases: Cases) -> float:
    return evaluate(scorer, cases, Sequences.from_lists([[1]]), ks=(10,)).metrics["ndcg@10"]


def test_scorers_that_know_different_cases_are_better_together() -> None:
    generator = np.random.default_rng(0)
    cases, half = _cases(generator), np.arange(NUM_ITEMS) < NUM_ITEMS // 2
    first, second = _hints(cases, half, generator), _hints(cases, ~half, generator, scale=1000)
    choice = choose_weights([first, second], cases)
    assert choice.weights == pytest.approx([0.5, 0.5], abs=0.1)  # whatever scale their scores have
    assert max(choice.alone) < 0.75
    assert choice.together > 0.9


def test_what_adds_nothing_gets_no_weight_and_is_not_asked() -> None:
    generator = np.random.default_rng(1)
    cases, nobody = _cases(generator), np.zeros(NUM_ITEMS, dtype=bool)
    oracle, noise = _hints(cases, ~nobody, generator), _hints(cases, nobody, generator)
    choice = choose_weights([noise, oracle], cases)
    assert choice.weights == [0.0, 1.0]
    noise.asked = 0
    Blended([noise, oracle], choice.weights).score(cases.inputs)
    assert noise.asked == 0


@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_the_quality_it_chooses_by_is_the_exact_one_when_nothing_ties(seed: int) -> None:
    generator = np.random.default_rng(seed)
    cases = _cases(generator)
    scorers = [_hints(cases, generator.random(NUM_ITEMS) < 0.5, generator) for _ in range(3)]
    choice = choose_weights(scorers, cases)
    assert choice.alone == pytest.approx([_exact(scorer, cases) for scorer in scorers])
    assert choice.together == pytest.approx(_exact(Blended(scorers, choice.weights), cases), abs=1e-3)
    assert choice.together >= max(choice.alone)


def test_items_of_the_history_are_no_rivals_of_a_target() -> None:
    cases = Cases(np.arange(1), Sequences.from_lists([[1, 2, 3]]), Sequences.from_lists([[4]]))
    scores = np.array([[-np.inf, 9, 8, 7, 5, 1]], dtype=np.float32)
    assert choose_weights([Fixed(scores), Fixed(scores)], cases).together == 1


def test_equal_scores_say_nothing() -> None:
    flat = np.full((2, 4), 3.0, dtype=np.float32)
    assert not standardised(flat).any()
    nothing_known = np.full((2, 4), -np.inf, dtype=np.float32)
    assert not standardised(nothing_known).any()


def test_what_cannot_be_recommended_counts_as_the_worst() -> None:
    scores = np.array([[-np.inf, 1.0, -np.inf, 2.0, 3.0]], dtype=np.float32)
    result = standardised(scores)
    assert result[0, 2] == result[0, 1] < result[0, 3] < result[0, 4]
    assert result[0, 1:].mean() == pytest.approx(0, abs=1e-6)
    assert result[0, 1:].std() == pytest.approx(1, abs=1e-6)
