"""What the API promises, promised by every protocol: in process, REST, gRPC, and the client library over REST."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from living_service import GENEROUS, eventually, living_service
from protocol_callers import PROTOCOLS, Caller, Fields, Refused, callers
from pydantic import SecretStr

from retrank.contract.api import RecommendRequest
from retrank.contract.placement_rules import PlacementDefaults, Rule
from retrank.serving.picking import NoWatch, Picked
from retrank.serving.placements.shelf import edit
from retrank.serving.recommender import Recommender
from retrank.serving.service import Backing, Service
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.settings import StateSettings

NUM_ITEMS = 50


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@pytest.fixture(scope="module")
def service(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with living_service(recommender, tmp_path_factory.mktemp("living")) as opened:
        yield opened


@pytest.fixture(scope="module")
def living(service: Service) -> Iterator[dict[str, Caller]]:
    with callers(service) as found:
        yield found


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def caller(living: dict[str, Caller], protocol: str) -> Caller:
    return living[protocol]


def _ids(slate: Fields) -> list[str]:
    return [item["item_id"] for item in slate["items"]]


def _shown(slate: Fields) -> list[Any]:
    """Everything of a slate that is the same whenever it is asked for."""
    return [
        (
            *(item[name] for name in ("item_id", "rank", "score", "propensity", "attributes", "sources")),
            *((reason["code"], reason.get("item_id"), reason["weight"]) for reason in item["reasons"]),
        )
        for item in slate["items"]
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {"user_id": "u1"},
        {"user_id": "u2", "k": 3, "fields": ["title"], "explain": False},
        {"session": {"recent": ["i3", "i9"]}, "fields": [], "exclude_seen": False},
        {"user_id": "u3", "explore": {"policy": "softmax", "strength": 0.7, "seed": (1 << 62) + 1}},
        {"user_id": "u4", "diversity": {"mode": "cap", "caps": {"title": 1}}, "context": {"hour": 9, "app": True}},
        {"seed_items": ["i7"], "filter": {"all": [{"range": {"attribute": "price", "gte": 5, "lt": 9.5}}]}},
    ],
    ids="-".join,
)
def test_the_same_request_is_answered_with_the_same_slate(
    caller: Caller, living: dict[str, Caller], asked: dict[str, Any]
) -> None:
    slate, expected = caller.recommend(**asked), living["in process"].recommend(**asked)
    assert _shown(slate) == _shown(expected)
    assert slate["bundle"]["id"] == expected["bundle"]["id"]
    assert slate["degraded"]["reasons"] == expected["degraded"]["reasons"]


def test_a_click_changes_the_very_next_answer_and_counts_once(caller: Caller, protocol: str) -> None:
    who, click = f"new by {protocol}", {"event_id": protocol, "type": "click", "item_id": "i3"}
    assert caller.recommend(user_id=who)["degraded"]["reasons"] == ["unknown_user"]
    receipts = [caller.ingest({**click, "user_id": who, "context": {"page": 2}}) for _ in range(2)]
    assert [(one["accepted"], one["duplicates"]) for one in receipts] == [(1, 0), (0, 1)]
    after = caller.recommend(user_id=who, k=NUM_ITEMS)
    assert "i3" not in _ids(after)
    assert after["degraded"]["reasons"] == ["catalogue_exhausted"]
    assert _ids(after)[:10] == _ids(caller.recommend(session={"recent": ["i3"]}))


def test_a_bad_event_does_not_stop_the_others(caller: Caller, protocol: str) -> None:
    click = {"type": "click", "item_id": "i3", "anonymous_id": f"mixed {protocol}"}
    good = {**click, "event_id": f"good {protocol}"}
    bad = {**click, "event_id": f"bad {protocol}", "type": "stare"}
    receipt = caller.ingest(bad, good)
    assert receipt["accepted"] == 1
    assert [(one["index"], one["event_id"]) for one in receipt["rejected"]] == [(0, bad["event_id"])]


def test_a_batch_of_nothing_but_bad_events_is_refused_event_by_event(caller: Caller, protocol: str) -> None:
    click = {"type": "stare", "item_id": "i3", "anonymous_id": f"all bad {protocol}"}
    with pytest.raises(Refused) as refused:
        caller.ingest({**click, "event_id": "1"}, {**click, "event_id": "2", "type": "click", "value": 1e308})
    assert (refused.value.kind, refused.value.fields) == ("invalid", ["/events/0", "/events/1"])


def test_an_unknown_user_gets_a_full_slate_that_says_so(caller: Caller) -> None:
    slate = caller.recommend(user_id="nobody knows me", k=20)
    assert len(_ids(slate)) == 20
    assert slate["degraded"]["is_degraded"]
    assert slate["degraded"]["reasons"] == ["unknown_user"]


def test_what_was_seen_or_is_excluded_stays_away(caller: Caller) -> None:
    everything = caller.recommend(user_id="u1", exclude_seen=False, k=NUM_ITEMS)
    unseen = caller.recommend(user_id="u1", k=NUM_ITEMS)
    assert len(_ids(everything)) == NUM_ITEMS > len(_ids(unseen))
    first = _ids(unseen)[0]
    assert first not in _ids(caller.recommend(user_id="u1", exclude_items=[first], k=NUM_ITEMS))


def test_a_filter_holds_for_every_item(caller: Caller) -> None:
    cheap = caller.recommend(filter={"range": {"attribute": "price", "lt": 4}}, k=NUM_ITEMS)
    assert _ids(cheap)
    assert all(item["attributes"]["price"] < 4 for item in cheap["items"])


def test_a_bad_request_of_a_batch_gets_a_problem_in_its_place(caller: Caller) -> None:
    first, second, third = caller.batch([{"user_id": "u1", "k": 2}, {"k": 0}, {"k": 3}])["answers"]
    assert [one["status"] for one in (first, second, third)] == [200, 422, 200]
    assert [len(one["slate"]["items"]) for one in (first, third)] == [2, 3]
    assert second["problem"]["errors"][0]["pointer"] == "/k"


class Stumbles(NoWatch):
    def remember(self, tenant: str, request: RecommendRequest) -> None:
        if request.request_id == "trips":
            raise RuntimeError


def test_a_request_of_a_batch_that_fails_leaves_the_others_their_slates(
    recommender: Recommender, protocol: str
) -> None:
    service = Service(lambda _: Picked(recommender), Backing.none(), GENEROUS, watch=Stumbles())
    with callers(service) as opened:
        answers = opened[protocol].batch([{"k": 2}, {"request_id": "trips"}, {"k": 3}])["answers"]
    assert [one["status"] for one in answers] == [200, 500, 200]
    assert [len(one["slate"]["items"]) for one in (answers[0], answers[2])] == [2, 3]
    assert answers[1]["problem"]["code"] == "internal"


def test_a_ranking_holds_every_candidate_once_with_unknown_ones_last(caller: Caller) -> None:
    ranked = caller.rank(user_id="u1", items=["i1", "no such", "i2", "i1"])["items"]
    assert [item["rank"] for item in ranked] == [1, 2, 3]
    assert ranked[2]["item_id"] == "no such"
    assert ranked[2].get("score") is None
    assert ranked[0]["score"] >= ranked[1]["score"]


def test_items_like_an_item_do_not_hold_it(caller: Caller, living: dict[str, Caller]) -> None:
    slate = caller.similar(item_id="i3", k=5)
    assert "i3" not in _ids(slate)
    assert _shown(slate) == _shown(living["in process"].similar(item_id="i3", k=5))
    assert caller.similar(item_id="no such")["degraded"]["reasons"] == ["unknown_items"]


def test_what_is_popular_is_the_same_everywhere(caller: Caller, living: dict[str, Caller]) -> None:
    slate = caller.popular(k=7, placement="home")
    assert len(_ids(slate)) == 7
    assert _shown(slate) == _shown(living["in process"].popular(k=7))


def test_what_trends_in_a_window_comes_first(caller: Caller, protocol: str) -> None:
    where = {"placement": f"shelf-of-{protocol}".replace(" ", "-"), "window": "24h"}
    for number in range(3):
        event = {"event_id": f"trend {protocol} {number}", "type": "click", "item_id": "i44", "user_id": "u9"}
        caller.ingest({**event, "placement": where["placement"]})
    eventually(lambda: _ids(caller.popular(k=3, **where))[0] == "i44")


def test_rules_and_defaults_of_a_placement_hold_whoever_asks(caller: Caller, protocol: str, service: Service) -> None:
    where = f"ruled-{protocol}".replace(" ", "-")
    pin = Rule(id=where, action="pin", items=["i41"], place=2, placement=where)
    assert service.backing.store is not None
    edit(
        service.backing.store,
        "default",
        lambda shelf: shelf.with_rule(pin).with_placement(PlacementDefaults(name=where, k=4)),
    )
    asked = {"user_id": "u2", "placement": where, "exclude_seen": False}
    eventually(lambda: len(_ids(caller.recommend(**asked))) == 4)
    items = caller.recommend(**asked)["items"]
    assert (items[1]["item_id"], "pinned" in items[1]["sources"], items[1]["propensity"]) == ("i41", True, 1.0)
    batched = caller.batch([asked, {**asked, "k": 6}])["answers"]
    assert [len(_ids(answer["slate"])) for answer in batched] == [4, 6]
    assert len(_ids(caller.recommend(**asked, k=10))) == 10
    assert _ids(caller.similar(item_id="i1", placement=where, k=3))[1] == "i41"
    assert _ids(caller.popular(placement=where, k=3))[1] == "i41"


def test_a_deleted_item_disappears_and_returns(caller: Caller) -> None:
    receipt = caller.change(
        {"item_id": "i5", "action": "delete"},
        {"item_id": "i6", "action": "upsert", "attributes": {"price": 99, "title": None}},
    )
    assert receipt["changed"] == 2
    items = {item["item_id"]: item["attributes"] for item in caller.recommend(k=NUM_ITEMS)["items"]}
    assert "i5" not in items
    assert items["i6"]["price"] == 99
    assert items["i6"].get("title") is None
    caller.change({"item_id": "i5", "action": "upsert"}, {"item_id": "i6", "action": "upsert"})
    assert "i5" in _ids(caller.recommend(k=NUM_ITEMS))


@pytest.mark.parametrize(
    ("method", "asked", "named"),
    [
        ("recommend", {"k": 0}, "/k"),
        ("recommend", {"k": 201}, "/k"),
        ("recommend", {"user_id": ""}, "/user_id"),
        ("recommend", {"session": {"recent": ["i1", "x" * 257]}}, "/session/recent/1"),
        ("recommend", {"explore": {"policy": "chance"}}, "/explore/policy"),
        ("recommend", {"deadline_ms": 0}, "/deadline_ms"),
        ("recommend", {"filter": {"eq": {"attribute": "price"}}}, "/filter/eq/value"),
        ("similar", {"k": 3}, "/item_id"),
        ("rank", {"user_id": "u1", "items": []}, "/items"),
        ("popular", {"k": 201}, "/k"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(caller: Caller, method: str, asked: Fields, named: str) -> None:
    with pytest.raises(Refused) as caught:
        getattr(caller, method)(**asked)
    assert (caught.value.kind, caught.value.fields) == ("invalid", [named])


def test_a_token_names_the_answer_and_can_be_checked(caller: Caller, service: Service) -> None:
    slate = caller.recommend(user_id="u1", placement="home")
    claims = service.backing.signer.verify(slate["recommendation_id"])
    assert (claims.bundle, claims.placement) == (slate["bundle"]["id"], "home")


def test_when_the_state_store_is_away_the_bundle_answers_and_says_so(
    recommender: Recommender, tmp_path: Path, protocol: str
) -> None:
    away = open_store(StateSettings(url=SecretStr(f"sqlite:{tmp_path / 'no such folder' / 'state.sqlite'}")))
    with callers(Service.over(recommender, replace(Backing.none(), store=away))) as found:
        slate = found[protocol].recommend(user_id="u1", deadline_ms=60_000)
    assert {"catalogue_stale", "rules_unavailable", "profile_unavailable"} <= set(slate["degraded"]["reasons"])
    assert len(_ids(slate)) == 10


def test_when_the_event_log_is_away_events_are_refused_and_slates_are_not(
    recommender: Recommender, tmp_path: Path, protocol: str
) -> None:
    with ExitStack() as opened:
        service = opened.enter_context(living_service(recommender, tmp_path))
        caller = opened.enter_context(callers(service))[protocol]
        assert service.backing.intake is not None
        service.backing.intake.close()
        with pytest.raises(Refused) as caught:
            caller.ingest({"event_id": "1", "type": "click", "item_id": "i3", "user_id": "u1"})
        assert caught.value.kind == "away"
        assert len(_ids(caller.recommend(user_id="u1"))) == 10
