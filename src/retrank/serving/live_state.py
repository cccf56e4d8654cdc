"""What a service keeps up to date beside its answers, in threads of its own: catalogue, trends, placements, drift.

Requests read what is at hand here; the threads ask the store. Without a store there is nothing to keep, and every part
says so by being absent or empty.
"""

import time
from collections.abc import Callable, Collection
from functools import partial

import numpy as np

from retrank.contract.rest import Rest, no_rest
from retrank.serving.catalogue_desk import CatalogueDesk
from retrank.serving.changes import Changes
from retrank.serving.drift import Drift
from retrank.serving.gather import Gather, Stores, Unguarded
from retrank.serving.guard.profiles import GuardedProfiles
from retrank.serving.overlay import Overlay
from retrank.serving.pipeline import Clock
from retrank.serving.placements.followed import NoPlacements, Placements
from retrank.serving.poller import Poller
from retrank.serving.readied import Readied
from retrank.serving.recommender import Recommender
from retrank.serving.settings import ServiceSettings
from retrank.serving.stores.protocol import StateStore
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.trends import Trends

_SHARE_EVERY = 4
"""Counts are shared every so many looks at the catalogue: they may be older, and sharing writes."""


class LiveState:
    """Everything of one service that changes while it runs, but for the bundle; safe to share between threads.

    Attributes:
        desk: changes items; None without a store.
        trends: counts what is popular now; None without a store.
        gather: reads what is known around a request.
        placements: rules of operators.
        drift: notes answers; None when nobody is told.
    """

    def __init__(
        self,
        recommender: Callable[[], Recommender],
        settings: ServiceSettings,
        store: StateStore | None,
        *,
        quick: StateStore | None = None,
        profiles: GuardedProfiles | None = None,
        telemetry: Telemetry | None = None,
        clock: Clock = time.perf_counter,
        now: Clock = time.time,
    ) -> None:
        """Start to keep it.

        Args:
            recommender: what answers somebody in no experiment.
            settings: how often to look.
            store: where it is kept; None keeps nothing.
            quick: the same store for those who hold up a slate, which gives up sooner; None is the store itself.
            profiles: how profiles are read when the store may be away; None goes to the store itself.
            telemetry: told what could not be kept.
            clock: monotonic seconds.
            now: seconds since the Unix epoch.
        """
        self._recommender, self._settings, self._clock, self._now = recommender, settings, clock, now
        every_s, quick = settings.catalogue_refresh_s, quick or store
        self._telemetry = telemetry or Telemetry()
        self._readied = Readied()
        self._pollers: list[Poller] = []
        self._overlay = None if quick is None else Overlay(quick, clock, every_s, self._carry_over, self._prepare)
        self.desk = None if store is None or self._overlay is None else CatalogueDesk(store, self._overlay)
        self.trends = None
        if quick is not None:
            self.trends = Trends(quick, now, clock=clock, every_s=_SHARE_EVERY * every_s, telemetry=telemetry)
        stores = Stores(profiles or (None if store is None else Unguarded(store)), self._overlay, self.trends)
        self.gather = Gather(stores, deadline_ms=settings.deadline_ms, clock=clock, now=now)
        self.placements = NoPlacements()
        if quick is not None:
            self.placements = Placements(quick, recommender, self.gather, clock=clock, now=now, every_s=every_s)
        self.drift: Drift | None = None
        if self._overlay is not None:
            self._keep(partial(self._poll_catalogue, self._overlay), every_s, "poll-catalogue")
        if self.trends is not None:
            self._keep(self.trends.poll, _SHARE_EVERY * every_s, "poll-trends")

    def watch_quality(self, telemetry: Telemetry, rng: np.random.Generator) -> None:
        """Sum up how good answers are, now and then, and tell `telemetry`; `rng` picks what is looked at."""
        if self._settings.quality_every_s > 0:
            self.drift = Drift(
                self._recommender,
                self.gather,
                telemetry,
                now=self._now,
                clock=self._clock,
                rng=rng,
                recall_queries=self._settings.recall_queries,
            )
            self._keep(self.drift.poll, self._settings.quality_every_s, "sum-up-quality")

    def forget_with(self, profiles: GuardedProfiles, forget: Callable[[Collection[str] | None], None]) -> None:
        """Look for people who were erased, here and with `forget`, which is told their tags (None: everybody)."""
        profiles.tell(forget)
        profiles.tell(self._forget)
        self._keep(profiles.forget_erased, self._settings.catalogue_refresh_s, "poll-erased")

    def note(self, recommender: Recommender) -> None:
        """Remember a recommender that answers, so that changes are put into its rows before requests see them."""
        self._readied.note(recommender)

    def ready(self, recommender: Recommender, rest: Rest = no_rest) -> None:
        """Get a recommender ready for what its first requests will see: the catalogue as it is now."""
        self._readied.complete(recommender, [] if self._overlay is None else self._overlay.known(), rest)

    def close(self) -> None:
        """End the threads, and share what was counted."""
        for poller in self._pollers:
            poller.close()
        self.placements.close()
        if self.trends is not None:
            self.trends.merge()

    def _keep(self, act: Callable[[], None], every_s: float, name: str) -> None:
        self._pollers.append(Poller(act, every_s, name))

    def _poll_catalogue(self, overlay: Overlay) -> None:
        overlay.poll()
        self._telemetry.store("item_changes", sum(len(changes.items) for changes in overlay.known()))

    def _carry_over(self, changes: Changes) -> None:
        self._readied.note(self._recommender())  # a new bundle answers from one moment to the next
        self._readied.carry_over(changes)

    def _prepare(self, changes: Changes) -> None:
        self._readied.note(self._recommender())
        self._readied.prepare(changes)

    def _forget(self, tags: Collection[str] | None) -> None:
        """Drop requests that are kept to be answered again, once old or of somebody who was erased."""
        self.placements.forget(tags)
        if self.drift is not None:
            self.drift.forget(tags)
