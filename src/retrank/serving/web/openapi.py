"""The OpenAPI 3.1 document: what the routes read and answer, the problem document included.

Routes parse and write JSON themselves, so that a slate is validated once and not again on its way out; this is where
the framework is told what they do.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from retrank.contract import api, catalogue_changes, events, ranking
from retrank.serving.web.problems import MEDIA_TYPE

_REF = "#/components/schemas/{model}"
_ASKED: tuple[type[BaseModel], ...] = (
    api.RecommendRequest,
    api.SimilarRequest,
    ranking.BatchRequest,
    ranking.RankRequest,
    events.EventBatch,
    events.Event,
    catalogue_changes.ItemUpsert,
    catalogue_changes.ItemPatch,
    catalogue_changes.Availability,
    catalogue_changes.BulkItems,
)
_ANSWERED: tuple[type[BaseModel], ...] = (
    api.SlateResponse,
    ranking.BatchResponse,
    ranking.RankResponse,
    events.EventReceipt,
    catalogue_changes.CatalogueReceipt,
    catalogue_changes.Erased,
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
    503: "a store or a log is away: nothing was promised, try again after `Retry-After` seconds",
    507: "more items changed than the state store keeps; seal a new bundle",
}


def body_of(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Describe a JSON body (for `openapi_extra`)."""
    content = {"application/json": {"schema": _reference(model), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def answers(model: type[BaseModel], *problems: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Describe the answers of a route: a model, or one of some problems (for `responses`)."""
    content = {"application/json": {"schema": _reference(model)}}
    return {status: {"description": "the answer", "content": content}, **_problems(*problems)}


def lines(*problems: int) -> dict[int | str, dict[str, Any]]:
    """Describe the answers of a route that streams one JSON object per line."""
    content = {"application/x-ndjson": {"schema": {"type": "string"}}}
    return {200: {"description": "one JSON object per line", "content": content}, **_problems(*problems)}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document, made once per application."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        _, definitions = models_json_schema(
            [*((model, "validation") for model in _ASKED), *((model, "serialization") for model in _ANSWERED)],
            ref_template=_REF,
        )
        made.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
        app.openapi_schema = made
    return app.openapi_schema


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {MEDIA_TYPE: {"schema": _reference(api.Problem)}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in (*statuses, 500)}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
