"""The routes keep what docs/openapi.json says, whatever is sent: requests made up from it, fitting and not fitting.

Schemathesis makes requests of both kinds and checks that answers are described: status, media type, body, and that what
does not fit is refused while what fits is not. The deep end: `pytest -m slow tests/contract/test_openapi_fuzz.py`.
"""

import json
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from living_service import living_service
from prometheus_client import CollectorRegistry
from schemathesis.specs.openapi.checks import positive_data_acceptance
from stress.engines import finite
from write_openapi import TARGET

from retrank.serving.recommender import Recommender
from retrank.serving.telemetry.exposition import Exposition
from retrank.serving.web.protection import Protection
from retrank.serving.web.routes import create_app

QUICK, DEEP = 20, 200
UNSAID = ("nested deeper than", "more than 64 terms", "nothing lies above", "no event was taken")
"""Refusals of a filter, and of events that are looked at one by one, that JSON Schema has no words for."""
DOCUMENT: dict[str, Any] = json.loads(TARGET.read_text())
OPERATIONS = sorted((path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods)


@pytest.fixture(scope="module")
def schema(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The committed document, over the real routes with real state."""
    with living_service(Recommender.open(tiny_bundle), tmp_path_factory.mktemp("living")) as service:
        found = schemathesis.openapi.from_dict(finite(DOCUMENT))
        counted = Protection(exposition=Exposition(CollectorRegistry(), None, now=time.time))
        found.app = create_app(service, protection=counted)
        yield found


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=str)
def test_an_operation_answers_as_it_is_described(schema: Any, path: str, method: str) -> None:
    _probe(schema[path][method], QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=str)
def test_an_operation_answers_as_it_is_described_to_many_requests(schema: Any, path: str, method: str) -> None:
    _probe(schema[path][method], DEEP)


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
