"""The calls of the API: what is sent, and what its answer is read as. Nothing here sends anything."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, JsonValue, TypeAdapter

from retrank.client.answers import Receipt, Slate
from retrank.contract.api import RecommendRequest, SimilarRequest
from retrank.contract.events import Event

_Answer = TypeVar("_Answer")
_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)
POPULAR_KEY = "popular"


@dataclass(frozen=True, slots=True)
class Call(Generic[_Answer]):
    """One call.

    Attributes:
        method, path: of the request; the path starts with a slash and is quoted.
        read: turns the body of the answer into what the caller gets.
        body: JSON, or None.
        fallback_keys: under which good answers are remembered, the closest first; empty when none would do.
        k: items asked for.
    """

    method: str
    path: str
    read: Callable[[bytes], _Answer]
    body: bytes | None = None
    fallback_keys: tuple[str, ...] = ()
    k: int = 0
    query: Mapping[str, str] = field(default_factory=dict)


def recommend(request: RecommendRequest) -> Call[Slate]:
    """Ask for a slate; in bad times the last one of this person will do, then one for nobody."""
    user_id = request.user_id
    keys = (f"user {user_id}",) if user_id is not None else ()
    return _slate("/v1/recommend", request, (*keys, POPULAR_KEY), request.k)


def similar(request: SimilarRequest) -> Call[Slate]:
    """Ask for items like one item."""
    return _slate("/v1/similar", request, (f"item {request.item_id}", POPULAR_KEY), request.k)


def popular(k: int, placement: str | None = None) -> Call[Slate]:
    """Ask for what is popular."""
    query = {"k": str(k)} | ({} if placement is None else {"placement": placement})
    return Call("GET", "/v1/popular", Slate.model_validate_json, fallback_keys=(POPULAR_KEY,), k=k, query=query)


def post(path: str, body: JsonValue) -> Call[Any]:
    """Post any JSON to a route and return the JSON that comes back."""
    return Call("POST", path, _ANYTHING.validate_json, _ANYTHING.dump_json(body))


def send_events(events: Sequence[Event]) -> Call[Receipt]:
    """Hand over events; done again with the same ids, it does no harm."""
    shown = [event.model_dump(mode="json", exclude_none=True) for event in events]
    return Call("POST", "/v1/events", Receipt.model_validate_json, _ANYTHING.dump_json({"events": shown}))


def put_item(item_id: str, attributes: Mapping[str, JsonValue]) -> Call[Any]:
    """Add an item, or replace its attributes."""
    body = _ANYTHING.dump_json({"attributes": dict(attributes)})
    return Call("PUT", f"/v1/items/{quote(item_id, safe='')}", _read_any, body)


def delete_item(item_id: str) -> Call[Any]:
    """Take an item out of every answer."""
    return Call("DELETE", f"/v1/items/{quote(item_id, safe='')}", _read_any)


def set_availability(item_id: str, *, available: bool) -> Call[Any]:
    """Say whether an item may be shown."""
    body = _ANYTHING.dump_json({"available": available})
    return Call("PUT", f"/v1/items/{quote(item_id, safe='')}/availability", _read_any, body)


def erase_user(user_id: str) -> Call[Any]:
    """Forget a person."""
    return Call("POST", f"/v1/users/{quote(user_id, safe='')}:erase", _read_any)


def _slate(path: str, request: BaseModel, keys: tuple[str, ...], k: int) -> Call[Slate]:
    body = request.model_dump_json(exclude_defaults=True).encode()
    return Call("POST", path, Slate.model_validate_json, body, keys, k)


def _read_any(body: bytes) -> Any:
    return _ANYTHING.validate_json(body) if body.strip() else None
