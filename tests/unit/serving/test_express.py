"""Requests that go round Ray's own handling: which ones, and that Ray's count of them stays right."""

import asyncio
import socket
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from ray_serving import (
    HTTPOptions,
    ReplicaMetricsManager,
    apply_middlewares,
    express,
    listener,
    start_asgi_http_server,
)

from retrank.serving.ingress import free_port
from retrank.serving.web.request_id import RequestIds

JSON = [(b"content-type", b"application/json")]


@pytest.mark.parametrize(
    ("changed", "taken"),
    [
        ({}, True),
        ({"path": "/v1/events"}, True),
        ({"path": "/v1/recommend:batch"}, False),
        ({"path": "/v1/recommend/"}, False),
        ({"path": "/readyz", "method": "GET"}, False),
        ({"method": "GET"}, False),
        ({"type": "websocket"}, False),
        ({"headers": JSON}, False),
        ({"headers": [*JSON, (b"transfer-encoding", b"chunked")]}, False),
        ({"headers": [(b"content-length", b"8192")]}, True),
        ({"headers": [(b"content-length", b"8193")]}, False),
        ({"headers": [(b"content-length", b"99999999999999999999")]}, False),
        ({"headers": [(b"content-length", b"-1")]}, False),
        ({"headers": [(b"content-length", b"")]}, False),
    ],
)
def test_small_whole_requests_of_the_quick_routes_are_taken(changed: dict[str, Any], taken: bool) -> None:
    scope = {"type": "http", "method": "POST", "path": "/v1/recommend", "headers": [(b"content-length", b"7")]}
    assert express.is_express(scope | changed) is taken


class Replica:
    """Where Ray's bound method lives: a stand-in for a replica, with as much of it as `Express` looks at."""

    class Metrics:
        def __init__(self) -> None:
            self.under_way, self.most = 0, 0

        def _change_num_ongoing_requests(self, request_metadata: Any, delta: int) -> None:
            assert request_metadata.is_direct_ingress
            self.under_way += delta
            self.most = max(self.most, self.under_way)

    def __init__(self) -> None:
        self._metrics_manager = self.Metrics()

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        await Response("through Ray")(scope, receive, send)


def _application() -> FastAPI:
    app = FastAPI()
    app.add_middleware(RequestIds, echo=False)

    @app.post("/v1/recommend")
    async def recommend(request: Request) -> Response:
        if await request.body() == b"bug":
            raise ValueError
        return Response("straight")

    return app


def _served_by(replica: Replica) -> Any:
    """Return what listens in a replica: Ray's way behind its own middleware, and ours in front of that."""
    return apply_middlewares(replica.asgi, [*express.middlewares()])  # type: ignore[list-item]  # Ray's annotation


def _asked(server: Any, path: str, body: bytes) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(server, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            return await client.post(path, content=body, headers={"x-request-id": "mine"})

    return asyncio.run(ask())


def test_express_requests_reach_the_application_and_ray_counts_them() -> None:
    replica = Replica()
    express.offer(_application())
    server = _served_by(replica)
    answers = [_asked(server, path, body) for path, body in (("/v1/recommend", b"{}"), ("/v1/popular", b"{}"))]
    assert [answer.text for answer in answers] == ["straight", "through Ray"]
    assert [answer.headers.get_list("x-request-id") for answer in answers] == [["mine"], ["mine"]]
    assert (replica._metrics_manager.most, replica._metrics_manager.under_way) == (1, 0)
    assert _asked(server, "/v1/recommend", b"bug").status_code == 500
    assert replica._metrics_manager.under_way == 0


def test_where_ray_keeps_its_count_elsewhere_everything_takes_its_way(caplog: pytest.LogCaptureFixture) -> None:
    replica = Replica()
    del replica._metrics_manager
    express.offer(_application())
    server = _served_by(replica)
    assert _asked(server, "/v1/recommend", b"{}").text == "through Ray"
    assert "longer way" in caplog.text


def test_the_installed_ray_counts_where_express_looks() -> None:
    assert callable(ReplicaMetricsManager._change_num_ongoing_requests)


def test_a_connection_to_a_server_that_ray_started_sends_at_once() -> None:
    """Ray's own server leaves it to asyncio, which does not recognise the socket."""

    async def delays() -> list[int]:
        seen = []

        async def note(scope: Any, receive: Any, send: Any) -> None:
            connection = receive.__self__.transport.get_extra_info("socket")
            seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            await Response("noted")(scope, receive, send)

        options = HTTPOptions(host="127.0.0.1", port=free_port())
        loop = asyncio.get_running_loop()
        task, server = await start_asgi_http_server(note, options, event_loop=loop)
        await listener.no_delay(server)
        async with httpx.AsyncClient() as client:
            await client.get(f"http://127.0.0.1:{options.port}/")
        server.should_exit = True
        await task
        return seen

    assert asyncio.run(delays()) == [1]
