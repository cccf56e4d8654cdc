"""The service as it runs: `retrank serve`, Ray Serve, HAProxy, two replicas, real sockets."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_process import Service, mapped_files, outside_listeners, running

from retrank.client import Client
from retrank.contract.api import MAX_BODY_BYTES, Problem, RecommendRequest, SimilarRequest, SlateResponse
from retrank.serving.recommender import Recommender

pytestmark = pytest.mark.ray
JSON = {"content-type": "application/json"}
HEARD = ("recsys_queue_age_seconds_count", "recsys_shed_total")


@pytest.fixture(scope="module")
def service(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tiny_bundle, replicas=2, log=tmp_path_factory.mktemp("service") / "log.txt") as started:
        yield started


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30.0) as connected:
        yield connected


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def _comparable(slate: SlateResponse) -> dict[str, Any]:
    return slate.model_dump(exclude={"request_id", "recommendation_id", "took_ms"})  # names of this one answer


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user_id": "u1"},
        {"user_id": "u20", "k": 50, "exclude_seen": False},
        {"user_id": "stranger", "session": {"recent": ["i3", "what"]}},
        {"session": {"recent": ["i1", "i2", "i1"]}, "exclude_items": ["i40"], "explain": False},
    ],
)
def test_http_and_in_process_answers_are_identical(
    client: httpx.Client, recommender: Recommender, body: dict[str, Any]
) -> None:
    answer = client.post("/v1/recommend", json=body)
    over_http = SlateResponse.model_validate_json(answer.content)
    in_process = recommender.recommend(RecommendRequest.model_validate_json(json.dumps(body)))
    assert _comparable(over_http) == _comparable(in_process)


def test_similar_and_popular_are_identical_too(client: httpx.Client, recommender: Recommender) -> None:
    similar = SlateResponse.model_validate_json(client.post("/v1/similar", json={"item_id": "i3"}).content)
    assert _comparable(similar) == _comparable(recommender.similar(SimilarRequest(item_id="i3")))
    popular = SlateResponse.model_validate_json(client.get("/v1/popular?k=7").content)
    assert _comparable(popular) == _comparable(recommender.popular(7))


@pytest.mark.parametrize("item_id", ["a/availability", "../i3", "..", "a%2Fb", "ü\n"])
def test_an_id_in_a_path_comes_through_whole(service: Service, item_id: str) -> None:
    with Client(service.url) as client:
        assert client.set_availability(item_id, available=True, deadline_s=30.0)["unknown"] == [item_id]
        assert client.delete_item(item_id, deadline_s=30.0)["unknown"] == [item_id]


def test_the_request_id_is_echoed_once(client: httpx.Client) -> None:
    answer = client.get("/v1/popular", headers={"x-request-id": "mine"})
    assert answer.json()["request_id"] == "mine"
    assert answer.headers.get_list("x-request-id") == ["mine"]


def test_quick_requests_go_round_ray_which_knows_no_id_but_the_header_s(client: httpx.Client) -> None:
    express = client.post("/v1/recommend", json={"request_id": "in body", "k": 1})
    assert express.headers.get_list("x-request-id") == ["in body"]
    too_large = client.post("/v1/recommend", json={"request_id": "in body", "k": 1, "exclude_items": ["i1" * 50] * 100})
    assert too_large.status_code == 200
    assert len(too_large.headers["x-request-id"]) > len("in body")


def test_connections_that_come_at_once_are_all_answered_and_all_counted(service: Service, client: httpx.Client) -> None:
    def heard() -> float:
        shown = client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in shown if line.startswith(HEARD))

    request = b"POST /v1/recommend HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n"
    before = heard()
    with ExitStack() as stack:
        address = ("127.0.0.1", service.port)
        together = [stack.enter_context(socket.create_connection(address, timeout=30.0)) for _ in range(300)]
        for connection in together:
            connection.sendall(request + b'{"k":1}')
        statuses = Counter(connection.recv(12)[9:] for connection in together)
    assert statuses.keys() <= {b"200", b"429"}
    assert statuses.total() == heard() - before == 300


def test_two_replicas_answer_and_neither_has_loaded_torch(service: Service) -> None:
    replicas = [pid for pid, name in service.processes().items() if name.startswith("ray::ServeReplica")]
    assert len(replicas) == 2
    assert not any("libtorch" in mapped_files(pid) for pid in replicas)


def test_nothing_listens_beyond_this_machine(service: Service) -> None:
    assert outside_listeners(list(service.processes())) == []


def test_clients_that_never_finish_a_request_cost_nothing_but_a_connection(
    service: Service, client: httpx.Client
) -> None:
    head = "POST /v1/recommend HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
    with ExitStack() as stack:
        for _ in range(80):  # more than both replicas take at a time
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10.0))
            slow.sendall(head.encode())
        assert client.get("/readyz").status_code == 200
        assert client.post("/v1/recommend", json={"k": 1}).status_code == 200


@pytest.mark.parametrize("request_id", [b"caf\xe9", b"a" * 300, b""], ids=["not ascii", "too long", "empty"])
def test_a_request_id_that_no_log_could_hold_is_replaced_everywhere(service: Service, request_id: bytes) -> None:
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 7\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30.0) as raw:
        raw.sendall(head + b"X-Request-ID: " + request_id + b'\r\nConnection: close\r\n\r\n{"k":1}')
        answer = b"".join(iter(lambda: raw.recv(65_536), b"")).decode()
    assert answer.startswith("HTTP/1.1 200 ")
    head_line = next(line for line in answer.splitlines() if line.lower().startswith("x-request-id: "))
    assert f'"request_id":"{head_line.partition(": ")[2]}"' in answer


@pytest.mark.slow
def test_an_open_service_opens_one_port(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(
        tiny_bundle,
        "serving.host=0.0.0.0",
        "serving.guard.auth.allow_open=true",
        replicas=1,
        log=tmp_path / "log",
    ) as open_service:
        opened = {line.rpartition(":")[2] for line in outside_listeners(list(open_service.processes()))}
        assert opened == {f"{open_service.port:04X}"}


def test_a_chunked_body_without_a_length_is_bounded(service: Service) -> None:
    head = (
        f"POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30.0) as raw:
        raw.sendall(head.encode())
        for _ in range(MAX_BODY_BYTES // 0x10000 + 1):
            raw.sendall(chunk)
        raw.sendall(b"0\r\n\r\n")
        assert raw.recv(64).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/recommend", b"{", 400),
        ("POST", "/v1/recommend", b'{"k": 0}', 422),
        ("POST", "/v1/recommend", b" " * (MAX_BODY_BYTES + 1), 413),
        ("GET", "/v1/recommend", b"", 405),
        ("GET", "/elsewhere", b"", 404),
        ("GET", "/v1/popular?k=201", b"", 422),
    ],
)
def test_errors_are_problem_documents(
    client: httpx.Client, method: str, path: str, content: bytes, status: int
) -> None:
    answer = client.request(method, path, content=content, headers=JSON)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert Problem.model_validate_json(answer.content).status == status


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["u1", "i1", "i2"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from([*RecommendRequest.model_fields, "item_id", "other"])
BODIES = st.dictionaries(FIELDS, VALUES, max_size=5).map(json.dumps).map(str.encode) | st.binary(max_size=60)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=BODIES, path=st.sampled_from(["/v1/recommend", "/v1/similar"]))
def test_no_body_gets_anything_but_a_slate_or_a_problem(client: httpx.Client, body: bytes, path: str) -> None:
    answer = client.post(path, content=body, headers=JSON)
    if answer.status_code == httpx.codes.OK:
        SlateResponse.model_validate_json(answer.content)
    else:
        assert answer.status_code in {400, 404, 422}
        Problem.model_validate_json(answer.content)
