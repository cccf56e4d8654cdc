"""From the upsert of an item nobody knows to the slates, logs and events it is in; across processes and bundles."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from content_world import described
from living_service import GENEROUS, eventually, living_service, posted
from prometheus_client import generate_latest
from web_client import Client

from retrank.contract.api import RecommendRequest, Session, SimilarRequest, SlateResponse
from retrank.contract.catalogue_changes import BulkItem
from retrank.contract.decisions import DecisionRecord
from retrank.contract.events import person_key
from retrank.serving import newcomers
from retrank.serving.decision_log import Decisions
from retrank.serving.newcomers import NewItemCounts
from retrank.serving.picking import Picked
from retrank.serving.recommender import Recommender
from retrank.serving.service import Service
from retrank.serving.settings import PipelineSettings, ServiceSettings
from retrank.serving.stores.protocol import DEFAULT_TENANT
from retrank.serving.telemetry.prometheus import PrometheusTelemetry
from retrank.serving.web.routes import create_app

LAMP = BulkItem(item_id="lamp", action="upsert", attributes=described(102))
BLANK = BulkItem(item_id="blank", action="upsert", attributes={"colour": "red"})


@pytest.fixture(scope="module")
def recommender(content_bundle: Path) -> Recommender:
    return Recommender.open(content_bundle)


@pytest.fixture
def service(recommender: Recommender, tmp_path: Path) -> Iterator[Service]:
    with living_service(recommender, tmp_path) as opened:
        yield opened


def _ids(slate: SlateResponse) -> list[str]:
    return [item.item_id for item in slate.items]


def _slate(service: Service, **request: object) -> SlateResponse:
    return service.recommend(RecommendRequest.model_validate({"user_id": "u2", "k": 8, **request}))


def test_the_receipt_says_what_is_offered_and_what_waits_for_the_next_bundle(service: Service) -> None:
    known = BulkItem(item_id="i5", action="upsert", attributes={"price": 2.0})
    receipt = service.change_items([LAMP, BLANK, known])
    assert (receipt.changed, receipt.unknown, receipt.offered) == (3, ["lamp", "blank"], ["lamp"])
    assert "lamp" in _ids(_slate(service))
    assert not {"lamp", "blank"} & set(_ids(_slate(service, user_id="u1")))


def test_another_tenant_has_no_such_item(service: Service) -> None:
    service.change_items([LAMP])
    assert "lamp" not in _ids(service.recommend(RecommendRequest(user_id="u2", k=8), "another shop"))


class ListLog:
    """Keeps records in a list."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    def append(self, records: Sequence[bytes]) -> Future[None]:
        self.records += records
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        pass


def test_the_answer_is_signed_and_logged_like_any_other(service: Service, recommender: Recommender) -> None:
    log = ListLog()
    logging = replace(service.backing, decisions=Decisions(log))
    service.change_items([LAMP])
    beside = Service(lambda _: Picked(recommender), logging, GENEROUS)
    beside.warm_up()
    slate = _slate(beside)
    record = DecisionRecord.model_validate_json(log.records[0])
    assert "lamp" in record.item_ids
    assert (record.item_ids, record.propensities) == (_ids(slate), [1.0] * len(slate.items))
    click = {"type": "click", "item_id": "lamp", "user_id": "u2", "recommendation_token": slate.recommendation_id}
    posted(service, click)  # accepted: the token is good
    beside.close()


def test_a_click_on_a_new_item_is_remembered_and_tells_of_somebody_else_too(service: Service) -> None:
    service.change_items([LAMP])
    posted(service, {"type": "click", "item_id": "lamp", "user_id": "u2"})
    assert "lamp" not in _ids(_slate(service))
    posted(service, {"event_id": "other", "type": "click", "item_id": "lamp", "anonymous_id": "nobody knows"})
    stranger = _slate(service, user_id=None, anonymous_id="nobody knows", k=5)
    assert {item.attributes["category"] for item in stranger.items} == {"c2"}
    assert not stranger.degraded.is_degraded
    profile = service.backing.store
    assert profile is not None
    assert "lamp" in profile.profile(DEFAULT_TENANT, person_key("u2", None, None), None, 0.0).seen
    told = _slate(service, session=Session(recent=["lamp", "i6"]))
    assert "lamp" not in _ids(told)
    assert not told.degraded.is_degraded


def test_what_is_deleted_or_withdrawn_is_gone_with_the_next_answer(service: Service) -> None:
    service.change_items([LAMP])
    for act in (
        BulkItem(item_id="lamp", action="delete"),
        BulkItem(item_id="lamp", action="patch", available=False),
    ):
        assert "lamp" in _ids(_slate(service))
        receipt = service.change_items([act])
        assert (receipt.unknown, receipt.offered) == (["lamp"], [])
        assert "lamp" not in _ids(_slate(service))
        assert service.similar(SimilarRequest(item_id="lamp")).degraded.reasons == ["unknown_items"]
        service.change_items([LAMP])


def test_a_patch_moves_it_to_the_people_of_another_category(service: Service) -> None:
    service.change_items([LAMP])
    service.change_items([BulkItem(item_id="lamp", action="patch", attributes={"category": "c1"})])
    assert "lamp" not in _ids(_slate(service))
    assert "lamp" in _ids(_slate(service, user_id="u1"))


def test_another_replica_shows_it_after_its_next_look(recommender: Recommender, tmp_path: Path) -> None:
    other = recommender.quiet()
    with living_service(recommender, tmp_path) as writer:
        fresh = Recommender(other.runtime, PipelineSettings())
        reader = Service(lambda _: Picked(fresh), writer.backing, GENEROUS)
        assert "lamp" not in _ids(_slate(reader))
        writer.change_items([LAMP])
        eventually(lambda: "lamp" in _ids(_slate(reader)))
        reader.close()


def test_the_next_bundle_encodes_anew_before_it_answers(
    recommender: Recommender, ranked_content_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "AT_ONCE", 1)
    answering = [recommender]
    with living_service(recommender, tmp_path) as writer:
        service = Service(lambda _: Picked(answering[0]), writer.backing, GENEROUS)
        service.change_items([LAMP, BLANK])
        later, rested = Recommender.open(ranked_content_bundle), list[int]()
        service.ready(later, lambda: rested.append(later.new_item_counts().waiting))
        assert rested == [1, 0], "those who are answered get their turn between the steps"
        assert later.new_item_counts() == NewItemCounts(offered=1, unreadable=1)
        answering[0] = later
        slate = _slate(service)
        assert (slate.bundle.id, "lamp" in _ids(slate)) == (later.bundle.id, True)
        service.close()


def test_a_replica_that_starts_again_offers_every_new_item_before_it_says_ready(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "AT_ONCE", 2)
    seldom = ServiceSettings(deadline_ms=60_000, catalogue_refresh_s=60.0)  # nothing is left to later looks
    with living_service(recommender, tmp_path, settings=seldom) as writer:
        writer.change_items(
            [BulkItem(item_id=f"n{row}", action="upsert", attributes=described(row)) for row in range(7)]
        )
        restarted = Recommender(recommender.quiet().runtime, PipelineSettings(max_new_items=6))
        service = Service(lambda _: Picked(restarted), writer.backing, seldom)
        service.warm_up()
        assert restarted.new_item_counts() == NewItemCounts(offered=6, beyond=1)
        service.close()


def test_new_items_stay_on_the_slates_when_the_changes_a_bundle_holds_are_forgotten(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newcomers, "AT_ONCE", 1)
    seldom = ServiceSettings(deadline_ms=60_000, catalogue_refresh_s=60.0)  # one look, that of the next upsert
    with living_service(recommender, tmp_path, settings=seldom) as service:
        service.change_items([BulkItem(item_id="i5", action="upsert", attributes={"price": 2.0})])
        service.change_items([LAMP])
        service.change_items([BulkItem(item_id="torch", action="upsert", attributes=described(102))])
        store = service.backing.store
        assert store is not None
        store.forget_changes(DEFAULT_TENANT, 1)
        service.change_items([BulkItem(item_id="i6", action="upsert", attributes={"price": 2.0})])
        assert {"lamp", "torch"} <= set(_ids(_slate(service)))


def test_the_page_finds_a_new_item_by_id_and_title(service: Service, recommender: Recommender) -> None:
    service.change_items([LAMP, BLANK])
    client = Client(create_app(service))

    def found(query: str) -> list[str]:
        items = client.get("/v1/catalogue/items", params={"query": query}).json()["items"]
        return [item["item_id"] for item in items]

    assert found("LAM") == ["lamp"]
    assert found("number 102") == ["lamp"]
    assert found("blank") == []
    assert len(found("")) > 1


def test_figures_say_what_became_of_new_items() -> None:
    telemetry = PrometheusTelemetry()
    telemetry.new_items(NewItemCounts(offered=7, unreadable=2)._asdict())
    text = generate_latest(telemetry.registry).decode()
    assert 'recsys_new_items{state="offered"} 7.0' in text
    assert 'recsys_new_items{state="unreadable"} 2.0' in text
