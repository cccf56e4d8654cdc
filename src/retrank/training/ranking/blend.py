"""A linear blend of the sources' scores and ranks, learned; and what each source is worth in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from retrank.contract.cases import Cases
from retrank.metrics.case_ranks import CaseRanks
from retrank.training.ranking.ranks import candidate_ranks
from retrank.training.ranking.table import RankingTable

_PENALTY = 1e-3
_STEPS = 100


@dataclass(frozen=True)
class Blend:
    """Weights over the scores and logarithmic ranks of some sources.

    Attributes:
        columns: `[K]` positions among the features of a `RankingTable`.
        mean, scale: `[K]` float64 of the columns where it was fitted.
        weights: `[K]` float64.
    """

    columns: NDArray[np.int64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]

    def score(self, table: RankingTable) -> NDArray[np.float64]:
        """Return `[M]` float64 scores of all candidates."""
        scores: NDArray[np.float64] = ((table.features[:, self.columns] - self.mean) / self.scale) @ self.weights
        return scores


@dataclass(frozen=True)
class SourceGain:
    """What a blend of some sources reaches.

    Attributes:
        sources: names of the sources that take part.
        recall: share of the targets that these sources propose, 0..1.
        ranks: ranks of the targets under the blend.
    """

    sources: tuple[str, ...]
    recall: float
    ranks: CaseRanks


def fit_blend(table: RankingTable, sources: Sequence[int]) -> Blend:
    """Fit by listwise softmax: of all candidates of a request, those acted upon should come first.

    Only candidates that one of the sources proposed take part. L-BFGS on the full data, L2 penalty 0.001 on the weights
    of standardised columns.

    Args:
        table: labelled candidates; the first label says whether somebody acted.
        sources: positions of the sources that take part.
    """
    columns = np.array([column for source in sources for column in (2 * source, 2 * source + 1)])
    shown = proposed(table, sources)
    values = table.features[:, columns].astype(np.float64)
    mean, scale = values[shown].mean(axis=0), np.maximum(values[shown].std(axis=0), 1e-9)
    owners = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    standard = torch.from_numpy((values[shown] - mean) / scale)
    owner = torch.from_numpy(owners[shown])
    acted = torch.from_numpy((table.labels[shown, 0] > 0).astype(np.float64))
    weights = torch.zeros(len(columns), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = standard @ weights
        sums = torch.zeros(len(table), dtype=torch.float64).index_add(0, owner, logits.exp())
        behind = ((sums.log()[owner] - logits) * acted).sum() / acted.sum().clamp(min=1)
        value = behind + _PENALTY * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]  # torch
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]  # torch
    return Blend(columns, mean, scale, weights.detach().numpy())


def proposed(table: RankingTable, sources: Sequence[int]) -> NDArray[np.bool_]:
    """Tell for each of `[M]` candidates whether one of the sources proposed it."""
    shown: NDArray[np.bool_] = np.any(table.proposed[:, list(sources)], axis=1)
    return shown


def source_gains(
    fit_on: RankingTable, table: RankingTable, cases: Cases, names: tuple[str, ...], num_items: int
) -> list[SourceGain]:
    """Blend every source alone, all of them, and all but one.

    Args:
        fit_on: labelled candidates that the blends learn from.
        table: candidates of the cases that are reported.
        cases: C cases with targets.
        names: the sources in the order of the features.
        num_items: catalogue size N.
    """
    everything = tuple(range(len(names)))
    alone = [(source,) for source in everything]
    without = [tuple(other for other in everything if other != source) for source in everything]
    subsets = dict.fromkeys([everything, *alone, *without])  # two sources: without one is the other alone
    return [_gain(fit_on, table, cases, names, chosen, num_items) for chosen in subsets if chosen]


def _gain(
    fit_on: RankingTable,
    table: RankingTable,
    cases: Cases,
    names: tuple[str, ...],
    chosen: tuple[int, ...],
    num_items: int,
) -> SourceGain:
    shown = proposed(table, chosen)
    ranks = candidate_ranks(table, cases, fit_blend(fit_on, chosen).score(table), num_items, shown=shown)
    found = float((ranks.ranks < np.iinfo(np.int32).max).mean())
    return SourceGain(tuple(names[source] for source in chosen), found, ranks)
