"""The made-up bundle of the benchmarks is a real one: sealed, proven and able to answer."""

from pathlib import Path

from make_big_bundle import Kind, Sizes, make_bundle, make_world

from retrank.contract.api import RecommendRequest
from retrank.serving.recommender import Recommender


def test_a_made_up_bundle_opens_and_answers_with_its_own_items(tmp_path: Path) -> None:
    sizes = Sizes(items=300, users=40, width=16, history=20)
    make_bundle(tmp_path, sizes, Kind(), prefix="z", seed=3, recall_target=0.9, family=None)
    answer = Recommender.open(tmp_path).recommend(RecommendRequest(user_id="u0000001", k=5))
    assert len(answer.items) == 5
    assert {item.item_id[0] for item in answer.items} == {"z"}
    assert not answer.degraded.is_degraded


def test_the_world_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    sizes = Sizes(items=500, users=30)
    first, again, other = (make_world(sizes, seed) for seed in (1, 1, 2))
    assert (first.vectors == again.vectors).all()
    assert (first.histories.item_rows == again.histories.item_rows).all()
    assert (first.vectors[1:] != other.vectors[1:]).any()
