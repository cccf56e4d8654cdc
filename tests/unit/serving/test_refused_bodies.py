"""What was refused is let go: a caller who sends nonsense for days does not fill the memory."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from living_service import living_service
from pydantic import ValidationError
from web_client import Client

from retrank.serving.recommender import Recommender
from retrank.serving.web.problems import ProblemError
from retrank.serving.web.routes import create_app

REFUSED: dict[str, tuple[str, dict[str, Any], int]] = {
    "a validator of ours says no": ("/v1/recommend", {"filter": {}}, 422),
    "pydantic says no": ("/v1/recommend", {"k": "many"}, 422),
    "both do": ("/v1/similar", {"filter": {"all": [{}]}, "k": 0}, 422),
    "an attribute does not fit": ("/v1/items:bulk", {"items": [{"item_id": "i1", "attributes": {"a": [[]]}}]}, 422),
    "an event does not fit": ("/v1/events", {"events": [{"event_id": "e1", "context": 1}]}, 422),
    "one of a batch does not": ("/v1/recommend:batch", {"requests": [{"filter": {}}]}, 200),
    "too deep": ("/v1/recommend", {"filter": json.loads("[" * 30 + "]" * 30)}, 400),
}


@pytest.fixture(scope="module")
def client(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with living_service(Recommender.open(tiny_bundle), tmp_path_factory.mktemp("living")) as service:
        yield Client(create_app(service))


@pytest.mark.parametrize("why", REFUSED)
def test_nothing_of_a_refused_request_is_kept(client: Client, why: str) -> None:
    path, body, status = REFUSED[why]
    before = _held()
    for number in range(8):
        assert client.post(path, json=body | {"request_id": f"r{number}"}).status_code in (status, 422)
    assert _held() == before


def _held() -> tuple[int, int]:
    gc.collect()
    kept = [sum(issubclass(type(one), kind) for one in gc.get_objects()) for kind in (ProblemError, ValidationError)]
    return kept[0], kept[1]
