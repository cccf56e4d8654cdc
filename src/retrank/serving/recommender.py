"""Answer requests from one bundle, in this process. Knows nothing of HTTP or Ray; both call exactly this."""

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from retrank.contract.api import (
    MAX_RECENT,
    BundleInfo,
    Degraded,
    RecommendRequest,
    Session,
    SimilarRequest,
    SlateResponse,
)
from retrank.contract.bundle import VerifiedBundle, verify
from retrank.contract.errors import BundleError
from retrank.contract.ranking import RankedItem, RankRequest, RankResponse
from retrank.contract.rest import Rest, no_rest
from retrank.serving.changes import Changes
from retrank.serving.draft import Draft, source_names
from retrank.serving.ladders import Ladders
from retrank.serving.new_rows import NewRows, ids_of, row_of, rows_of, sealed_rows
from retrank.serving.newcomers import Newcomers, NewItemCounts, open_newcomers
from retrank.serving.pipeline import Clock, Pipeline
from retrank.serving.row_changes import UNCHANGED, RowChanges
from retrank.serving.runtime import Runtime, open_runtime
from retrank.serving.settings import PipelineSettings
from retrank.serving.stages.record import Tally
from retrank.serving.surroundings import NOTHING_AROUND, Surroundings
from retrank.serving.telemetry.facade import CircuitState
from retrank.serving.trends import RowTrend, Trend

SCORE_DECIMALS = 6
_WARM_UP_LENGTHS = (1, 10, 1_000)
_SHARED_WITH_SIMILAR = ("request_id", "k", "placement", "filter", "fields")
_SHARED_WITH_RANK = ("request_id", "user_id", "anonymous_id", "session", "placement", "context")


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
        newcomers: Newcomers | None = None,
    ) -> None:
        """Build the pipelines; use `open` unless the runtime is already at hand.

        Args:
            runtime: the open bundle.
            settings: how to answer.
            clock: monotonic seconds, for timings.
            now: seconds since the Unix epoch, the moment of a request.
            new_request_id: names requests that come without an id.
            newcomers: of another recommender over the same bundle; None opens them.
        """
        self.runtime = runtime
        self.tally = Tally()
        ladders = Ladders(runtime, settings, now, clock, self.tally)
        self._ladders = ladders
        self._recommend = Pipeline(ladders.recommend(), clock)
        self._similar = Pipeline(ladders.similar(), clock)
        self._rank = Pipeline(ladders.rank(), clock)
        self._encode = Pipeline(ladders.encode(), clock)
        self._hydrate, self._block = Pipeline(ladders.hydrate(), clock), Pipeline(ladders.block(), clock)
        self._newcomers = newcomers or open_newcomers(runtime, settings.max_new_items)
        self._row_changes: WeakKeyDictionary[Changes, RowChanges] = WeakKeyDictionary()
        self._row_trends: WeakKeyDictionary[Trend, RowTrend] = WeakKeyDictionary()
        self._new_request_id, self._settings, self._clock, self._now = new_request_id, settings, clock, now
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
        return cls.over(verify(Path(path)), settings)

    @classmethod
    def over(
        cls, bundle: VerifiedBundle, settings: PipelineSettings | None = None, *, rest: Rest = no_rest
    ) -> "Recommender":
        """Open, prove and warm up a bundle whose every byte was checked.

        Args:
            bundle: the bundle.
            settings: how to answer; defaults when None.
            rest: called between pieces of work, for the sake of those who answer meanwhile.

        Raises:
            BundleError: it does not fit together, or gives wrong answers.
        """
        runtime = open_runtime(bundle, rest)
        chosen = settings or PipelineSettings()
        rehearsal = cls(runtime, chosen)  # a recommender of its own, so that rehearsal is not counted as traffic
        rehearsal._warm_up(rest)
        return cls(runtime, chosen, newcomers=rehearsal._newcomers)

    def models(self) -> dict[str, CircuitState]:
        """Return the breaker of every model; one that is not closed is left alone."""
        return {name: breaker.state for name, breaker in self._ladders.models.items()}

    def recommend(self, request: RecommendRequest, around: Surroundings = NOTHING_AROUND) -> SlateResponse:
        """Answer for a known user, an anonymous session, or nobody in particular."""
        return self._answer(self._recommend, self._draft(request, around), around.budget_s)

    def nothing_left(self, request: RecommendRequest | SimilarRequest, around: Surroundings = NOTHING_AROUND) -> bool:
        """Tell whether an empty answer is what was asked for, and no fault of this bundle.

        It is when a filter, of the request or of a rule, stands before the catalogue (whether anything passes is not
        looked up), or when all of it was seen, excluded, blocked or withdrawn.
        """
        if isinstance(request, SimilarRequest):
            draft = self._similar_draft(request, around)
        else:
            draft = self._hydrate.run(self._draft(request, around))[0]
        draft = self._block.run(draft)[0]
        if draft.request.filter is not None or draft.barred:
            return True
        hidden, new = draft.changes.hidden, draft.changes.new
        count = len(self.runtime.items) + (0 if new is None else len(new))
        gone = np.zeros(count + 1, dtype=bool)
        if hidden is not None:
            gone[: len(hidden)] = hidden
        gone[draft.seen] = gone[draft.excluded] = True
        return count > 0 and bool(gone[1:].all())

    def similar(self, request: SimilarRequest, around: Surroundings = NOTHING_AROUND) -> SlateResponse:
        """Return items like one item, ordered by the cosine of their vectors; the item itself is left out.

        An item that the bundle does not know and its model cannot encode (see `prepare`), or that nobody touched in
        training, is answered with what followed it since, then popular items, and the degraded reason `unknown_items`:
        a product page then has something to show.
        """
        return self._answer(self._similar, self._similar_draft(request, around), around.budget_s)

    def popular(
        self, k: int = 10, request_id: str | None = None, around: Surroundings = NOTHING_AROUND
    ) -> SlateResponse:
        """Return the k most popular items; the score is the share of the most popular item's, in what trends first."""
        return self.recommend(RecommendRequest(k=k, request_id=request_id), around)

    def rank(self, request: RankRequest, around: Surroundings = NOTHING_AROUND) -> RankResponse:
        """Score the caller's own candidates for somebody; nothing is added, filtered or hidden."""
        items = list(dict.fromkeys(request.items))
        changes = self._in_rows(around.changes)
        rows = np.unique(rows_of(changes.new, self.runtime.items, items))
        shared = {name: getattr(request, name) for name in _SHARED_WITH_RANK}
        # Not validated: it holds validated parts, and as many items as a rank request may name.
        asked = RecommendRequest.model_construct(**shared, k=max(len(rows), 1), exclude_seen=False, explain=False)
        done, took_ms = self._rank.run(self._draft(asked, around)._replace(asked=rows), around.budget_s)
        known = ids_of(changes.new, self.runtime.items, done.candidates.rows.tolist())
        assert done.scores is not None, "the pipeline scores every slate"
        scores: list[float | None] = [round(score, SCORE_DECIMALS) for score in done.scores.tolist()]
        unknown = [item for item in items if not row_of(changes.new, self.runtime.items, item)]
        pairs = zip([*known, *unknown], [*scores, *(None for _ in unknown)], strict=True)
        return RankResponse(
            request_id=request.request_id or self._new_request_id(),
            items=[RankedItem(item_id=item, rank=at, score=score) for at, (item, score) in enumerate(pairs, start=1)],
            bundle=self.bundle,
            degraded=_degraded(done.without("unknown_items") if unknown else done),
            took_ms=took_ms,
        )

    def quiet(self) -> "Recommender":
        """Return another recommender over the same open bundle; what it answers is not counted as traffic."""
        return Recommender(
            self.runtime,
            self._settings,
            clock=self._clock,
            now=self._now,
            new_request_id=self._new_request_id,
            newcomers=self._newcomers,
        )

    def query(self, request: RecommendRequest, around: Surroundings = NOTHING_AROUND) -> NDArray[np.float32] | None:
        """Return the `[D]` float32 vector that retrieval searches with; None without a history."""
        return self._encode.run(self._draft(request, around))[0].query

    def carry_over(self, changes: Changes) -> None:
        """Put changes into the rows of this bundle, so that the first request that sees them does not have to.

        Of items that the bundle does not know it takes what was made for the state before; nothing is encoded.
        """
        if self._newcomers is not None:
            self._newcomers.carry_over(changes)
        self._in_rows(changes)

    def prepare(self, changes: Changes) -> bool:
        """Encode items that the bundle does not know, so many at a time, where its model reads content.

        Requests see those that are. Returns whether some are left for the next call.
        """
        left = self._newcomers is not None and self._newcomers.prepare(changes)
        found = self._in_rows(changes)
        if self._newcomers is not None and (new := self._newcomers.of(changes)) is not found.new:
            self._row_changes[changes] = replace(found, new=new)
        return left

    def new_items(self, changes: Changes) -> NewRows | None:
        """Return the items of a state that the bundle does not know and that are offered by their content."""
        return None if self._newcomers is None else self._newcomers.of(changes)

    def new_item_counts(self) -> NewItemCounts:
        """Count the items that the bundle does not know in all states that were prepared and are still in use."""
        return NewItemCounts() if self._newcomers is None else self._newcomers.counts()

    def titles(self) -> dict[str, str]:
        """Return the title of every item that has one, by item id."""
        return self.runtime.attributes.titles()

    def _warm_up(self, rest: Rest) -> None:
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
            untold = self.runtime.fields.untold
            self.runtime.encoder.encode(history, ages=unknown, actions=unknown, context=untold)
            rest()

    def _similar_draft(self, request: SimilarRequest, around: Surroundings) -> Draft:
        shared = {name: getattr(request, name) for name in _SHARED_WITH_SIMILAR}
        draft = self._draft(RecommendRequest.model_construct(**shared), around)
        items, new = self.runtime.items, draft.changes.new
        anchor = rows_of(new, items, [request.item_id])
        excluded = rows_of(new, items, [request.item_id, *request.exclude_items])
        draft = draft._replace(history=anchor, excluded=np.unique(excluded))
        return draft if len(anchor) else draft.without("unknown_items")

    def _draft(self, request: RecommendRequest, around: Surroundings) -> Draft:
        return Draft(
            request,
            profile=around.profile,
            changes=self._in_rows(around.changes),
            trend=self._trend_in_rows(around.trend),
            rules=around.rules,
            seed=around.seed,
            degraded=around.lacking,
            skipped=around.skipped,
        )

    def _in_rows(self, changes: Changes) -> RowChanges:
        """Return changes in the rows of this bundle, made once per state of the catalogue."""
        if not changes.items:
            return UNCHANGED
        found = self._row_changes.get(changes)
        if found is None:
            before = None if changes.before is None else changes.before()
            known = None if before is None else self._row_changes.get(before)
            if known is None or before is None:
                found = RowChanges.of(changes, self.runtime.items)
            else:
                found = known.later(before.items, changes.newest, self.runtime.items)
            if self._newcomers is not None:
                found = replace(found, new=self._newcomers.of(changes))
            found = self._row_changes.setdefault(changes, found)  # what somebody prepared meanwhile has more new items
        return found

    def _trend_in_rows(self, trend: Trend | None) -> RowTrend | None:
        if trend is None:
            return None
        found = self._row_trends.get(trend)
        if found is None:
            found = self._row_trends[trend] = trend.rows(self.runtime.items)
        return found

    def _answer(self, pipeline: Pipeline, draft: Draft, budget_s: float) -> SlateResponse:
        done, took_ms = pipeline.run(draft, budget_s)
        return SlateResponse.model_validate(  # in one go: model by model would take twice as long
            {
                "request_id": draft.request.request_id or self._new_request_id(),
                "items": self._slate(done),
                "bundle": self.bundle,
                "degraded": _degraded(done),
                "took_ms": took_ms,
            }
        )

    def _slate(self, draft: Draft) -> list[dict[str, Any]]:
        """Return the fields of each `SlateItem`."""
        assert draft.scores is not None, "the pipeline scores every slate"
        rows = draft.candidates.rows.tolist()
        propensities = [1.0] * len(rows) if draft.propensities is None else draft.propensities.tolist()
        return [
            {
                "item_id": item_id,
                "rank": rank,
                "score": round(score, SCORE_DECIMALS),
                "sources": source_names(sources),
                "reasons": reasons,
                "attributes": attributes,
                "propensity": propensity,
            }
            for rank, (item_id, score, sources, reasons, attributes, propensity) in enumerate(
                zip(
                    ids_of(draft.changes.new, self.runtime.items, rows),
                    draft.scores.tolist(),
                    draft.candidates.sources.tolist(),
                    draft.reasons or ([],) * len(rows),
                    self._shown(draft),
                    propensities,
                    strict=True,
                ),
                start=1,
            )
        ]

    def _shown(self, draft: Draft) -> list[dict[str, Any]]:
        """Return the attributes of each item of the slate as they are now, those that were asked for."""
        rows, new = draft.candidates.rows, draft.changes.new
        shown = self.runtime.attributes.of(sealed_rows(new, rows))
        if draft.changes.attributes:
            shown = [draft.changes.shown(row, sealed) for row, sealed in zip(rows.tolist(), shown, strict=True)]
        if new is not None:
            for position, place in new.among(rows):
                shown[position] = new.shown(place)
        fields = draft.request.fields
        if fields is None:
            return shown
        return [{name: one[name] for name in fields if name in one} for one in shown]


def _degraded(draft: Draft) -> Degraded:
    return Degraded(is_degraded=bool(draft.degraded), reasons=list(draft.degraded), stages_skipped=list(draft.skipped))
