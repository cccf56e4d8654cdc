from collections.abc import Iterator
from dataclasses import dataclass
from threading import Thread
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from worlds import TinyEncoder

from retrank.contract.cases import Cases
from retrank.contract.errors import DataError, TrainingError
from retrank.contract.sequences import Sequences
from retrank.metrics.reference import case_metrics, ranked_items
from retrank.models.sasrec import SASRec
from retrank.training.evaluator import evaluate
from retrank.training.scorer import ModelScorer

NUM_ITEMS = 30


@dataclass
class Table:
    """A scorer that looks its scores up by the first item of the history (0 for an empty one)."""

    scores: NDArray[np.float32]

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        return self.scores[[int(items[0]) if len(items) else 0 for items in histories]]


def _world(num_cases: int = 57) -> tuple[Table, Cases, Sequences]:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 8, (NUM_ITEMS + 1, NUM_ITEMS + 1)).astype(np.float32)  # many ties
    rows = [generator.permutation(np.arange(1, NUM_ITEMS + 1)).tolist() for _ in range(num_cases)]
    inputs = Sequences.from_lists([row[: index % 6] for index, row in enumerate(rows)])
    targets = Sequences.from_lists([row[10 : 11 + index % 4] for index, row in enumerate(rows)])
    return Table(scores), Cases(np.arange(num_cases) * 3, inputs, targets), inputs


def test_it_agrees_with_a_sort_and_a_loop_per_case() -> None:
    scorer, cases, train = _world()
    result = evaluate(scorer, cases, train, ks=(1, 5, 10), batch_size=10)
    slow = []
    for index, scores in enumerate(scorer.score(cases.inputs)):
        seen, targets = cases.inputs.of(index).tolist(), cases.targets.of(index).tolist()
        ranked = ranked_items(scores, int(cases.users[index]), seen, targets)
        slow.append({k: v for size in (1, 5, 10) for k, v in case_metrics(ranked, targets, size).items()})
    for name in slow[0]:
        assert result.metrics[name] == pytest.approx(np.mean([case[name] for case in slow])), name


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_the_size_of_the_batch_does_not_matter(batch_size: int) -> None:
    scorer, cases, train = _world()
    assert evaluate(scorer, cases, train, batch_size=batch_size).metrics == evaluate(scorer, cases, train).metrics


def test_the_order_of_the_cases_does_not_matter() -> None:
    scorer, cases, train = _world()
    shuffled = cases.take(np.random.default_rng(1).permutation(len(cases)))
    assert evaluate(scorer, shuffled, train).metrics == pytest.approx(evaluate(scorer, cases, train).metrics)


def test_seen_items_are_not_recommended() -> None:
    scores = np.zeros((NUM_ITEMS + 1, NUM_ITEMS + 1), dtype=np.float32)
    scores[:, 5] = 9
    cases = Cases(np.arange(2), Sequences.from_lists([[5], [1]]), Sequences.from_lists([[2], [5]]))
    result = evaluate(Table(scores), cases, cases.inputs)
    assert result.shown[5] == 1
    assert result.ranks.ranks[1] == 1


def test_an_empty_history_is_a_case_like_any_other() -> None:
    scorer, _, train = _world()
    cases = Cases(np.zeros(1, dtype=np.int64), Sequences.from_lists([[]]), Sequences.from_lists([[3]]))
    result = evaluate(scorer, cases, train)
    assert [piece.label for piece in result.slices if piece.by == "history length"] == ["0"]


def test_every_metric_of_the_table_is_there() -> None:
    scorer, cases, train = _world()
    metrics = evaluate(scorer, cases, train).metrics
    assert {f"{family}@{k}" for family in ("hr", "recall", "ndcg", "mrr") for k in (1, 5, 10, 20, 50, 100, 200)} < set(
        metrics
    )
    assert {f"{family}@10" for family in ("coverage", "gini", "novelty", "popularity_lift")} < set(metrics)


def test_no_cases_are_refused() -> None:
    scorer, cases, train = _world()
    with pytest.raises(DataError, match="no cases"):
        evaluate(scorer, cases.take(np.array([], dtype=np.int64)), train)


def test_scores_of_a_smaller_catalogue_are_refused() -> None:
    scorer, cases, train = _world()
    small = Table(scorer.scores[:, :20])
    with pytest.raises(DataError, match="over the whole catalogue"):
        evaluate(small, cases, train)


class Counting(TinyEncoder):
    """Counts how often its item vectors are asked for."""

    asked = 0

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        self.asked += 1
        return super().item_vectors(item_rows)


def test_a_model_computes_its_item_vectors_once_and_gets_the_ranks_of_its_scores() -> None:
    _, cases, train = _world()
    model = Counting(NUM_ITEMS)
    scorer = ModelScorer(model)
    scores = scorer.score(cases.inputs)
    asked = model.asked

    class Plain:
        def __init__(self) -> None:
            self.done = 0

        def score(self, histories: Sequences) -> NDArray[np.float32]:
            self.done += len(histories)
            return scores[self.done - len(histories) : self.done]

    result = evaluate(scorer, cases, train, batch_size=10)
    assert model.asked == asked + 1
    assert result.metrics == evaluate(Plain(), cases, train, batch_size=10).metrics


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_a_prepared_scorer_answers_fewer_and_more_histories_than_before(similarity: Literal["cosine", "dot"]) -> None:
    _, cases, _ = _world()
    scorer = ModelScorer(SASRec(NUM_ITEMS, max_length=6, width=8, similarity=similarity))
    prepared = scorer.prepared()
    for count in (3, 1, 20):
        part = cases.inputs.take(np.arange(count))
        np.testing.assert_allclose(prepared.score(part), scorer.score(part), atol=1e-6)


@pytest.fixture
def few_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An operating system that starts one thread for the evaluation, and no more."""
    started: list[str] = []
    start = Thread.start

    def refuse(thread: Thread) -> None:
        if thread.name.startswith("ThreadPoolExecutor"):
            if started:
                raise RuntimeError("can't start new thread")
            started.append(thread.name)
        start(thread)

    monkeypatch.setattr(Thread, "start", refuse)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("few_threads")
def test_where_too_few_threads_can_be_started_it_says_so_and_does_not_hang() -> None:
    scorer, cases, train = _world()
    raised: list[BaseException] = []

    def judge() -> None:
        try:
            evaluate(scorer, cases, train)
        except TrainingError as error:
            raised.append(error)

    judging = Thread(target=judge, name="judge", daemon=True)
    judging.start()
    judging.join(30.0)
    assert not judging.is_alive()
    (error,) = raised
    assert str(error).startswith(
        "1 of the 3 threads that evaluate could be started (can't start new thread); use fewer"
    )
    assert torch.get_num_threads() == 3
