"""Record: count what was served, so that a fallback is seen by the people who run the service."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain

from retrank.contract.api import DegradedReason
from retrank.serving.draft import Draft, source_names
from retrank.serving.pipeline import Step
from retrank.serving.telemetry.facade import Telemetry


@dataclass
class Tally:
    """Counts since this process opened its bundle."""

    slates: int = 0
    empty: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    items_by_source: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    telemetry: Telemetry = field(default_factory=Telemetry)


@dataclass(frozen=True)
class Record:
    """Add one finished draft to the tally."""

    tally: Tally
    step: Step = "record"
    on_failure: DegradedReason = "record_failed"

    def applies(self, draft: Draft) -> bool:
        """Every slate is counted."""
        del draft
        return True

    def run(self, draft: Draft) -> Draft:
        """Count; the draft passes on unchanged."""
        tally = self.tally
        tally.slates += 1
        tally.empty += len(draft.candidates) == 0
        tally.degraded.update(draft.degraded)
        removed = {name: len(rows) for name, rows in draft.removed.items()}
        tally.removed.update(removed)
        by_source: Counter[str] = Counter(chain.from_iterable(map(source_names, draft.candidates.sources.tolist())))
        tally.items_by_source.update(by_source)
        tally.telemetry.pipeline(by_source, removed)
        return draft
