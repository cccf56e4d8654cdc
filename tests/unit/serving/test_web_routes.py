"""The HTTP surface, driven without a server: every error is a problem document, every route does what it says."""

import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from web_client import Client

from retrank.contract.api import MAX_BODY_BYTES, Problem, SlateResponse
from retrank.serving.faults import pointer
from retrank.serving.recommender import Recommender
from retrank.serving.web.routes import create_app


async def _in_chunks(body: bytes) -> AsyncIterator[bytes]:
    yield body[:1000]
    yield body[1000:]


@pytest.fixture(scope="module")
def app(tiny_bundle: Path) -> FastAPI:
    return create_app(Recommender.open(tiny_bundle))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Client:
    return Client(app)


def _problem(answer: httpx.Response) -> Problem:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(answer.content)
    assert problem.status == answer.status_code
    assert problem.instance == answer.headers["x-request-id"]
    return problem


def test_a_slate_over_http(client: Client) -> None:
    answer = client.post("/v1/recommend", json={"user_id": "u1", "k": 3})
    assert answer.status_code == 200
    slate = SlateResponse.model_validate_json(answer.content)
    assert len(slate.items) == 3
    assert slate.request_id == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ('{"k": 0}', ["/k"]),
        ('{"k": 201}', ["/k"]),
        ('{"k": "5"}', ["/k"]),
        ('{"k": 2.5}', ["/k"]),
        ('{"k": NaN}', ["/k"]),
        ('{"k": 1e400}', ["/k"]),
        ('{"k": true}', ["/k"]),
        ('{"k": 99999999999999999999999999}', ["/k"]),
        ('{"user_id": 17850}', ["/user_id"]),
        ('{"user_id": ""}', ["/user_id"]),
        ('{"session": {"recent": ["a", 1, ""]}}', ["/session/recent/1", "/session/recent/2"]),
        ('{"a/b~c": 1}', ["/a~1b~0c"]),
        ("[]", [""]),
        ("null", [""]),
    ],
)
def test_a_field_that_does_not_fit_is_named_by_a_json_pointer(client: Client, body: str, pointers: list[str]) -> None:
    answer = client.post("/v1/recommend", content=body, headers={"content-type": "application/json"})
    problem = _problem(answer)
    assert (problem.status, problem.code) == (422, "invalid_field")
    assert [field.pointer for field in problem.errors] == pointers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"k": 5',
        b"k=5",
        b"\xff\xfe",
        b'{"user_id": "\\ud800"}',
        b"[" * 100_000,
        b'{"k":' + b"9" * 9_000 + b"}",
    ],
    ids=["nothing", "brace", "cut off", "form", "not utf-8", "lone surrogate", "deep", "huge number"],
)
def test_a_body_that_is_not_json_is_a_400(client: Client, body: bytes) -> None:
    answer = client.post("/v1/recommend", content=body, headers={"content-type": "application/json"})
    assert _problem(answer).code == "malformed_json"


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_beyond_the_limit_is_a_413(client: Client, chunked: bool) -> None:
    large = b" " * (MAX_BODY_BYTES + 1)
    content: Any = _in_chunks(large) if chunked else large
    answer = client.post("/v1/recommend", content=content, headers={"content-type": "application/json"})
    assert (_problem(answer).status, _problem(answer).code) == (413, "body_too_large")


def test_the_largest_allowed_body_is_read(client: Client) -> None:
    body = b'{"k": 1}'.ljust(MAX_BODY_BYTES)
    answer = client.post("/v1/recommend", content=body, headers={"content-type": "application/json; charset=utf-8"})
    assert answer.status_code == 200


@pytest.mark.parametrize("declared", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_not_declared_as_json_is_a_415(client: Client, declared: str) -> None:
    answer = client.post("/v1/recommend", content=b"{}", headers={"content-type": declared})
    assert _problem(answer).code == "unsupported_media_type"


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip"])
def test_a_compressed_body_is_a_415_that_says_so(client: Client, coding: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": coding}
    answer = client.post("/v1/recommend", content=gzip.compress(b"{}"), headers=headers)
    assert _problem(answer).code == "unsupported_media_type"
    assert coding in _problem(answer).detail
    assert answer.headers["accept-encoding"] == "identity"


def test_a_body_that_is_said_to_be_as_it_is_is_read(client: Client) -> None:
    headers = {"content-type": "application/json", "content-encoding": "Identity"}
    assert client.post("/v1/recommend", content=b"{}", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/version", "/openapi.json", "/", "/page/index.html", "/nowhere"]
)
def test_head_is_get_without_the_body(client: Client, path: str) -> None:
    whole, head = client.get(path), client.request("HEAD", path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == whole.headers[name]


def test_unknown_routes_and_wrong_methods_are_problems_too(client: Client) -> None:
    assert _problem(client.get("/v2/anything")).code == "not_found"
    refused = client.get("/v1/recommend")
    assert _problem(refused).code == "method_not_allowed"
    assert refused.headers["allow"] == "POST"


def test_a_wrong_method_is_told_all_that_the_path_takes(client: Client) -> None:
    refused = client.get("/v1/items/i1")
    assert refused.headers["allow"] == "DELETE, PATCH, PUT"
    assert _problem(refused).detail == "GET is not allowed here; use DELETE, PATCH, PUT"


def test_an_empty_body_is_called_so(client: Client) -> None:
    answer = client.post("/v1/recommend", content=b"", headers={"content-type": "application/json"})
    assert (answer.status_code, _problem(answer).detail) == (400, "the body is empty; expected a JSON object")


@pytest.mark.parametrize("path", ["/", "/page/index.html"])
@pytest.mark.parametrize("wanted", ["bytes=5-1", "bytes=999999-", "bytes=0-3", "pages=1"])
def test_files_of_the_page_come_whole_whatever_range_is_asked_for(client: Client, path: str, wanted: str) -> None:
    assert client.get(path, headers={"Range": wanted}).content == client.get(path).content


def test_an_item_nobody_knows_yet_still_gets_a_slate(client: Client) -> None:
    answer = client.post("/v1/similar", json={"item_id": "nothing", "k": 4})
    slate = SlateResponse.model_validate_json(answer.content)
    assert (answer.status_code, len(slate.items), slate.degraded.reasons) == (200, 4, ["unknown_items"])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/popular?k=0",
        "/v1/popular?k=x",
        "/v1/popular?top=5",
        "/v1/catalogue/items?limit=0",
        "/v1/catalogue/history",
        "/v1/catalogue/users?limit=1000",
    ],
)
def test_query_parameters_are_checked_as_well(client: Client, path: str) -> None:
    problem = _problem(client.get(path))
    assert (problem.status, problem.code) == (422, "invalid_field")


def test_a_bug_is_a_500_without_its_traceback(tiny_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Recommender.open(tiny_bundle))

    @app.get("/bug")
    async def bug() -> None:
        raise ValueError("secret of the house")

    answer = Client(app).get("/bug")
    assert _problem(answer).code == "internal"
    assert "secret" not in answer.text
    assert "secret of the house" in caplog.text


def test_the_body_names_the_request_before_the_header_does(client: Client) -> None:
    both = client.post("/v1/recommend", json={"request_id": "in body"}, headers={"x-request-id": "in header"})
    assert both.json()["request_id"] == both.headers["x-request-id"] == "in body"
    header = client.get("/v1/popular", headers={"x-request-id": "in header"})
    assert header.json()["request_id"] == header.headers["x-request-id"] == "in header"
    assert len(client.get("/nowhere", headers={"x-request-id": "x" * 300}).headers["x-request-id"]) == 32


def test_any_request_id_is_safe_in_a_header(client: Client) -> None:
    answer = client.post("/v1/recommend", json={"request_id": "a\r\nset-cookie: b\u2603"})
    assert answer.headers["x-request-id"] == "a??set-cookie: b?"
    assert "set-cookie" not in answer.headers


def test_the_catalogue_can_be_searched_whatever_the_case(client: Client) -> None:
    found = client.get("/v1/catalogue/items", params={"query": "NUMBER 12"}).json()["items"]
    assert [item["item_id"] for item in found] == ["i12"]
    assert len(client.get("/v1/catalogue/items?limit=7").json()["items"]) == 7
    assert client.get("/v1/catalogue/items", params={"query": "no thing like it"}).json()["items"] == []


def test_histories_are_shown_newest_first(client: Client) -> None:
    users = client.get("/v1/catalogue/users?limit=3").json()["users"]
    assert users[0] == {"user_id": "u1", "num_events": 15}
    shown = client.get("/v1/catalogue/history", params={"user_id": "u1", "limit": 2}).json()
    everything = client.get("/v1/catalogue/history", params={"user_id": "u1", "limit": 200}).json()
    assert shown["items"] == everything["items"][:2]
    assert len(everything["items"]) == everything["num_events"] == 15
    stranger = client.get("/v1/catalogue/history", params={"user_id": "stranger"}).json()
    assert (stranger["num_events"], stranger["items"]) == (0, [])


def test_probes_and_version(client: Client) -> None:
    assert client.get("/livez").json() == {"status": "ok", "bundle": None}
    version = client.get("/version").json()
    assert client.get("/readyz").json() == {"status": "ready", "bundle": version["bundle"]["id"]}
    assert (version["num_items"], version["num_users"], version["data"]) == (50, 20, "tiny")
    assert version["ranker"] is None


def test_the_version_names_the_ranker_too(ranked_bundle: Path) -> None:
    recommender = Recommender.open(ranked_bundle)
    said = Client(create_app(recommender)).get("/version").json()["ranker"]
    sealed = recommender.runtime.manifest.ranker
    assert sealed is not None
    assert said == {"run": sealed.run_id, "heads": ["purchase", "value"], "metrics": sealed.values}


def test_the_description_names_every_route_and_its_problems(client: Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert {"/v1/recommend", "/v1/similar", "/v1/popular", "/livez", "/readyz", "/version"} <= set(document["paths"])
    refused = document["paths"]["/v1/recommend"]["post"]["responses"]["422"]["content"]
    assert refused == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    referenced = set(_references(document))
    assert {name.removeprefix("#/components/schemas/") for name in referenced} <= set(document["components"]["schemas"])


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    return [found for value in node for found in _references(value)] if isinstance(node, list) else []


def test_the_page_loads_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("style.css", "app.js", "icon.svg"):
        text = client.get(f"/page/{name}").text
        assert text
        assert "https://" not in text


def test_pointers_escape_what_they_must() -> None:
    assert pointer(["a/b", 0, "~"]) == "/a~1b/0/~0"
    assert json.loads(json.dumps(pointer([]))) == ""
