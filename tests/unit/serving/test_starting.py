"""What Ray's own proxy says while it knows no application: that the service starts, not that nothing is there."""

import asyncio
from typing import Any

import httpx
import pytest
from ray_serving import apply_middlewares, convert_object_to_asgi_messages, express
from starlette.responses import JSONResponse, Response

from retrank.contract.api import Problem
from retrank.serving.ingress import prepare


async def _unrouted(scope: Any, receive: Any, send: Any) -> None:
    """Answer as Ray does for a path it has no route for."""
    for message in convert_object_to_asgi_messages(f"Path '{scope['path']}' not found.", status_code=404):
        await send(message)


def _asked(ray: Any, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        proxy: Any = apply_middlewares(ray, [*express.middlewares()])  # type: ignore[list-item]  # Ray's annotation
        async with httpx.AsyncClient(transport=httpx.ASGITransport(proxy), base_url="http://proxy") as client:
            return await client.get("/readyz", headers=headers)

    return asyncio.run(ask())


@pytest.fixture(autouse=True)
def in_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(express, "_offered", [])  # no replica lives in this process


@pytest.mark.parametrize("request_id", ["mine", None])
def test_a_path_that_ray_has_no_route_for_is_a_503_that_says_when_to_come_back(request_id: str | None) -> None:
    answer = _asked(_unrouted, **({} if request_id is None else {"x-request-id": request_id}))
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.status, problem.code) == (503, 503, "starting")
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    assert problem.instance == answer.headers["x-request-id"]
    assert request_id in (None, problem.instance)


@pytest.mark.parametrize(
    "said",
    [
        Response("ok"),
        JSONResponse({"code": "not_found"}, 404, media_type="application/problem+json"),  # the application's own
        Response("busy", 503),
    ],
)
def test_what_an_application_says_passes(said: Response) -> None:
    answer = _asked(said)
    assert (answer.status_code, answer.content) == (said.status_code, said.body)


def test_ray_is_told_of_it_without_haproxy_too() -> None:
    environment = {"RAY_SERVE_ENABLE_HA_PROXY": "0"}
    assert prepare(environment) is None
    assert environment["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] == "retrank.serving.deployments.express:middlewares"
