"""Filter: take out what must not appear, and keep what was taken out for logs and explanations."""

from dataclasses import dataclass, replace

from retrank.contract.proposals import contained
from retrank.serving.draft import Draft
from retrank.serving.pipeline import Step


@dataclass(frozen=True)
class RemoveHidden:
    """Remove items the user has seen and items the request excludes."""

    step: Step = "filter"
    on_failure: None = None

    def applies(self, draft: Draft) -> bool:
        """Every slate is filtered."""
        del draft
        return True

    def run(self, draft: Draft) -> Draft:
        """Split the candidates into kept and removed."""
        rows = draft.candidates.rows
        excluded = contained(rows, draft.excluded)
        seen = contained(rows, draft.seen) & ~excluded
        removed = {"excluded": rows[excluded], "seen": rows[seen]}
        draft = replace(draft, candidates=draft.candidates.take(~(excluded | seen)), removed=removed)
        short = len(draft.candidates) < draft.request.k
        return draft.without("catalogue_exhausted") if short else draft
