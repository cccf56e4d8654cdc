"""The short way to a handler answers exactly what the framework's own way answers."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from living_service import living_service
from web_client import Client

from retrank.serving.recommender import Recommender
from retrank.serving.web.direct import Direct
from retrank.serving.web.routes import create_app

EVENT = {"event_id": "e1", "type": "click", "item_id": "i3", "user_id": "u1"}


def _without_direct(app: FastAPI) -> FastAPI:
    direct: object = Direct
    app.user_middleware = [one for one in app.user_middleware if one.cls is not direct]
    return app


def _comparable(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    body = answer.json()
    for own in ("recommendation_id", "took_ms"):  # of this one answer
        body.pop(own, None)
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return answer.status_code, headers, body


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("POST", "/v1/recommend", {"json": {"user_id": "u1", "k": 3, "placement": "home"}}),
        ("POST", "/v1/recommend", {"json": {"k": 0}}),
        ("POST", "/v1/recommend", {"content": b"{", "headers": {"content-type": "application/json"}}),
        ("POST", "/v1/recommend", {"content": b"{}"}),
        ("POST", "/v1/recommend", {"json": {}, "headers": {"x-deadline-ms": "soon"}}),
        ("POST", "/v1/recommend", {"json": {"exclude_items": ["i" * 200] * 20_000}}),
        ("POST", "/v1/similar", {"json": {"item_id": "i3", "k": 3}}),
        ("POST", "/v1/similar", {"json": {}}),
        ("POST", "/v1/rank", {"json": {"user_id": "u1", "items": ["i3", "i4", "what"]}}),
        ("POST", "/v1/events", {"json": {"events": [EVENT]}}),
        ("POST", "/v1/events", {"json": {"events": []}}),
        ("GET", "/v1/recommend", {}),
        ("PUT", "/v1/events", {}),
        ("POST", "/v1/recommend/", {"json": {}}),
        ("GET", "/v1/popular", {}),
        ("GET", "/livez", {}),
    ],
)
def test_both_ways_answer_the_same(
    tiny_bundle: Path, tmp_path: Path, method: str, path: str, options: dict[str, Any]
) -> None:
    recommender = Recommender.open(tiny_bundle)
    headers = {"x-request-id": "the same", **options.get("headers", {})}
    answers = []
    for way, framework in (("direct", create_app), ("framework", lambda service: _without_direct(create_app(service)))):
        with living_service(recommender, tmp_path / way, now=lambda: 1_700_000_000.0) as service:
            answers.append(Client(framework(service)).request(method, path, **(options | {"headers": headers})))
    assert _comparable(answers[0]) == _comparable(answers[1])


def test_only_handlers_that_need_nothing_of_the_framework_are_called_directly(tiny_bundle: Path) -> None:
    """One that takes a parameter, or returns something to be converted, would break if it were."""
    app = create_app(Recommender.open(tiny_bundle))

    @app.get("/converted")
    async def converted(request: Request) -> dict[str, str]:
        return {"method": request.method}

    @app.get("/given")
    async def given(request: Request, number: int) -> Response:
        return Response(f"{request.method} {number}")

    client = Client(app)
    assert client.get("/converted").json() == {"method": "GET"}
    assert client.get("/given?number=4").text == "GET 4"
    assert client.get("/given?number=four").status_code == 422


def test_a_bug_in_a_handler_that_is_called_directly_is_a_500_like_any_other(tiny_bundle: Path) -> None:
    app = create_app(Recommender.open(tiny_bundle))

    @app.post("/bug")
    async def bug(request: Request) -> Response:
        raise ValueError(f"secret of {request.method}")

    answer = Client(app).post("/bug")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
