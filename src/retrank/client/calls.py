"""The calls of the API: what is sent, and what its answer is read as. Nothing here sends anything."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import JsonValue, TypeAdapter

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
        fallback_keys: under which a stand-in is looked for, the closest first; empty when none would do.
        k: items asked for.
        remember_as: the key under which a good answer is kept; None when it may stand in for no other.
        excluded: items that no stand-in may show.
    """

    method: str
    path: str
    read: Callable[[bytes], _Answer]
    body: bytes | None = None
    fallback_keys: tuple[str, ...] = ()
    k: int = 0
    query: Mapping[str, str] = field(default_factory=dict)
    remember_as: str | None = None
    excluded: frozenset[str] = frozenset()


def recommend(request: RecommendRequest) -> Call[Slate]:
    """Ask for a slate; in bad times the last one of this user will do, then what is popular."""
    own = None if request.user_id is None else f"user {request.user_id}"
    return _slate("/v1/recommend", request, own, request.exclude_items)


def similar(request: SimilarRequest) -> Call[Slate]:
    """Ask for items like one item."""
    return _slate("/v1/similar", request, f"item {request.item_id}", {request.item_id, *request.exclude_items})


def popular(k: int, placement: str | None = None) -> Call[Slate]:
    """Ask for what is popular."""
    query = {"k": str(k)} | ({} if placement is None else {"placement": placement})
    key = POPULAR_KEY
    return Call("GET", "/v1/popular", Slate.model_validate_json, None, (key,), k, query, remember_as=key)


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
    return Call("PUT", f"/v1/items/{_part(item_id)}", _read_any, body)


def delete_item(item_id: str) -> Call[Any]:
    """Take an item out of every answer."""
    return Call("DELETE", f"/v1/items/{_part(item_id)}", _read_any)


def set_availability(item_id: str, *, available: bool) -> Call[Any]:
    """Say whether an item may be shown."""
    body = _ANYTHING.dump_json({"available": available})
    return Call("PUT", f"/v1/items/{_part(item_id)}/availability", _read_any, body)


def erase_user(user_id: str) -> Call[Any]:
    """Forget a person."""
    return Call("POST", f"/v1/users/{_part(user_id)}:erase", _read_any)


def _slate(
    path: str, request: RecommendRequest | SimilarRequest, own: str | None, excluded: Iterable[str]
) -> Call[Slate]:
    """Return the call; under a filter nothing known here will do, for it cannot be checked here."""
    body = request.model_dump_json(exclude_defaults=True).encode()
    read = Slate.model_validate_json
    if request.filter is not None:
        return Call("POST", path, read, body, k=request.k)
    keys = (POPULAR_KEY,) if own is None else (own, POPULAR_KEY)
    return Call("POST", path, read, body, keys, request.k, remember_as=own, excluded=frozenset(excluded))


def _part(name: str) -> str:
    """Return an id as one part of a path; "." and ".." would otherwise lead to another route."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")


def _read_any(body: bytes) -> Any:
    return _ANYTHING.validate_json(body) if body.strip() else None
