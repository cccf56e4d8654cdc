"""A stage behind a breaker: one that keeps failing is left alone for a second at a time, and named in every answer."""

from dataclasses import dataclass

from retrank.contract.api import DegradedReason
from retrank.serving.draft import Draft
from retrank.serving.guard.breaker import Breaker
from retrank.serving.guard.settings import BreakerSettings
from retrank.serving.pipeline import Clock, Stage, Step

ONLY_FAILURES = BreakerSettings(max_p95_s=60.0, max_wasted_s=60.0)
"""How long a stage takes is the business of the deadline; here only failures count, half of the newest twenty."""


@dataclass(frozen=True)
class LeftAlone:
    """Runs a stage that may fail, unless it failed too often of late: then the draft goes on as after a failure."""

    stage: Stage
    breaker: Breaker
    clock: Clock

    @property
    def step(self) -> Step:
        """The step of the stage."""
        return self.stage.step

    @property
    def on_failure(self) -> DegradedReason | None:
        """What the answer lacks without the stage."""
        return self.stage.on_failure

    def applies(self, draft: Draft) -> bool:
        """Applies where the stage does."""
        return self.stage.applies(draft)

    def run(self, draft: Draft) -> Draft:
        """Run the stage and tell the breaker how that ended."""
        assert self.on_failure is not None, "there is no answer without this stage"
        if not self.breaker.allows():
            return draft.without(self.on_failure)
        started, failed = self.clock(), True
        try:
            draft = self.stage.run(draft)
            failed = False
        finally:
            self.breaker.ended(failed=failed, seconds=self.clock() - started)
        return draft
