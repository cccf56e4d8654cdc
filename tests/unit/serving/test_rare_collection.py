"""The garbage collector stays away from answers, because they leave nothing for it."""

import asyncio
import gc
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from retrank.contract.api import RecommendRequest
from retrank.serving.guard.drain import Drain
from retrank.serving.guard.gate import Gate
from retrank.serving.guard.settings import GuardSettings, QuotaSettings
from retrank.serving.rare_collection import MORE_OBJECTS, collect_rarely
from retrank.serving.recommender import Recommender
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.web.protection import Protection
from retrank.serving.web.routes import create_app

BODY = b'{"user_id": "u3", "k": 20, "session": {"recent": ["i1", "i2"]}, "diversity": {"mode": "mmr", "strength": 0.2}}'


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@pytest.fixture
def looks() -> Iterator[list[int]]:
    """Generations that the collector looked at; afterwards it is as it was."""
    found: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            found.append(info["generation"])

    before = gc.get_threshold()
    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)
    gc.set_threshold(*before)
    gc.unfreeze()


def _slates(recommender: Recommender, count: int) -> None:
    for _ in range(count):
        recommender.recommend(RecommendRequest.model_validate_json(BODY)).model_dump_json()


def test_slates_call_the_collector_by_default_and_seldom_in_a_replica(
    recommender: Recommender, looks: list[int]
) -> None:
    kept = [RecommendRequest.model_validate_json(BODY) for _ in range(300)]  # as queues and newest requests keep them
    assert looks, "the default would not be worth a change"
    collect_rarely()
    looks.clear()
    kept += [RecommendRequest.model_validate_json(BODY) for _ in range(300)]
    _slates(recommender, 100)
    assert looks == []
    grown: list[list[int]] = [[] for _ in range(MORE_OBJECTS + 1)]
    assert looks == [0], f"what grows without end is still looked at, {len(grown)} objects"


def test_a_slate_leaves_no_garbage(recommender: Recommender) -> None:
    _slates(recommender, 3)
    gc.collect()
    _slates(recommender, 50)
    assert gc.collect() < 50  # less than an object each; threads of other tests may leave a few


async def _answered(app: FastAPI, count: int) -> list[int]:
    statuses = []
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
    for _ in range(count):

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": BODY, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {"type": "http", "method": "POST", "path": "/v1/recommend", "headers": headers, "query_string": b""}
        await app(scope, receive, send)
    return statuses


def test_neither_an_answer_over_http_nor_a_refusal_leaves_garbage(recommender: Recommender) -> None:
    quota = GuardSettings(quota=QuotaSettings(per_second=0.001, burst=23))
    gate = Gate(
        quota,
        keyring=None,
        drain=Drain(None),
        clock=time.monotonic,
        rng=random.Random(3),
        telemetry=Telemetry(),
    )
    app = create_app(recommender, protection=Protection(gate))

    async def measured() -> tuple[list[int], int]:
        await _answered(app, 3)
        gc.collect()
        return await _answered(app, 40), gc.collect()

    statuses, garbage = asyncio.run(measured())
    assert statuses == [200] * 20 + [429] * 20
    assert garbage < len(statuses)
