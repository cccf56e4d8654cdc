"""What the index finds of what exact search finds."""

import numpy as np
from numpy.typing import NDArray

from retrank.contract.golden import best_scores
from retrank.contract.rest import Rest, no_rest
from retrank.serving.runtime import Runtime

_SAME_SCORE = 1e-6


def found_share(runtime: Runtime, queries: NDArray[np.float32], rest: Rest = no_rest) -> float:
    """Return the mean share of the exact top that the index finds, at the length the manifest's recall was measured at.

    An item counts when its exact score is not below the last one of the exact top, so that equal scores cost nothing:
    the rule by which export measures.

    Args:
        runtime: the open bundle.
        queries: `[B, D]` float32, B >= 1.
        rest: called between pieces of work.
    """
    top = min(runtime.manifest.index.recall_at, len(runtime.items))
    floors = _floors(queries, runtime.item_vectors, top, rest)
    found = 0
    for query, floor in zip(queries, floors, strict=True):
        rows = runtime.index.search(query, top)
        found += int((runtime.item_vectors[rows] @ query >= floor).sum())
        rest()
    return found / (len(queries) * top)


def _floors(
    queries: NDArray[np.float32], item_vectors: NDArray[np.float32], top: int, rest: Rest
) -> NDArray[np.float32]:
    """Return the score `[B]` of the last item of each exact top less float32 noise."""
    worst = best_scores(queries, item_vectors, top, rest).min(axis=1)
    floors: NDArray[np.float32] = worst - np.float32(_SAME_SCORE) * np.maximum(np.float32(1), np.abs(worst))
    return floors
