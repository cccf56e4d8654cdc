"""Requests that are kept to be answered again go with their age, their number and their person."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from living_service import GENEROUS, eventually, living_service

from retrank.contract.api import RecommendRequest, Session
from retrank.contract.events import person_key
from retrank.serving.bundles.front import Front
from retrank.serving.bundles.holder import Holder, Serving
from retrank.serving.newest_requests import MAX_AGE_S, Asked, NewestRequests
from retrank.serving.recommender import Recommender
from retrank.serving.service import Service
from retrank.serving.stores.entries import tag
from retrank.serving.telemetry.facade import Telemetry


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _asked(user: str | None, session: str | None = None, tenant: str = "default") -> Asked:
    return Asked(tenant, RecommendRequest(user_id=user, session=Session(id=session)))


def _users(kept: NewestRequests[Asked]) -> list[str | None]:
    return [one.request.user_id for one in kept.newest()]


def test_the_newest_are_kept_in_order_and_no_longer_than_a_while() -> None:
    clock = Clock()
    kept = NewestRequests[Asked](3, clock)
    for number in range(5):
        clock.now_s = number * 100.0
        kept.note(_asked(f"u{number}"))
    assert _users(kept) == ["u2", "u3", "u4"]
    clock.now_s = MAX_AGE_S + 250.0
    assert _users(kept) == ["u3", "u4"]
    clock.now_s += MAX_AGE_S
    assert _users(kept) == []


def test_old_requests_leave_memory_although_nobody_asks_for_them() -> None:
    clock = Clock()
    kept = NewestRequests[Asked](3, clock)
    kept.note(_asked("u1"))
    clock.now_s = MAX_AGE_S + 1.0
    kept.forget()
    clock.now_s = 0.0
    assert _users(kept) == []


@pytest.mark.parametrize(
    ("tags", "left"),
    [
        ((), ["a", "b", None, "a"]),
        ((tag("person", "default", person_key("a", None, None)),), ["b", None, "a"]),
        ((tag("session", "default", "s"),), ["a", "b", "a"]),
        ((tag("session", "shop", "s"),), ["a", "b", None, "a"]),
        ((tag("person", "shop", person_key("a", None, None)),), ["a", "b", None]),
        (None, []),
    ],
    ids=["nobody", "a person", "a session", "a session elsewhere", "a person elsewhere", "everybody"],
)
def test_a_person_is_forgotten_with_their_sessions_in_one_tenant(
    tags: tuple[str, ...] | None, left: list[str | None]
) -> None:
    kept = NewestRequests[Asked](10, Clock())
    for one in (_asked("a"), _asked("b"), _asked(None, "s"), _asked("a", tenant="shop")):
        kept.note(one)
    kept.forget(tags)
    assert _users(kept) == left


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def _remembered(service: Service, front: Front) -> set[str | None]:
    """Return the users of whom a replica still holds requests, wherever that is."""
    assert service._live.drift is not None
    placements = service._placements
    rehearsed = placements._rehearsal._kept["default"].newest()  # type: ignore[attr-defined]
    told = [*rehearsed, *service._live.drift._since.newest.newest()]
    return {request.user_id for request in [*front.recent_requests(), *(one.request for one in told)]}


@pytest.mark.parametrize(
    "leave",
    [lambda service: service.forget_user("u7"), lambda service: asyncio.run(service.erase_user("u7"))],
    ids=["forget_user", "erase_user"],
)
def test_who_is_forgotten_anywhere_leaves_the_requests_of_every_replica(
    recommender: Recommender, tmp_path: Path, leave: Callable[[Service], object]
) -> None:
    fronts = [Front(Holder(Serving(recommender)), clock=lambda: 0.0) for _ in range(2)]
    with (
        living_service(recommender, tmp_path, telemetry=Telemetry(), settings=GENEROUS, watch=fronts[0]) as here,
        living_service(recommender, tmp_path, telemetry=Telemetry(), settings=GENEROUS, watch=fronts[1]) as there,
    ):
        for service in (here, there):
            for user in ("u7", "u8"):
                service.recommend(RecommendRequest(user_id=user))
        assert _remembered(here, fronts[0]) == _remembered(there, fronts[1]) == {"u7", "u8"}
        leave(here)
        assert _remembered(here, fronts[0]) == {"u8"}
        eventually(lambda: _remembered(there, fronts[1]) == {"u8"})
