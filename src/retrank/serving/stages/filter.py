"""Filter: take out what must not appear, and keep what was taken out for logs and explanations.

When attributes or availability leave too few items, the search is widened in bounded steps: first further
neighbours of the query, then the catalogue from its most popular item on, new items last. That ends at the deadline: a
filter that hardly anything passes must not occupy a replica for as long as its catalogue is large.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import Source
from retrank.contract.filters import Filter
from retrank.contract.proposals import contained
from retrank.serving.draft import Candidates, Draft
from retrank.serving.item_columns import ItemColumns, Mask, Rows
from retrank.serving.pipeline import Clock, Step
from retrank.serving.sieve import mistyped_attributes, sieve, unknown_attributes

WIDER = (4, 16)
"""How many times more neighbours each widening step looks at."""
MAX_NEIGHBOURS = 20_000
_BLOCK = 10_000
"""Items of the catalogue between two looks at the clock."""
_NEW_BLOCK = 500
"""New items between two looks at the clock: they are tested one by one."""


class Nearest(Protocol):
    """A source that can go on beyond what it proposed."""

    @property
    def num_candidates(self) -> int:
        """How many it proposes."""
        ...

    def nearest(self, draft: Draft, count: int) -> NDArray[np.integer]:
        """Return up to `count` item rows, best first; none when the draft lacks what it starts from."""
        ...


@dataclass(frozen=True)
class Sift:
    """Remove items that the person has seen, the request excludes or filters out, or the catalogue no longer offers.

    Attributes:
        columns: attributes of the items.
        source: widens the search.
        source_name: what the answer calls it.
        popular_items: `[N]` int32, most popular first; the last resort.
        clock: monotonic seconds, that of `Draft.due`.
    """

    columns: ItemColumns
    source: Nearest
    source_name: Source
    popular_items: NDArray[np.int32]
    clock: Clock
    step: Step = "filter"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Every slate is filtered."""
        del draft
        return True

    def run(self, draft: Draft) -> Draft:
        """Split the candidates into kept and removed, and look further when too few are kept."""
        wanted, changes = draft.request.filter, draft.changes
        passes = _unbarred(None if wanted is None else sieve(wanted, self.columns, changes), draft.barred)
        if wanted is not None:
            draft = self._doubted(draft, wanted)
        draft = _split(draft, passes)
        if len(draft.candidates) < draft.needed and (passes is not None or changes.hidden is not None):
            draft = self._widened(draft, passes)
        short = len(draft.candidates) < draft.request.k and "widening" not in draft.skipped
        return draft.without("catalogue_exhausted") if short else draft

    def _doubted(self, draft: Draft, wanted: Filter) -> Draft:
        """Say so when an expression is met by hardly any item because of how it is written."""
        if unknown_attributes(wanted, self.columns, draft.changes):
            draft = draft.without("unknown_attribute")
        return draft.without("mistyped_attribute") if mistyped_attributes(wanted, self.columns) else draft

    def _widened(self, draft: Draft, passes: Mask | None) -> Draft:
        """Add further items until there are enough, time is up, or nowhere is left to look."""
        kept, looked = draft.candidates, False
        for source, rows in self._further(draft):
            if looked and self.clock() >= draft.due:
                return draft._replace(candidates=kept).skip("widening")
            # So much there is always time for: short slates are worse than late ones.
            looked = source in {"popular", "fresh"}
            fresh = rows[~contained(rows, kept.rows)]
            fresh = fresh[_allowed(draft, fresh, passes)][: draft.needed - len(kept)]
            kept = kept.add(fresh, source)
            if len(kept) >= draft.needed:
                break
        return draft._replace(candidates=kept)

    def _further(self, draft: Draft) -> Iterator[tuple[Source, Rows]]:
        for times in WIDER:
            count = min(draft.over_fetch(self.source.num_candidates) * times, MAX_NEIGHBOURS)
            if self.clock() < draft.due:
                yield self.source_name, self.source.nearest(draft, count).astype(np.int64)
        for start in range(0, len(self.popular_items), _BLOCK):
            yield "popular", self.popular_items[start : start + _BLOCK].astype(np.int64)
        if draft.changes.new is not None:
            rows = draft.changes.new.rows  # nobody has touched these: the least popular of all
            for start in range(0, len(rows), _NEW_BLOCK):
                yield "fresh", rows[start : start + _NEW_BLOCK]


def _unbarred(wanted: Mask | None, barred: Sequence[Mask]) -> Mask | None:
    """Return the test of what a request wants and no rule keeps away; None when everything passes."""
    if not barred:
        return wanted

    def test(rows: Rows) -> NDArray[np.bool_]:
        passed = np.ones(len(rows), dtype=bool) if wanted is None else wanted(rows)
        for one in barred:
            passed &= ~one(rows)
        return passed

    return test


def _split(draft: Draft, passes: Mask | None) -> Draft:
    candidates = draft.candidates
    rows = candidates.rows
    excluded = contained(rows, draft.excluded)
    seen = contained(rows, draft.seen) & ~excluded
    removed = {"excluded": rows[excluded], "seen": rows[seen]}
    kept = ~(excluded | seen)
    hidden = draft.changes.unavailable(rows)
    if hidden is not None:
        gone = hidden & kept
        removed["unavailable"], kept = rows[gone], kept & ~gone
    if passes is not None:
        unwanted = ~passes(rows) & kept
        removed["filter"], kept = rows[unwanted], kept & ~unwanted
    left: Candidates = candidates.take(kept)
    return draft._replace(candidates=left, removed=removed)


def _allowed(draft: Draft, rows: Rows, passes: Mask | None) -> NDArray[np.bool_]:
    allowed = ~(contained(rows, draft.excluded) | contained(rows, draft.seen))
    hidden = draft.changes.unavailable(rows)
    if hidden is not None:
        allowed &= ~hidden
    return allowed if passes is None else allowed & passes(rows)
