"""The ranking metrics as one would explain them: a sort and a loop per case. Oracle of `ranking.py` in the tests."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrank.metrics.ranking import tie_keys


def ranked_items(scores: NDArray[np.float32], user: int, seen: Sequence[int], targets: Sequence[int] = ()) -> list[int]:
    """Item rows in the order in which they are recommended, best first.

    Args:
        scores: `[N + 1]` float32; -inf means the item cannot be recommended.
        user: user position, which decides the order of tied items.
        seen: item rows to leave out.
        targets: item rows that stay even when seen.
    """
    ties = tie_keys(np.array([user]), np.arange(len(scores))).tolist()
    allowed = [
        item
        for item in range(1, len(scores))
        if scores[item] > -math.inf and (item not in set(seen) or item in set(targets))
    ]
    return sorted(allowed, key=lambda item: (float(scores[item]), ties[item]), reverse=True)


def case_metrics(ranked: Sequence[int], targets: Sequence[int], k: int) -> dict[str, float]:
    """HR, Recall, NDCG and MRR at k of one ranked list against the targets."""
    hits = [position for position, item in enumerate(ranked[:k], start=1) if item in set(targets)]
    reachable = min(k, len(targets))
    ideal = sum(1 / math.log2(1 + position) for position in range(1, reachable + 1))
    return {
        f"hr@{k}": 1.0 if hits else 0.0,
        f"recall@{k}": len(hits) / reachable,
        f"ndcg@{k}": sum(1 / math.log2(1 + position) for position in hits) / ideal,
        f"mrr@{k}": 1 / hits[0] if hits else 0.0,
    }
