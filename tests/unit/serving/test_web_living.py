"""The routes that change something, and the bounds of every request, over HTTP without a server."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from living_service import living_service
from pydantic import SecretStr
from web_client import Client

from retrank.contract.api import Problem, SlateResponse
from retrank.contract.events import EventsRefused
from retrank.serving.picking import Picked
from retrank.serving.recommender import Recommender
from retrank.serving.service import Backing, Service
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.settings import StateSettings
from retrank.serving.web.bodies import MAX_DEPTH, too_deep
from retrank.serving.web.routes import create_app

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with living_service(Recommender.open(tiny_bundle), tmp_path_factory.mktemp("living")) as service:
        yield Client(create_app(service))


@pytest.fixture(scope="module")
def bare(tiny_bundle: Path) -> FastAPI:
    return create_app(Recommender.open(tiny_bundle))


def _problem(answer: httpx.Response) -> Problem:
    assert answer.headers["content-type"] == "application/problem+json"
    return Problem.model_validate_json(answer.content)


def test_events_are_accepted_counted_and_rejected_one_by_one(client: Client) -> None:
    click = {"event_id": "1", "type": "click", "item_id": "i3", "user_id": "eve"}
    answer = client.post("/v1/events", json={"events": [click, click, {**click, "event_id": "2", "type": "stare"}]})
    assert answer.status_code == 202
    receipt = answer.json()
    assert (receipt["accepted"], receipt["duplicates"]) == (1, 1)
    assert [(one["index"], one["event_id"]) for one in receipt["rejected"]] == [(2, "2")]
    slate = client.post("/v1/recommend", json={"user_id": "eve", "k": 50}).json()
    assert "i3" not in [item["item_id"] for item in slate["items"]]
    assert slate["degraded"]["reasons"] == ["catalogue_exhausted"]


def test_a_batch_of_which_nothing_can_be_taken_is_refused_with_its_receipt(client: Client) -> None:
    bad = {"event_id": "b", "type": "stare", "item_id": "i3", "user_id": "mallory"}
    answer = client.post("/v1/events", json={"events": [bad] * 30})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    problem = EventsRefused.model_validate_json(answer.content)
    assert (problem.code, problem.instance) == ("all_rejected", answer.headers["x-request-id"])
    assert (problem.receipt.accepted, problem.receipt.duplicates) == (0, 0)
    assert [one.index for one in problem.receipt.rejected] == list(range(30))
    assert [one.pointer for one in problem.errors] == [f"/events/{index}" for index in range(20)]
    assert "and 27 more" in problem.detail


@pytest.mark.parametrize("odd", [1, None, "click", [], [{}], True])
def test_what_is_no_object_is_rejected_by_its_place_like_any_bad_event(client: Client, odd: Any) -> None:
    click = {"event_id": f"odd {odd}", "type": "click", "item_id": "i3", "user_id": "walter"}
    answer = client.post("/v1/events", json={"events": [odd, click, odd]})
    receipt = answer.json()
    assert (answer.status_code, receipt["accepted"]) == (202, 1)
    assert [(one["index"], one["event_id"]) for one in receipt["rejected"]] == [(0, None), (2, None)]
    assert "JSON object" in receipt["rejected"][0]["detail"]
    refused = client.post("/v1/events", json={"events": [odd]})
    assert (refused.status_code, refused.json()["code"]) == (422, "all_rejected")


def test_a_history_begins_with_what_was_done_since_the_bundle_was_made(client: Client) -> None:
    sealed = client.get("/v1/catalogue/history?user_id=u9&limit=200").json()
    acts = [("click", "i3"), ("impression", "i4"), ("purchase", "unknown"), ("dismiss", "i5")]
    events = [
        {"event_id": f"h{place}", "type": kind, "item_id": item, "user_id": "u9"}
        for place, (kind, item) in enumerate(acts)
    ]
    assert client.post("/v1/events", json={"events": events}).status_code == 202
    shown = client.get("/v1/catalogue/history?user_id=u9&limit=200").json()
    assert [item["item_id"] for item in shown["items"][:2]] == ["unknown", "i3"]
    assert shown["items"][0]["attributes"] == {}
    assert shown["items"][1]["attributes"]["title"]
    assert shown["items"][2:] == sealed["items"]
    assert (sealed["num_live"], shown["num_live"], shown["num_events"]) == (0, 2, sealed["num_events"] + 2)
    newest = client.get("/v1/catalogue/history?user_id=u9&limit=1").json()
    assert [item["item_id"] for item in newest["items"]] == ["unknown"]


def test_a_history_of_somebody_the_bundle_does_not_know_is_what_is_live(client: Client) -> None:
    click = {"event_id": "n1", "type": "click", "item_id": "i3", "user_id": "somebody new"}
    assert client.post("/v1/events", json={"events": [click]}).json()["accepted"] == 1
    shown = client.get("/v1/catalogue/history", params={"user_id": "somebody new"}).json()
    assert (shown["num_events"], shown["num_live"], shown["items"][0]["item_id"]) == (1, 1, "i3")


def test_an_item_with_a_slash_in_its_id_can_be_changed(client: Client) -> None:
    assert client.request("PUT", "/v1/items/a%2Fb/availability", json={"available": False}).json()["unknown"] == ["a/b"]
    assert client.request("PATCH", "/v1/items/i8", json={"attributes": {"colour": "red"}}).status_code == 200
    wanted = {"eq": {"attribute": "colour", "value": "red"}}
    found = client.post("/v1/recommend", json={"filter": wanted}).json()["items"]
    assert [item["item_id"] for item in found] == ["i8"]
    assert client.request("DELETE", "/v1/items/i8").json()["changed"] == 1
    assert client.post("/v1/recommend", json={"filter": wanted}).json()["items"] == []
    assert client.request("PUT", "/v1/items/i8", json={}).json()["unknown"] == []


def test_what_is_kept_of_a_user_is_exported_line_by_line_and_erased(client: Client) -> None:
    click = {"event_id": "9", "type": "click", "item_id": "i3", "user_id": "a:b/c"}
    client.post("/v1/events", json={"events": [click]})
    exported = client.post("/v1/users/a:b%2Fc:export")
    assert exported.headers["content-type"] == "application/x-ndjson"
    assert any(json.loads(line).get("event_id") == "9" for line in exported.text.splitlines())
    assert client.post("/v1/users/a:b%2Fc:erase").json()["entries"] > 0
    assert client.post("/v1/users/a:b%2Fc:export").text == ""
    assert client.request("DELETE", "/v1/users/a:b%2Fc").json() == {"entries": 0}


def test_an_export_while_the_store_is_away_is_a_503_not_a_broken_body(tiny_bundle: Path, tmp_path: Path) -> None:
    away = open_store(StateSettings(url=SecretStr(f"sqlite:{tmp_path / 'no such folder' / 'state.sqlite'}")))
    recommender = Recommender.open(tiny_bundle)
    service = Service(lambda _: Picked(recommender), replace(Backing.none(), store=away))
    answer = Client(create_app(service)).post("/v1/users/u1:export")
    service.close()
    assert _problem(answer).status == 503


def test_the_deadline_header_of_a_batch_is_checked(client: Client) -> None:
    body = {"requests": [{"user_id": "u1"}]}
    refused = client.post("/v1/recommend:batch", json=body, headers={"x-deadline-ms": "soon"})
    assert (_problem(refused).status, _problem(refused).errors[0].pointer) == (422, "/deadline_ms")
    assert client.post("/v1/recommend:batch", json=body, headers={"x-deadline-ms": "1"}).status_code == 200


def test_batches_and_rankings_over_http(client: Client) -> None:
    batch = client.post("/v1/recommend:batch", json={"requests": [{"k": 2}, {"k": 0}]})
    assert [one["status"] for one in batch.json()["answers"]] == [200, 422]
    ranked = client.post("/v1/rank", json={"user_id": "u1", "items": ["i1", "i2"]}).json()
    assert {item["item_id"] for item in ranked["items"]} == {"i1", "i2"}


def test_the_deadline_header_counts_unless_the_body_has_one(client: Client) -> None:
    late = client.post("/v1/recommend", json={"user_id": "u1"}, headers={"x-deadline-ms": "1"})
    assert late.status_code == 200
    assert len(SlateResponse.model_validate_json(late.content).items) == 10
    for wrong in ("0", "soon", "60001", "9" * 400, "-1", "1.5"):
        refused = client.post("/v1/recommend", json={}, headers={"x-deadline-ms": wrong})
        assert (_problem(refused).status, _problem(refused).errors[0].pointer) == (422, "/deadline_ms")
        assert (
            client.post("/v1/recommend", json={"deadline_ms": 900}, headers={"x-deadline-ms": wrong}).status_code == 200
        )


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/recommend:batch", {"requests": []}, "/requests"),
        ("/v1/recommend:batch", {"requests": [{}] * 257}, "/requests"),
        ("/v1/rank", {"items": []}, "/items"),
        ("/v1/rank", {"items": ["a"] * 1_001}, "/items"),
        ("/v1/events", {"events": []}, "/events"),
        ("/v1/events", {"events": [{}] * 1_001}, "/events"),
        ("/v1/items:bulk", {"items": [{"item_id": "a", "action": "delete", "available": True}]}, "/items/0"),
        ("/v1/items:bulk", {"items": [{"item_id": "a", "action": "stare"}]}, "/items/0/action"),
        ("/v1/recommend", {"context": {"a": [1]}}, "/context/a"),
        ("/v1/recommend", {"context": {str(key): 1 for key in range(33)}}, "/context"),
        ("/v1/recommend", {"placement": "a b"}, "/placement"),
        ("/v1/recommend", {"priority": "batch"}, "/priority"),  # the header says it, before a body is read
        ("/v1/recommend", {"explore": {"policy": "softmax", "strength": 2}}, "/explore/strength"),
        ("/v1/recommend", {"diversity": {"mode": "cap"}}, "/diversity"),
        ("/v1/recommend", {"seen": {"types": ["dismiss"]}}, "/seen/types/0"),
        ("/v1/recommend", {"filter": {"all": [{"eq": {"attribute": "a"}}]}}, "/filter/all/0/eq/value"),
        ("/v1/similar", {"item_id": "i1", "user_id": "x"}, "/user_id"),
    ],
)
def test_every_bound_is_named_by_a_pointer(client: Client, path: str, body: dict[str, Any], pointer: str) -> None:
    problem = _problem(client.post(path, json=body))
    assert (problem.status, problem.errors[0].pointer) == (422, pointer)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommend", {"diversity": {"mode": "cap"}}),
        ("/v1/recommend", {"filter": {}}),
        ("/v1/recommend", {"context": {"a": None}}),
        ("/v1/events", {"events": [{"event_id": "1", "type": "custom", "item_id": "i1", "user_id": "u"}]}),
        ("/v1/recommend:batch", {"requests": [{"diversity": {"mode": "cap"}}]}),
    ],
)
def test_no_detail_speaks_of_the_library_that_found_it(client: Client, path: str, body: dict[str, Any]) -> None:
    assert "Value error" not in client.post(path, json=body).text


def test_ids_in_paths_are_bounded_too(client: Client) -> None:
    assert _problem(client.request("DELETE", f"/v1/items/{'x' * 257}")).status == 422
    assert _problem(client.post(f"/v1/users/{'x' * 257}:erase")).status == 422


@pytest.mark.parametrize("inner", [b'{"a":%s}', b"[%s]", b'[{"]":"[[[[[[[[[[[[[[[[[[[","b":%s}]'])
def test_json_nests_sixteen_levels_at_most(client: Client, inner: bytes) -> None:
    opening = inner.split(b"%s")[0].count(b"[{") + 1
    body = b"1"
    for _ in range(MAX_DEPTH // opening):
        body = inner.replace(b"%s", body)
    json.loads(body)
    assert not too_deep(body)
    assert too_deep(inner.replace(b"%s", body))
    refused = client.post("/v1/recommend", content=b'{"context":%s}' % body, headers=JSON)
    assert (_problem(refused).status, "deeper" in _problem(refused).detail) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/events", {"events": [{}]}),
        ("PUT", "/v1/items/i1", {}),
        ("DELETE", "/v1/users/u1", None),
        ("POST", "/v1/users/u1:erase", None),
        ("POST", "/v1/users/u1:export", None),
    ],
)
def test_what_a_service_was_started_without_is_a_503_that_says_so(
    bare: FastAPI, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = Client(bare).request(method, path, json=body)
    assert (answer.status_code, _problem(answer).code) == (503, "not_offered")
    assert "retry-after" not in answer.headers


def test_an_id_with_a_line_break_can_be_used_in_a_path(client: Client) -> None:
    click = {"event_id": "n", "type": "click", "item_id": "i3", "user_id": "two\nlines"}
    client.post("/v1/events", json={"events": [click]})
    assert client.post("/v1/users/two%0Alines:erase").json()["entries"] > 0
    assert client.request("DELETE", "/v1/items/two%0Alines").json()["unknown"] == ["two\nlines"]


def test_a_whole_number_may_be_written_as_a_decimal(client: Client) -> None:
    asked = {"k": 3.0, "deadline_ms": 5000.0, "explore": {"policy": "epsilon", "seed": 7.0}, "seen": {"days": 9.0}}
    assert len(client.post("/v1/recommend", json=asked).json()["items"]) == 3
    assert client.post("/v1/recommend", json={"k": 3.5}).json()["errors"][0]["pointer"] == "/k"
    assert client.post("/v1/recommend", json={"k": 201.0}).json()["errors"][0]["pointer"] == "/k"
