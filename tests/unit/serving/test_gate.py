"""The gate in front of the routes: who is let in, what the others are told, and what overload does on real sockets."""

import asyncio
import http.client
import random
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from retrank.contract.api import Problem
from retrank.serving.guard.admission import Priority
from retrank.serving.guard.caller import LOCAL, PERMISSIONS, caller_of, charge
from retrank.serving.guard.drain import Drain
from retrank.serving.guard.gate import Gate, need_of
from retrank.serving.guard.keyring import Keyring
from retrank.serving.guard.keys import KeyFile, new_key, write_key_file
from retrank.serving.guard.settings import GuardSettings, LaneSettings, QuotaSettings
from retrank.serving.telemetry.exposition import Exposition
from retrank.serving.telemetry.prometheus import PrometheusTelemetry
from retrank.serving.web import problems
from retrank.serving.web.protection import Protection, guard, meter
from retrank.serving.web.request_id import RequestIds

NARROW = LaneSettings(concurrency=1, max_queued=4, max_age_s=2.0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A small application behind a gate, with everything a test wants to turn."""

    def __init__(self, folder: Path, settings: GuardSettings, *, keys: bool = False) -> None:
        self.clock, self.handled = Clock(), Counter[str]()
        self.drain = Drain(folder)
        self.tokens = {}
        path = folder / "keys.json"
        if keys:
            made = {
                p: new_key("shop", frozenset({p}), pepper=b"", random=secrets.token_bytes, now=datetime.now(UTC))
                for p in PERMISSIONS
            }
            write_key_file(path, KeyFile(keys=tuple(key.record for key in made.values())))
            self.tokens = {permission: key.token for permission, key in made.items()}
        telemetry = PrometheusTelemetry()
        self.gate = Gate(
            settings,
            keyring=Keyring(path, pepper=b"", clock=self.clock) if keys else None,
            drain=self.drain,
            clock=self.clock,
            rng=random.Random(7),
            telemetry=telemetry,
        )
        self.exposition = Exposition(telemetry.registry, None, now=time.time)
        self.app = self._application(Protection(self.gate, telemetry, self.exposition))

    def _application(self, protection: Protection) -> FastAPI:
        app = FastAPI()
        problems.install(app)
        guard(app, protection)
        app.add_middleware(RequestIds, echo=True)
        meter(app, protection)

        @app.post("/v1/recommend")
        @app.post("/v1/recommend:batch")
        async def recommend(request: Request) -> dict[str, Any]:
            await request.body()
            self.handled[request.url.path] += 1
            busy_until = time.perf_counter() + 0.01
            while time.perf_counter() < busy_until:  # the loop stands still, as it does while a model runs
                pass
            return {"tenant": caller_of(request.scope).tenant, "key": caller_of(request.scope).key_id}

        @app.get("/readyz")
        @app.get("/livez")
        @app.post("/v1/events")
        @app.delete("/v1/items/{item_id}")
        @app.post("/admin/v1/drain")
        async def plain() -> Response:
            return Response("ok")

        return app

    def ask(self, method: str, path: str, **headers: str) -> httpx.Response:
        async def request() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://service") as client:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                return await client.request(method, path, headers=named)

        return asyncio.run(request())


@pytest.fixture
def keyed(tmp_path: Path) -> Scene:
    return Scene(tmp_path, GuardSettings(), keys=True)


def _problem(answer: httpx.Response, status: int, code: str) -> Problem:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.status, problem.code) == (status, status, code)
    assert problem.instance == answer.headers["x-request-id"]
    return problem


def test_the_gate_knows_when_nobody_waits_for_an_answer(tmp_path: Path) -> None:
    gate = Scene(tmp_path, GuardSettings(answers=NARROW)).gate

    async def ask() -> list[bool]:
        seen = [gate.calm()]
        answered, queued, event = (gate.check("POST", path, {}) for path in ("/v1/recommend",) * 2 + ("/v1/events",))
        await gate.wait(event)  # waits for a disk, not for the processor
        seen.append(gate.calm())
        await gate.wait(answered)
        seen.append(gate.calm())
        waiting = asyncio.ensure_future(gate.wait(queued))
        await asyncio.sleep(0)
        assert answered.lane is not None
        answered.lane.leave()
        seen.append(gate.calm())
        await waiting
        answered.lane.leave()
        return [*seen, gate.calm()]

    assert asyncio.run(ask()) == [True, True, False, False, True]


@pytest.mark.parametrize(
    ("method", "path", "permission", "lane"),
    [
        ("GET", "/livez", None, None),
        ("GET", "/readyz", None, None),
        ("GET", "/", None, None),
        ("GET", "/page/app.js", None, None),
        ("GET", "/version", "read", None),
        ("GET", "/metrics", "admin", None),
        ("POST", "/admin/v1/bundles:activate", "admin", None),
        ("POST", "/v1/recommend", "read", "answers"),
        ("GET", "/v1/users/u1/recommendations", "read", "answers"),
        ("DELETE", "/v1/users/u1", "admin", "writes"),
        ("POST", "/v1/users/u1:erase", "admin", "writes"),
        ("GET", "/v1/users/u1", "admin", "writes"),
        ("POST", "/v1/events", "ingest", "writes"),
        ("PUT", "/v1/items/i1/availability", "ingest", "writes"),
        ("POST", "/v1/items:bulk", "ingest", "writes"),
        ("GET", "/v1/items/i1", "read", "answers"),
        ("POST", "/v1/recommend:batch", "read", "batches"),
        ("POST", "/v1/rank", "read", "answers"),
        ("POST", "/v1/similar", "read", "answers"),
        ("GET", "/v1/popular", "read", "answers"),
        ("GET", "/v1/catalogue/items", "read", "answers"),
        ("GET", "/v1/catalogue/history", "admin", "answers"),
        ("HEAD", "/v1/catalogue/history", "admin", "answers"),
        ("GET", "/v1/catalogue/users", "admin", "answers"),
        ("POST", "/a/route/that/somebody/adds", "admin", "writes"),
    ],
)
def test_what_each_path_needs(method: str, path: str, permission: str | None, lane: str | None) -> None:
    assert need_of(method, path) == (permission, lane)


def test_without_keys_everybody_is_the_local_caller(tmp_path: Path) -> None:
    answer = Scene(tmp_path, GuardSettings()).ask("POST", "/v1/recommend")
    assert answer.json() == {"tenant": LOCAL.tenant, "key": None}


@pytest.mark.parametrize("sent", [{}, {"authorization": "Basic abc"}, {"authorization": "Bearer retrank_x_y"}])
def test_a_caller_without_a_valid_key_is_challenged(keyed: Scene, sent: dict[str, str]) -> None:
    answer = keyed.ask("POST", "/v1/recommend", **sent)
    _problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="retrank"')
    assert keyed.handled.total() == 0


def test_a_key_opens_what_its_scope_says_and_names_the_tenant(keyed: Scene) -> None:
    allowed = {"read": "/v1/recommend", "ingest": "/v1/events", "admin": "/admin/v1/drain"}
    for permission, token in keyed.tokens.items():
        for needed, path in allowed.items():
            answer = keyed.ask("POST", path, authorization=f"Bearer {token}")
            if needed == permission:
                assert answer.status_code == 200
            else:
                _problem(answer, 403, "forbidden")
                assert f'scope="{needed}"' in answer.headers["www-authenticate"]
    answer = keyed.ask("POST", "/v1/recommend", authorization=f"Bearer {keyed.tokens['read']}")
    assert answer.json() == {"tenant": "shop", "key": keyed.tokens["read"].split("_")[1]}


def test_probes_ask_for_no_key(keyed: Scene) -> None:
    assert [keyed.ask("GET", path).status_code for path in ("/livez", "/readyz")] == [200, 200]


def test_every_administrative_call_is_written_down_without_its_secret(
    keyed: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="retrank.audit")
    for token in keyed.tokens.values():
        keyed.ask("POST", "/admin/v1/drain", authorization=f"Bearer {token}")
    lines = [record.message for record in caplog.records if record.name == "retrank.audit"]
    assert [line.split(",")[0] for line in lines] == [
        "POST /admin/v1/drain ended with 403",
        "POST /admin/v1/drain ended with 403",
        "POST /admin/v1/drain ended with 200",
    ]
    assert f"key {keyed.tokens['admin'].split('_')[1]} of tenant shop" in lines[2]
    assert not any(token.split("_", 2)[2] in caplog.text for token in keyed.tokens.values())


def test_a_path_cannot_write_a_line_of_its_own_into_the_audit_log(
    keyed: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    keyed.ask("POST", "/admin/x%0d%0aPOST%20/admin/v1/drain%20ended%20with%20200,%20key%20none")
    [line] = [record.getMessage() for record in caplog.records if record.name == "retrank.audit"]
    assert len(line.splitlines()) == 1
    assert line.startswith(
        "POST /admin/x%0D%0APOST%20/admin/v1/drain%20ended%20with%20200%2C%20key%20none ended with 401,"
    )


def test_a_quota_says_what_is_left_and_when_to_come_back(tmp_path: Path) -> None:
    scene = Scene(tmp_path, GuardSettings(quota=QuotaSettings(per_second=0.5, burst=2)))
    answers = [scene.ask("POST", "/v1/recommend") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    _problem(answers[2], 429, "quota_exceeded")
    assert int(answers[2].headers["retry-after"]) >= 2
    assert scene.ask("GET", "/livez").status_code == 200
    scene.clock.now += 2.0
    assert scene.ask("POST", "/v1/recommend").status_code == 200


def _charging(scene: Scene) -> Callable[[int], httpx.Response]:
    """Return how to send a batch of so many requests."""

    @scene.app.post("/v1/items:bulk")
    async def batch(request: Request) -> Response:
        charge(request.scope, int(request.headers["x-parts"]))
        scene.handled["parts"] += 1
        return Response("ok")

    return lambda parts: scene.ask("POST", "/v1/items:bulk", x_parts=str(parts))


def test_a_request_that_holds_several_costs_as_many(tmp_path: Path) -> None:
    send = _charging(scene := Scene(tmp_path, GuardSettings(quota=QuotaSettings(per_second=1.0, burst=10))))
    taken = [send(6), send(4)]
    assert [answer.headers["ratelimit-remaining"] for answer in taken] == ["4", "0"]
    assert send(1).status_code == 429
    scene.clock.now += 10.0
    assert send(10).status_code == 200


def test_a_batch_that_is_not_affordable_is_refused_whole_and_told_when_it_is(tmp_path: Path) -> None:
    send = _charging(scene := Scene(tmp_path, GuardSettings(quota=QuotaSettings(per_second=1.0, burst=10))))
    assert send(7).status_code == 200
    refused = send(5)
    _problem(refused, 429, "quota_exceeded")
    assert scene.handled["parts"] == 1
    assert refused.headers.get_list("ratelimit-remaining") == ["2"]  # the request itself had to be read
    scene.clock.now += int(refused.headers["retry-after"])
    assert send(5).status_code == 200


def test_a_batch_beyond_any_quota_is_told_to_be_smaller(tmp_path: Path) -> None:
    send = _charging(Scene(tmp_path, GuardSettings(quota=QuotaSettings(per_second=1.0, burst=10))))
    problem = _problem(send(11), 422, "batch_beyond_quota")
    assert "11 requests in one; the quota allows 10" in problem.detail


def test_without_a_quota_batches_are_free(tmp_path: Path) -> None:
    assert _charging(Scene(tmp_path, GuardSettings()))(256).status_code == 200


def test_refused_requests_count_to_their_route_and_never_by_their_path(keyed: Scene) -> None:
    keyed.ask("DELETE", "/v1/items/somebody-s-item")
    keyed.ask("POST", "/v1/events")
    keyed.ask("POST", "/nowhere")
    keyed.ask("POST", "/nowhere", authorization=f"Bearer {keyed.tokens['admin']}")
    shown = keyed.exposition.text().decode()
    for route, status in (("/v1/items/{item_id}", 401), ("/v1/events", 401), ("other", 401), ("other", 404)):
        assert f'route="{route}",status="{status}"' in shown
    assert "somebody" not in shown


def test_quotas_are_kept_apart_by_key(tmp_path: Path) -> None:
    scene = Scene(tmp_path, GuardSettings(quota=QuotaSettings(per_second=0.5, burst=1)), keys=True)
    for token, path in ((scene.tokens["read"], "/v1/recommend"), (scene.tokens["ingest"], "/v1/events")):
        header = f"Bearer {token}"
        assert [scene.ask("POST", path, authorization=header).status_code for _ in range(2)] == [200, 429]


def test_an_unknown_priority_is_named(tmp_path: Path) -> None:
    scene = Scene(tmp_path, GuardSettings())
    assert "urgent" in _problem(scene.ask("POST", "/v1/recommend", x_priority="urgent"), 400, "invalid_header").detail
    assert scene.ask("POST", "/v1/recommend", x_priority="Prefetch").status_code == 200


def test_a_leaving_service_is_not_ready_and_answers_on(tmp_path: Path) -> None:
    scene, elsewhere = Scene(tmp_path, GuardSettings()), Drain(tmp_path)
    assert scene.ask("GET", "/readyz").status_code == 200
    elsewhere.begin()
    refused = scene.ask("GET", "/readyz")
    _problem(refused, 503, "draining")
    assert int(refused.headers["retry-after"]) >= 1
    assert scene.ask("GET", "/livez").status_code == scene.ask("POST", "/v1/recommend").status_code == 200
    elsewhere.end()
    assert scene.ask("GET", "/readyz").status_code == 200


@contextmanager
def _listening(app: FastAPI) -> Iterator[str]:
    """Serve an application on a socket of this machine, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30.0)


@contextmanager
def _on_pythons_loop(app: Any, listener: socket.socket) -> Iterator[None]:
    """Serve an ASGI application, on the event loop that replicas run on."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", loop="asyncio"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(30.0)


def _status(connection: socket.socket) -> int:
    """Read one whole answer."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


async def _burst(url: str, paths: list[str]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=len(paths))
    async with httpx.AsyncClient(base_url=url, timeout=60.0, limits=limits) as client:
        return await asyncio.gather(*(client.post(path, content=b" " * 20_000) for path in paths))


def test_overload_on_real_sockets_is_answered_in_part_and_refused_in_part(tmp_path: Path) -> None:
    scene = Scene(tmp_path, GuardSettings(answers=NARROW))
    with _listening(scene.app) as url:
        answers = asyncio.run(_burst(url, ["/v1/recommend"] * 60))
        afterwards = [httpx.post(f"{url}/v1/recommend").status_code for _ in range(3)]
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 429}
    assert statuses[200] == scene.handled["/v1/recommend"] - 3
    for refused in (answer for answer in answers if answer.status_code == 429):
        _problem(refused, 429, "overloaded")
        assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert afterwards == [200] * 3
    shown = scene.exposition.text().decode()
    assert "recsys_inflight 0.0" in shown
    assert f'route="/v1/recommend",status="429",variant="none"}} {float(statuses[429])}' in shown


def test_connections_that_come_together_are_all_heard_before_many_answers_are_made(tmp_path: Path) -> None:
    """A loop that takes one connection per turn would make one answer for each before the last one is refused."""
    scene, statuses = Scene(tmp_path, GuardSettings(answers=NARROW)), list[int]()

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        await scene.app(scope, receive, noted)

    request = b"POST /v1/recommend HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener, ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(listener.getsockname())) for _ in range(150)]
        for client in clients:
            client.sendall(request)
        with _on_pythons_loop(noting, listener):
            answered = [b"".join(iter(lambda: client.recv(65_536), b"")) for client in clients]  # noqa: B023
    assert Counter(answer[9:12] for answer in answered).keys() == {b"200", b"429"}
    last_refusal = len(statuses) - 1 - statuses[::-1].index(429)
    assert statuses[:last_refusal].count(200) <= 5


def test_who_arrives_during_an_answer_is_refused_before_the_next_one_is_made(tmp_path: Path) -> None:
    one_waits = LaneSettings(concurrency=1, max_queued=1, max_age_s=60.0)
    scene, statuses, clients = Scene(tmp_path, GuardSettings(answers=one_waits)), list[int](), list[socket.socket]()

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start" and scope["path"] == "/v1/events":
                clients[0].sendall(request)  # both are there before the loop looks again: one starts, one is queued
                clients[1].sendall(request)
            if message["type"] == "http.response.start" and scope["path"] == "/v1/recommend":
                statuses.append(message["status"])
                if len(statuses) == 1:
                    clients[2].sendall(request)  # arrives while the first answer is made
            await send(message)

        await scene.app(scope, receive, noted)

    request, events = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()
        for path in ("/v1/recommend", "/v1/events")
    )
    with socket.create_server(("127.0.0.1", 0)) as listener, _on_pythons_loop(noting, listener), ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(socket.create_connection(listener.getsockname(), timeout=30.0))
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert _status(client) == 200  # so the loop knows the connection
            clients.append(client)
        clients[3].sendall(events)
        assert [_status(client) for client in clients] == [200, 200, 429, 200]
    assert statuses == [200, 429, 200]


def test_for_a_client_that_hung_up_while_it_waited_nothing_is_made(tmp_path: Path) -> None:
    scene = Scene(tmp_path, GuardSettings(answers=NARROW))
    entry = scene.gate.check("POST", "/v1/recommend", {})
    assert entry.lane is not None
    lane = entry.lane

    async def until(holds: Callable[[], bool]) -> None:
        while not holds():
            await asyncio.sleep(0.001)

    async def play() -> None:
        await lane.enter(Priority.INTERACTIVE)  # somebody is being answered
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(scene.app, log_level="error", lifespan="off", loop="asyncio"))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            _, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"POST /v1/recommend HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            await until(lambda: lane.waiting == 1)
            writer.close()
            await until(lambda: not server.server_state.connections)
            lane.leave()
            await until(lambda: (lane.waiting, lane.in_flight) == (0, 0))
            server.should_exit = True
            await serving

    asyncio.run(asyncio.wait_for(play(), 30.0))
    assert scene.handled.total() == 0


def test_batches_leave_the_slots_of_single_slates_alone(tmp_path: Path) -> None:
    none_waits = LaneSettings(concurrency=1, max_queued=0, max_age_s=2.0)
    scene = Scene(tmp_path, GuardSettings(answers=LaneSettings(max_queued=64, max_age_s=10.0), batches=none_waits))
    with _listening(scene.app) as url:
        answers = asyncio.run(_burst(url, ["/v1/recommend:batch", "/v1/recommend"] * 20))
    refused = Counter(answer.request.url.path for answer in answers if answer.status_code == 429)
    assert refused["/v1/recommend:batch"] > 0
    assert refused["/v1/recommend"] == 0
