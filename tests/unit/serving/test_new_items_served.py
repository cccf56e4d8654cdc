"""An item listed a moment ago is recommended as its content deserves, and treated like any other on the way."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from content_world import NUM_ITEMS, category, described
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.api import RecommendRequest, Session, SimilarRequest, SlateResponse
from retrank.contract.filters import Filter
from retrank.contract.placement_rules import Rule
from retrank.contract.ranking import RankRequest
from retrank.contract.slate_options import Diversity, Explore, SeenPolicy
from retrank.serving.changes import NO_CHANGES, Changes
from retrank.serving.live_rules import LiveRule
from retrank.serving.recommender import Recommender
from retrank.serving.settings import PipelineSettings
from retrank.serving.stages import retrieve
from retrank.serving.stores.protocol import ItemChange, Profile
from retrank.serving.surroundings import NOTHING_AROUND, Surroundings

NEW = {f"new{place}": described(place + 100) for place in range(4)}
"""One new item per category: new2 is for u2, u6, ..."""
NOW = 4_000_000.0  # rankers read how long ago things happened


def _state(items: Mapping[str, Mapping[str, Any]]) -> Changes:
    return NO_CHANGES.with_more(
        [
            ItemChange(item, version, deleted=False, available=True, attributes=dict(attributes))
            for version, (item, attributes) in enumerate(items.items(), 1)
        ]
    )


STATE = _state(NEW)


@pytest.fixture(scope="module", params=["content_bundle", "ranked_content_bundle"])
def either(request: pytest.FixtureRequest) -> Recommender:
    """A recommender without, and one with a second stage, both prepared."""
    return _prepared(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def recommender(content_bundle: Path) -> Recommender:
    return _prepared(content_bundle)


@pytest.fixture(scope="module")
def ranked(ranked_content_bundle: Path) -> Recommender:
    return _prepared(ranked_content_bundle)


def _prepared(root: Path, changes: Changes = STATE, **settings: Any) -> Recommender:
    found = Recommender(Recommender.open(root).runtime, PipelineSettings(**settings), now=lambda: NOW)
    assert not found.prepare(changes)
    return found


def _around(changes: Changes = STATE, **more: Any) -> Surroundings:
    return NOTHING_AROUND._replace(changes=changes, **more)


def _ids(slate: SlateResponse) -> list[str]:
    return [item.item_id for item in slate.items]


def _rule(action: str, **said: Any) -> LiveRule:
    return LiveRule.of(Rule.model_validate({"id": "r", "action": action, **said}))


@pytest.mark.parametrize("user", [1, 2, 3, 4, 7])
def test_a_new_item_reaches_the_people_of_its_category_and_nobody_else(recommender: Recommender, user: int) -> None:
    slate = recommender.recommend(RecommendRequest(user_id=f"u{user}", k=4), _around())
    assert [item for item in _ids(slate) if item in NEW] == [f"new{user % 4}"]
    shown = next(item for item in slate.items if item.item_id in NEW)
    assert shown.attributes == described(100 + user % 4)
    assert (shown.sources, shown.propensity, slate.degraded.is_degraded) == (["sequence"], 1.0, False)


def test_its_score_is_the_inner_product_of_the_query_and_its_vector(recommender: Recommender) -> None:
    request = RecommendRequest(user_id="u2", k=8)
    query, new = recommender.query(request, _around()), recommender.new_items(STATE)
    assert query is not None
    assert new is not None
    slate = recommender.recommend(request, _around())
    score = next(item.score for item in slate.items if item.item_id == "new2")
    assert score == pytest.approx(float(new.vectors[new.places["new2"]] @ query), abs=2e-6)
    assert [item.score for item in slate.items] == sorted((item.score for item in slate.items), reverse=True)


def test_the_ranker_scores_a_new_item_as_the_item_of_the_catalogue_that_it_is_like(ranked: Recommender) -> None:
    twins = {f"like{row}": described(row) for row in (47, 48, 49, 50)}  # in the bundle, touched by nobody
    state = _state(twins)
    ranked.prepare(state)
    asked = [item for row in (47, 48, 49, 50) for item in (f"i{row}", f"like{row}")]
    for user in ("u1", "u2", "u11"):
        answer = ranked.rank(RankRequest(user_id=user, items=asked), _around(state))
        scores = {item.item_id: item.score for item in answer.items}
        assert not answer.degraded.is_degraded
        for row in (47, 48, 49, 50):
            ours, theirs = scores[f"like{row}"], scores[f"i{row}"]
            assert ours is not None
            assert theirs is not None
            # What a source says of both differs: of equals the one with the smaller row stands first.
            assert ours == pytest.approx(theirs, rel=0.1)
        assert len(set(scores.values())) > 4


def test_filters_see_what_a_new_item_is(either: Recommender) -> None:
    def slate(k: int = 30, user: str | None = "u2", **wanted: Any) -> SlateResponse:
        return either.recommend(RecommendRequest(user_id=user, k=k, filter=Filter.model_validate(wanted)), _around())

    of_category = slate(eq={"attribute": "category", "value": "c3"})
    assert "new3" in _ids(of_category)
    assert {item.attributes["category"] for item in of_category.items} == {"c3"}
    assert set(_ids(slate(range={"attribute": "price", "gte": 26.0}))) == set(NEW)
    assert _ids(slate(eq={"attribute": "title", "value": "Thing number 101"}, user=None)) == ["new1"]
    unwanted: dict[str, Any] = {"not": {"in": {"attribute": "category", "values": ["c1", "c2", "c3"]}}}
    others = slate(50, **unwanted)
    assert [item for item in _ids(others) if item in NEW] == ["new0"]


def test_an_attribute_that_only_new_items_have_is_known(either: Recommender) -> None:
    state = _state({"fancy": {**described(102), "sparkle": True}})
    either.prepare(state)
    wanted = Filter.model_validate({"eq": {"attribute": "sparkle", "value": True}})
    slate = either.recommend(RecommendRequest(user_id="u2", k=1, filter=wanted), _around(state))
    assert (_ids(slate), slate.degraded.is_degraded) == (["fancy"], False)


def test_what_is_excluded_dismissed_or_seen_stays_away(either: Recommender) -> None:
    def shown(profile: Profile = NOTHING_AROUND.profile, **request: Any) -> bool:
        slate = either.recommend(RecommendRequest(user_id="u2", k=54, **request), _around(profile=profile))
        return "new2" in _ids(slate)

    def remembers(kind: str) -> Profile:
        return Profile(events=(), seen={"new2": {kind: 5}})

    assert shown()
    assert not shown(exclude_items=["new2"])
    assert not shown(session=Session(recent=["i2", "new2"]))
    assert shown(session=Session(recent=["i2", "new2"]), exclude_seen=False)
    assert shown(session=Session(recent=["i2", "new2"]), seen=SeenPolicy(types=["purchase"]))
    assert not shown(remembers("click"))
    assert shown(remembers("click"), exclude_seen=False)
    assert not shown(remembers("dismiss"), exclude_seen=False)


def test_a_new_item_is_explained_by_what_it_is_similar_to(recommender: Recommender) -> None:
    slate = recommender.recommend(RecommendRequest(user_id="u2", k=4), _around())
    reason = next(item for item in slate.items if item.item_id == "new2").reasons[0]
    assert (reason.code, reason.weight > 0.5) == ("similar_to", True)
    assert reason.item_id is not None
    assert category(int(reason.item_id[1:])) == "c2"


@pytest.mark.parametrize("compare_all", [True, False])
def test_what_is_similar_to_a_new_item_and_a_new_item_among_what_is_similar(
    either: Recommender, compare_all: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compare_all:
        monkeypatch.setattr(retrieve, "COMPARE_ALL_UP_TO", 0)
    slate = either.similar(SimilarRequest(item_id="new1", k=5), _around())
    assert {category(int(item[1:])) for item in _ids(slate)} == {"c1"}
    assert not slate.degraded.is_degraded
    assert any("new1" in _ids(either.similar(SimilarRequest(item_id=f"i{row}", k=13), _around())) for row in (1, 5, 9))
    assert "new1" not in _ids(slate)
    assert slate.items[0].reasons[0].item_id == "new1"


def test_callers_may_rank_new_items(either: Recommender) -> None:
    answer = either.rank(RankRequest(user_id="u3", items=["new1", "i3", "new3", "nobody"]), _around())
    order = [item.item_id for item in answer.items]
    assert (order[-1], answer.items[-1].score, answer.degraded.reasons) == ("nobody", None, ["unknown_items"])
    assert all(item.score is not None for item in answer.items[:3])


def test_callers_get_new_items_ranked_by_content(recommender: Recommender) -> None:
    answer = recommender.rank(RankRequest(user_id="u3", items=[*NEW]), _around())
    assert answer.items[0].item_id == "new3"


def test_rules_mean_new_items_too(either: Recommender) -> None:
    def slate(*rules: LiveRule, user: str = "u2") -> SlateResponse:
        return either.recommend(RecommendRequest(user_id=user, k=10), _around(rules=rules))

    assert "new2" not in _ids(slate(_rule("block", items=["new2"])))
    of_category = {"eq": {"attribute": "category", "value": "c2"}}
    assert "new2" not in _ids(slate(_rule("block", filter=of_category)))
    pinned = slate(_rule("pin", items=["new1"], place=2))
    assert (pinned.items[1].item_id, pinned.items[1].propensity) == ("new1", 1.0)
    assert "pinned" in pinned.items[1].sources
    assert _ids(slate(_rule("boost", items=["new2"], strength=9.0)))[0] == "new2"
    assert (
        "buried"
        in next(
            item
            for item in either.recommend(
                RecommendRequest(user_id="u2", k=54), _around(rules=(_rule("bury", items=["new2"]),))
            ).items
            if item.item_id == "new2"
        ).sources
    )


@pytest.mark.parametrize(
    "options",
    [
        {"diversity": Diversity(mode="mmr", strength=0.5)},
        {"diversity": Diversity(mode="cap", caps={"category": 2})},
        {"explore": Explore(policy="softmax", strength=0.8, seed=3)},
        {"explore": Explore(policy="epsilon", strength=0.5, seed=3)},
    ],
    ids=["mmr", "cap", "softmax", "epsilon"],
)
def test_variety_and_chance_work_over_new_items(either: Recommender, options: dict[str, Any]) -> None:
    slate = either.recommend(RecommendRequest(user_id="u2", k=5, **options), _around())
    assert not slate.degraded.is_degraded
    assert len(set(_ids(slate))) == 5
    assert all(0 < item.propensity <= 1 for item in slate.items)
    if "diversity" in options and options["diversity"].mode == "cap":
        kinds = [item.attributes["category"] for item in slate.items]
        assert max(kinds.count(kind) for kind in kinds) <= 2


@pytest.mark.parametrize("k", [5, 54])
def test_caps_that_cannot_be_kept_give_way_to_a_full_slate_and_it_says_so(either: Recommender, k: int) -> None:
    capped = Diversity(mode="cap", caps={"category": 2})
    slate = either.recommend(RecommendRequest(k=k, diversity=capped), _around())
    kinds = [item.attributes.get("category") for item in slate.items]
    exceeded = max(kinds.count(kind) for kind in set(kinds) - {None}) > 2
    assert exceeded == (k == 54)
    assert ("cap_exceeded" in slate.degraded.reasons) == exceeded


def test_exploration_shows_a_new_item_and_says_how_likely_that_was(recommender: Recommender) -> None:
    def chance(seed: int) -> float | None:
        explore = Explore(policy="softmax", strength=1.0)
        slate = recommender.recommend(RecommendRequest(user_id="u1", k=12, explore=explore), _around(seed=seed))
        return next((item.propensity for item in slate.items if item.item_id == "new2"), None)

    found = [likely for seed in range(60) if (likely := chance(seed)) is not None]
    assert found, "somebody else's item, but chance may show it"
    assert all(likely < 0.5 for likely in found)


def test_a_catalogue_that_was_seen_but_for_a_new_item_is_not_exhausted(recommender: Recommender) -> None:
    every = [f"i{row}" for row in range(1, NUM_ITEMS + 1)]
    request = RecommendRequest(exclude_items=every[:50], k=3)
    assert not recommender.nothing_left(request, _around())
    assert recommender.nothing_left(request, _around(NO_CHANGES))
    gone = RecommendRequest(exclude_items=[*every, *NEW], k=3)
    assert recommender.nothing_left(gone, _around())


def test_a_bundle_that_holds_the_item_answers_for_it_itself(content_bundle: Path) -> None:
    state = _state({**NEW, "i47": described(47)})
    recommender = _prepared(content_bundle, state)
    new = recommender.new_items(state)
    assert new is not None
    assert list(new.ids) == [*NEW]


def test_a_recommender_that_answers_on_the_quiet_knows_the_same_new_items(recommender: Recommender) -> None:
    request = RecommendRequest(user_id="u2", k=5)
    assert _ids(recommender.quiet().recommend(request, _around())) == _ids(recommender.recommend(request, _around()))


def test_a_request_never_waits_for_the_encoder(content_bundle: Path) -> None:
    unprepared = Recommender.open(content_bundle)
    request = RecommendRequest(user_id="u2", k=5)
    assert not set(NEW) & set(_ids(unprepared.recommend(request, _around())))
    unprepared.prepare(STATE)
    assert "new2" in _ids(unprepared.recommend(request, _around()))


def test_models_of_ids_alone_and_a_limit_of_none_leave_everything_as_it_was(
    content_bundle: Path, tiny_bundle: Path
) -> None:
    for recommender in (_prepared(tiny_bundle), _prepared(content_bundle, max_new_items=0)):
        request = RecommendRequest(user_id="u2", k=54)
        assert not set(NEW) & set(_ids(recommender.recommend(request, _around())))
        similar = recommender.similar(SimilarRequest(item_id="new2", k=5), _around())
        assert similar.degraded.reasons == ["unknown_items"]
        assert recommender.new_items(STATE) is None


_REQUESTS = st.fixed_dictionaries(
    {"k": st.integers(1, 12)},
    optional={
        "user_id": st.sampled_from(["u1", "u2", "u19", "stranger"]),
        "session": st.builds(Session, recent=st.lists(st.sampled_from(["i1", "i9", "new1", "what"]), max_size=4)),
        "exclude_items": st.lists(st.sampled_from(["i2", "i6", "new2"]), max_size=2),
        "exclude_seen": st.booleans(),
        "filter": st.sampled_from(["c0", "c2"]).map(
            lambda kind: Filter.model_validate({"eq": {"attribute": "category", "value": kind}})
        ),
        "diversity": st.just(Diversity(mode="mmr", strength=0.3)),
        "explore": st.just(Explore(policy="softmax", strength=0.5, seed=1)),
    },
)


@given(fields=_REQUESTS)
def test_without_new_items_every_answer_is_what_it_was(
    either: Recommender, plain: Mapping[str, Recommender], fields: dict[str, Any]
) -> None:
    known = _state({"i9": {"category": "c2"}, "i3": {"price": 7.0}})
    either.prepare(known)
    before = plain["ranked" if either.runtime.second else "plain"]
    request = RecommendRequest.model_validate({**fields, "request_id": "same", "explain": True})
    for state in (NO_CHANGES, known):
        answers = [one.recommend(request, _around(state, seed=1)) for one in (before, either)]
        ours, theirs = (one.model_dump(exclude={"took_ms"}) for one in answers)
        assert ours == theirs


@pytest.fixture(scope="module")
def plain(content_bundle: Path, ranked_content_bundle: Path) -> dict[str, Recommender]:
    """The same bundles, opened without their item encoders."""
    return {
        "plain": _prepared(content_bundle, max_new_items=0),
        "ranked": _prepared(ranked_content_bundle, max_new_items=0),
    }
