"""A slate in the making: what the stages hand to one another. Never changed in place."""

import math
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import DegradedReason, Reason, RecommendRequest, Source
from retrank.contract.proposals import Proposal, contained
from retrank.serving.live_rules import Pins, Rules
from retrank.serving.overlay import UNCHANGED, RowChanges
from retrank.serving.stores.protocol import NOBODY, Profile
from retrank.serving.trends import RowTrend

SOURCES: tuple[Source, ...] = (
    "sequence",
    "covisit",
    "neighbours",
    "popular",
    "fresh",
    "similar",
    "pinned",
    "boosted",
    "buried",
)
"""Bit i of a candidate's source mask stands for `SOURCES[i]`."""
POOL = 100
"""Candidates wanted when a slate is to be varied or explores: with k of them there is nothing to choose from."""
BITS = {source: 1 << bit for bit, source in enumerate(SOURCES)}


@dataclass(frozen=True, slots=True)
class Candidates:
    """C distinct items and the sources that proposed each.

    Attributes:
        rows: `[C]` int64 item rows, increasing.
        sources: `[C]` int64 bit masks over `SOURCES`.
    """

    rows: NDArray[np.int64]
    sources: NDArray[np.int64]

    @classmethod
    def none(cls) -> "Candidates":
        """Return no candidates."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        """Return the number of candidates C."""
        return len(self.rows)

    def add(self, rows: NDArray[np.integer], source: Source) -> "Candidates":
        """Return the union with the item rows one source proposed; rows below 1 are dropped."""
        proposed = rows[rows > 0].astype(np.int64)
        joined = np.concatenate([self.rows, proposed])
        masks = np.concatenate([self.sources, np.full(len(proposed), BITS[source])])
        distinct, position = np.unique(joined, return_inverse=True)
        union = np.zeros(len(distinct), dtype=np.int64)
        np.bitwise_or.at(union, position, masks)
        return Candidates(distinct, union)

    def take(self, positions: NDArray[np.integer] | NDArray[np.bool_]) -> "Candidates":
        """Return the candidates at some positions, in that order."""
        return Candidates(self.rows[positions], self.sources[positions])


@cache
def source_names(mask: int) -> list[Source]:
    """Return the sources of a bit mask, in the order of `SOURCES`; one list per mask, not to be changed."""
    return [source for source, bit in BITS.items() if mask & bit]


def _no_rows() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Draft:
    """One request on its way to a slate.

    Attributes:
        request: what was asked.
        profile: what the state store knows of the person right now.
        changes: what changed in the catalogue since the bundle was sealed.
        trend: what is popular now; None where only the bundle knows.
        rules: of operators, that hold for this slate.
        pins: items that will stand at a place of their own; None unless some are held for it.
        seed: makes what is left to chance repeatable.
        asked: `[C]` int64 increasing item rows to be ranked, and no others; None where candidates are retrieved.
        now: seconds since 1970, UTC: the moment of the request.
        due: moment on the pipeline's clock, in seconds, from which on nothing may be begun that can be left out.
        history: `[H]` int64 known item rows, oldest first: the sealed history, live events, the session, seed items.
        ages: `[H]` int64 whole seconds since each of these events; 0 for the session, which is happening now.
        actions: `[H]` int64 action rows of these events, 0 = unknown, as for the session.
        seen: `[X]` int64 increasing item rows that must not appear because the user knows them.
        excluded: `[Y]` int64 increasing item rows that must not appear because the request says so.
        query: `[D]` float32 vector of the history; None until encoded, or when there is no history.
        proposals: what each source proposed, best first; what a ranker reads.
        candidates: what is still in the race; ordered best first once reranked.
        removed: item rows taken out by a filter, by its name.
        scores: `[C]` float32 beside the candidates; None until scored.
        propensities: `[C]` float64 beside the slate; None while nothing was left to chance.
        arranged: whether the candidates are the slate already.
        reasons: one list per candidate; empty until explained.
        degraded: what the answer had to do without.
        skipped: optional stages that the deadline left out.
    """

    request: RecommendRequest
    profile: Profile = NOBODY
    changes: RowChanges = UNCHANGED
    trend: RowTrend | None = None
    rules: Rules = ()
    pins: Pins | None = None
    seed: int = 0
    asked: NDArray[np.int64] | None = None
    now: float = 0.0
    due: float = math.inf
    history: NDArray[np.int64] = field(default_factory=_no_rows)
    ages: NDArray[np.int64] = field(default_factory=_no_rows)
    actions: NDArray[np.int64] = field(default_factory=_no_rows)
    seen: NDArray[np.int64] = field(default_factory=_no_rows)
    excluded: NDArray[np.int64] = field(default_factory=_no_rows)
    query: NDArray[np.float32] | None = None
    proposals: dict[str, Proposal] = field(default_factory=dict)
    candidates: Candidates = field(default_factory=Candidates.none)
    removed: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    scores: NDArray[np.float32] | None = None
    propensities: NDArray[np.float64] | None = None
    arranged: bool = False
    reasons: tuple[list[Reason], ...] = ()
    degraded: tuple[DegradedReason, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def needed(self) -> int:
        """How many candidates should be in the race: k, and more where their order is not all that counts."""
        request = self.request
        plain = request.explore is None and request.diversity is None
        return request.k if plain else max(request.k, POOL)

    def hidden(self) -> NDArray[np.bool_]:
        """Tell for each candidate `[C]` whether it must not appear."""
        rows = self.candidates.rows
        return contained(rows, self.seen) | contained(rows, self.excluded)

    def gone(self) -> NDArray[np.int64]:
        """Return the item rows that filters took out, increasing."""
        return np.unique(np.concatenate([_no_rows(), *self.removed.values()]))

    def propose(self, source: Source, proposal: Proposal) -> "Draft":
        """Return the draft with what one source proposes among the candidates."""
        candidates = self.candidates.add(proposal.rows, source)
        return replace(self, candidates=candidates, proposals={**self.proposals, source: proposal})

    def cut(self, positions: NDArray[np.integer]) -> "Draft":
        """Return the draft with the candidates at some positions, in that order."""
        assert self.scores is not None, "scored before cut"
        return replace(self, candidates=self.candidates.take(positions), scores=self.scores[positions])

    def over_fetch(self, wanted: int) -> int:
        """Return how many items to fetch so that `wanted` are left after filtering."""
        return wanted + len(self.seen) + len(self.excluded)

    def without(self, reason: DegradedReason) -> "Draft":
        """Return the draft with one more thing it had to do without."""
        return self if reason in self.degraded else replace(self, degraded=(*self.degraded, reason))

    def skip(self, stage: str) -> "Draft":
        """Return the draft without what one optional stage would have added, for want of time."""
        return replace(self.without("deadline"), skipped=(*self.skipped, stage))
