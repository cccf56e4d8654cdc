"""A slate in the making: what the stages hand to one another. Never changed in place."""

import math
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import DegradedReason, ReasonCode, RecommendRequest, Source
from retrank.contract.proposals import Proposal, contained
from retrank.serving.item_columns import Mask
from retrank.serving.live_rules import Pins, Rules
from retrank.serving.new_rows import rows_to_read
from retrank.serving.row_changes import UNCHANGED, RowChanges
from retrank.serving.stores.protocol import NOBODY, Profile
from retrank.serving.trends import RowTrend

SOURCES: tuple[Source, ...] = get_args(Source)
"""Bit i of a candidate's source mask stands for `SOURCES[i]`."""
POOL = 100
"""Candidates wanted when a slate is to be varied or explores: with k of them there is nothing to choose from."""
BITS = {source: 1 << bit for bit, source in enumerate(SOURCES)}
_MASKBITS = len(SOURCES)
_NO_ROWS = np.empty(0, dtype=np.int64)
_NO_ROWS.flags.writeable = False


class Candidates:
    """C distinct items and the sources that proposed each.

    What sources add is put aside and united when somebody first looks: once, not once per source.
    """

    __slots__ = ("_added", "_rows", "_sources")

    def __init__(
        self,
        rows: NDArray[np.int64],
        sources: NDArray[np.int64],
        added: tuple[tuple[NDArray[np.integer], Source], ...] = (),
    ) -> None:
        """Keep the items.

        Args:
            rows: `[C]` int64 distinct item rows, increasing until they are put in order.
            sources: `[C]` int64 bit masks over `SOURCES`.
            added: further item rows by source, not united yet.
        """
        self._rows, self._sources, self._added = rows, sources, added

    @classmethod
    def none(cls) -> "Candidates":
        """Return no candidates."""
        return cls(_NO_ROWS, _NO_ROWS)

    def __len__(self) -> int:
        """Return the number of candidates C."""
        return len(self.rows)

    @property
    def rows(self) -> NDArray[np.int64]:
        """`[C]` int64 item rows, increasing until they are put in order."""
        if self._added:
            self._unite()
        return self._rows

    @property
    def sources(self) -> NDArray[np.int64]:
        """`[C]` int64 bit masks over `SOURCES`."""
        if self._added:
            self._unite()
        return self._sources

    def add(self, rows: NDArray[np.integer], source: Source) -> "Candidates":
        """Return the union with the item rows one source proposed, by increasing row; rows below 1 are dropped."""
        return Candidates(self._rows, self._sources, (*self._added, (rows, source)))

    def take(self, positions: NDArray[np.integer] | NDArray[np.bool_]) -> "Candidates":
        """Return the candidates at some positions, in that order."""
        return Candidates(self.rows[positions], self.sources[positions])

    def _unite(self) -> None:
        """Sort rows and masks as one number each: the masks of an item then stand side by side."""
        parts = [self._rows << _MASKBITS | self._sources]
        parts += [np.left_shift(rows, _MASKBITS, dtype=np.int64) | BITS[source] for rows, source in self._added]
        joined = np.concatenate(parts)
        joined.sort()
        joined = joined[joined.searchsorted(1 << _MASKBITS) :]
        rows = joined >> _MASKBITS
        new = np.ones(len(rows), dtype=bool)
        np.not_equal(rows[1:], rows[:-1], out=new[1:])
        starts = np.flatnonzero(new)
        self._rows = rows[starts]
        self._sources = np.bitwise_or.reduceat(joined & (1 << _MASKBITS) - 1, starts)
        self._added = ()


@cache
def source_names(mask: int) -> list[Source]:
    """Return the sources of a bit mask, in the order of `SOURCES`; one list per mask, not to be changed."""
    return [source for source, bit in BITS.items() if mask & bit]


class ReasonFields(TypedDict):
    """The fields of a `contract.api.Reason`; checked once, with the slate they stand on."""

    code: ReasonCode
    item_id: str | None
    weight: float


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Draft(NamedTuple):
    """One request on its way to a slate.

    Attributes:
        request: what was asked.
        profile: what the state store knows of the person right now.
        changes: what changed in the catalogue since the bundle was sealed.
        trend: what is popular now; None where only the bundle knows.
        rules: of operators, that hold for this slate.
        barred: tests of what rules keep away by a filter.
        pins: items that will stand at a place of their own; None unless some are held for it.
        seed: makes what is left to chance repeatable.
        asked: `[C]` int64 increasing item rows to be ranked, and no others; None where candidates are retrieved.
        now: seconds since 1970, UTC: the moment of the request.
        due: moment on the pipeline's clock, in seconds, from which on nothing may be begun that can be left out.
        history: `[H]` int64 known item rows, oldest first: the sealed history, live events, the session, seed items.
            New items stand there by their own rows; whoever reads it by what the bundle knows takes `rows_to_read`.
        ages: `[H]` int64 whole seconds since each of these events; 0 for the session, which is happening now.
        actions: `[H]` int64 action rows of these events, 0 = unknown, as for the session.
        context: `[F]` int64 rows of what is known of the moment, 0 = unknown; F is 0 where no model reads it.
        seen: `[X]` int64 increasing item rows that must not appear because the user knows them.
        excluded: `[Y]` int64 increasing item rows that must not appear because the request says so.
        unlearned: whether the model learned of no item of the history, see `stages.unlearned`.
        query: `[D]` float32 vector of the history; None until encoded, or when there is no history.
        proposals: what each source proposed, best first; what a ranker reads.
        candidates: what is still in the race; ordered best first once reranked.
        removed: item rows taken out by a filter, by its name.
        scores: `[C]` float32 beside the candidates; None until scored.
        unmoved: `[C]` float32, the scores before rules moved them, in no particular order: the measure of variety and
            exploration; None where no rule did.
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
    barred: tuple[Mask, ...] = ()
    pins: Pins | None = None
    seed: int = 0
    asked: NDArray[np.int64] | None = None
    now: float = 0.0
    due: float = math.inf
    history: NDArray[np.int64] = _NO_ROWS
    ages: NDArray[np.int64] = _NO_ROWS
    actions: NDArray[np.int64] = _NO_ROWS
    context: NDArray[np.int64] = _NO_ROWS
    seen: NDArray[np.int64] = _NO_ROWS
    excluded: NDArray[np.int64] = _NO_ROWS
    unlearned: bool = False
    query: NDArray[np.float32] | None = None
    proposals: Mapping[str, Proposal] = _NOTHING
    candidates: Candidates = Candidates.none()
    removed: Mapping[str, NDArray[np.int64]] = _NOTHING
    scores: NDArray[np.float32] | None = None
    unmoved: NDArray[np.float32] | None = None
    propensities: NDArray[np.float64] | None = None
    arranged: bool = False
    reasons: tuple[list[ReasonFields], ...] = ()
    degraded: tuple[DegradedReason, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def needed(self) -> int:
        """How many candidates should be in the race: k, and more where their order is not all that counts."""
        request = self.request
        plain = request.explore is None and request.diversity is None
        pinned = sum(len(rule.said.items or ()) for rule in self.rules if rule.said.action == "pin")
        return (request.k if plain else max(request.k, POOL)) + pinned  # a pin that gets no place fills none

    def fall_short(self) -> bool:
        """Tell whether fewer candidates than are needed may appear."""
        rows, needed = self.candidates.rows, self.needed
        if len(rows) - len(self.seen) - len(self.excluded) >= needed:  # the usual case, without looking at each
            return False
        hidden = contained(rows, self.seen) | contained(rows, self.excluded)
        return len(rows) - int(np.count_nonzero(hidden)) < needed

    def gone(self) -> NDArray[np.int64]:
        """Return the item rows that filters took out, increasing."""
        return np.sort(np.concatenate([_NO_ROWS, *self.removed.values()]))

    def readable(self) -> NDArray[np.int64]:
        """Return the `[H]` rows of the history that the models know, see `rows_to_read`."""
        return rows_to_read(self.changes.new, self.history)

    def propose(self, source: Source, proposal: Proposal) -> "Draft":
        """Return the draft with what one source proposes among the candidates."""
        candidates = self.candidates.add(proposal.rows, source)
        return self._replace(candidates=candidates, proposals={**self.proposals, source: proposal})

    def cut(self, positions: NDArray[np.integer]) -> "Draft":
        """Return the draft with the candidates at some positions, in that order."""
        assert self.scores is not None, "scored before cut"
        return self._replace(candidates=self.candidates.take(positions), scores=self.scores[positions])

    def over_fetch(self, wanted: int) -> int:
        """Return how many items to fetch so that `wanted` are left after filtering."""
        return wanted + len(self.seen) + len(self.excluded)

    def without(self, reason: DegradedReason) -> "Draft":
        """Return the draft with one more thing it had to do without."""
        return self if reason in self.degraded else self._replace(degraded=(*self.degraded, reason))

    def skip(self, stage: str) -> "Draft":
        """Return the draft without what one optional stage would have added, for want of time."""
        return self.without("deadline")._replace(skipped=(*self.skipped, stage))
