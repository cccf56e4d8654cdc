"""Where a scorer is good and where it is not: by length of the history, and by popularity of the item to be found."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.metrics.case_ranks import CaseRanks

SLICE_K = 10
_LENGTH_EDGES = (0, 1, 5, 10, 20, 50, 100, 200)
_SHARES = (1 / 3, 2 / 3)
POPULARITY_LABELS = ("head", "middle", "tail", "untrained")


@dataclass(frozen=True)
class Slice:
    """One group of cases or targets.

    Attributes:
        by: "history length" or "target popularity".
        label: which group, such as "10-19" events or "tail".
        count: cases (or targets) in it.
        hr: share found among the first `SLICE_K`.
        ndcg: NDCG at `SLICE_K`.
    """

    by: str
    label: str
    count: int
    hr: float
    ndcg: float


def by_history_length(ranks: CaseRanks, lengths: NDArray[np.int64]) -> list[Slice]:
    """Slice C cases by the number of events in their input, `[C]` int64; groups without a case are left out."""
    metrics = ranks.per_case((SLICE_K,))
    group = np.searchsorted(_LENGTH_EDGES, lengths, side="right") - 1
    return [
        _slice("history length", _length_label(index), metrics[f"hr@{SLICE_K}"][of], metrics[f"ndcg@{SLICE_K}"][of])
        for index in range(len(_LENGTH_EDGES))
        if (of := group == index).any()
    ]


def by_target_popularity(ranks: CaseRanks, train_counts: NDArray[np.int64]) -> list[Slice]:
    """Slice T targets, each judged on its own, by training events of the item.

    Head, middle and tail are the items that, from the most popular down, make up a third of all training events each;
    "untrained" items have no training event.

    Args:
        ranks: ranks of T targets.
        train_counts: `[N + 1]` int64 training events per item row.
    """
    groups = popularity_groups(train_counts)[ranks.targets]
    found = (ranks.ranks <= SLICE_K).astype(np.float64)
    gains = found / np.log2(1 + ranks.ranks.astype(np.float64))
    return [
        _slice("target popularity", label, found[of], gains[of])
        for index, label in enumerate(POPULARITY_LABELS)
        if (of := groups == index).any()
    ]


def popularity_groups(train_counts: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return `[N + 1]` int8 index into `POPULARITY_LABELS`; items of equal popularity go by item row."""
    order = np.argsort(-train_counts, kind="stable")
    share_before = (np.cumsum(train_counts[order]) - train_counts[order]) / max(1, train_counts.sum())
    groups = np.empty(len(train_counts), dtype=np.int8)
    groups[order] = np.searchsorted(_SHARES, share_before, side="right")
    groups[train_counts == 0] = POPULARITY_LABELS.index("untrained")
    return groups


def _slice(by: str, label: str, hr: NDArray[np.float64], ndcg: NDArray[np.float64]) -> Slice:
    return Slice(by, label, len(hr), float(hr.mean()), float(ndcg.mean()))


def _length_label(index: int) -> str:
    low = _LENGTH_EDGES[index]
    if index + 1 == len(_LENGTH_EDGES):
        return f"{low}+"
    high = _LENGTH_EDGES[index + 1] - 1
    return str(low) if low == high else f"{low}-{high}"
