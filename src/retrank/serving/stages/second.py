"""The second stage: the sources that only a ranker can weigh, and the ranker. Present when the bundle has one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import DegradedReason
from retrank.contract.candidate_features import Asker
from retrank.contract.proposals import Proposal, contained, merge
from retrank.policy.neighbours import neighbours
from retrank.serving.draft import Candidates, Draft
from retrank.serving.pipeline import Step
from retrank.serving.ranker import SecondStage


@dataclass(frozen=True)
class NeighbourSource:
    """Items that go with the history as a set."""

    second: SecondStage
    step: Step = "retrieve"
    on_failure: DegradedReason = "neighbours_failed"

    def applies(self, draft: Draft) -> bool:
        """Needs a history, and a ranker that knows the source."""
        return len(draft.history) > 0 and "neighbours" in self.second.spec.limits

    def run(self, draft: Draft) -> Draft:
        """Add the strongest neighbours."""
        second = self.second
        wanted = draft.over_fetch(second.spec.limits["neighbours"])
        found = neighbours(draft.readable(), second.neighbour_items, second.neighbour_weights, wanted)
        return draft.propose("neighbours", found)


@dataclass(frozen=True)
class TrendSource:
    """What everybody likes lately, and what is new."""

    second: SecondStage
    step: Step = "retrieve"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Next to other sources; alone, popularity answers."""
        return len(draft.history) > 0

    def run(self, draft: Draft) -> Draft:
        """Add the beginnings of two lists that are the same for everybody."""
        limits, popularity = self.second.spec.limits, self.second.facts.recent_popularity
        if "popular" in limits:
            rows = self.second.trending[: draft.over_fetch(limits["popular"])]
            draft = draft.propose("popular", Proposal(rows, popularity[rows]))
        if "fresh" in limits:
            rows = self.second.fresh[: draft.over_fetch(limits["fresh"])]
            draft = draft.propose("fresh", Proposal(rows, popularity[rows]))
        return draft


@dataclass(frozen=True)
class RankScore:
    """The ranker's score for everything the sources proposed."""

    second: SecondStage
    item_vectors: NDArray[np.float32]
    step: Step = "score"
    on_failure: DegradedReason = "ranker_failed"

    def applies(self, draft: Draft) -> bool:
        """Needs the query of the sequence model; without it the ranker would read a request it has never seen."""
        return draft.query is not None

    def run(self, draft: Draft) -> Draft:
        """Score; candidates beyond the limits of all sources leave the race unless the slate would fall short."""
        assert draft.query is not None, "applies only with a query"
        merged = merge(draft.proposals, draft.gone(), self.second.spec.limits)
        if draft.asked is not None:
            merged = merged.only(draft.asked)
        if len(merged.rows) < draft.request.k:
            merged = merged.extended(draft.candidates.rows, list(self.second.spec.limits.values()))
        asker = Asker(draft.readable(), draft.ages, draft.actions, draft.query, draft.now)
        kept = contained(draft.candidates.rows, merged.rows)
        candidates: Candidates = draft.candidates.take(kept)
        scores = self.second.score(merged, asker, self.item_vectors, draft.changes.new)
        return draft._replace(candidates=candidates, scores=scores)
