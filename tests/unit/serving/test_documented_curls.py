"""Every `curl` of the documentation that sends something to the API is accepted by the API."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from living_service import living_service
from web_client import Client

from retrank.serving.recommender import Recommender
from retrank.serving.web.routes import create_app

ROOT = Path(__file__).parents[3]
_PAGES = [ROOT / "README.md", ROOT / "serving" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_SENT = re.compile(r"curl -s (?:-X (PUT) )?(?:http://)?[\w.]+:\d+(/v1/\S+) [^\n]*?(?:\\\n\s*)?-d '([^']*)'")
_SAID = [
    (page.name, method or "POST", path, body)
    for page in _PAGES
    for method, path, body in _SENT.findall(page.read_text())
]


@pytest.fixture(scope="module")
def client(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with living_service(Recommender.open(tiny_bundle), tmp_path_factory.mktemp("living")) as service:
        yield Client(create_app(service))


def test_slates_and_events_are_documented_where_people_begin() -> None:
    for name, path in (
        ("README.md", "/v1/events"),
        ("README.md", "/v1/items/lamp-7"),
        ("bring-your-own-data.md", "/v1/events"),
        ("events.md", "/v1/events"),
    ):
        assert path in [found for page, _, found, _ in _SAID if page == name]


@pytest.mark.parametrize(("page", "method", "path", "body"), _SAID)
def test_what_is_documented_is_accepted(client: Client, page: str, method: str, path: str, body: str) -> None:
    asked: dict[str, Any] = json.loads(body)
    answer = client.request(method, path, json=asked)
    assert answer.status_code in (200, 202), answer.text
    if path == "/v1/events":
        assert answer.json() == {"accepted": len(asked["events"]), "duplicates": 0, "rejected": []}
