"""Several requests in one: each is answered for itself, all share what time there is."""

from pathlib import Path

import pytest
from living_service import GENEROUS

from retrank.contract.api import RecommendRequest
from retrank.contract.ranking import BatchRequest
from retrank.serving.picking import NoWatch, Picked
from retrank.serving.recommender import Recommender
from retrank.serving.service import Backing, Service


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def test_a_bad_request_in_a_batch_does_not_stop_the_others(recommender: Recommender) -> None:
    service = Service.over(recommender)
    batch = BatchRequest(requests=[{"user_id": "u1", "k": 3}, {"k": 0}, {"filter": {"eq": {"attribute": "a"}}}, {}])
    answers = service.batch(batch).answers
    assert [answer.status for answer in answers] == [200, 422, 422, 200]
    assert answers[0].slate is not None
    assert len(answers[0].slate.items) == 3
    assert [problem.errors[0].pointer for answer in answers if (problem := answer.problem)] == [
        "/k",
        "/filter/eq/value",
    ]


class Stumbles(NoWatch):
    """Fails at requests of one name, as a bug does."""

    def remember(self, tenant: str, request: RecommendRequest) -> None:
        if request.request_id == "trips":
            raise RuntimeError("secret words of a bug")


def test_a_request_that_the_service_fails_at_is_a_500_in_its_place_and_a_line_in_the_log(
    recommender: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(lambda _: Picked(recommender), Backing.none(), GENEROUS, watch=Stumbles())
    batch = BatchRequest(requests=[{"k": 2}, {"request_id": "trips"}, {"k": 3}])
    before, failed, after = service.batch(batch).answers
    assert [one.slate and len(one.slate.items) for one in (before, failed, after)] == [2, None, 3]
    assert failed.problem is not None
    assert (failed.status, failed.problem.status, failed.problem.code) == (500, 500, "internal")
    assert (failed.problem.instance, failed.problem.type) == ("trips", "/problems/internal")
    assert "secret" not in failed.problem.model_dump_json()
    assert "requests trips of a batch failed" in caplog.text
    assert "secret words of a bug" in caplog.text


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_in_which_everything_fails_fails_whatever_its_requests_are_called(
    recommender: Recommender, count: int
) -> None:
    service = Service(lambda _: Picked(recommender), Backing.none(), GENEROUS, watch=Stumbles())
    with pytest.raises(RuntimeError, match="a bug"):
        service.batch(BatchRequest(requests=[{"request_id": "trips"}] * count))


def test_requests_that_share_a_name_fail_each_for_itself(
    recommender: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(lambda _: Picked(recommender), Backing.none(), GENEROUS, watch=Stumbles())
    answers = service.batch(BatchRequest(requests=[{"request_id": "trips"}, {}, {"request_id": "trips"}])).answers
    assert [one.status for one in answers] == [500, 200, 500]
    assert "requests trips, trips of a batch failed" in caplog.text


class Clock:
    """Moves only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowWatch(NoWatch):
    """Every answer takes 40 ms; notes how long each request may take."""

    def __init__(self, clock: Clock) -> None:
        self.allowed_ms: list[int | None] = []
        self._clock = clock

    def remember(self, tenant: str, request: RecommendRequest) -> None:
        self.allowed_ms.append(request.deadline_ms)
        self._clock.now += 0.040


def test_parts_of_a_batch_share_one_deadline_and_those_behind_it_are_told_so(recommender: Recommender) -> None:
    clock = Clock()
    watch = SlowWatch(clock)
    service = Service(lambda _: Picked(recommender), Backing.none(), GENEROUS, clock=clock, watch=watch)
    parts = BatchRequest(requests=[{}, {"deadline_ms": 30}, {"deadline_ms": 30}, {"request_id": "late"}, {"k": 0}])
    answers = service.batch(parts, deadline_ms=100).answers
    assert [one.status for one in answers] == [200, 200, 200, 504, 422]
    assert clock.now == pytest.approx(0.120)  # one answer more than fits, at most
    late = answers[3].problem
    assert late is not None
    assert (late.code, late.instance) == ("deadline", "late")
    assert [one.status for one in service.batch(parts).answers] == [200, 200, 200, 200, 422]
    assert watch.allowed_ms == [100, 30, pytest.approx(20, abs=1), None, 30, 30, None]


def test_a_batch_whose_time_is_over_when_its_turn_comes_does_nothing(recommender: Recommender) -> None:
    watch = SlowWatch(Clock())
    service = Service(lambda _: Picked(recommender), Backing.none(), GENEROUS, clock=Clock(), watch=watch)
    answers = service.batch(BatchRequest(requests=[{}, {}]), deadline_ms=0).answers
    assert [one.status for one in answers] == [504, 504]
    assert watch.allowed_ms == []


def test_parts_of_a_batch_by_nobody_fall_into_an_experiment_each_by_itself(recommender: Recommender) -> None:
    keys: list[str | None] = []

    def pick(key: str | None) -> Picked:
        keys.append(key)
        return Picked(recommender)

    service = Service(pick, Backing.none())
    slates = [one.slate for one in service.batch(BatchRequest(requests=[{}, {}, {"request_id": "mine"}])).answers]
    assert len(set(keys)) == 3
    assert [slate.request_id for slate in slates if slate] == keys
    assert keys[2] == "mine"
