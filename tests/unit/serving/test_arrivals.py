"""A request takes its slot when all of it is here: bodies that come slowly, in chunks or not, keep nobody from one."""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.types import Message, Scope

from retrank.contract.api import MAX_BODY_BYTES, RecommendRequest
from retrank.serving.guard.drain import Drain
from retrank.serving.guard.gate import Gate
from retrank.serving.guard.settings import GuardSettings, LaneSettings
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.web import problems
from retrank.serving.web.arrivals import Arrivals, Full, again, comes_whole
from retrank.serving.web.bodies import read_model
from retrank.serving.web.guarded import Guarded

KB = 1_000


class World:
    """A route behind a guard with a single slot."""

    def __init__(self, folder: Path, arrivals: Arrivals) -> None:
        only_one = GuardSettings(answers=LaneSettings(concurrency=1, max_queued=4, max_age_s=30.0))
        self.gate = Gate(
            only_one, keyring=None, drain=Drain(folder), clock=lambda: 0.0, rng=random.Random(7), telemetry=Telemetry()
        )
        app = FastAPI()
        problems.install(app)
        self.read: list[int] = []

        @app.post("/v1/recommend")
        async def recommend(request: Request) -> dict[str, int]:
            asked = await read_model(request, RecommendRequest)
            self.read.append(asked.k)
            return {"k": asked.k}

        self.app = Guarded(app, gate=self.gate, arrivals=arrivals)

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        lane = self.gate.check("POST", "/v1/recommend", {}).lane
        assert lane is not None
        return lane.in_flight


class Sender:
    """Sends a request in parts, each when it is told to."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self.parts: asyncio.Queue[Message] = asyncio.Queue()
        self.answered: list[Message] = []
        self.scope: Scope = {
            "type": "http", "method": "POST", "path": "/v1/recommend", "raw_path": b"/v1/recommend",
            "root_path": "", "query_string": b"", "headers": [(b"content-type", b"application/json"), *headers],
        }  # fmt: skip

    def send(self, body: bytes, *, more: bool) -> None:
        self.parts.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def hears(self, message: Message) -> None:
        self.answered.append(message)

    def through(self, world: World) -> "asyncio.Task[None]":
        return asyncio.create_task(world.app(self.scope, self.parts.get, self.hears))

    @property
    def status(self) -> int:
        return int(self.answered[0]["status"])

    @property
    def said(self) -> Any:
        return json.loads(b"".join(message.get("body", b"") for message in self.answered))


CHUNKED = (b"transfer-encoding", b"chunked")
BODY = json.dumps({"k": 7}).encode()


def _long(body: bytes, size: int) -> bytes:
    return body + b" " * (size - len(body))


def _played(play: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(play(), 30.0))


async def _turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("headers", [(b"content-length", b"20000"), CHUNKED], ids=["20 KB", "in chunks"])
def test_a_body_that_is_on_its_way_keeps_no_slot_and_is_answered_when_it_is_there(
    tmp_path: Path, headers: tuple[bytes, bytes]
) -> None:
    arrivals = Arrivals()
    world, slow = World(tmp_path, arrivals), Sender(headers)
    quick = Sender((b"content-length", str(len(BODY)).encode()))

    async def play() -> None:
        slow.send(_long(BODY, 12 * KB), more=True)
        asked = slow.through(world)
        await _turns()
        assert (world.taken, arrivals.held_bytes) == (0, 12 * KB)
        quick.send(BODY, more=False)
        await quick.through(world)  # there is one slot, and it is free
        assert quick.status == 200
        slow.send(b" " * 8 * KB, more=False)
        await asked

    _played(play)
    assert (slow.status, slow.said, world.read) == (200, {"k": 7}, [7, 7])
    assert (world.taken, arrivals.held_bytes) == (0, 0)


@pytest.mark.parametrize("headers", [(b"content-length", b"20000"), CHUNKED], ids=["20 KB", "in chunks"])
def test_a_body_whose_end_does_not_come_is_a_408_and_never_had_a_slot(
    tmp_path: Path, headers: tuple[bytes, bytes]
) -> None:
    arrivals = Arrivals(max_body_s=0.05)
    world, slow = World(tmp_path, arrivals), Sender(headers)

    async def play() -> None:
        slow.send(b"{" + b" " * (9 * KB - 1), more=True)
        asked = slow.through(world)
        while not asked.done():
            assert world.taken == 0
            await asyncio.sleep(0.001)

    _played(play)
    assert (slow.status, slow.said["code"]) == (408, "request_timeout")
    assert slow.said["detail"] == "9,000 bytes of the body came within 0.05 s, and not its end"
    assert (b"connection", b"close") in slow.answered[0]["headers"]
    assert (world.read, arrivals.held_bytes) == ([], 0)


def test_a_body_beyond_the_limit_is_refused_before_its_end(tmp_path: Path) -> None:
    arrivals = Arrivals()
    world, large = World(tmp_path, arrivals), Sender(CHUNKED)

    async def play() -> None:
        large.send(b" " * (MAX_BODY_BYTES + 1), more=True)
        await large.through(world)

    _played(play)
    assert (large.status, large.said["code"]) == (413, "body_too_large")
    assert (world.taken, arrivals.held_bytes) == (0, 0)


def test_nothing_is_made_for_a_sender_that_hung_up(tmp_path: Path) -> None:
    arrivals = Arrivals()
    world, gone = World(tmp_path, arrivals), Sender(CHUNKED)

    async def play() -> None:
        gone.send(BODY, more=True)
        gone.parts.put_nowait({"type": "http.disconnect"})
        await gone.through(world)

    _played(play)
    assert (gone.answered, world.read, world.taken, arrivals.held_bytes) == ([], [], 0, 0)


def test_bodies_for_which_there_is_no_memory_are_told_to_come_back(tmp_path: Path) -> None:
    arrivals = Arrivals(max_held_bytes=120 * KB)
    world, first, second = World(tmp_path, arrivals), Sender(CHUNKED), Sender(CHUNKED)

    async def play() -> None:
        first.send(_long(BODY, 20 * KB), more=True)
        asked = first.through(world)
        await _turns()
        second.send(_long(BODY, 20 * KB), more=False)
        await second.through(world)
        assert (second.status, second.said["code"]) == (429, "overloaded")
        assert b"retry-after" in dict(second.answered[0]["headers"])
        assert arrivals.held_bytes == 20 * KB
        first.send(b" ", more=False)
        await asked

    _played(play)
    assert (first.status, arrivals.held_bytes) == (200, 0)


def test_what_was_taken_is_let_go_when_there_is_no_room_or_the_wait_is_cancelled() -> None:
    arrivals = Arrivals(max_held_bytes=40)

    async def play() -> None:
        sender = Sender()
        sender.send(b"12345", more=True)
        waiting = asyncio.create_task(arrivals.take(sender.parts.get))
        await _turns()
        assert arrivals.held_bytes == 5
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert arrivals.held_bytes == 0
        sender.send(b"12345678901", more=False)
        with pytest.raises(Full):
            await arrivals.take(sender.parts.get)

    _played(play)
    assert arrivals.held_bytes == 0


@pytest.mark.parametrize(
    ("headers", "whole"),
    [
        ({}, True),
        ({b"content-length": b"8192"}, True),
        ({b"content-length": b"8193"}, False),
        ({b"content-length": b"99999999999999999999"}, False),
        ({b"content-length": b"-1"}, False),
        ({b"content-length": b""}, False),
        ({b"transfer-encoding": b"chunked"}, False),
        ({b"content-length": b"5", b"transfer-encoding": b"chunked"}, False),
    ],
)
def test_what_the_front_has_read_in_whole_is_not_waited_for(headers: dict[bytes, bytes], whole: bool) -> None:
    assert comes_whole(headers) is whole


def test_a_body_in_tiny_pieces_takes_no_more_memory_than_in_one(tmp_path: Path) -> None:
    """A message of ASGI per byte would be held for hundreds of bytes each."""
    pieces = [{"type": "http.request", "body": b"x", "more_body": place < 49_999} for place in range(50_000)]
    coming = iter(pieces)

    async def receive() -> Message:
        return next(coming)

    async def play() -> None:
        arrivals = Arrivals()
        held = await arrivals.take(receive)
        assert (held.body, held.more, arrivals.held_bytes) == (b"x" * 50_000, False, 50_000)
        again_once = again(held, receive)
        assert await again_once() == {"type": "http.request", "body": held.body, "more_body": False}
        arrivals.let_go(held)
        assert arrivals.held_bytes == 0

    _played(play)


def test_one_caller_leaves_room_for_the_bodies_of_others() -> None:
    async def of(size: int) -> Message:
        return {"type": "http.request", "body": b"x" * size, "more_body": False}

    async def play() -> None:
        arrivals = Arrivals(max_held_bytes=40 * KB)
        held = [await arrivals.take(lambda: of(5 * KB), "greedy") for _ in range(2)]
        with pytest.raises(Full):
            await arrivals.take(lambda: of(1), "greedy")
        held.append(await arrivals.take(lambda: of(10 * KB), "another"))
        for one in held:
            arrivals.let_go(one)
        assert arrivals.held_bytes == 0
        arrivals.let_go(await arrivals.take(lambda: of(10 * KB), "greedy"))

    _played(play)
