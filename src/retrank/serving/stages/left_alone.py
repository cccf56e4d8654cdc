"""A stage behind a breaker: one that keeps failing is left alone for a second at a time, and named in every answer.

The price: a caller whose requests alone make a model fail costs all others that model, a second at a time.
"""

from dataclasses import dataclass

from retrank.contract.api import DegradedReason
from retrank.serving.draft import Draft
from retrank.serving.guard.breaker import Breaker
from retrank.serving.guard.settings import BreakerSettings
from retrank.serving.pipeline import Clock, LeftOut, Stage, Step

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
        """Run the stage and tell the breaker how that ended.

        Raises:
            LeftOut: it is left alone.
        """
        if not self.breaker.allows():
            raise LeftOut
        started, failed = self.clock(), True
        try:
            draft = self.stage.run(draft)
            failed = False
        finally:
            self.breaker.ended(failed=failed, seconds=self.clock() - started)
        return draft
