"""Answer requests from one bundle, in this process. Knows nothing of HTTP or Ray; both call exactly this."""

import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from retrank.contract.api import (
    MAX_RECENT,
    BundleInfo,
    Degraded,
    RecommendRequest,
    Session,
    SimilarRequest,
    SlateItem,
    SlateResponse,
    Source,
)
from retrank.contract.bundle import verify
from retrank.contract.errors import BundleError
from retrank.serving.draft import Draft, source_names
from retrank.serving.pipeline import Clock, Pipeline, Stage
from retrank.serving.runtime import Runtime, open_runtime
from retrank.serving.settings import PipelineSettings
from retrank.serving.stages.explain import Explain
from retrank.serving.stages.filter import RemoveHidden
from retrank.serving.stages.hydrate import Hydrate
from retrank.serving.stages.record import Record, Tally
from retrank.serving.stages.rerank import TopK
from retrank.serving.stages.retrieve import CovisitSource, PopularSource, SequenceSource, SimilarSource
from retrank.serving.stages.score import CosineScore, CovisitScore, PopularScore, QueryScore
from retrank.serving.stages.second import NeighbourSource, RankScore, TrendSource

SCORE_DECIMALS = 6
_WARM_UP_LENGTHS = (1, 10, 1_000)


def _new_request_id() -> str:
    return uuid.uuid4().hex


class Recommender:
    """One open bundle and the pipelines over it. Safe to share between threads: nothing but counters changes."""

    def __init__(
        self,
        runtime: Runtime,
        settings: PipelineSettings,
        *,
        clock: Clock = time.perf_counter,
        now: Clock = time.time,
        new_request_id: Callable[[], str] = _new_request_id,
    ) -> None:
        """Build the pipelines; use `open` unless the runtime is already at hand.

        Args:
            runtime: the open bundle.
            settings: how to answer.
            clock: monotonic seconds, for timings.
            now: seconds since the Unix epoch, the moment of a request.
            new_request_id: names requests that come without an id.
        """
        self.runtime = runtime
        self.tally = Tally()
        self._recommend = Pipeline(_recommend_stages(runtime, settings, self.tally, now), clock)
        self._similar = Pipeline(_similar_stages(runtime, settings, self.tally), clock)
        self._new_request_id = new_request_id
        manifest = runtime.manifest
        self.bundle = BundleInfo(id=runtime.bundle.bundle_id, created_at=manifest.created_at, model=manifest.model)

    @classmethod
    def open(cls, path: Path | str, settings: PipelineSettings | None = None) -> "Recommender":
        """Verify, open, prove and warm up a bundle.

        Args:
            path: a bundle directory, or a root whose `current` points at one.
            settings: how to answer; defaults when None.

        Raises:
            BundleError: the bundle is incomplete, changed, of another format, or gives wrong answers.
        """
        runtime = open_runtime(verify(Path(path)))
        chosen = settings or PipelineSettings()
        cls(runtime, chosen)._warm_up()  # a recommender of its own, so that rehearsal is not counted as traffic
        return cls(runtime, chosen)

    def recommend(self, request: RecommendRequest) -> SlateResponse:
        """Answer for a known user, an anonymous session, or nobody in particular."""
        return self._answer(self._recommend, Draft(request), request.request_id)

    def similar(self, request: SimilarRequest) -> SlateResponse:
        """Return items like one item, ordered by the cosine of their vectors; the item itself is left out.

        An item the bundle does not know, such as one listed an hour ago, is answered with popular items and the
        degraded reason `unknown_items`: a product page then has something to show.
        """
        anchor = self.runtime.items.rows([request.item_id]).astype(np.int64)
        draft = Draft(RecommendRequest(k=request.k), history=anchor, excluded=anchor)
        return self._answer(self._similar, draft if len(anchor) else draft.without("unknown_items"), request.request_id)

    def popular(self, k: int = 10, request_id: str | None = None) -> SlateResponse:
        """Return the k most popular items; the score is the share of the most popular item's."""
        return self.recommend(RecommendRequest(k=k, request_id=request_id))

    def titles(self) -> dict[str, str]:
        """Return the title of every item that has one, by item id."""
        return self.runtime.attributes.titles()

    def _warm_up(self) -> None:
        """Answer requests of different history lengths, so that the first caller does not pay for allocation."""
        popular = self.runtime.popular_items
        for length in _WARM_UP_LENGTHS:
            history = np.resize(popular, length)
            ids = [self.runtime.items.id(int(row)) for row in history[:MAX_RECENT]]
            answer = self.recommend(RecommendRequest(session=Session(recent=ids)))
            failed = [reason for reason in answer.degraded.reasons if reason.endswith("_failed")]
            if failed:
                raise BundleError(
                    f"bundle {self.bundle.id}: rehearsal of {len(ids)} events ended with {', '.join(failed)}; "
                    "the log has the cause, export the bundle again"
                )
            unknown = np.zeros(length, dtype=np.int64)
            self.runtime.encoder.encode(history, ages=unknown, actions=unknown)

    def _answer(self, pipeline: Pipeline, draft: Draft, request_id: str | None) -> SlateResponse:
        done, took_ms = pipeline.run(draft)
        return SlateResponse(
            request_id=request_id or self._new_request_id(),
            items=self._slate(done),
            bundle=self.bundle,
            degraded=Degraded(is_degraded=bool(done.degraded), reasons=list(done.degraded)),
            took_ms=took_ms,
        )

    def _slate(self, draft: Draft) -> list[SlateItem]:
        assert draft.scores is not None, "the pipeline scores every slate"
        rows = draft.candidates.rows
        attributes = self.runtime.attributes.of(rows)
        reasons = draft.reasons or ([],) * len(rows)
        return [
            SlateItem(
                item_id=self.runtime.items.id(int(row)),
                rank=position + 1,
                score=round(float(draft.scores[position]), SCORE_DECIMALS),
                sources=source_names(int(draft.candidates.sources[position])),
                reasons=reasons[position],
                attributes=attributes[position],
            )
            for position, row in enumerate(rows)
        ]


def _recommend_stages(runtime: Runtime, settings: PipelineSettings, tally: Tally, now: Clock) -> list[Stage]:
    second = runtime.second
    limits: Mapping[Source, int] = second.spec.limits if second else {}
    window = second.spec.covisit_window if second else settings.covisit_window
    more: list[Stage] = [NeighbourSource(second), TrendSource(second)] if second else []
    return [
        Hydrate(runtime.users, runtime.items, runtime.histories, now),
        SequenceSource(runtime.encoder, runtime.index, limits.get("sequence", settings.num_candidates)),
        CovisitSource(runtime.successors, window, limits.get("covisit", settings.num_candidates)),
        *more,
        PopularSource(runtime.popular_items),
        RemoveHidden(),
        *([RankScore(second, runtime.item_vectors)] if second else []),
        QueryScore(runtime.item_vectors),
        CovisitScore(runtime.successors, runtime.popularity, settings.covisit_window),
        PopularScore(runtime.popularity),
        TopK(),
        _explain(runtime, settings),
        Record(tally),
    ]


def _similar_stages(runtime: Runtime, settings: PipelineSettings, tally: Tally) -> list[Stage]:
    return [
        SimilarSource(runtime.item_vectors, runtime.index, settings.num_candidates),
        CovisitSource(runtime.successors, settings.covisit_window, settings.num_candidates),
        PopularSource(runtime.popular_items),
        RemoveHidden(),
        CosineScore(runtime.item_vectors),
        PopularScore(runtime.popularity),
        TopK(),
        _explain(runtime, settings),
        Record(tally),
    ]


def _explain(runtime: Runtime, settings: PipelineSettings) -> Explain:
    return Explain(
        runtime.items,
        runtime.item_vectors,
        runtime.successors,
        runtime.popularity,
        window=settings.explain_window,
        min_similarity=settings.min_similarity,
    )
