"""The committed description of the API is what the routes say, and describes every route and every field."""

import json
import random
import secrets
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry
from web_client import Client
from write_openapi import ADMIN_TARGET, TARGET, described, described_admin

from retrank.serving.guard.caller import PERMISSIONS, Permission
from retrank.serving.guard.drain import Drain
from retrank.serving.guard.gate import Gate, need_of
from retrank.serving.guard.keyring import Keyring
from retrank.serving.guard.keys import KeyFile, new_key, write_key_file
from retrank.serving.guard.settings import GuardSettings, QuotaSettings
from retrank.serving.recommender import Recommender
from retrank.serving.telemetry.exposition import Exposition
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.web.protection import Protection
from retrank.serving.web.routes import create_app

DOCUMENT: dict[str, Any] = json.loads(TARGET.read_text())
ADMIN: dict[str, Any] = json.loads(ADMIN_TARGET.read_text())
BOTH = pytest.mark.parametrize("document", [DOCUMENT, ADMIN], ids=["service", "admin"])


def test_the_committed_documents_are_up_to_date() -> None:
    """Run `python scripts/write_openapi.py` after a change of the API."""
    assert json.loads(described()) == DOCUMENT
    assert json.loads(described_admin()) == ADMIN


def test_every_route_of_the_first_version_is_described() -> None:
    operations = {f"{method.upper()} {path}" for path, found in DOCUMENT["paths"].items() for method in found}
    assert {
        "POST /v1/recommend", "POST /v1/recommend:batch", "POST /v1/rank", "POST /v1/similar", "GET /v1/popular",
        "POST /v1/events", "POST /v1/items:bulk", "PUT /v1/items/{item_id}", "PATCH /v1/items/{item_id}",
        "DELETE /v1/items/{item_id}", "PUT /v1/items/{item_id}/availability", "DELETE /v1/users/{user_id}",
        "POST /v1/users/{user_id}:erase", "POST /v1/users/{user_id}:export",
        "GET /livez", "GET /readyz", "GET /version", "GET /metrics",
    } <= operations  # fmt: skip


def test_every_route_of_the_admin_port_is_described() -> None:
    operations = {f"{method.upper()} {path}" for path, found in ADMIN["paths"].items() for method in found}
    assert operations == {
        "GET /admin/v1/bundles", "GET /admin/v1/status", "POST /admin/v1/bundles:stage",
        "POST /admin/v1/bundles:unstage", "POST /admin/v1/bundles:activate", "POST /admin/v1/bundles:canary",
        "POST /admin/v1/bundles:rollback", "POST /admin/v1/items:forget", "GET /admin/v1/rules", "POST /admin/v1/rules",
        "POST /admin/v1/rules:drop", "GET /admin/v1/placements", "POST /admin/v1/placements",
        "POST /admin/v1/placements:drop", "POST /admin/v1/:drain", "GET /livez",
    }  # fmt: skip


@BOTH
def test_every_example_of_a_body_fits_its_schema(document: dict[str, Any]) -> None:
    operations = [found for path in document["paths"].values() for found in path.values() if "requestBody" in found]
    for operation in operations:
        body = operation["requestBody"]["content"]["application/json"]
        schema = {**body["schema"], "components": document["components"]}
        Draft202012Validator(schema).validate(body["example"])


@BOTH
def test_every_operation_says_what_it_does_and_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    operations = [found for path in document["paths"].values() for found in path.values()]
    assert all(operation["description"] for operation in operations)
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)


@BOTH
def test_every_reference_leads_somewhere_and_errors_are_problems(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    assert document["openapi"].startswith("3.1")
    for part in text.split('"$ref": "#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas
    for path in document["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"]


def _statuses(path: str, method: str) -> set[int]:
    return {int(status) for status in DOCUMENT["paths"][path][method]["responses"]}


def test_what_answers_without_a_replica_is_described_of_every_operation() -> None:
    """The front answers 502, 503 and 504 by itself, whatever was asked; the admin port has none in front of it."""
    assert [where for where in OPERATIONS if not _statuses(*where) >= {502, 503, 504}] == []
    administrative = [one for path in ADMIN["paths"].values() for one in path.values()]
    assert [one for one in administrative if {"502", "504"} & set(one["responses"])] == []


@BOTH
def test_whatever_takes_a_body_says_how_it_may_be_refused(document: dict[str, Any]) -> None:
    operations = [found for path in document["paths"].values() for found in path.values() if "requestBody" in found]
    assert operations
    for operation in operations:
        assert {"400", "408", "413", "415", "422"} <= set(operation["responses"])


def test_an_id_that_makes_it_another_path_is_described() -> None:
    assert [path for path, method in OPERATIONS if "{" in path and 404 not in _statuses(path, method)] == []


OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]
REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=str)
def test_what_the_gate_answers_is_described_where_it_happens_and_nowhere_else(
    recommender: Recommender, tmp_path: Path, path: str, method: str
) -> None:
    """Without a key, with one that may too little, beyond the quota, and while the service leaves."""
    made = datetime(2026, 1, 1, tzinfo=UTC)
    little: Permission = "ingest" if need_of(method.upper(), path).permission == "read" else "read"
    keys = [
        new_key("shop", scopes, pepper=b"", random=secrets.token_bytes, now=made)
        for scopes in (frozenset({little}), frozenset(PERMISSIONS))
    ]
    write_key_file(tmp_path / "keys.json", KeyFile(keys=tuple(key.record for key in keys)))
    drain = Drain(tmp_path)
    drain.begin()
    gate = Gate(
        GuardSettings(quota=QuotaSettings(per_second=0.001, burst=1)),
        keyring=Keyring(tmp_path / "keys.json", pepper=b"", clock=lambda: 0.0),
        drain=drain,
        clock=lambda: 0.0,
        rng=random.Random(0),
        telemetry=Telemetry(),
    )
    exposition = Exposition(CollectorRegistry(), None, now=lambda: 0.0)
    client = Client(create_app(recommender, protection=Protection(gate=gate, exposition=exposition)))
    little_key, whole_key = ({"authorization": f"Bearer {key.token}"} for key in keys)
    where = path.replace("{", "").replace("}", "")
    answers = [
        client.request(method.upper(), where, headers=headers) for headers in ({}, little_key, whole_key, whole_key)
    ]
    described_here = DOCUMENT["paths"][path][method]["responses"]
    assert {int(status) for status in described_here} & REFUSED == {one.status_code for one in answers} & REFUSED
    for answer in answers:
        said = described_here[str(answer.status_code)].get("headers", {})
        assert [name for name, header in said.items() if header["required"] and name not in answer.headers] == []
    if path == "/readyz":
        assert answers[0].status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert "retry-after" in answers[0].headers
