"""A deadline counts from the moment a request arrives: what it waited for its turn is taken off, and said."""

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.message import Message
from living_service import GENEROUS, living_service
from starlette.types import ASGIApp, Receive, Scope, Send
from virtual_time import run_virtually

from retrank.contract.api import RecommendRequest
from retrank.serving.guard.admission import Priority
from retrank.serving.guard.caller import set_waited, waited_s_of
from retrank.serving.guard.drain import Drain
from retrank.serving.guard.gate import Gate, Refusal
from retrank.serving.guard.settings import GuardSettings, LaneSettings
from retrank.serving.picking import NoWatch, Picked
from retrank.serving.recommender import Recommender
from retrank.serving.rpc.front import Around, Front
from retrank.serving.rpc.methods import Call, Method
from retrank.serving.rpc.v1 import recommender_pb2 as pb
from retrank.serving.service import Backing, Service
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.web.routes import create_app


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


class Queued:
    """ASGI middleware in the place of the guard: every request has waited for as long as it is told."""

    def __init__(self, app: ASGIApp, waited_s: float) -> None:
        self._app, self._waited_s = app, waited_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        set_waited(scope, self._waited_s)
        await self._app(scope, receive, send)


def _asked(service: Service, waited_s: float, body: Mapping[str, Any], header: str | None = None) -> dict[str, Any]:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Queued(create_app(service), waited_s))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            headers = {} if header is None else {"X-Deadline-Ms": header}
            return await client.post("/v1/recommend", json=body, headers=headers)

    answer = asyncio.run(ask())
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


class Notes(NoWatch):
    """Notes how long each answer may take."""

    def __init__(self) -> None:
        self.allowed_ms: list[int | None] = []

    def remember(self, tenant: str, request: RecommendRequest) -> None:
        self.allowed_ms.append(request.deadline_ms)


@pytest.mark.parametrize(
    ("waited_s", "body", "header", "allowed_ms"),
    [
        (0.030, {}, "50", 20),
        (0.030, {"deadline_ms": 50}, None, 20),
        (0.030, {"deadline_ms": 40}, "900", 10),  # the body wins
        (0.0, {"deadline_ms": 50}, None, 50),
        (0.080, {}, "50", 1),  # nothing is left: what need not be is left out
        (0.030, {}, None, None),
    ],
)
def test_what_a_single_request_waited_is_taken_off_its_deadline(
    recommender: Recommender, waited_s: float, body: dict[str, Any], header: str | None, allowed_ms: int | None
) -> None:
    notes = Notes()
    _asked(Service(lambda _: Picked(recommender), Backing.none(), GENEROUS, watch=notes), waited_s, body, header)
    assert notes.allowed_ms == [allowed_ms]


def test_an_answer_for_which_too_little_is_left_after_the_queue_says_what_it_lacks(
    recommender: Recommender, tmp_path: Path
) -> None:
    ticks = iter(float(tick) for tick in range(10_000))  # every look at the clock costs a second
    with living_service(recommender, tmp_path) as opened:
        service = Service(lambda _: Picked(recommender), opened.backing, GENEROUS, clock=lambda: next(ticks))
        body = {"user_id": "u1", "deadline_ms": 60_000}
        at_once, queued = (_asked(service, waited_s, body)["degraded"] for waited_s in (0.0, 59.5))
        service.close()
    assert "deadline" not in at_once["reasons"]
    assert queued["reasons"][:2] == ["deadline", "profile_unavailable"]
    assert queued["stages_skipped"][0] == "profile"


@pytest.mark.parametrize(
    ("remaining_s", "said", "allowed_ms"),
    [(0.9, 50, 20), (0.010, 50, 10), (None, 50, 20), (None, 10, 1), (0.9, None, 900), (None, None, None)],
)
def test_over_grpc_waiting_is_taken_off_the_deadline_in_the_message(
    remaining_s: float | None, said: int | None, allowed_ms: int | None
) -> None:
    call = Call("r", remaining_s, pb.RecommendRequest(deadline_ms=said))  # gRPC took it off its own
    set_waited(call.scope, 0.030)
    assert call.named(RecommendRequest).deadline_ms == allowed_ms


class Context:
    """As much of gRPC's context as a call needs."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def time_remaining(self) -> float | None:
        return None

    async def send_initial_metadata(self, metadata: object) -> None:
        del metadata

    def set_trailing_metadata(self, metadata: object) -> None:
        del metadata


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    narrow = GuardSettings(answers=LaneSettings(concurrency=1, max_queued=4, max_age_s=30.0))
    return Gate(
        narrow,
        keyring=None,
        drain=Drain(tmp_path),
        clock=lambda: 0.0,
        rng=random.Random(7),
        telemetry=Telemetry(),
    )


@pytest.mark.parametrize(
    ("header", "gone_s", "waits_s"),
    [
        ({b"x-deadline-ms": b"200"}, 0.0, 0.1),
        ({b"x-deadline-ms": b"200"}, 0.15, 0.025),  # its body took that long to come
        ({b"x-deadline-ms": b"200"}, 0.5, 0.0),
        ({b"x-deadline-ms": b"60000"}, 0.0, 30.0),
        ({}, 0.0, 30.0),
        ({b"x-deadline-ms": b"soon"}, 0.0, 30.0),  # the route refuses it
    ],
)
def test_the_gate_lets_nobody_wait_for_more_than_half_of_the_deadline(
    gate: Gate, header: dict[bytes, bytes], gone_s: float, waits_s: float
) -> None:
    async def play() -> float:
        loop = asyncio.get_running_loop()
        entry = gate.check("POST", "/v1/recommend", header)
        await gate.wait(gate.check("POST", "/v1/recommend", {}))  # somebody is being answered
        began = loop.time()
        with pytest.raises(Refusal) as refused:
            await gate.wait(entry, gone_s)
        assert (refused.value.status, refused.value.code) == (429, "overloaded")
        return loop.time() - began

    assert run_virtually(play()) == pytest.approx(waits_s)


def test_a_grpc_call_waits_for_no_more_than_half_of_its_deadline(gate: Gate) -> None:
    async def answer(call: Call) -> Message:
        raise AssertionError(f"{call} was answered")

    class Hurried(Context):
        def time_remaining(self) -> float:
            return 0.2

        async def abort(self, code: object, details: str, trailing_metadata: object) -> None:
            del trailing_metadata
            raise LookupError(f"{code} {details}")

    async def play() -> float:
        loop = asyncio.get_running_loop()
        await gate.wait(gate.check("POST", "/v1/recommend", {}))
        began = loop.time()
        front = Front("/Recommend", Method(("POST", "/v1/recommend"), pb.RecommendRequest, answer), Around(gate))
        with pytest.raises(LookupError, match="RESOURCE_EXHAUSTED"):
            await front(pb.RecommendRequest().SerializeToString(), Hurried())
        return loop.time() - began

    assert run_virtually(play()) == pytest.approx(0.1)


def test_a_grpc_call_knows_how_long_it_waited_for_its_turn(gate: Gate) -> None:
    waited: list[float] = []

    async def answer(call: Call) -> Message:
        waited.append(waited_s_of(call.scope))
        return pb.SlateResponse()

    async def play() -> None:
        lane = gate.check("POST", "/v1/recommend", {}).lane
        assert lane is not None
        await lane.enter(Priority.INTERACTIVE)  # somebody is being answered
        front = Front("/Recommend", Method(("POST", "/v1/recommend"), pb.RecommendRequest, answer), Around(gate))
        asked = asyncio.create_task(front(pb.RecommendRequest().SerializeToString(), Context()))
        while not lane.waiting:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.005)
        lane.leave()
        await asked

    asyncio.run(asyncio.wait_for(play(), 30.0))
    assert waited[0] >= 0.005
