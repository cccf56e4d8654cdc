"""Does the service still meet what its bundle was made for? Figures over what was answered lately, off the hot path.

    score_psi                  best scores of slates: the newest against the first that this bundle gave
    unknown_id_ratio           users and items of requests that the bundle does not know
    catalogue_coverage         share of the catalogue that the newest slates show
    feature_age_seconds        since the newest event that the bundle's features know
    retrieval_recall_sampled   of the exact top, how much the index finds for requests served lately

A request costs an append. Everything else is done by a thread every so often, on a bounded number of requests.

Source of the population stability index: Siddiqi, Credit Risk Scorecards, 2005; over deciles of the first scores. Below
0.1 is no drift to speak of, above 0.25 is a shift.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import MAX_DEADLINE_MS, RecommendRequest, SlateResponse
from retrank.contract.events import person_key
from retrank.serving.exact import found_share
from retrank.serving.gather import Gather, Who
from retrank.serving.newest_requests import NewestRequests
from retrank.serving.recommender import Recommender
from retrank.serving.telemetry.facade import Quality, Telemetry

MAX_NOTED = 500
"""Slates that the figures are about."""
MIN_SCORES = 200
"""Scores without which nothing is said about their distribution."""
_BINS = 10
_FLOOR = 1e-4
"""Least share of a bin: an empty one would make the index infinite."""
_MOVED = frozenset({"pinned", "boosted", "buried"})


class Noted(NamedTuple):
    """One answer; `score` is the best one by the model, NaN where another rung or a rule stood first."""

    tenant: str
    request: RecommendRequest
    score: float
    items: tuple[str, ...]
    unknown_user: bool


@dataclass
class _Since:
    """What one bundle answered: the newest slates, and the scores of the first."""

    bundle: str
    newest: NewestRequests[Noted]
    first: list[float] = field(default_factory=list)


class Drift:
    """Notes answers, and sums them up now and then."""

    def __init__(
        self,
        recommender: Callable[[], Recommender],
        gather: Gather,
        telemetry: Telemetry,
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
        rng: np.random.Generator,
        recall_queries: int,
    ) -> None:
        """Start with nothing noted.

        Args:
            recommender: what answers at the moment, in no experiment.
            gather: reads profiles, to encode requests again.
            telemetry: told the figures.
            now: seconds since 1970.
            clock: monotonic seconds.
            rng: draws requests for the recall.
            recall_queries: requests per round that exact search is done for; 0 leaves that out.
        """
        self._recommender, self._gather, self._telemetry = recommender, gather, telemetry
        self._now, self._rng, self._recall_queries = now, rng, recall_queries
        self._clock = clock
        self._since = self._anew("")
        self._dated = ""
        self._newest_s: float | None = None

    def note(self, tenant: str, request: RecommendRequest, slate: SlateResponse) -> None:
        """Remember an answer of the bundle that answers now; another one starts anew."""
        since = self._since
        if slate.bundle.id != since.bundle:
            if slate.experiment is not None:  # both variants at once would make the other forget each time
                return
            since = self._since = self._anew(slate.bundle.id)
        items = tuple([item.item_id for item in slate.items])
        score = _model_score(slate)
        if len(since.first) < MAX_NOTED and not math.isnan(score):
            since.first.append(score)
        since.newest.note(Noted(tenant, request, score, items, "unknown_user" in slate.degraded.reasons))

    def forget(self, tags: Collection[str] | None) -> None:
        """Forget old requests and those of some people; see `NewestRequests.forget`."""
        self._since.newest.forget(tags)

    def poll(self) -> None:
        """Sum up and tell."""
        recommender, since = self._recommender(), self._since
        noted = since.newest.newest()
        if recommender.bundle.id != self._dated:
            if self._dated:  # what was said of another bundle holds no more
                self._telemetry.quality("score_psi", 0.0)
                self._telemetry.quality("retrieval_recall_sampled", 1.0)
                self._telemetry.quality("catalogue_coverage", 1.0)
            self._dated, self._newest_s = recommender.bundle.id, _newest_s(recommender)
        if self._newest_s is not None:
            self._telemetry.quality("feature_age_seconds", max(self._now() - self._newest_s, 0.0))
        if not noted or since.bundle != recommender.bundle.id:
            return
        for name, value in figures(noted, since.first, recommender).items():
            self._telemetry.quality(name, value)
        if self._recall_queries:
            self._tell_recall(recommender, noted)

    def _anew(self, bundle: str) -> _Since:
        return _Since(bundle, NewestRequests(MAX_NOTED, self._clock))

    def _tell_recall(self, recommender: Recommender, noted: list[Noted]) -> None:
        """Encode some requests again and compare the index with exact search."""
        count = min(self._recall_queries, len(noted))
        drawn = [noted[place] for place in self._rng.choice(len(noted), size=count, replace=False).tolist()]
        queries = [query for one in drawn if (query := self._query(recommender, one)) is not None]
        if queries:
            share = found_share(recommender.runtime, np.stack(queries))
            self._telemetry.quality("retrieval_recall_sampled", share)
            self._telemetry.recall_queries(len(queries))

    def _query(self, recommender: Recommender, noted: Noted) -> NDArray[np.float32] | None:
        request = noted.request
        person = person_key(request.user_id, request.anonymous_id, request.session.id)
        who = Who(noted.tenant, person, request.session.id)
        return recommender.query(request, self._gather.around(who, MAX_DEADLINE_MS).around)


def figures(noted: list[Noted], first: list[float], recommender: Recommender) -> dict[Quality, float]:
    """Return the figures of some answers; one that cannot be said yet is left out.

    Args:
        noted: the newest answers.
        first: model scores of the first ones of the same bundle.
        recommender: over that bundle.
    """
    items = recommender.runtime.items
    told = [item for one in noted for item in (*one.request.session.recent, *one.request.seed_items)]
    users = [one for one in noted if one.request.user_id is not None]
    unknown = sum(one.unknown_user for one in users) + sum(items.row(item) == 0 for item in told)
    found: dict[Quality, float] = {
        "catalogue_coverage": min(len({item for one in noted for item in one.items}) / max(len(items), 1), 1.0)
    }
    if told or users:
        found["unknown_id_ratio"] = unknown / (len(told) + len(users))
    scores = np.array([one.score for one in noted], dtype=np.float64)
    scores = scores[~np.isnan(scores)]
    if min(len(first), len(scores)) >= MIN_SCORES:
        found["score_psi"] = stability_index(np.array(first, dtype=np.float64), scores)
    return found


def stability_index(first: NDArray[np.float64], newest: NDArray[np.float64]) -> float:
    """Return the population stability index of two samples, over deciles of the first; 0 when they are alike."""
    edges = np.unique(np.quantile(first, np.linspace(0, 1, _BINS + 1)[1:-1]))
    shares = [
        np.bincount(np.searchsorted(edges, sample, side="right"), minlength=len(edges) + 1) / len(sample)
        for sample in (first, newest)
    ]
    expected, actual = (np.maximum(share, _FLOOR) for share in shares)
    return float(np.sum((actual - expected) * np.log(actual / expected)))


def _newest_s(recommender: Recommender) -> float | None:
    """Return when the newest event happened that the bundle knows, seconds since 1970; it reads all of them once."""
    times = recommender.runtime.histories.times
    return None if times is None or len(times) == 0 else float(times.max()) / 1e6


def _model_score(slate: SlateResponse) -> float:
    """Return the score of the first item that no rule moved, where the sequence model found it; else NaN."""
    for item in slate.items:
        if _MOVED.isdisjoint(item.sources):
            return item.score if "sequence" in item.sources else math.nan
    return math.nan
