"""Operators change placements and rules; every replica follows, and a dry run says how far a change would reach."""

import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from living_service import GENEROUS, eventually, living_service
from pydantic import SecretStr

from retrank.contract.api import PopularRequest, RecommendRequest, SimilarRequest
from retrank.contract.placement_rules import MAX_RULES, PlacementDefaults, Rule
from retrank.serving.live_rules import House
from retrank.serving.placements import shelf as shelves
from retrank.serving.placements import trial
from retrank.serving.placements.desk import ShelfDesk, Time, Who
from retrank.serving.placements.shelf import Shelf, ShelfRefused
from retrank.serving.recommender import Recommender
from retrank.serving.service import Service
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import StateStore
from retrank.serving.stores.settings import StateSettings
from retrank.serving.swap_settings import BlastSettings

OPERATOR = Who("default", "ada", "0123456789ab")


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@pytest.fixture
def replicas(recommender: Recommender, tmp_path: Path) -> Iterator[list[Service]]:
    with ExitStack() as stack:
        yield [stack.enter_context(living_service(recommender, tmp_path)) for _ in range(2)]


def _store(service: Service) -> StateStore:
    assert service.backing.store is not None
    return service.backing.store


def _desk(
    service: Service, alive: int = 2, tenants: Collection[str] = ("default", "other"), **bounds: Any
) -> ShelfDesk:
    ids = iter(f"question-{time.monotonic_ns()}-{number}" for number in range(1_000))
    settings = BlastSettings(**bounds)
    clocks = Time(time.time, time.monotonic, time.sleep)
    return ShelfDesk(
        _store(service), settings, alive=lambda: alive, new_id=lambda: next(ids), time=clocks, tenants=lambda: tenants
    )


def _pin(**more: Any) -> Rule:
    return Rule.model_validate({"id": "top", "action": "pin", "items": ["i40"], "place": 1, "placement": "home"} | more)


def _first(service: Service, **asked: Any) -> str:
    return service.recommend(RecommendRequest(**asked)).items[0].item_id


def test_every_replica_follows_a_rule_and_its_end(replicas: list[Service]) -> None:
    desk = _desk(replicas[0])
    assert all(_first(one, placement="home") != "i40" for one in replicas)
    desk.put_rule(_pin(), OPERATOR, dry_run=False, force=False)
    eventually(lambda: all(_first(one, placement="home") == "i40" for one in replicas))
    assert all(_first(one, placement="cart") != "i40" for one in replicas)
    desk.drop_rule("top", OPERATOR, dry_run=False, force=False)
    eventually(lambda: all(_first(one, placement="home") != "i40" for one in replicas))


def test_placements_shape_recommendations_similar_and_popular_items(replicas: list[Service]) -> None:
    service = replicas[0]
    cheap = {"range": {"attribute": "price", "lt": 5.0}}
    said = PlacementDefaults.model_validate({"name": "home", "k": 3, "filter": cheap})
    _desk(service).put_placement(said, OPERATOR, dry_run=False, force=True)
    eventually(lambda: len(service.recommend(RecommendRequest(placement="home")).items) == 3)
    assert len(service.similar(SimilarRequest(item_id="i1", placement="home")).items) == 3
    assert len(service.popular(PopularRequest(placement="home")).items) == 3
    for item in service.recommend(RecommendRequest(placement="home", k=8)).items:
        assert item.attributes["price"] < 5.0


def test_another_tenant_has_placements_of_its_own(replicas: list[Service]) -> None:
    service = replicas[0]
    _desk(service).put_rule(_pin(), OPERATOR._replace(tenant="other"), dry_run=False, force=True)
    asked = RecommendRequest(placement="home")
    eventually(lambda: service.recommend(asked, "other").items[0].item_id == "i40")
    assert service.recommend(asked).items[0].item_id != "i40"


def test_a_dry_run_counts_slates_places_and_items_and_changes_nothing(replicas: list[Service]) -> None:
    for number, service in enumerate(replicas):
        for user in range(10):
            service.recommend(RecommendRequest(user_id=f"u{user + 1}", k=4, placement="home" if number else "cart"))
    outcome = _desk(replicas[0]).put_rule(_pin(), OPERATOR, dry_run=True, force=False)
    blast = outcome.blast
    assert (blast.replicas, blast.answered) == (2, 2)
    assert (blast.effect.sampled, blast.effect.slates, blast.effect.shown) == (20, 10, 80)
    assert 10 <= blast.effect.places <= 40
    assert (blast.effect.items_matched, blast.effect.items) == (1, 50)
    assert blast.beyond is not None
    assert "10 of 20 slates" in blast.beyond
    assert outcome.shelf.rules == (_pin(),)
    assert _desk(replicas[0]).shelf("default") == Shelf()


def test_a_busy_tenant_leaves_the_others_their_requests(replicas: list[Service]) -> None:
    for tenant, count in (("default", 20), ("busy", 250)):
        for user in range(count):
            replicas[0].recommend(RecommendRequest(user_id=f"u{user % 20 + 1}", k=4, placement="home"), tenant)
    outcome = _desk(replicas[0]).put_rule(_pin(), OPERATOR, dry_run=True, force=False)
    assert outcome.blast.effect.sampled == 20


def test_a_dry_run_is_not_traffic(replicas: list[Service], recommender: Recommender) -> None:
    replicas[0].recommend(RecommendRequest(user_id="u1", placement="home"))
    before = recommender.tally.slates
    _desk(replicas[0]).put_rule(_pin(), OPERATOR, dry_run=True, force=False)
    assert recommender.tally.slates == before


def test_a_change_that_reaches_too_far_needs_force_and_leaves_its_trace(replicas: list[Service]) -> None:
    service = replicas[0]
    for user in range(20):
        service.recommend(RecommendRequest(user_id=f"u{user + 1}", k=4, placement="home"))
    desk = _desk(service)
    with pytest.raises(ShelfRefused, match=r"1\d of 20 slates answered lately would change, at most 25% may"):
        desk.put_rule(_pin(), OPERATOR, dry_run=False, force=False)
    everything = Rule.model_validate({"id": "none", "action": "block", "filter": {"exists": {"attribute": "price"}}})
    with pytest.raises(ShelfRefused, match="would be blocked"):
        desk.put_rule(everything, OPERATOR, dry_run=False, force=False)
    assert desk.shelf("default") == Shelf()
    made = desk.put_rule(_pin(), OPERATOR, dry_run=False, force=True)
    change = made.shelf.audit[-1]
    assert (change.by, change.key, change.action, change.id) == ("ada", "0123456789ab", "put rule", "top")
    assert change.forced
    assert abs(change.at - time.time()) < 60


def test_a_rule_that_begins_later_is_tried_out_as_if_it_had_begun(replicas: list[Service]) -> None:
    for user in range(20):
        replicas[0].recommend(RecommendRequest(user_id=f"u{user + 1}", k=4, placement="home"))
    later = _pin(starts_at=datetime(2099, 1, 1, tzinfo=UTC))
    with pytest.raises(ShelfRefused, match=r"1\d of 20 slates answered lately would change"):
        _desk(replicas[0]).put_rule(later, OPERATOR, dry_run=False, force=False)


def test_a_rule_may_not_block_much_of_the_catalogue_without_force(replicas: list[Service]) -> None:
    cheap = {"range": {"attribute": "price", "lt": 5.0}}
    rule = Rule.model_validate({"id": "cheap", "action": "block", "filter": cheap})
    with pytest.raises(ShelfRefused, match=r"13 of 50 items would be blocked, at most 10% may be"):
        _desk(replicas[0]).put_rule(rule, OPERATOR, dry_run=False, force=False)


def test_a_replica_that_does_not_say_is_a_reason_to_refuse(replicas: list[Service]) -> None:
    with pytest.raises(ShelfRefused, match=r"2 of 3 replicas said within 0.5 s"):
        _desk(replicas[0], alive=3, wait_s=0.5).put_rule(_pin(), OPERATOR, dry_run=False, force=False)


def test_a_replica_that_cannot_try_everything_in_time_says_what_it_tried(tmp_path: Path) -> None:
    class Slow:
        def pairs(self, tenant: str, proposed: House) -> Iterator[trial.Pair]:
            for _ in range(200):
                time.sleep(0.02)
                yield trial.Pair([], [])

        def about(self, tenant: str, proposed: House, rule_id: str) -> tuple[int, int]:
            return 1, 50

    store = open_store(StateSettings(url=SecretStr(f"sqlite:{tmp_path / 'state.sqlite'}"), timeout_s=10.0))
    asked = trial.Question(id="q", tenant="default", proposed={}, rule=None, until=time.time() + 1.0)
    trial.ask(store, asked, time.time())
    trial.Answerer(store, "slow", Slow(), now=time.time, clock=time.monotonic, sleep=time.sleep).poll()
    assert time.time() < asked.until
    assert trial.answers(store, "q")["slow"].sampled > 1


class Tries:
    """Answers every request again in the same time, on a clock of its own."""

    def __init__(self, each_s: float, matched: int = 1) -> None:
        self.now, self._each_s, self._matched = 1_000.0, each_s, matched

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def pairs(self, tenant: str, proposed: House) -> Iterator[trial.Pair]:
        for _ in range(200):
            self.now += self._each_s
            yield trial.Pair([], [])

    def about(self, tenant: str, proposed: House, rule_id: str) -> tuple[int, int]:
        return self._matched, 50


@pytest.mark.parametrize(
    ("each_s", "max_items", "sampled", "took_s"),
    [
        (0.001, 1.0, 200, (0.7, 0.9)),  # quick: all of them
        (0.005, 1.0, 101, (1.9, 2.1)),  # slower: two seconds
        (0.05, 1.0, 20, (3.8, 3.9)),  # slow: as many as it takes to conclude anything
        (0.5, 1.0, 4, (6.4, 6.6)),  # too slow: what the time allows
        (0.005, 0.1, 0, (0.0, 0.0)),  # a block that is refused anyway: no slate
    ],
)
def test_trying_a_change_out_takes_two_seconds_unless_too_few_requests_were_tried(
    tmp_path: Path, each_s: float, max_items: float, sampled: int, took_s: tuple[float, float]
) -> None:
    tries = Tries(each_s, matched=40)
    store = open_store(StateSettings(url=SecretStr(f"sqlite:{tmp_path / 'state.sqlite'}"), timeout_s=10.0))
    proposed = Shelf(rules=(_pin(),)).as_json()
    asked = trial.Question(
        id="q", tenant="default", proposed=proposed, rule="top", until=tries.now + 10, enough=20, max_items=max_items
    )
    trial.ask(store, asked, tries.now)
    trial.Answerer(store, "one", tries, now=tries, clock=tries, sleep=tries.sleep).poll()
    found = trial.answers(store, "q")["one"]
    assert (found.sampled, found.items_matched, found.items) == (sampled, 40, 50)
    assert took_s[0] <= tries.now - 1_000.0 <= took_s[1]


def test_a_block_of_too_many_items_is_refused_without_trying_slates_and_tried_with_force(
    replicas: list[Service],
) -> None:
    for user in range(20):
        replicas[0].recommend(RecommendRequest(user_id=f"u{user + 1}", k=4))
    rule = Rule.model_validate({"id": "all", "action": "block", "filter": {"exists": {"attribute": "price"}}})
    tried = _desk(replicas[0]).put_rule(rule, OPERATOR, dry_run=True, force=False).blast
    assert (tried.effect.sampled, tried.effect.items_matched) == (0, 50)
    assert tried.beyond is not None
    assert "50 of 50 items would be blocked" in tried.beyond
    forced = _desk(replicas[0]).put_rule(rule, OPERATOR, dry_run=True, force=True).blast
    assert (forced.effect.sampled, forced.effect.slates) == (20, 20)


@pytest.mark.parametrize(
    ("tenant", "changes", "said"),
    [
        ("default", {}, []),
        ("shpo", {}, ["no API key is of tenant 'shpo', so no request will meet this; there is: default, shop"]),
        ("default", {"items": ["nope", "neither"]}, ["rule 'top' is about none of the 50 items of the catalogue"]),
        ("default", {"items": ["i1", "nope"]}, ["rule 'top' names 2 items, 1 of them are in the catalogue"]),
        (
            "default",
            {"ends_at": datetime(2001, 1, 1, tzinfo=UTC)},
            ["rule 'top' ended at 2001-01-01T00:00:00+00:00, it"],
        ),
    ],
    ids=["fine", "unknown tenant", "unknown items", "some unknown", "over"],
)
def test_what_may_not_be_meant_is_remarked_on_in_the_dry_run_and_in_the_answer(
    replicas: list[Service], tenant: str, changes: dict[str, Any], said: list[str]
) -> None:
    desk, who = _desk(replicas[0], tenants=("default", "shop")), OPERATOR._replace(tenant=tenant)
    for dry_run in (True, False):
        found = desk.put_rule(_pin(**changes), who, dry_run=dry_run, force=True).warnings
        assert len(found) == len(said)
        assert all(one.startswith(wanted) for one, wanted in zip(found, said, strict=True))


def test_without_a_replica_a_rule_may_be_put_before_the_service_starts(replicas: list[Service]) -> None:
    made = _desk(replicas[0], alive=0).put_rule(_pin(), OPERATOR, dry_run=False, force=False)
    assert [rule.id for rule in made.shelf.rules] == ["top"]


def test_one_change_is_tried_out_at_a_time(replicas: list[Service]) -> None:
    store, now = _store(replicas[0]), time.time()
    asked = trial.Question(id="q", tenant="nobody", proposed={}, rule=None, until=now + 60)
    trial.ask(store, asked, now)
    with pytest.raises(ShelfRefused, match="tried out right now"):
        _desk(replicas[0]).put_rule(_pin(), OPERATOR, dry_run=True, force=False)
    assert _desk(replicas[0]).put_rule(_pin(), OPERATOR, dry_run=False, force=True).blast.answered == 0
    trial.end(store, "q")
    assert _desk(replicas[0]).put_rule(_pin(), OPERATOR, dry_run=True, force=False).blast.answered == 2


def test_what_another_version_wrote_is_left_alone_and_what_held_goes_on(replicas: list[Service]) -> None:
    service, store = replicas[0], _store(replicas[0])
    _desk(service).put_rule(_pin(), OPERATOR, dry_run=False, force=True)
    eventually(lambda: _first(service, placement="home") == "i40")
    name = shelves.name_of("default")
    assert store.write(name, {"rules": [{"id": "x", "action": "teleport"}]}, store.document(name).version)
    time.sleep(5 * GENEROUS.catalogue_refresh_s)
    assert _first(service, placement="home") == "i40"


def test_a_replica_that_never_could_read_the_rules_says_so_until_it_can(
    replicas: list[Service], caplog: pytest.LogCaptureFixture
) -> None:
    service, name = replicas[0], shelves.name_of("default")
    store = _store(service)
    assert store.write(name, {"rules": [{"id": "x", "action": "teleport"}]}, 0)
    for slate in (
        service.recommend(RecommendRequest(user_id="u1", placement="home")),
        service.similar(SimilarRequest(item_id="i1")),
        service.popular(PopularRequest()),
    ):
        assert slate.degraded.reasons == ["rules_unavailable"]
        assert slate.items
    time.sleep(5 * GENEROUS.catalogue_refresh_s)
    assert [line.message for line in caplog.records if "none is followed until" in line.message][1:] == []
    assert store.write(name, Shelf(rules=(_pin(),)).as_json(), store.document(name).version)
    eventually(lambda: _first(service, placement="home") == "i40")
    assert service.recommend(RecommendRequest(placement="home")).degraded.reasons == []


def test_rules_that_vanish_with_their_store_are_one_warning(
    replicas: list[Service], caplog: pytest.LogCaptureFixture
) -> None:
    service, name = replicas[0], shelves.name_of("default")
    _desk(service).put_rule(_pin(), OPERATOR, dry_run=False, force=True)
    eventually(lambda: _first(service, placement="home") == "i40")
    store = _store(service)
    assert store.write(name, None, store.document(name).version)
    eventually(lambda: _first(service, placement="home") != "i40")
    time.sleep(5 * GENEROUS.catalogue_refresh_s)
    said = [line for line in caplog.records if "'default' are gone from the store" in line.message]
    assert [line.levelname for line in said] == ["WARNING"]
    assert service.recommend(RecommendRequest(placement="home")).degraded.reasons == []


def test_rules_are_bounded_in_number_and_a_rule_keeps_its_turn() -> None:
    shelf = Shelf()
    for number in range(MAX_RULES):
        shelf = shelf.with_rule(_pin(id=f"r{number}"))
    with pytest.raises(ShelfRefused, match="200 rules are kept"):
        shelf.with_rule(_pin(id="more"))
    again = shelf.with_rule(_pin(id="r0", place=3))
    assert [rule.id for rule in again.rules[:2]] == ["r0", "r1"]
    assert again.rules[0].place == 3
    with pytest.raises(ShelfRefused, match="no rule 'x'"):
        shelf.without_rule("x")
