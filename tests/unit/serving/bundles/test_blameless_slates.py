"""An empty slate is held against a bundle only where something might have been shown."""

from pathlib import Path
from typing import Any

import pytest
from living_service import living_service

from retrank.contract.api import PopularRequest, RecommendRequest, Session, SimilarRequest
from retrank.contract.placement_rules import Rule
from retrank.serving.bundles.front import Front
from retrank.serving.bundles.holder import Holder, Serving
from retrank.serving.changes import NO_CHANGES
from retrank.serving.live_rules import LiveRule
from retrank.serving.placements.shelf import Shelf, name_of
from retrank.serving.recommender import Recommender
from retrank.serving.stores.protocol import ItemChange
from retrank.serving.surroundings import Surroundings

EVERY = [f"i{row}" for row in range(1, 51)]
ALL_BUT_ONE = EVERY[:-1]
ANYTHING = {"exists": {"attribute": "price"}}
Asked = RecommendRequest | SimilarRequest


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def _blocking(**what: Any) -> Surroundings:
    return Surroundings(rules=(LiveRule.of(Rule.model_validate({"id": "r", "action": "block"} | what)),))


def _withdrawn(items: list[str]) -> Surroundings:
    return Surroundings(changes=NO_CHANGES.with_more([ItemChange(item, 1, True, False, None) for item in items]))


@pytest.mark.parametrize(
    ("request_", "around", "blameless"),
    [
        (RecommendRequest(), Surroundings(), False),
        (RecommendRequest(user_id="u1"), Surroundings(), False),
        (RecommendRequest(session=Session(recent=EVERY)), Surroundings(), True),
        (RecommendRequest(session=Session(recent=EVERY), exclude_seen=False), Surroundings(), False),
        (RecommendRequest(session=Session(recent=ALL_BUT_ONE)), Surroundings(), False),
        (RecommendRequest(session=Session(recent=ALL_BUT_ONE)), _blocking(items=EVERY[-1:]), True),
        (RecommendRequest(), _blocking(items=EVERY), True),
        (RecommendRequest(), _blocking(items=ALL_BUT_ONE), False),
        (RecommendRequest(), _blocking(filter=ANYTHING), True),
        (RecommendRequest(), _withdrawn(EVERY), True),
        (RecommendRequest(exclude_items=EVERY[-1:]), _withdrawn(ALL_BUT_ONE), True),
        (RecommendRequest(), _withdrawn(ALL_BUT_ONE), False),
        (SimilarRequest(item_id="i50", exclude_items=ALL_BUT_ONE), Surroundings(), True),
        (SimilarRequest(item_id="i50"), _blocking(items=ALL_BUT_ONE), True),
        (SimilarRequest(item_id="i1"), _blocking(items=ALL_BUT_ONE), False),
    ],
)
def test_nothing_is_left_where_all_is_seen_excluded_blocked_or_withdrawn(
    recommender: Recommender, request_: Asked, around: Surroundings, blameless: bool
) -> None:
    assert recommender.nothing_left(request_, around) is blameless
    similar = isinstance(request_, SimilarRequest)
    slate = recommender.similar(request_, around) if similar else recommender.recommend(request_, around)  # type: ignore[arg-type]
    assert (slate.items == []) is blameless


def test_rules_and_seen_items_that_empty_every_slate_do_not_count_against_the_bundle(
    recommender: Recommender, tmp_path: Path
) -> None:
    front = Front(Holder(Serving(recommender)), clock=lambda: 0.0)
    blocked = Rule.model_validate({"id": "all", "action": "block", "items": EVERY, "placement": "home"})
    with living_service(recommender, tmp_path, watch=front) as service:
        assert service.backing.store is not None
        assert service.backing.store.write(name_of("default"), Shelf(rules=(blocked,)).as_json(), 0)
        slates = [
            service.recommend(RecommendRequest(user_id="u1", placement="home")),
            service.recommend(RecommendRequest(session=Session(recent=EVERY))),
            service.similar(SimilarRequest(item_id="i1", placement="home")),
            service.popular(PopularRequest(placement="home")),
        ]
    assert [slate.items for slate in slates] == [[]] * 4
    assert front.figures(recommender.bundle.id).summary()[:3] == (4, 0.0, 0.0)
