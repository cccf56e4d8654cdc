"""From a request and its candidates to the arrays a ranker reads; used by export and serving."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.contract.candidate_features import Asker, Candidates, candidate_features
from retrank.contract.item_facts import ItemFacts
from retrank.contract.proposals import Merged
from retrank.contract.ranker_spec import RankerSpec


class RankerArrays(NamedTuple):
    """What the graph of a ranker reads of one request, B = 1; see `models.ranker.RankerInputs`."""

    features: NDArray[np.float32]
    candidate_vectors: NDArray[np.float32]
    query: NDArray[np.float32]
    history_vectors: NDArray[np.float32]
    history_ages: NDArray[np.int64]
    history_actions: NDArray[np.int64]


def ranker_arrays(
    merged: Merged,
    asker: Asker,
    facts: ItemFacts,
    item_vectors: NDArray[np.float32],
    spec: RankerSpec,
    candidates: Candidates | None = None,
) -> RankerArrays:
    """Return the arrays for C candidates of one request.

    Args:
        merged: the candidates, C >= 1.
        asker: the request, with a history.
        facts: what is known of the items.
        item_vectors: `[N + 1, D]` float32 of the retriever, not rotated: the graph does that.
        spec: how the ranker is asked.
        candidates: what is known of the candidates, where it is at hand; None reads it of their rows.
    """
    newest = asker.history[-spec.history_length :]
    read = candidates or Candidates(item_vectors[merged.rows], facts.table[merged.rows])
    ages = np.asarray(asker.ages[-spec.history_length :], dtype=np.int64)
    return RankerArrays(
        features=candidate_features(merged, spec.sources, asker, facts, item_vectors, read)[None],
        candidate_vectors=read.vectors[None],
        query=np.asarray(asker.query, dtype=np.float32)[None],
        history_vectors=item_vectors[newest][None],
        history_ages=ages[None],
        history_actions=np.asarray(asker.actions[-spec.history_length :], dtype=np.int64)[None],
    )
