"""The last touch on a slate: sign it, note the decision, say what was lacking."""

import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pydantic import JsonValue

from retrank.contract.api import ExperimentInfo, SlateResponse
from retrank.contract.decisions import DecisionRecord, Route
from retrank.contract.slate_options import Diversity, Explore
from retrank.serving.decision_log import Decisions
from retrank.serving.gather import Gathered, Who
from retrank.serving.pipeline import Clock
from retrank.serving.tokens import Claims, Signer


class Question(NamedTuple):
    """What a slate answers, as far as a decision keeps it; `explore` holds the seed that was used."""

    route: Route
    who: Who
    placement: str | None = None
    item_id: str | None = None
    context: Mapping[str, JsonValue] = MappingProxyType({})
    explore: Explore | None = None
    diversity: Diversity | None = None
    experiment: ExperimentInfo | None = None


class Handout:
    """Finishes slates."""

    def __init__(self, signer: Signer, decisions: Decisions, now: Clock) -> None:
        """Sign with `signer` and note in `decisions`; `now` is seconds since the Unix epoch."""
        self._signer, self._decisions, self._now = signer, decisions, now

    def finish(self, slate: SlateResponse, question: Question, gathered: Gathered) -> SlateResponse:
        """Return the slate with its token, its experiment and the time that reading the stores took."""
        who, experiment, now = question.who, question.experiment, self._now()
        person = self._signer.person(who.tenant, who.person)
        claims = Claims(
            id=secrets.token_hex(8),
            bundle=slate.bundle.id,
            tenant=who.tenant,
            person=person,
            placement=question.placement,
            variant=None if experiment is None else experiment.variant,
            at=int(now),
        )
        token = self._signer.sign(claims)
        degraded = slate.degraded
        if self._decisions.kept:
            self._decisions.note(_record(slate, question, token, person, int(now * 1e6)))
            if self._decisions.failing:
                reasons = [*degraded.reasons, "decision_log_unavailable"]
                degraded = degraded.model_copy(update={"is_degraded": True, "reasons": reasons})
        profile_ms = gathered.took_s * 1e3
        took_ms = {"profile": round(profile_ms, 3), **slate.took_ms}
        took_ms["total"] = round(took_ms.get("total", 0.0) + profile_ms, 3)
        final = {"recommendation_id": token, "experiment": experiment, "degraded": degraded, "took_ms": took_ms}
        return slate.model_copy(update=final)


def _record(slate: SlateResponse, question: Question, token: str, person: str, at_us: int) -> DecisionRecord:
    experiment = question.experiment
    degraded = slate.degraded
    arranged = "rerank" not in degraded.stages_skipped and "rerank_failed" not in degraded.reasons
    return DecisionRecord(
        recommendation_id=token,
        request_id=slate.request_id,
        tenant=question.who.tenant,
        person=person,
        route=question.route,
        item_id=question.item_id,
        placement=question.placement,
        context=dict(question.context),
        bundle=slate.bundle.id,
        experiment=None if experiment is None else experiment.id,
        variant=None if experiment is None else experiment.variant,
        item_ids=[item.item_id for item in slate.items],
        scores=[item.score for item in slate.items],
        propensities=[item.propensity for item in slate.items],
        sources=[item.sources for item in slate.items],
        explore=question.explore if arranged else None,  # else the order is plain and nothing was drawn
        diversity=question.diversity,
        degraded=degraded.reasons,
        decided_us=at_us,
    )
