"""Whether the order of events says more than what they were: two cheap models, asked about the validation window."""

import numpy as np
from numpy.typing import NDArray

from retrank.data.splits import Split
from retrank.models.baselines.item_knn import ItemKNN
from retrank.models.baselines.markov import Markov
from retrank.models.protocols import Fittable
from retrank.training.baseline_table import SELECTION_METRIC
from retrank.training.evaluator import evaluate

MOST_CASES = 5_000
MOST_HISTORIES = 50_000
READ_ORDER: tuple[Fittable, ...] = (Markov(decay=0.5, num_recent=10), Markov(decay=0.9, num_recent=50))
READ_NO_ORDER: tuple[Fittable, ...] = (ItemKNN(top_k=50, shrink=0), ItemKNN(top_k=50, shrink=20))
_LEAST = 1e-4


def order_gain(split: Split) -> float | None:
    """Return NDCG@10 of the better Markov chain over that of the better item neighbours; above 1 order says more.

    Both are fitted on at most `MOST_HISTORIES` training histories and asked for at most `MOST_CASES` validation cases,
    evenly chosen; they differ in that neighbours forget what came after what. None when there is nothing to ask about.
    """
    cases, train = split.validation, split.train
    if not len(cases):
        return None
    cases = cases.take(_evenly(len(cases), MOST_CASES))
    fitted_on = train.take(_evenly(len(train), MOST_HISTORIES))
    num_items = max(int(part.item_rows.max(initial=0)) for part in (train, cases.inputs, cases.targets))

    def best(models: tuple[Fittable, ...]) -> float:
        found = []
        for model in models:
            model.fit(fitted_on, num_items)
            found.append(evaluate(model, cases, train).metrics[SELECTION_METRIC])
        return max(found)

    ordered, unordered = best(READ_ORDER), best(READ_NO_ORDER)
    return None if max(ordered, unordered) < _LEAST else round(ordered / max(unordered, _LEAST), 2)


def _evenly(size: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))
