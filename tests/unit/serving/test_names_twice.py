"""A name that stands twice in one object of a body is refused: which one counts would be chance."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from living_service import living_service
from pydantic import JsonValue, TypeAdapter
from web_client import Client

from retrank.serving.recommender import Recommender
from retrank.serving.web.bodies import named_twice
from retrank.serving.web.routes import create_app

JSON = {"content-type": "application/json"}
ANYTHING: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def client(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with living_service(Recommender.open(tiny_bundle), tmp_path_factory.mktemp("living")) as service:
        yield Client(create_app(service))


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/recommend", b'{"user_id": "u1", "k": 3, "user_id": "u2"}', "user_id"),
        ("/v1/recommend", b'{"user_id": "u1", "user\\u005fid": "u2"}', "user_id"),
        ("/v1/recommend", b'{"session": {"recent": [], "recent": ["i1"]}}', "recent"),
        ("/v1/recommend", b'{"context": {"a": 1, "b": 2, "a": 1}}', "a"),
        (
            "/v1/events",
            b'{"events": [{"event_id": "1", "type": "click", "item_id": "i1", "user_id": "u1", "user_id": "u2"}]}',
            "user_id",
        ),
        ("/v1/items:bulk", b'{"items": [{"item_id": "i1", "action": "delete", "item_id": "i2"}]}', "item_id"),
    ],
)
def test_a_body_that_names_something_twice_is_refused(client: Client, path: str, body: bytes, name: str) -> None:
    answer = client.post(path, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")
    assert f"{name!r} twice" in answer.json()["detail"]


def test_a_body_that_does_not_fit_either_is_told_of_its_fields_first(client: Client) -> None:
    answer = client.post("/v1/recommend", content=b'{"k": 0, "k": 0}', headers=JSON)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/k")


@given(value=VALUES, indent=st.none() | st.just(2), ascii_only=st.booleans())
def test_what_has_each_name_once_is_never_refused(value: JsonValue, indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    ANYTHING.validate_json(body)
    assert named_twice(body) is None


@given(inner=VALUES, before=VALUES, name=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_name_is_found_twice_wherever_it_stands(inner: JsonValue, before: JsonValue, name: str) -> None:
    shown, key = json.dumps(inner), json.dumps(name)
    body = f'[{json.dumps(before)}, {{"other!": {{{key}: {shown}, {key}: 1}}}}]'.encode()
    assert named_twice(body) == name


@pytest.mark.parametrize("number", [b"9" * 5_000, b"1e400", b"-0.0", b"NaN"])
def test_numbers_are_not_looked_at(number: bytes) -> None:
    assert named_twice(b'{"a": %s}' % number) is None
