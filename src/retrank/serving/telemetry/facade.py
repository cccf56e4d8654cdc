"""What the service says about itself, as one object that handlers and components call.

This class says nothing; `prometheus.PrometheusTelemetry` counts. Handlers call `observe_answer` once per slate and the
middleware `web.metered.Metered` does the rest, so a handler never names a metric.
"""

from collections import Counter
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from typing import Any, Literal

from retrank.contract.api import SlateResponse
from retrank.contract.ranking import BatchResponse, RankResponse

Answered = SlateResponse | RankResponse
Quality = Literal[
    "score_psi", "unknown_id_ratio", "catalogue_coverage", "feature_age_seconds", "retrieval_recall_sampled"
]
SwapResult = Literal["activated", "failed", "rolled_back"]
"""How a change of bundle ended; `rolled_back` by the watch, an order to go back is one more activation."""
CircuitState = Literal["closed", "half_open", "open"]
_LABELS = "retrank.labels"
_ANSWER = "retrank.answer"
NONE = "none"
"""Label value of a request without a placement or an experiment."""


class Telemetry:
    """Says nothing. Every method is cheap and never raises for a value it does not know."""

    def observe_answer(self, scope: MutableMapping[str, Any], response: Answered, *, placement: str = NONE) -> None:
        """Count one slate or ranking: time per stage, what it lacks, whether it is empty; and label its request.

        Args:
            scope: of the request; keeps the answer, placement and variant for the middleware.
            response: the answer; it names the experiment and variant that gave it.
            placement: where it is shown.
        """
        scope[_LABELS] = (placement, variant_of(response))
        scope[_ANSWER] = response

    def observe_batch(self, batch: BatchResponse) -> None:
        """Count every slate of a batch; the request has no placement and no variant, as they may all be different."""
        for one in batch.answers:
            if one.slate is not None:
                self.observe_answer({}, one.slate)
        for status, count in Counter(one.status for one in batch.answers).items():
            self.batched(status, count)

    def request(self, route: str, status: int, seconds: float, *, placement: str, variant: str) -> None:
        """Count one answered request, refused ones too."""

    def batched(self, status: int, count: int) -> None:
        """Count requests within a batch by how each was answered: the batch itself is answered with 200."""

    def pipeline(self, candidates: Mapping[str, int], removed: Mapping[str, int]) -> None:
        """Count the items of a slate by source, and what filters took out, by rule."""

    def in_flight(self, delta: int) -> None:
        """Note that requests started (+1) or ended (-1)."""

    def queued(self, seconds: float) -> None:
        """Note how long a request waited before it started."""

    def shed(self, reason: str) -> None:
        """Count a request that was turned away."""

    def circuit(self, dependency: str, state: CircuitState) -> None:
        """Note the state of a breaker."""

    def fallback(self, dependency: str, rung: str) -> None:
        """Count a call that was answered by a fallback."""

    def events(self, kind: str, result: str, count: int = 1) -> None:
        """Count events by kind and by what became of them: accepted, duplicate, rejected."""

    def event_ack(self, seconds: float) -> None:
        """Note how long it took until events were durable."""

    def event_log_lag(self, seconds: float) -> None:
        """Note how old the oldest event is that was not yet applied."""

    def quality(self, name: Quality, value: float) -> None:
        """Note one figure about answers of late, see `serving.drift`."""

    def recall_queries(self, count: int) -> None:
        """Count requests that exact search was done for."""

    def new_items(self, counts: Mapping[str, int]) -> None:
        """Note how many items the bundle that answers does not know, by what became of them; see `NewItemCounts`."""

    def store(self, name: str, entries: int, evicted: int = 0) -> None:
        """Note how much a bounded store in this process holds, and count what had to make room since the last word."""

    def bundle(self, bundle_id: str, created_at: datetime) -> None:
        """Note which bundle answers from now on."""

    def swap(self, result: SwapResult, seconds: float) -> None:
        """Count a change of bundle, by how it ended."""


def variant_of(response: Answered) -> str:
    """Return experiment and variant that gave an answer, `none` for one of no experiment."""
    experiment = response.experiment if isinstance(response, SlateResponse) else None
    return NONE if experiment is None else f"{experiment.id}/{experiment.variant}"


def labels_of(scope: Mapping[str, Any]) -> tuple[str, str]:
    """Return placement and variant of a request."""
    placement, variant = scope.get(_LABELS, (NONE, NONE))
    return placement, variant


def answer_of(scope: Mapping[str, Any]) -> Answered | None:
    """Return the slate or ranking that answers a request; None before there is one, or when it is neither."""
    answer = scope.get(_ANSWER)
    return answer if isinstance(answer, Answered) else None
