"""A trained ranker as a `Scorer`: candidates of all sources, ranked; what no source proposes is never recommended."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from retrank.contract.cases import Cases
from retrank.contract.sequences import Sequences
from retrank.data.visits import Visits
from retrank.training.ranking.sources import Sources
from retrank.training.ranking.table import RankingTable, ranking_table

_BLOCK = 32


def outputs_of(model: torch.nn.Module, table: RankingTable) -> NDArray[np.float32]:
    """Return `[M, H]` float32 outputs of a ranker for every candidate of a table; its mode is put back afterwards."""
    was_training = model.training
    model.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(table), _BLOCK):
            requests = np.arange(start, min(start + _BLOCK, len(table)))
            batch = table.batch(requests, max_candidates=0, random=None)
            found = model(*batch[:6])
            parts.append(found[batch.real].numpy())
    model.train(was_training)
    return np.concatenate(parts)


class Reranker:
    """Sources, then a ranker, as one scorer.

    Args:
        sources: propose for a history.
        score: turns a table of candidates into one score each, `[M]`.
        history_length: newest events the ranker reads, >= 1.
        rotation: `[D, D]` float32 that turns the retriever's vectors into those the ranker has learned from.
    """

    def __init__(
        self,
        sources: Sources,
        score: Callable[[RankingTable], NDArray[np.floating]],
        *,
        history_length: int,
        rotation: NDArray[np.float32] | None = None,
    ) -> None:
        self.sources, self._score, self.history_length, self.rotation = sources, score, history_length, rotation

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return `[B, N + 1]` float32 scores; -inf for what was not proposed. Histories have a moment and an event."""
        nothing = Sequences(np.zeros(0, dtype=np.int32), np.zeros(len(histories) + 1, dtype=np.int64))
        visits = Visits(Cases(np.arange(len(histories)), histories, nothing), np.zeros((0, 1), dtype=np.float32))
        table = ranking_table(self.sources, visits, history_length=self.history_length, progress=False)
        if self.rotation is not None:
            table = table.rotated(self.rotation)
        scores = np.full((len(histories), len(self.sources.item_vectors)), -np.inf, dtype=np.float32)
        owners = np.repeat(np.arange(len(table)), np.diff(table.offsets))
        scores[owners, table.rows] = self._score(table)
        return scores
