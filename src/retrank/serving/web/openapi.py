"""The OpenAPI 3.1 document: what the routes read and answer, the problem document included.

Routes parse and write JSON themselves, so that a slate is validated once and not again on its way out; this is where
the framework is told what they do.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from retrank.contract import api
from retrank.serving.web.problems import MEDIA_TYPE

_REF = "#/components/schemas/{model}"
_MODELS: tuple[type[BaseModel], ...] = (
    api.RecommendRequest,
    api.SimilarRequest,
    api.SlateResponse,
    api.CatalogueItems,
    api.KnownUsers,
    api.UserHistory,
    api.Health,
    api.Version,
    api.Problem,
)
_MEANINGS = {
    400: "the body is not JSON",
    413: "the body is too large",
    415: "the body is not declared as JSON",
    422: "a field does not fit; `errors` names it",
    500: "the service failed",
}


def body_of(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Describe a JSON body (for `openapi_extra`)."""
    content = {"application/json": {"schema": _reference(model), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def answers(model: type[BaseModel], *problems: int) -> dict[int | str, dict[str, Any]]:
    """Describe the answers of a route: a model, or one of some problems (for `responses`)."""
    described: dict[int | str, dict[str, Any]] = {
        200: {"description": "the answer", "content": {"application/json": {"schema": _reference(model)}}}
    }
    for status in (*problems, 500):
        content = {MEDIA_TYPE: {"schema": _reference(api.Problem)}}
        described[status] = {"description": _MEANINGS[status], "content": content}
    return described


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document, made once per application."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        _, definitions = models_json_schema(
            [(model, "validation" if model.__name__.endswith("Request") else "serialization") for model in _MODELS],
            ref_template=_REF,
        )
        made.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
        app.openapi_schema = made
    return app.openapi_schema


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
