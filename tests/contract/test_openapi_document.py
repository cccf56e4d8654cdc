"""The committed description of the API is what the routes say, and describes every route and every field."""

import json
from typing import Any

from write_openapi import TARGET, described

DOCUMENT: dict[str, Any] = json.loads(TARGET.read_text())


def test_the_committed_document_is_up_to_date() -> None:
    """Run `python scripts/write_openapi.py` after a change of the API."""
    assert json.loads(described()) == DOCUMENT


def test_every_route_of_the_first_version_is_described() -> None:
    operations = {f"{method.upper()} {path}" for path, found in DOCUMENT["paths"].items() for method in found}
    assert {
        "POST /v1/recommend", "POST /v1/recommend:batch", "POST /v1/rank", "POST /v1/similar", "GET /v1/popular",
        "POST /v1/events", "POST /v1/items:bulk", "PUT /v1/items/{item_id}", "PATCH /v1/items/{item_id}",
        "DELETE /v1/items/{item_id}", "PUT /v1/items/{item_id}/availability", "DELETE /v1/users/{user_id}",
        "POST /v1/users/{user_id}:erase", "POST /v1/users/{user_id}:export",
        "GET /livez", "GET /readyz", "GET /version",
    } <= operations  # fmt: skip


def test_every_operation_says_what_it_does_and_has_a_name_of_its_own() -> None:
    operations = [found for path in DOCUMENT["paths"].values() for found in path.values()]
    assert all(operation["description"] for operation in operations)
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere_and_errors_are_problems() -> None:
    text = json.dumps(DOCUMENT)
    schemas = DOCUMENT["components"]["schemas"]
    assert DOCUMENT["openapi"].startswith("3.1")
    for part in text.split('"$ref": "#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"]
