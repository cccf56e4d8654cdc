"""What protection and telemetry cost per request: CPU time of the same route with and without them, no network.

    python scripts/bench_guard.py [requests]

Counts go to memory-mapped files, as they do behind HAProxy. The variants take turns, and the median round counts.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request, Response

from retrank.contract.api import BundleInfo, SlateItem, SlateResponse
from retrank.serving.guard.drain import FOLDER_VARIABLE
from retrank.serving.guard.settings import GuardSettings
from retrank.serving.telemetry.settings import TelemetrySettings
from retrank.serving.web.protection import OPEN, Protection, guard, meter, open_protection

ROUNDS = 15
STEPS = ("hydrate", "retrieve", "filter", "score", "rerank", "explain", "record", "total")
SLATE = SlateResponse(
    request_id="r",
    items=[SlateItem(item_id=f"i{rank}", rank=rank, score=1.0, sources=["sequence"]) for rank in range(1, 21)],
    bundle=BundleInfo(id="b", created_at=datetime(2026, 1, 1, tzinfo=UTC), model="m"),
    took_ms=dict.fromkeys(STEPS, 0.4),
)
SCOPE = {"type": "http", "method": "POST", "path": "/v1/recommend", "raw_path": b"/v1/recommend", "query_string": b""}


def application(protection: Protection) -> FastAPI:
    app = FastAPI()
    guard(app, protection)
    meter(app, protection)

    @app.post("/v1/recommend")
    async def recommend(request: Request) -> Response:
        protection.telemetry.observe_answer(request.scope, SLATE)
        protection.telemetry.pipeline({"sequence": 200, "covisit": 200, "popular": 20}, {"seen": 7})
        return Response(b"{}")

    return app


async def cpu_seconds(app: Callable[..., Awaitable[None]], requests: int) -> float:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        del message

    started = time.process_time()
    for _ in range(requests):
        await app({**SCOPE, "headers": [(b"host", b"a"), (b"content-type", b"application/json")]}, receive, send)
        for _ in range(3):  # turns of the loop, after which the next request need not queue
            await asyncio.sleep(0)
    return time.process_time() - started


def main(requests: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        everything = open_protection(GuardSettings(), TelemetrySettings(), os.environ | {FOLDER_VARIABLE: folder})
        apps = {
            "neither": application(OPEN),
            "counted": application(everything._replace(gate=None)),
            "counted and guarded": application(everything),
        }
        spent: dict[str, list[float]] = {name: [] for name in apps}
        with asyncio.Runner() as runner:
            for _ in range(ROUNDS):
                for name, app in apps.items():
                    spent[name].append(runner.run(cpu_seconds(app, requests)) / requests * 1e6)
    bare = statistics.median(spent["neither"])
    for name, rounds in spent.items():
        middle = statistics.median(rounds)
        print(f"{name:<20} {middle:6.1f} us a request, {middle - bare:+6.1f}; fastest round {min(rounds):6.1f} us")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
