"""Items that nobody touched in training: a model that goes by ids says nothing of them, and the answer says so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worlds import TinyWorld, tiny_catalogue, tiny_fallbacks, tiny_model

from retrank.contract import bundle
from retrank.contract.api import RecommendRequest, Session, SimilarRequest, SlateResponse
from retrank.contract.bundle import verify
from retrank.serving.recommender import Recommender

NUM_ITEMS = 50
UNTOUCHED, TOUCHED_SINCE, FOLLOWER, LEARNED = "i50", "i49", "i7", "i1"


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Over a bundle in which nobody has met i50, and i49 only since training ended: i7 followed it."""
    unlearned = np.zeros(NUM_ITEMS + 1, dtype=bool)
    unlearned[49:] = True
    counted = tiny_fallbacks(tiny_catalogue())
    counted.popularity[50] = 0
    counted.covisit_items[49:] = counted.covisit_weights[49:] = 0
    counted.covisit_items[49, 0], counted.covisit_weights[49, 0] = 7, 3.0
    model = replace(tiny_model(), unlearned=unlearned)
    root = tmp_path_factory.mktemp("unlearned")
    TinyWorld(model=model, fallbacks=counted).assemble(root)
    return Recommender.open(root)


def _ids(slate: SlateResponse) -> list[str]:
    return [item.item_id for item in slate.items]


def test_an_item_that_nobody_touched_is_answered_with_what_is_popular(recommender: Recommender) -> None:
    slate = recommender.similar(SimilarRequest(item_id=UNTOUCHED, k=5))
    assert _ids(slate) == _ids(recommender.popular(5))
    assert slate.degraded.reasons == ["unknown_items"]
    assert {source for item in slate.items for source in item.sources} == {"popular"}
    assert {reason.code for item in slate.items for reason in item.reasons} == {"popular"}


def test_what_followed_it_since_training_comes_first(recommender: Recommender) -> None:
    slate = recommender.similar(SimilarRequest(item_id=TOUCHED_SINCE, k=5))
    assert slate.items[0].item_id == FOLLOWER
    assert slate.items[0].reasons[0].code == "follows"
    assert _ids(slate)[1:] == [item for item in _ids(recommender.popular(6)) if item != FOLLOWER][:4]
    assert slate.degraded.reasons == ["unknown_items"]


@pytest.mark.parametrize("field", ["seed_items", "recent"])
def test_a_history_of_such_items_alone_gets_what_is_popular(recommender: Recommender, field: str) -> None:
    told = {"seed_items": [UNTOUCHED]} if field == "seed_items" else {"session": Session(recent=[UNTOUCHED])}
    slate = recommender.recommend(RecommendRequest.model_validate({"k": 5, **told}))
    assert _ids(slate) == _ids(recommender.popular(5))
    assert slate.degraded.reasons == ["unknown_items"]
    assert recommender.query(RecommendRequest(seed_items=[UNTOUCHED])) is None


def test_one_item_that_was_learned_of_is_enough(recommender: Recommender) -> None:
    slate = recommender.recommend(RecommendRequest(session=Session(recent=[LEARNED, UNTOUCHED]), k=5))
    assert slate.degraded.reasons == []
    assert any("sequence" in item.sources for item in slate.items)
    assert recommender.similar(SimilarRequest(item_id=LEARNED, k=5)).degraded.reasons == []


def test_a_filter_does_not_bring_its_neighbours_back(recommender: Recommender) -> None:
    only = {"range": {"attribute": "price", "lte": 2.0}}
    slate = recommender.similar(SimilarRequest.model_validate({"item_id": UNTOUCHED, "k": 1, "filter": only}))
    assert [item.sources for item in slate.items] == [["popular"]]


def test_only_a_bundle_with_such_items_holds_the_file(recommender: Recommender, tiny_bundle: Path) -> None:
    assert bundle.UNLEARNED_ITEMS in recommender.runtime.manifest.files
    assert bundle.UNLEARNED_ITEMS not in verify(tiny_bundle).manifest.files
