"""Does the index that was opened still find what exact search finds? A sample, with the encoder and users at hand."""

import numpy as np
from numpy.typing import NDArray

from retrank.contract.golden import best_scores
from retrank.contract.sequences import Sequences
from retrank.serving.runtime import Runtime

_SAME_SCORE = 1e-6


def sampled_recall(runtime: Runtime, num_queries: int, rng: np.random.Generator) -> float:
    """Return the mean share of the exact top that the index finds, at the length the manifest's recall was measured at.

    An item counts when its exact score is not below the last one of the exact top, so that equal scores cost nothing:
    the rule by which export measures.

    Args:
        runtime: the open bundle.
        num_queries: users drawn, >= 1; all of them when there are fewer.
        rng: draws them.
    """
    queries = runtime.encoder.run(_histories(runtime, num_queries, rng))
    top = min(runtime.manifest.index.recall_at, len(runtime.items))
    floors = _floors(queries, runtime.item_vectors, top)
    found = 0
    for query, floor in zip(queries, floors, strict=True):
        rows = runtime.index.search(query, top)
        found += int((runtime.item_vectors[rows] @ query >= floor).sum())
    return found / (len(queries) * top)


def _histories(runtime: Runtime, count: int, rng: np.random.Generator) -> Sequences:
    """Draw stored histories; single items when nobody has one."""
    eligible = np.flatnonzero(runtime.histories.lengths)
    if len(eligible) == 0:
        rows = rng.integers(1, len(runtime.items) + 1, count)
        return Sequences.from_lists([[int(row)] for row in rows], [[0]] * count)
    users = rng.choice(eligible, size=min(count, len(eligible)), replace=False)
    longest = runtime.manifest.encoder.max_length
    stops = runtime.histories.offsets[users + 1]
    return runtime.histories.slices(np.maximum(runtime.histories.offsets[users], stops - longest), stops)


def _floors(queries: NDArray[np.float32], item_vectors: NDArray[np.float32], top: int) -> NDArray[np.float32]:
    """Return the score `[B]` of the last item of each exact top, less float32 noise."""
    worst = best_scores(queries, item_vectors, top).min(axis=1)
    floors: NDArray[np.float32] = worst - np.float32(_SAME_SCORE) * np.maximum(np.float32(1), np.abs(worst))
    return floors
