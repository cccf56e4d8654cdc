"""The service over real state: a click changes the next answer, and what fails around a slate never fails it."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_parts import BrokenEncoder
from living_service import GENEROUS, eventually, living_service, posted
from pydantic import SecretStr

from retrank.contract.api import (
    ExperimentInfo,
    PopularRequest,
    RecommendRequest,
    Session,
    SimilarRequest,
    SlateResponse,
    Window,
)
from retrank.contract.catalogue_changes import BulkItem
from retrank.contract.decisions import DecisionRecord
from retrank.contract.events import EventBatch
from retrank.contract.ranking import RankRequest
from retrank.contract.slate_options import Explore, SeenPolicy
from retrank.policy.covisit import Successors
from retrank.serving.changes import Changes
from retrank.serving.decision_log import Decisions
from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.faults import NotOffered
from retrank.serving.guard.breaker import Breaker
from retrank.serving.guard.profiles import GuardedProfiles
from retrank.serving.guard.settings import BreakerSettings
from retrank.serving.picking import Picked
from retrank.serving.recommender import Recommender
from retrank.serving.service import Backing, Service
from retrank.serving.settings import PipelineSettings
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import Profiles, StoreUnavailable
from retrank.serving.stores.settings import StateSettings
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.tokens import Signer

NUM_ITEMS = 50


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@pytest.fixture
def service(recommender: Recommender, tmp_path: Path) -> Iterator[Service]:
    with living_service(recommender, tmp_path) as opened:
        yield opened


class MemoryLog:
    """Keeps records in a list; fails while it is told to."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.broken = False

    def append(self, records: Sequence[bytes]) -> Future[None]:
        done: Future[None] = Future()
        if self.broken:
            done.set_exception(LogUnavailable("no space left"))
        else:
            self.records += records
            done.set_result(None)
        return done

    def close(self) -> None:
        pass


def _ids(slate: SlateResponse) -> list[str]:
    return [item.item_id for item in slate.items]


def _bare(slate: SlateResponse) -> list[dict[str, Any]]:
    return [item.model_dump() for item in slate.items]


def _click(item: str, **more: Any) -> dict[str, Any]:
    return {"type": "click", "item_id": item, **more}


def test_a_click_changes_the_very_next_answer(service: Service) -> None:
    asked = RecommendRequest(user_id="new here", k=10)
    assert service.recommend(asked).degraded.reasons == ["unknown_user"]
    posted(service, _click("i3", user_id="new here"))
    after = service.recommend(asked)
    assert after.degraded.reasons == []
    assert "i3" not in _ids(after)
    assert _bare(after) == _bare(service.recommend(RecommendRequest(session=Session(recent=["i3"]), k=10)))


def test_a_click_of_somebody_else_or_in_another_tenant_changes_nothing(service: Service) -> None:
    before = service.recommend(RecommendRequest(anonymous_id="me"))
    posted(service, _click("i3", anonymous_id="you"), _click("i4", user_id="me"))
    posted(service, _click("i5", anonymous_id="me"), tenant="another shop")
    assert _bare(service.recommend(RecommendRequest(anonymous_id="me"))) == _bare(before)


def test_live_events_continue_the_sealed_history_and_the_session_is_not_counted_twice(
    service: Service, recommender: Recommender
) -> None:
    posted(service, _click("i9", user_id="u7", session_id="s"))
    told = Session(id="s", recent=["i9", "i11"])
    by_hand = recommender.recommend(RecommendRequest(user_id="u7", session=Session(recent=["i9", "i11"])))
    assert _bare(service.recommend(RecommendRequest(user_id="u7", session=told))) == _bare(by_hand)


def test_what_is_dismissed_stays_away_even_when_seen_items_may_return(service: Service) -> None:
    asked = RecommendRequest(user_id="u1", exclude_seen=False, k=NUM_ITEMS)
    assert "i20" in _ids(service.recommend(asked))
    posted(service, {"type": "dismiss", "item_id": "i20", "user_id": "u1"})
    assert "i20" not in _ids(service.recommend(asked))


def test_an_impression_hides_an_item_only_under_a_policy_that_says_so(service: Service) -> None:
    posted(service, {"type": "impression", "item_id": "i20", "anonymous_id": "a"})
    plain = service.recommend(RecommendRequest(anonymous_id="a", k=NUM_ITEMS))
    assert "i20" in _ids(plain)
    assert {source for item in plain.items for source in item.sources} == {"popular"}  # it is no history
    policy = SeenPolicy(types=["impression"])
    assert "i20" not in _ids(service.recommend(RecommendRequest(anonymous_id="a", k=NUM_ITEMS, seen=policy)))


def test_seed_items_steer_the_slate_and_stay_off_it(service: Service, recommender: Recommender) -> None:
    seeded = service.recommend(RecommendRequest(seed_items=["i3"], exclude_seen=False, k=NUM_ITEMS))
    assert "i3" not in _ids(seeded)
    assert _ids(seeded)[0] == _ids(recommender.recommend(RecommendRequest(session=Session(recent=["i3"]))))[0]


def test_items_change_for_the_next_request_of_every_replica(
    recommender: Recommender, tmp_path: Path, service: Service
) -> None:
    asked = RecommendRequest(k=NUM_ITEMS)
    with living_service(recommender, tmp_path) as other:
        assert "i5" in _ids(other.recommend(asked))
        gone = [BulkItem(item_id="i5", action="delete"), BulkItem(item_id="new one", action="upsert")]
        receipt = service.change_items(gone)
        assert (receipt.changed, receipt.unknown) == (2, ["new one"])
        assert "i5" not in _ids(service.recommend(asked))
        eventually(lambda: "i5" not in _ids(other.recommend(asked)))  # when the other one has looked again
    service.change_items([BulkItem(item_id="i5", action="upsert")])
    assert "i5" in _ids(service.recommend(asked))


class NotingRecommender(Recommender):
    """Notes which threads prepare it."""

    prepared: list[threading.Thread]

    def prepare(self, changes: Changes) -> bool:
        self.prepared = [*getattr(self, "prepared", []), threading.current_thread()]
        return super().prepare(changes)


def test_changes_are_put_into_the_rows_of_a_new_bundle_before_anybody_asks_it(
    recommender: Recommender, tmp_path: Path
) -> None:
    new = NotingRecommender(recommender.runtime, PipelineSettings())
    answering = [recommender]
    with living_service(recommender, tmp_path) as writer:
        service = Service(lambda _: Picked(answering[0]), writer.backing, GENEROUS)
        service.recommend(RecommendRequest())
        answering[0] = new
        writer.change_items([BulkItem(item_id="i5", action="delete")])
        eventually(lambda: hasattr(new, "prepared"))
        service.close()
    assert threading.current_thread() not in new.prepared


def test_a_bundle_that_is_about_to_answer_gets_the_changes_there_are(recommender: Recommender, tmp_path: Path) -> None:
    new = NotingRecommender(recommender.runtime, PipelineSettings())
    with living_service(recommender, tmp_path) as service:
        service.change_items([BulkItem(item_id="i5", action="delete")])
        service.ready(new)
        assert new.prepared == [threading.current_thread()]


def test_what_people_turn_to_at_a_placement_trends_there(service: Service) -> None:
    def trending(window: Window, placement: str | None = None) -> tuple[list[str], list[str]]:
        slate = service.popular(PopularRequest(k=3, window=window, placement=placement))
        return _ids(slate), list(slate.degraded.reasons)

    usual = trending("all")
    assert trending("24h") == (usual[0], ["nothing_trends"])
    clicks = [_click("i41", user_id=f"x{one}", placement="home", event_id=f"h{one}") for one in range(3)]
    clicks += [_click("i42", user_id=f"y{one}", placement="basket", event_id=f"b{one}") for one in range(2)]
    batch = EventBatch(events=[*clicks, {"event_id": "s", "type": "impression", "item_id": "i43", "user_id": "z"}])
    assert asyncio.run(service.events(batch)).accepted == 6
    assert asyncio.run(service.events(batch)).duplicates == 6  # sent again, counted once
    eventually(lambda: trending("24h")[1] == [])
    assert trending("24h") == (["i41", "i42", usual[0][0]], [])
    assert trending("7d", "basket")[0][0] == "i42"
    assert trending("all", "home") == usual
    assert _ids(service.recommend(RecommendRequest(placement="basket", k=3))) == usual[0]  # two clicks are noise


def test_what_is_popular_at_the_placement_answers_before_what_is_popular_anywhere(
    recommender: Recommender, tmp_path: Path
) -> None:
    gone = Successors(np.empty((0, 1), dtype=np.int32), np.empty((0, 1), dtype=np.float32))
    runtime = replace(recommender.runtime, encoder=BrokenEncoder(), successors=gone)
    broken = Recommender(runtime, PipelineSettings())
    visit = Session(recent=["i1"])
    with living_service(broken, tmp_path) as service:

        def best(placement: str | None) -> str:
            slate = service.recommend(RecommendRequest(placement=placement, session=visit, k=3))
            assert {"sequence_failed", "covisit_failed"} < set(slate.degraded.reasons)
            return _ids(slate)[0]

        anywhere = best(None)
        loved = next(f"i{row}" for row in range(2, NUM_ITEMS) if f"i{row}" != anywhere)
        clicks = [_click(loved, user_id=f"x{one}", placement="home", event_id=f"h{one}") for one in range(60)]
        assert asyncio.run(service.events(EventBatch(events=clicks))).accepted == 60
        eventually(lambda: best("home") == loved)
        assert best("basket") == anywhere


def test_a_patch_leaves_earlier_changes_standing_and_an_upsert_does_not(service: Service) -> None:
    def shown() -> dict[str, Any]:
        slate = service.recommend(RecommendRequest(k=NUM_ITEMS))
        return next(item.attributes for item in slate.items if item.item_id == "i5")

    service.change_items([BulkItem(item_id="i5", action="patch", attributes={"price": 1.0})])
    service.change_items([BulkItem(item_id="i5", action="patch", attributes={"colour": "red"}, available=False)])
    service.change_items([BulkItem(item_id="i5", action="patch", available=True)])
    assert shown() == {"title": "Thing number 5", "price": 1.0, "colour": "red"}
    service.change_items([BulkItem(item_id="i5", action="upsert", attributes={"colour": "blue"})])
    assert shown() == {"title": "Thing number 5", "price": 2.75, "colour": "blue"}


def test_what_is_kept_of_a_user_can_be_read_forgotten_and_erased(service: Service) -> None:
    posted(service, _click("i3", user_id="ann"))
    assert any(entry.get("item_id") == "i3" for entry in service.export_user("ann"))
    assert service.forget_user("ann").entries > 0
    assert list(service.export_user("ann")) == []
    assert asyncio.run(service.erase_user("ann")).entries == 0
    assert service.recommend(RecommendRequest(user_id="ann")).degraded.reasons == ["unknown_user"]


class NotingProfiles(GuardedProfiles):
    """Notes which threads erase."""

    def __init__(self, store: Profiles) -> None:
        super().__init__(store, Breaker(BreakerSettings(), time.monotonic), time.monotonic, Telemetry())
        self.erased_in: list[threading.Thread] = []

    def erase(self, tenant: str, person: str) -> int:
        self.erased_in.append(threading.current_thread())
        return super().erase(tenant, person)


def test_erasing_a_user_does_not_hold_up_the_event_loop(recommender: Recommender, service: Service) -> None:
    assert service.backing.store is not None
    noting = NotingProfiles(service.backing.store)
    other = Service(lambda _: Picked(recommender), replace(service.backing, profiles=noting), GENEROUS)
    posted(service, _click("i3", user_id="ann"))
    assert asyncio.run(other.erase_user("ann")).entries > 0
    assert noting.erased_in != []
    assert threading.current_thread() not in noting.erased_in
    other.close()


class CountedLooks(GuardedProfiles):
    """Counts how often it looked for erasures."""

    looks = 0

    def forget_erased(self) -> None:
        super().forget_erased()
        self.looks += 1


def test_whom_one_replica_erases_leaves_the_memory_of_another(recommender: Recommender, service: Service) -> None:
    store, line = service.backing.store, Breaker(BreakerSettings(), time.monotonic)
    assert store is not None
    remembering = CountedLooks(store, line, time.monotonic, Telemetry())
    other = Service(lambda _: Picked(recommender), replace(service.backing, profiles=remembering), GENEROUS)
    posted(service, _click("i3", user_id="ann"), _click("i4", user_id="bob", event_id="e9"))
    for user in ("ann", "bob"):
        assert other.recommend(RecommendRequest(user_id=user)).degraded.reasons == []
    asyncio.run(service.erase_user("ann"))
    looks = remembering.looks
    eventually(lambda: remembering.looks > looks + 1)
    other.close()
    store.close()
    rungs = [remembering.read("default", f"u:{user}", None, time.time())[1] for user in ("ann", "bob")]
    assert rungs == ["anonymous", "last_known"]


def test_when_the_state_store_is_away_the_bundle_answers(recommender: Recommender, tmp_path: Path) -> None:
    away = open_store(StateSettings(url=SecretStr(f"sqlite:{tmp_path / 'no such folder' / 'state.sqlite'}")))
    backing = replace(Backing.none(), store=away)
    service = Service(lambda _: Picked(recommender), backing, GENEROUS)
    slate = service.recommend(RecommendRequest(user_id="u1"))
    assert slate.degraded.reasons == ["catalogue_stale", "rules_unavailable", "profile_unavailable"]
    assert _bare(slate) == _bare(recommender.recommend(RecommendRequest(user_id="u1")))
    with pytest.raises(StoreUnavailable):
        service.change_items([BulkItem(item_id="i5", action="delete")])


def test_a_profile_that_usually_takes_longer_than_there_is_time_is_not_waited_for(
    recommender: Recommender, tmp_path: Path
) -> None:
    ticks = iter(float(tick) for tick in range(10_000))  # every look at the clock costs a second
    settings = GENEROUS.model_copy(update={"deadline_ms": 60_000})
    with living_service(recommender, tmp_path) as open_one:
        service = Service(lambda _: Picked(recommender), open_one.backing, settings, clock=lambda: next(ticks))
        first = service.recommend(RecommendRequest(user_id="u1"))
        second = service.recommend(RecommendRequest(user_id="u1", deadline_ms=500))
        service.close()
    assert "profile_unavailable" not in first.degraded.reasons
    assert second.degraded.reasons[:2] == ["deadline", "profile_unavailable"]
    assert second.degraded.stages_skipped[0] == "profile"
    assert len(second.items) == 10


def test_every_answer_carries_a_token_that_only_this_service_could_make(recommender: Recommender) -> None:
    signer = Signer(b"k" * 32)
    trial = Picked(recommender, ExperimentInfo(id="bundle", variant="canary"))
    backing = replace(Backing.none(), signer=signer)
    service = Service(lambda _: trial, backing, GENEROUS, now=lambda: 1_700_000_000.0)
    slate = service.recommend(RecommendRequest(user_id="u1", placement="home"))
    assert slate.experiment == trial.experiment
    claims = signer.verify(slate.recommendation_id or "")
    assert (claims.bundle, claims.placement, claims.variant, claims.at) == (
        recommender.bundle.id, "home", "canary", 1_700_000_000,
    )  # fmt: skip
    assert claims.person == signer.person("default", "u:u1")
    assert "u1" not in claims.person


def test_the_decision_log_holds_every_answer_as_it_went_out(recommender: Recommender) -> None:
    log = MemoryLog()
    backing = replace(Backing.none(), decisions=Decisions(log))
    service = Service(lambda _: Picked(recommender), backing, GENEROUS, new_seed=lambda: 77)
    asked = RecommendRequest(
        user_id="u1", placement="home", context={"device": "phone"}, explore=Explore(policy="softmax", strength=0.5)
    )
    slates = [
        service.recommend(asked),
        service.similar(SimilarRequest(item_id="i3")),
        service.popular(PopularRequest()),
    ]
    records = [DecisionRecord.model_validate_json(record) for record in log.records]
    assert [record.recommendation_id for record in records] == [slate.recommendation_id for slate in slates]
    assert [record.item_ids for record in records] == [_ids(slate) for slate in slates]
    assert [record.route for record in records] == ["recommend", "similar", "popular"]
    assert records[0].propensities == [item.propensity for item in slates[0].items]
    assert records[0].explore == Explore(policy="softmax", strength=0.5, seed=77)
    assert (records[0].context, records[0].placement, records[1].item_id) == ({"device": "phone"}, "home", "i3")
    assert not any(id_ in record for record in log.records for id_ in (b'"u1"', b":u1"))  # tokens may spell u1


def test_a_decision_log_that_fails_is_named_and_fails_no_answer(recommender: Recommender) -> None:
    log = MemoryLog()
    service = Service(lambda _: Picked(recommender), replace(Backing.none(), decisions=Decisions(log)), GENEROUS)
    log.broken = True
    slates = [service.recommend(RecommendRequest()) for _ in range(2)]
    log.broken = False
    slates += [service.recommend(RecommendRequest())]
    assert [slate.degraded.reasons for slate in slates] == [["decision_log_unavailable"]] * 2 + [[]]
    assert service.backing.decisions.lost == 2


def test_exploring_is_repeatable_by_its_seed_and_states_its_chances(recommender: Recommender) -> None:
    service = Service.over(recommender)
    seeds = [*range(5), 0]
    slates = [
        service.recommend(
            RecommendRequest(
                user_id="u1", explore=Explore(policy="epsilon", strength=0.5, seed=seed), deadline_ms=60_000
            )
        )
        for seed in seeds
    ]
    assert _bare(slates[0]) == _bare(slates[-1])
    assert len({tuple(_ids(slate)) for slate in slates}) > 1
    assert all(0 < item.propensity < 1 for slate in slates for item in slate.items)
    plain = service.recommend(RecommendRequest(user_id="u1"))
    assert [item.propensity for item in plain.items] == [1.0] * 10


def test_ranking_scores_exactly_the_items_asked_about(recommender: Recommender) -> None:
    service = Service.over(recommender)
    ranked = service.rank(RankRequest(user_id="u1", items=["i9", "nothing", "i3", "i9"], deadline_ms=60_000))
    full = service.recommend(RecommendRequest(user_id="u1", exclude_seen=False, k=NUM_ITEMS, deadline_ms=60_000))
    scores = {item.item_id: item.score for item in full.items}
    best_first = sorted(("i9", "i3"), key=lambda item: -scores[item])
    assert [(item.item_id, item.score) for item in ranked.items] == [
        *((item, pytest.approx(scores[item], abs=1e-5)) for item in best_first), ("nothing", None),
    ]  # fmt: skip
    assert ranked.degraded.reasons == ["unknown_items"]


def test_a_service_without_state_says_what_it_does_not_offer(recommender: Recommender) -> None:
    service = Service.over(recommender)
    with pytest.raises(NotOffered, match="event log"):
        asyncio.run(service.events(EventBatch(events=[{}])))
    with pytest.raises(NotOffered, match="state store"):
        service.change_items([])
