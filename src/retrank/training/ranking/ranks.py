"""Ranks of targets when only candidates are recommended: what is not proposed is never found."""

import numpy as np
from numpy.typing import NDArray

from retrank.contract.cases import Cases
from retrank.metrics.case_ranks import CaseRanks
from retrank.metrics.ranking import UNRANKED, tie_keys
from retrank.training.ranking.table import RankingTable


def candidate_ranks(
    table: RankingTable, cases: Cases, scores: NDArray[np.floating], num_items: int, *, shown: NDArray[np.bool_]
) -> CaseRanks:
    """Rank the targets of C cases among their candidates.

    Args:
        table: candidates of the cases, in the same order.
        cases: C cases.
        scores: `[M]` one per candidate, finite.
        num_items: catalogue size N.
        shown: `[M]`; False takes a candidate out of the race.
    """
    ranks = np.full(len(cases.targets.item_rows), UNRANKED, dtype=np.int32)
    for case in range(len(cases)):
        part = slice(table.offsets[case], table.offsets[case + 1])
        rows, own = table.rows[part][shown[part]], scores[part][shown[part]]
        order = np.lexsort((-tie_keys(cases.users[case : case + 1], rows).astype(np.int64), -own))
        places = np.empty(len(rows), dtype=np.int32)
        places[order] = np.arange(1, len(rows) + 1)
        targets = slice(cases.targets.offsets[case], cases.targets.offsets[case + 1])
        _, at, target = np.intersect1d(rows, cases.targets.item_rows[targets], return_indices=True)
        ranks[targets][target] = places[at]
    return CaseRanks(
        users=np.asarray(cases.users),
        offsets=np.asarray(cases.targets.offsets),
        targets=np.asarray(cases.targets.item_rows),
        ranks=ranks,
        num_items=num_items,
    )
