"""What the decision log holds: every answer as it went out, for attribution, counterfactual evaluation and training."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from retrank.contract.api import DegradedReason, Source
from retrank.contract.slate_options import Diversity, Explore

Route = Literal["recommend", "similar", "popular"]


class DecisionRecord(BaseModel):
    """One answer. Lists run beside each other, in the order of the slate.

    Attributes:
        recommendation_id: the token of the answer, which events bring back.
        request_id: as in logs.
        tenant: whose service it was.
        person: keyed hash of the person; "" for nobody.
        route: which question was answered.
        item_id: the item asked about, for `similar`.
        placement, context: as asked.
        bundle, experiment, variant: what answered.
        item_ids, scores, propensities, sources: the slate.
        explore: the policy that left something to chance, with the seed that was used; None when nothing was.
        diversity: as asked.
        degraded: what the answer had to do without.
        decided_us: when, in microseconds since the Unix epoch.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    recommendation_id: str
    request_id: str
    tenant: str
    person: str
    route: Route
    item_id: str | None = None
    placement: str | None = None
    context: dict[str, JsonValue] = {}
    bundle: str
    experiment: str | None = None
    variant: str | None = None
    item_ids: list[str]
    scores: list[float]
    propensities: list[float]
    sources: list[list[Source]]
    explore: Explore | None = None
    diversity: Diversity | None = None
    degraded: list[DegradedReason] = []
    decided_us: int
