"""The OpenAPI 3.1 document: what the routes read and answer, the problem document included.

Routes parse and write JSON themselves, so that a slate is validated once and not again on its way out; this is where
the framework is told what they do. What the gate in front of the routes may answer is read off its own table, so that
an operation says 401, 403, 429 and 503 exactly where they happen. What HAProxy answers by itself, any of them may.
A path that is not in the document is a 404, another method a 405: those belong to no operation.
"""

from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from retrank.contract import api, catalogue_changes, events, ranking
from retrank.serving.guard.gate import Need, may_drain, need_of
from retrank.serving.web.problems import MEDIA_TYPE

_REF = "#/components/schemas/{model}"


class Messages(NamedTuple):
    """Models of an API: what bodies hold, and what answers do; and whether HAProxy stands in front of it."""

    asked: tuple[type[BaseModel], ...]
    answered: tuple[type[BaseModel], ...]
    behind_front: bool = False


PUBLIC = Messages(
    asked=(
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
    ),
    answered=(
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
        events.EventsRefused,
    ),
    behind_front=True,
)
_MEANINGS = {
    400: "the body is not JSON or has a name twice in one object, or a header makes no sense",
    401: "an API key is asked for, and there is none, or one that is not valid",
    403: "the API key has not the scope that this takes, or belongs to another tenant",
    404: "the id holds a bare slash, which makes it another path",
    408: "the body did not come to its end in time",
    409: "the fleet or the shelf is not in a state that allows it; the detail says which would be",
    413: "the body is too large",
    415: "the body is not declared as JSON",
    422: "a field does not fit; `errors` names it",
    429: "the quota is used up, or there are more requests than can be answered in time; nothing was read",
    500: "the service failed",
    501: "this process cannot do it; the detail says which can",
    502: "the replica that had the request ended before it had answered; it may have done what was asked",
    503: "no replica is there to answer; a store or a log is away, or not offered here: nothing was promised; "
    "not ready, where readiness is asked for",
    504: "no replica answered in the time that the front waits; the request may still be done",
    507: "more items changed than the state store keeps; seal a new bundle",
}

_ERRORS = (
    "Every error is a problem document of RFC 9457. A path that is not here is a 404 (`not_found`), another method of "
    "one that is a 405 (`method_not_allowed`, with `Allow`)."
)
_SECURITY = "apiKey"


def _number(meaning: str, *, required: bool = False) -> dict[str, Any]:
    return {"description": meaning, "required": required, "schema": {"type": "integer", "minimum": 0}}


_QUOTA = {
    "RateLimit-Limit": _number("requests that may come at once; only where a quota is set"),
    "RateLimit-Remaining": _number("of these, how many are left"),
    "RateLimit-Reset": _number("seconds until all of them are back"),
}
_CHALLENGE = {
    "WWW-Authenticate": {"description": "which scope it takes", "required": True, "schema": {"type": "string"}}
}
_HEADERS: dict[int, dict[str, Any]] = {
    401: _CHALLENGE,
    403: _CHALLENGE,
    429: {"Retry-After": _number("seconds to wait", required=True), **_QUOTA},
    502: {"Retry-After": _number("seconds to wait", required=True)},
    503: {"Retry-After": _number("seconds to wait, where waiting helps")},
}


def body_of(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """Describe a JSON body (for `openapi_extra`)."""
    content = {"application/json": {"schema": _reference(model), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def answers(
    model: type[BaseModel], *problems: int, status: int = 200, refused: type[api.Problem] = api.Problem
) -> dict[int | str, dict[str, Any]]:
    """Describe the answers of a route: a model, or one of some problems (for `responses`).

    Args:
        model: the body of the answer.
        problems: statuses of the problems.
        status: of the answer.
        refused: what a 422 may hold besides a plain problem document.
    """
    content = {"application/json": {"schema": _reference(model)}}
    found = {status: {"description": "the answer", "content": content}, **_problems(*problems)}
    if refused is not api.Problem:
        either = {"anyOf": [_reference(api.Problem), _reference(refused)]}
        found[422] = {**found[422], "content": {MEDIA_TYPE: {"schema": either}}}
    return found


def order(asked: type[BaseModel], done: type[BaseModel], example: dict[str, Any], *problems: int) -> dict[str, Any]:
    """Describe a route of the admin port that changes something (keyword arguments of the route).

    Args:
        asked: the body.
        done: the answer.
        example: of the body.
        problems: statuses of problems, besides those that every body and every change of a store may meet.
    """
    return {
        "responses": answers(done, 400, 413, 415, 422, 503, *problems),
        "openapi_extra": body_of(asked, example),
    }


def lines(*problems: int) -> dict[int | str, dict[str, Any]]:
    """Describe the answers of a route that streams one JSON object per line."""
    content = {"application/x-ndjson": {"schema": {"type": "string"}}}
    return {200: {"description": "one JSON object per line", "content": content}, **_problems(*problems)}


def text(media_type: str, meaning: str) -> dict[int | str, dict[str, Any]]:
    """Describe the answer of a route that is no JSON."""
    said = {"description": meaning, "content": {media_type: {"schema": {"type": "string"}}}}
    return {200: said, **_problems()}


def document(app: FastAPI, messages: Messages = PUBLIC) -> dict[str, Any]:
    """Return the document of an application and its messages, made once per application."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=_ERRORS, routes=app.routes
        )
        _, definitions = models_json_schema(
            [
                *((model, "validation") for model in messages.asked),
                *((model, "serialization") for model in messages.answered),
            ],
            ref_template=_REF,
        )
        made.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
        made["components"]["securitySchemes"] = {_SECURITY: _BEARER}
        for path, methods in made["paths"].items():
            for method, operation in methods.items():
                _guard(operation, need_of(method.upper(), path), leaving=may_drain(path))
                _answered(operation, *_elsewhere(operation, path, messages))
        app.openapi_schema = made
    return app.openapi_schema


_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "a key of `retrank keys create`, where the service asks for keys",
}


def _guard(operation: dict[str, Any], need: Need, *, leaving: bool) -> None:
    """Add what the gate may answer before the route is reached."""
    lane = (400, 429) if need.lane else ()
    known = (401, 403) if need.permission else ()
    _answered(operation, *known, *lane, *((503,) if leaving else ()))
    if need.permission:
        operation["security"] = [{}, {_SECURITY: []}]
        operation["description"] += f"\n\nScope of the API key, where keys are asked for: `{need.permission}`."
    if need.lane:
        for status in ("200", "202"):
            if status in operation["responses"]:
                operation["responses"][status]["headers"] = _QUOTA


def _elsewhere(operation: dict[str, Any], path: str, messages: Messages) -> tuple[int, ...]:
    """Return the statuses that neither the route nor the gate decides: a body that stops, a path, a lost replica."""
    body = (408,) if "requestBody" in operation else ()
    split = (404,) if "{" in path else ()
    return (*body, *split, *((502, 503, 504) if messages.behind_front else ()))


def _answered(operation: dict[str, Any], *statuses: int) -> None:
    responses = operation["responses"]
    for status, said in _problems(*statuses).items():
        responses.setdefault(str(status), said)
    operation["responses"] = dict(sorted(responses.items()))


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {MEDIA_TYPE: {"schema": _reference(api.Problem)}}
    found: dict[int | str, dict[str, Any]] = {}
    for status in (*statuses, 500):
        headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
        found[status] = {"description": _MEANINGS[status], **headers, "content": content}
    return found


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
