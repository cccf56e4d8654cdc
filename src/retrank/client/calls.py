"""The calls of the API: what is sent, and what its answer is read as. Nothing here sends anything."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import JsonValue, TypeAdapter

from retrank.client.answers import Batch, Ranking, Receipt, Slate
from retrank.client.errors import ClientError
from retrank.contract.api import MAX_ID_LENGTH, RecommendRequest, SimilarRequest, Window
from retrank.contract.catalogue_changes import BulkItem
from retrank.contract.events import Event
from retrank.contract.ranking import RankRequest

_Answer = TypeVar("_Answer")
_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
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
        stand_in: the answer when there is no other; None when there is none.
        forgets: the key whose remembered answer goes once this call went well; None when it forgets nothing.
        parts: of a batch, the same requests one by one; they are remembered, and stood in for, one by one.
    """

    method: str
    path: str
    read: Callable[[bytes], _Answer]
    body: bytes | None = None
    fallback_keys: tuple[str, ...] = ()
    k: int = 0
    query: Mapping[str, str] = field(default_factory=dict)
    remember_as: str | None = None
    forgets: str | None = None
    excluded: frozenset[str] = frozenset()
    stand_in: Callable[[], _Answer] | None = None
    parts: "tuple[Call[Slate], ...]" = ()


def recommend(request: RecommendRequest) -> Call[Slate]:
    """Ask for a slate; in bad times the last one of this user will do, then what is popular."""
    own = None if request.user_id is None else _of_user(request.user_id)
    return _slate("/v1/recommend", request, own, request.exclude_items)


def similar(request: SimilarRequest) -> Call[Slate]:
    """Ask for items like one item."""
    return _slate("/v1/similar", request, f"item {request.item_id}", {request.item_id, *request.exclude_items})


def recommend_batch(requests: Sequence[RecommendRequest]) -> Call[Batch]:
    """Ask for several slates; in bad times each gets what it would get by itself."""
    shown = [request.model_dump(mode="json", by_alias=True, exclude_unset=True) for request in requests]
    body = _ANYTHING.dump_json({"requests": shown})
    parts = tuple(recommend(request) for request in requests)
    return Call("POST", "/v1/recommend:batch", Batch.model_validate_json, body, parts=parts)


def rank(request: RankRequest) -> Call[Ranking]:
    """Ask for the caller's candidates in order; in bad times they stay in the order they were given in."""
    body = request.model_dump_json(exclude_unset=True).encode()
    read = Ranking.model_validate_json
    return Call("POST", "/v1/rank", read, body, stand_in=lambda: Ranking.as_given(request.items))


def popular(k: int, placement: str | None = None, window: Window = "all") -> Call[Slate]:
    """Ask for what is popular; what trends in a window stands in for nothing but itself."""
    query = {"k": str(k)} | ({} if placement is None else {"placement": placement})
    keys: tuple[str, ...] = (POPULAR_KEY,)
    if window != "all":
        query["window"] = window
        keys = (f"{POPULAR_KEY} {window} {placement or ''}", POPULAR_KEY)
    return Call("GET", "/v1/popular", Slate.model_validate_json, None, keys, k, query, remember_as=keys[0])


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


def change_items(changes: Sequence[BulkItem]) -> Call[Any]:
    """Change up to 1,000 items, all or none."""
    shown = [change.model_dump(mode="json", exclude_unset=True) for change in changes]
    return Call("POST", "/v1/items:bulk", _read_any, _ANYTHING.dump_json({"items": shown}))


def forget_user(user_id: str) -> Call[Any]:
    """Forget what was learned of a person since the bundle was sealed; the event log keeps its events."""
    return Call("DELETE", f"/v1/users/{_part(user_id)}", _read_any, forgets=_of_user(user_id))


def export_user(user_id: str) -> Call[list[dict[str, Any]]]:
    """Ask for everything that is kept of a person."""
    return Call("POST", f"/v1/users/{_part(user_id)}:export", _read_lines)


def erase_user(user_id: str) -> Call[Any]:
    """Erase a person for good: profile, event log, training."""
    return Call("POST", f"/v1/users/{_part(user_id)}:erase", _read_any, forgets=_of_user(user_id))


def _slate(
    path: str, request: RecommendRequest | SimilarRequest, own: str | None, excluded: Iterable[str]
) -> Call[Slate]:
    """Return the call; under a filter nothing known here will do, for it cannot be checked here."""
    body = request.model_dump_json(by_alias=True, exclude_unset=True).encode()  # a default may be overruled elsewhere
    read = Slate.model_validate_json
    if request.filter is not None:
        return Call("POST", path, read, body, k=request.k)
    keys = (POPULAR_KEY,) if own is None else (own, POPULAR_KEY)
    return Call("POST", path, read, body, keys, request.k, remember_as=own, excluded=frozenset(excluded))


def _of_user(user_id: str) -> str:
    """Return the key under which the last slate of a user is kept."""
    return f"user {user_id}"


def _part(name: str) -> str:
    """Return an id as one part of a path; "." and ".." would otherwise lead to another route.

    Raises:
        ClientError: it holds half a surrogate pair, which no text does.
    """
    try:
        return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")
    except UnicodeEncodeError:
        raise ClientError(f"the id {name[:MAX_ID_LENGTH]!a} is no text that UTF-8 can hold; decode it anew") from None


def _read_any(body: bytes) -> Any:
    return _ANYTHING.validate_json(body) if body.strip() else None


def _read_lines(body: bytes) -> list[dict[str, Any]]:
    return [_OBJECT.validate_json(line) for line in body.splitlines() if line.strip()]
