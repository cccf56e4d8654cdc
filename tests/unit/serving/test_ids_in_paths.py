"""An id in a path names that item or user and no other, whatever text it is: what a client writes, routes read."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from living_service import living_service
from starlette.types import Receive, Scope, Send
from web_client import Client

from retrank.client import calls
from retrank.client.base import request_arguments
from retrank.client.errors import ClientError
from retrank.client.flow import Send as Sending
from retrank.serving.recommender import Recommender
from retrank.serving.web.raw_paths import RawPaths
from retrank.serving.web.routes import create_app

ODD = (
    *("a/availability", "/availability", "a%2Fb", "%2F", "..", ".", "...", "../x", "%ff", "%", "100%", "a:export"),
    *(":erase", "a?b#c", " ", "two\nlines", "\0", "ü/\N{SNOWMAN}", "//", "a;b=c", "+", "page", "items:bulk"),
)
IDS = st.one_of(
    st.sampled_from(ODD),
    st.text(st.sampled_from("ab/%2Ff.:?#&;+ "), min_size=1, max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
)
PROPERTY = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def client(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with living_service(Recommender.open(tiny_bundle), tmp_path_factory.mktemp("living")) as service:
        yield Client(create_app(service))


def _called(client: Client, call: calls.Call[Any]) -> Any:
    arguments = request_arguments(call, Sending(10.0))
    answer = client.request(arguments.pop("method"), arguments.pop("url"), **arguments)
    assert answer.status_code == 200, answer.text
    return call.read(answer.content)


@PROPERTY
@given(item_id=IDS)
@example(item_id="a/availability")
@example(item_id="..")
def test_every_change_reaches_the_item_that_it_names(client: Client, item_id: str) -> None:
    for call in (
        calls.set_availability(item_id, available=True),
        calls.put_item(item_id, {}),
        calls.delete_item(item_id),
    ):
        assert _called(client, call)["unknown"] == [item_id]


@PROPERTY
@given(user_id=IDS)
@example(user_id="a:export")
@example(user_id="a/b:erase")
def test_every_order_about_a_user_is_about_that_user(client: Client, user_id: str) -> None:
    click = {"event_id": "1", "type": "click", "item_id": "i3", "user_id": user_id}
    for order in (calls.forget_user(user_id), calls.erase_user(user_id)):
        assert client.post("/v1/events", json={"events": [click]}).status_code == 202
        exported = _called(client, calls.export_user(user_id))
        assert "1" in [entry.get("event_id") for entry in exported]
        assert _called(client, order)["entries"] > 0
        assert _called(client, calls.export_user(user_id)) == []


def test_half_a_surrogate_pair_is_no_id() -> None:
    with pytest.raises(ClientError, match=r"'\\ud800'"):
        calls.delete_item("\ud800")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/v1/items/%ff"),
        ("DELETE", "/v1/items/%ED%A0%80"),
        ("PUT", "/v1/items/a%C3/availability"),
        ("DELETE", "/v1/items/"),
        ("PUT", "/v1/items//availability"),
        ("DELETE", "/v1/users/%ff"),
        ("POST", "/v1/users/%ff:erase"),
        ("POST", "/v1/users/:export"),
    ],
)
def test_what_is_no_id_is_refused(client: Client, method: str, path: str) -> None:
    answer = client.request(method, path, json={"available": True} if method == "PUT" else None)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_field")
    assert "the id in the path" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/items/a/b", "/v1/items/a/b/availability", "/v1/users/a/b"])
def test_a_bare_slash_is_no_part_of_an_id(client: Client, path: str) -> None:
    answer = client.request("DELETE", path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "%2F" in answer.json()["detail"]


def test_an_encoded_slash_leads_to_no_other_route(client: Client) -> None:
    for path in ("/v1%2Fitems/a", "/v1/items%2Fa", "/v1/users%2Fa"):
        assert client.request("DELETE", path).status_code == 404


def test_what_means_the_same_encoded_or_not_is_routed_the_same(client: Client) -> None:
    assert client.get("/v1/%70opular").status_code == 200
    assert client.request("DELETE", "/v1/%69tems/%61").json()["unknown"] == ["a"]


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/v1/items/a/b", "raw_path": b"/v1/items/a%2Fb"}, "/v1/items/a%2Fb"),
        ({"path": "/v1/items/%2F", "raw_path": b"/v1/items/%252F"}, "/v1/items/%252F"),
        ({"path": "/v1/items/%2F"}, "/v1/items/%252F"),  # of a server that keeps only the decoded path
        ({"path": "/v1/items/a b"}, "/v1/items/a%20b"),
        ({"path": "/v1/x", "raw_path": b"/v1/x"}, "/v1/x"),
    ],
)
def test_routes_see_the_path_as_it_was_sent(scope: dict[str, Any], path: str) -> None:
    seen: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        seen.append(scope["path"])

    async def nothing(*_: object) -> Any: ...

    asyncio.run(RawPaths(application)({"type": "http", **scope}, nothing, nothing))
    assert seen == [path]
