"""The handler behind every protocol: one method per route, messages of the contract in and out.

It knows nothing of HTTP, gRPC or Ray. A request picks one recommender when it begins and keeps it; what the stores know
is read once, before the recommender is asked; nothing that fails around a recommender fails a slate.
"""

import asyncio
import math
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from retrank.contract.api import (
    PopularRequest,
    RecommendRequest,
    SimilarRequest,
    SlateResponse,
)
from retrank.contract.catalogue_changes import BulkItem, CatalogueReceipt, Erased
from retrank.contract.events import EventBatch, EventReceipt, person_key
from retrank.contract.ranking import BatchRequest, BatchResponse, RankRequest, RankResponse
from retrank.contract.rest import Rest, no_rest
from retrank.serving.batches import answer_each
from retrank.serving.decision_log import Decisions
from retrank.serving.events.intake import Intake
from retrank.serving.faults import NotOffered
from retrank.serving.gather import Place, Who
from retrank.serving.guard.profiles import GuardedProfiles
from retrank.serving.handout import Handout, Question
from retrank.serving.live_state import LiveState
from retrank.serving.new_rows import NewRows
from retrank.serving.picking import NoWatch, Pick, Picked, Watch
from retrank.serving.pipeline import Clock
from retrank.serving.recommender import Recommender
from retrank.serving.settings import ServiceSettings
from retrank.serving.stages.rerank import explores
from retrank.serving.stores.protocol import DEFAULT_TENANT, Profile, Profiles, StateStore, StoreUnavailable
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.tokens import Signer
from retrank.serving.trends import ACTS, Act

_SEED_BITS = 63


@dataclass(frozen=True)
class Backing:
    """What a service stands on besides recommenders; each part may be missing, and is then not offered.

    Attributes:
        store: profiles, seen memory, changes of the catalogue.
        intake: takes events.
        decisions: keeps answers.
        signer: makes tokens.
        profiles: how profiles are read and forgotten when the store may be away; None goes to the store itself.
        telemetry: told how good answers are; None spares the sums.
        quick: the same store for those who hold up a slate, which gives up sooner; None is the store itself.
    """

    store: StateStore | None
    intake: Intake | None
    decisions: Decisions
    signer: Signer
    profiles: GuardedProfiles | None = None
    quick: StateStore | None = None
    telemetry: Telemetry | None = None

    @classmethod
    def none(cls) -> "Backing":
        """Return nothing but a key of this process: for answers from a bundle alone."""
        return cls(None, None, Decisions(None), Signer(secrets.token_bytes(32)))


class Service:
    """Answers requests; safe to share between threads."""

    def __init__(
        self,
        pick: Pick,
        backing: Backing,
        settings: ServiceSettings | None = None,
        *,
        clock: Clock = time.perf_counter,
        now: Clock = time.time,
        new_seed: Callable[[], int] = lambda: secrets.randbits(_SEED_BITS),
        watch: Watch | None = None,
    ) -> None:
        """Stand in front of recommenders.

        Args:
            pick: chooses the recommender of a request.
            backing: stores, logs and the key.
            settings: deadlines and the like; defaults when None.
            clock: monotonic seconds.
            now: seconds since the Unix epoch.
            new_seed: seeds of requests that explore and bring none.
            watch: is told how recommenders do.
        """
        chosen = settings or ServiceSettings()
        self._pick, self.backing, self._now, self._new_seed = pick, backing, now, new_seed
        self._clock = clock
        self._watch = watch or NoWatch()
        self._handout = Handout(backing.signer, backing.decisions, now)
        self._live = LiveState(
            lambda: self.recommender,
            chosen,
            backing.store,
            quick=backing.quick,
            profiles=backing.profiles,
            telemetry=backing.telemetry,
            clock=clock,
            now=now,
        )
        self._gather, self._placements = self._live.gather, self._live.placements
        if backing.telemetry is not None:
            self._live.watch_quality(backing.telemetry, np.random.default_rng(new_seed()))
        if backing.profiles is not None:
            self._live.forget_with(backing.profiles, self._watch.forget_people)

    @classmethod
    def over(cls, recommender: Recommender, backing: Backing | None = None) -> "Service":
        """Return a service over one recommender for good."""
        picked = Picked(recommender)
        return cls(lambda _: picked, backing or Backing.none())

    @property
    def recommender(self) -> Recommender:
        """What answers somebody in no experiment."""
        return self._pick(None).recommender

    def recommend(self, request: RecommendRequest, tenant: str = DEFAULT_TENANT) -> SlateResponse:
        """Answer for a known user, an anonymous visitor, or nobody in particular."""
        person = person_key(request.user_id, request.anonymous_id, request.session.id)
        who = Who(tenant, person, request.session.id)
        house, said = self._placements.of(tenant), request
        request = house.completed(said)
        recommender, experiment = self._picked(person or request.request_id or "")
        explore = request.explore
        if explore is not None and not explores(explore):
            explore = None
        if explore is not None and explore.seed is None:
            explore = explore.model_copy(update={"seed": self._new_seed()})
        seed = 0 if explore is None else explore.seed or 0
        place = None if request.placement is None else Place(request.placement, "7d", asked=False)
        rules = house.rules_at(request.placement, self._now())
        gathered = self._gather.around(who, request.deadline_ms, seed, place, rules)
        self._watch.remember(tenant, request)
        self._placements.keep(tenant, said)
        slate = self._watch.watched(
            recommender,
            lambda picked: picked.recommend(request, gathered.around),
            nothing_left=lambda picked: picked.nothing_left(request, gathered.around),
        )
        question = Question(
            "recommend", who, request.placement, None, request.context, explore, request.diversity, experiment
        )
        finished = self._handout.finish(slate, question, gathered)
        if self._live.drift is not None:
            self._live.drift.note(tenant, said, finished)
        return finished

    def batch(
        self,
        request: BatchRequest,
        tenant: str = DEFAULT_TENANT,
        request_id: str | None = None,
        deadline_ms: int | None = None,
    ) -> BatchResponse:
        """Answer several requests one after the other; one that is bad, late or fails gets a problem in its place.

        Args:
            request: the requests.
            tenant: whose namespace they work in.
            request_id: names the batch.
            deadline_ms: milliseconds for all of them together, beside the deadline of each; None sets no such bound.
        """
        due = math.inf if deadline_ms is None else self._clock() + deadline_ms / 1e3
        answers = answer_each(request, lambda asked: self.recommend(asked, tenant), due, self._clock)
        return BatchResponse(request_id=request_id or uuid.uuid4().hex, answers=answers)

    def similar(self, request: SimilarRequest, tenant: str = DEFAULT_TENANT) -> SlateResponse:
        """Return items like one item."""
        recommender, experiment = self._picked(request.request_id or "")
        house = self._placements.of(tenant)
        request = house.completed(request)
        rules = house.rules_at(request.placement, self._now())
        gathered = self._gather.around(Who(tenant), request.deadline_ms, rules=rules)
        slate = self._watch.watched(
            recommender,
            lambda picked: picked.similar(request, gathered.around),
            nothing_left=lambda picked: picked.nothing_left(request, gathered.around),
        )
        question = Question("similar", Who(tenant), request.placement, request.item_id, experiment=experiment)
        return self._handout.finish(slate, question, gathered)

    def popular(self, request: PopularRequest, tenant: str = DEFAULT_TENANT) -> SlateResponse:
        """Return what is popular, or what trends.

        Raises:
            NotOffered: a window is asked for and this service keeps no state to count in.
        """
        if request.window != "all" and self._live.trends is None:
            raise _no_state()
        recommender, experiment = self._picked(request.request_id or "")
        house = self._placements.of(tenant)
        request = house.completed(request)
        rules = house.rules_at(request.placement, self._now())
        place = None if request.window == "all" else Place(request.placement, request.window, asked=True)
        gathered = self._gather.around(Who(tenant), place=place, rules=rules)
        slate = self._watch.watched(
            recommender,
            lambda picked: picked.popular(request.k, request.request_id, gathered.around),
            nothing_left=lambda picked: picked.nothing_left(RecommendRequest(k=request.k), gathered.around),
        )
        question = Question("popular", Who(tenant), request.placement, experiment=experiment)
        return self._handout.finish(slate, question, gathered)

    def rank(self, request: RankRequest, tenant: str = DEFAULT_TENANT) -> RankResponse:
        """Score the caller's own candidates; no slate is shown by it, so no token and no decision."""
        person = person_key(request.user_id, request.anonymous_id, request.session.id)
        gathered = self._gather.around(Who(tenant, person, request.session.id), request.deadline_ms)
        recommender = self._picked(person or request.request_id or "").recommender
        return self._watch.watched(recommender, lambda picked: picked.rank(request, gathered.around))

    async def events(self, batch: EventBatch, tenant: str = DEFAULT_TENANT) -> EventReceipt:
        """Take events; what the receipt counts as accepted is durable and part of the next answer.

        Raises:
            LogUnavailable: nothing was promised, send them again.
            NotOffered: this service takes no events.
        """
        receipt = await self._intake().take(batch, tenant)
        if self._live.trends is not None:
            self._live.trends.count(tenant, _acts(batch, receipt))
        return receipt

    def change_items(self, changes: Sequence[BulkItem], tenant: str = DEFAULT_TENANT) -> CatalogueReceipt:
        """Change items; every replica shows it within a second.

        Raises:
            StoreUnavailable: the changes may or may not have been kept, send them again.
            StoreFull: too many items changed since the bundle was sealed.
            NotOffered: this service keeps no state.
        """
        if self._live.desk is None:
            raise _no_state()
        recommender = self.recommender
        return self._live.desk.apply(tenant, changes, recommender.runtime.items, recommender.new_items)

    def new_items(self, tenant: str = DEFAULT_TENANT) -> NewRows | None:
        """Return the items that the bundle does not know and that are offered nevertheless."""
        return self.recommender.new_items(self._gather.around(Who(tenant)).around.changes)

    def profile(self, user_id: str, tenant: str = DEFAULT_TENANT) -> Profile:
        """Return what is known of a user since the bundle was made; nothing while the store is away."""
        return self._gather.around(Who(tenant, person_key(user_id, None, None))).around.profile

    def forget_user(self, user_id: str, tenant: str = DEFAULT_TENANT) -> Erased:
        """Forget the live profile of a user: the next answer starts from the bundle. The event log keeps its events.

        Raises:
            StoreUnavailable: it may or may not have been forgotten, ask again.
            NotOffered: this service keeps no state.
        """
        return Erased(entries=self._profiles().erase(tenant, person_key(user_id, None, None)))

    def export_user(self, user_id: str, tenant: str = DEFAULT_TENANT) -> list[Mapping[str, JsonValue]]:
        """Return everything the state store keeps of a user.

        Raises:
            StoreUnavailable: ask again.
            NotOffered: this service keeps no state.
        """
        return list(self._profiles().export(tenant, person_key(user_id, None, None)))

    async def erase_user(self, user_id: str, tenant: str = DEFAULT_TENANT) -> Erased:
        """Erase a user for good: the live profile now, the event log with its next compaction, training after that.

        Raises:
            LogUnavailable: nothing was promised, ask again.
            NotOffered: this service keeps no log.
        """
        intake, person = self._intake(), person_key(user_id, None, None)
        try:
            entries = await asyncio.to_thread(self._profiles().erase, tenant, person)
        except StoreUnavailable:
            entries = 0  # the order below reaches the store when it is back
        await asyncio.wrap_future(intake.erase(tenant, person))
        return Erased(entries=entries)

    def warm_up(self) -> None:
        """Open and prepare what the first request would otherwise find undone, the last of the new items included.

        A store that is away is no reason not to start.
        """
        self._gather.around(Who(DEFAULT_TENANT, person_key("nobody in particular", None, None)))
        self.ready(self.recommender)

    def ready(self, recommender: Recommender, rest: Rest = no_rest) -> None:
        """Get a recommender ready for what its first requests will see: the catalogue as it is now.

        `rest` is called between pieces of work, for the sake of those who are answered meanwhile.
        """
        self._live.ready(recommender, rest)

    def close(self) -> None:
        """Make everything queued durable and let go of stores and logs."""
        if self.backing.intake is not None:
            self.backing.intake.close()
        self._live.close()
        self.backing.decisions.close()
        for store in (self.backing.store, self.backing.quick):
            if store is not None:
                store.close()

    def _picked(self, key: str) -> Picked:
        picked = self._pick(key)
        self._live.note(picked.recommender)
        return picked

    def _intake(self) -> Intake:
        if self.backing.intake is None:
            raise NotOffered("this service was started without an event log; set serving.events")
        return self.backing.intake

    def _profiles(self) -> Profiles:
        profiles = self.backing.profiles or self.backing.store
        if profiles is None:
            raise _no_state()
        return profiles


def _acts(batch: EventBatch, receipt: EventReceipt) -> list[Act]:
    """Return the acts of a batch; none of a batch that was sent before, whole or in part: it was counted then."""
    if receipt.duplicates:
        return []
    rejected = {one.index for one in receipt.rejected}
    taken = (event for index, event in enumerate(batch.events) if index not in rejected)
    return [Act(event["item_id"], event.get("placement")) for event in taken if event["type"] in ACTS]


def _no_state() -> NotOffered:
    return NotOffered("this service was started without a state store; set serving.state")
