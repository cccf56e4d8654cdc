"""What a second similarity is worth: the retriever's best items of each case, ordered again."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from retrank.contract.sequences import Sequences
from retrank.data.splits import Split
from retrank.metrics.bootstrap import paired_bootstrap
from retrank.models.protocols import Rescoring
from retrank.training.evaluator import Evaluation, evaluate
from retrank.training.report import METRIC
from retrank.training.scorer import ModelScorer

RESCORED = "rescored.json"
TOP = 200


class RescoringScorer:
    """A `Scorer`: the retriever's best items that are not in the history, in the order of the second similarity.

    All other items keep the retriever's scores, below these.

    Args:
        scorer: of a model that follows `Rescoring`.
        top: items per case that are ordered again, >= 1.
    """

    def __init__(self, scorer: ModelScorer, top: int = TOP) -> None:
        self.scorer, self.top = scorer, top
        self.model = cast(Rescoring, scorer.model)

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return `[B, N + 1]` float32 scores; column 0 is -inf."""
        queries = self.scorer.queries(histories)
        scores: NDArray[np.float32] = queries @ self.scorer.item_vectors().T
        scores[:, 0] = -np.inf
        unseen = scores.copy()
        unseen[np.repeat(np.arange(len(histories)), histories.lengths), histories.item_rows] = -np.inf
        top = min(self.top, scores.shape[1] - 1)
        rows = np.argpartition(unseen, -top, axis=1)[:, -top:]
        again = self._rescore(queries, rows)
        above = scores.max(axis=1, keepdims=True) - again.min(axis=1, keepdims=True) + 1
        offered = np.take_along_axis(unseen, rows, axis=1) > -np.inf  # a short catalogue may have fewer unseen items
        again = np.where(offered, again + above, np.take_along_axis(scores, rows, axis=1))
        np.put_along_axis(scores, rows, again.astype(np.float32), axis=1)
        return scores

    def _rescore(self, queries: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        module = cast(torch.nn.Module, self.model)
        device, was_training = next(module.parameters()).device, module.training
        module.eval()
        try:
            with torch.inference_mode():
                asked = torch.from_numpy(queries).to(device), torch.from_numpy(rows).to(device)
                again: NDArray[np.float32] = self.model.rescore(*asked).float().cpu().numpy()
        finally:
            module.train(was_training)
        return again


def assess(run_dir: Path, scorer: ModelScorer, split: Split, retrieved: Evaluation, *, progress: bool) -> str:
    """Evaluate the second similarity on validation and test, write `rescored.json`, and return what to print.

    Args:
        run_dir: folder of the run, must exist.
        scorer: of a model that follows `Rescoring`.
        split: the run's.
        retrieved: the retriever alone on the test cases.
        progress: show progress bars.
    """
    again = RescoringScorer(scorer)
    validation = evaluate(again, split.validation, split.train, progress=progress)
    test = evaluate(again, split.test, split.train, progress=progress)
    before, after = (found.ranks.per_case((10,))[METRIC] for found in (retrieved, test))
    gain = paired_bootstrap(before, after, test.ranks.users)
    record: Mapping[str, Any] = {
        "top": TOP,
        "validation": validation.metrics,
        "test": test.metrics,
        f"gain_{METRIC}": asdict(gain),
    }
    (run_dir / RESCORED).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return (
        f"best {TOP} ordered again by the model's second similarity: HR@10 {test.metrics['hr@10']:.4f}, NDCG@10 "
        f"{test.metrics[METRIC]:.4f}, {gain.difference:+.4f} (95 % interval {gain.low:+.4f} to {gain.high:+.4f}); "
        f"validation NDCG@10 {validation.metrics[METRIC]:.4f}. A bundle of this run retrieves only, without it"
    )
