"""Which stages answer which request, in order; a fallback is the next stage that applies."""

from collections.abc import Mapping

from retrank.contract.api import Source
from retrank.contract.moments import SECOND_US
from retrank.serving.guard.breaker import Breaker
from retrank.serving.live_rules import RuleRows
from retrank.serving.pipeline import Clock, Stage
from retrank.serving.runtime import Runtime
from retrank.serving.settings import PipelineSettings
from retrank.serving.stages.asked import OnlyAsked
from retrank.serving.stages.explain import Explain
from retrank.serving.stages.filter import Sift
from retrank.serving.stages.hydrate import Hydrate
from retrank.serving.stages.left_alone import ONLY_FAILURES, LeftAlone
from retrank.serving.stages.record import Record, Tally
from retrank.serving.stages.rerank import Arrange, TopK
from retrank.serving.stages.retrieve import CovisitSource, PopularSource, SequenceSource, SimilarSource
from retrank.serving.stages.rules import HoldPins, KeepAway, PlacePins, Weigh
from retrank.serving.stages.score import CosineScore, CovisitScore, PopularScore, QueryScore
from retrank.serving.stages.second import NeighbourSource, RankScore, TrendSource
from retrank.serving.stages.unlearned import MarkUnlearned


class Ladders:
    """The stages over one open bundle."""

    def __init__(self, runtime: Runtime, settings: PipelineSettings, now: Clock, clock: Clock, tally: Tally) -> None:
        """Prepare what the lists share.

        Args:
            runtime: the open bundle.
            settings: how to answer.
            now: seconds since the Unix epoch.
            clock: monotonic seconds, that of the pipeline.
            tally: counts what was served.
        """
        self._runtime, self._settings, self._now, self._clock = runtime, settings, now, clock
        self._tally = tally
        self._columns = runtime.attributes.columns
        self._rule_rows = RuleRows(runtime.items, self._columns)
        second = runtime.second
        self._limits: Mapping[Source, int] = second.spec.limits if second else {}
        count = settings.num_candidates
        self._sequence = SequenceSource(
            runtime.encoder, runtime.index, runtime.item_vectors, self._limits.get("sequence", count)
        )
        self.models = {name: Breaker(ONLY_FAILURES, clock) for name in ("sequence", "ranker")}

    def recommend(self) -> list[Stage]:
        """Return the stages that make a slate from a history."""
        runtime = self._runtime
        sift = Sift(self._columns, self._sequence, "sequence", runtime.popular_items, self._clock)
        arrange = Arrange(runtime.item_vectors, self._columns)
        popular = PopularSource(runtime.popular_items)
        found: list[Stage] = [
            *self._history(),
            KeepAway(self._rule_rows),
            *self._sources(),
            popular,
            sift,
            HoldPins(self._rule_rows),
        ]
        filled: list[Stage] = [Weigh(self._rule_rows), arrange, TopK(), PlacePins()]
        return [*found, *self._scores(), *filled, *self._last()]

    def encode(self) -> list[Stage]:
        """Return the stages that make a query from a history."""
        return [*self._history(), self._sequence]

    def hydrate(self) -> list[Stage]:
        """Return the stages that say what somebody has seen and excludes."""
        return [self._hydrate()]

    def block(self) -> list[Stage]:
        """Return the stages that say what rules keep away."""
        return [KeepAway(self._rule_rows)]

    def rank(self) -> list[Stage]:
        """Return the stages that score the caller's own candidates."""
        return [*self._history(), *self._sources(), OnlyAsked(), *self._scores(), TopK()]

    def similar(self) -> list[Stage]:
        """Return the stages that make a slate of items like one."""
        runtime, settings = self._runtime, self._settings
        nearest = SimilarSource(runtime.item_vectors, runtime.index, settings.num_candidates)
        return [
            *self._unlearned(),
            KeepAway(self._rule_rows),
            nearest,
            CovisitSource(runtime.successors, settings.covisit_window, settings.num_candidates),
            PopularSource(runtime.popular_items),
            Sift(self._columns, nearest, "similar", runtime.popular_items, self._clock),
            HoldPins(self._rule_rows),
            CosineScore(runtime.item_vectors),
            CovisitScore(runtime.successors, runtime.popularity, settings.covisit_window),
            PopularScore(runtime.popularity),
            Weigh(self._rule_rows),
            TopK(),
            PlacePins(),
            *self._last(),
        ]

    def _history(self) -> list[Stage]:
        return [self._hydrate(), *self._unlearned()]

    def _unlearned(self) -> list[Stage]:
        unlearned = self._runtime.unlearned
        return [] if unlearned is None else [MarkUnlearned(unlearned)]

    def _hydrate(self) -> Stage:
        runtime = self._runtime
        sealed_us = int(runtime.manifest.created_at.timestamp() * SECOND_US)
        return Hydrate(
            runtime.users,
            runtime.items,
            runtime.histories,
            sealed_us,
            self._now,
            runtime.actions,
            runtime.fields,
            runtime.user_fields,
        )

    def _sources(self) -> list[Stage]:
        runtime, second, count = self._runtime, self._runtime.second, self._settings.num_candidates
        window = second.spec.covisit_window if second else self._settings.covisit_window
        sources: list[Stage] = [
            LeftAlone(self._sequence, self.models["sequence"], self._clock),
            CovisitSource(runtime.successors, window, self._limits.get("covisit", count)),
        ]
        return [*sources, NeighbourSource(second), TrendSource(second)] if second else [*sources]

    def _scores(self) -> list[Stage]:
        runtime = self._runtime
        scores: list[Stage] = [
            QueryScore(runtime.item_vectors),
            CovisitScore(runtime.successors, runtime.popularity, self._settings.covisit_window),
            PopularScore(runtime.popularity),
        ]
        if runtime.second is None:
            return scores
        ranker = RankScore(runtime.second, runtime.item_vectors)
        return [LeftAlone(ranker, self.models["ranker"], self._clock), *scores]

    def _last(self) -> list[Stage]:
        runtime, settings = self._runtime, self._settings
        explain = Explain(
            runtime.items,
            runtime.item_vectors,
            runtime.successors,
            runtime.popularity,
            window=settings.explain_window,
            min_similarity=settings.min_similarity,
        )
        return [explain, Record(self._tally)]
