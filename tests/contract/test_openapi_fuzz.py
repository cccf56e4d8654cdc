"""The routes keep what docs/openapi.json says, whatever is sent: requests made up from it, fitting and not fitting.

Schemathesis makes requests of both kinds and checks that answers are described: status, media type, body, and that what
does not fit is refused while what fits is not. The deep end: `pytest -m slow tests/contract/test_openapi_fuzz.py`.
"""

import copy
import json
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from living_service import living_service
from schemathesis.specs.openapi.checks import positive_data_acceptance
from write_openapi import TARGET

from retrank.serving.recommender import Recommender
from retrank.serving.web.routes import create_app

QUICK, DEEP = 20, 200
_LEVELS, _LISTED = 3, 3
UNSAID = ("nested deeper than", "more than 64 terms", "nothing lies above", "no event was taken")
"""Refusals of a filter, and of events that are looked at one by one, that JSON Schema has no words for."""
DOCUMENT: dict[str, Any] = json.loads(TARGET.read_text())
OPERATIONS = sorted((path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods)


@pytest.fixture(scope="module")
def schema(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The committed document, over the real routes with real state."""
    with living_service(Recommender.open(tiny_bundle), tmp_path_factory.mktemp("living")) as service:
        found = schemathesis.openapi.from_dict(_finite(DOCUMENT))
        found.app = create_app(service)
        yield found


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=str)
def test_an_operation_answers_as_it_is_described(schema: Any, path: str, method: str) -> None:
    _probe(schema[path][method], QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=str)
def test_an_operation_answers_as_it_is_described_to_many_requests(schema: Any, path: str, method: str) -> None:
    _probe(schema[path][method], DEEP)


def _finite(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with filters of at most three levels and short lists.

    A filter holds up to 64 filters. Made up from that, nearly every one is thrown away as too large after seconds of
    drawing, so that two hundred requests of `/v1/recommend` took longer than anybody waited.
    """
    schemas = dict(document["components"]["schemas"])
    for level in range(_LEVELS):
        node = copy.deepcopy(schemas["Filter"])
        below = {"$ref": f"#/components/schemas/Filter{level + 1}"}
        for name in ("all", "any"):
            (listed,) = [one for one in node["properties"][name]["anyOf"] if one["type"] == "array"]
            listed.update(items=below, maxItems=_LISTED)
        node["properties"]["not"] = {"anyOf": [below, {"type": "null"}]}
        if level == _LEVELS - 1:
            for name in ("all", "any", "not"):
                node["properties"][name] = {"type": "null"}
        schemas[f"Filter{level}"] = node
    schemas["Filter"] = schemas["Filter0"]
    return {**document, "components": {**document["components"], "schemas": schemas}}


def _probe(operation: Any, examples: int) -> None:
    kinds = schemathesis.GenerationMode
    fitting = operation.as_strategy(generation_mode=kinds.POSITIVE)
    odd = operation.as_strategy(generation_mode=kinds.NEGATIVE) if _has_inputs(operation) else fitting

    @settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(fitting, odd))
    def probe(case: Any) -> None:
        answer = case.call()
        beyond = answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY and any(word in answer.text for word in UNSAID)
        case.validate_response(answer, excluded_checks=[positive_data_acceptance] if beyond else [])

    probe()


def _has_inputs(operation: Any) -> bool:
    return bool(operation.body) or any(True for _ in operation.iter_parameters())
