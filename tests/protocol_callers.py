"""Four ways to ask the same service: in process, over REST, over gRPC, and with the client library.

Each takes the fields of a request as the contract names them and returns the answer as plain fields, or raises
`Refused` with the same word whatever the protocol calls it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol, TypeVar

import grpc
import httpx
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from pydantic import BaseModel, ValidationError
from rpc_world import Served, served

from retrank.client import Client, ClientSettings, Event
from retrank.client.answers import Refusal
from retrank.client.errors import CallFailed, CallRefused
from retrank.contract.api import PopularRequest, RecommendRequest, SimilarRequest
from retrank.contract.catalogue_changes import BulkItem, BulkItems
from retrank.contract.events import EventBatch
from retrank.contract.ranking import BatchRequest, RankRequest
from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.faults import AllRejected, fields_of, some_taken
from retrank.serving.rpc.v1 import recommender_pb2 as pb
from retrank.serving.rpc.v1 import recommender_pb2_grpc as stubs
from retrank.serving.service import Service

PROTOCOLS = ("in process", "rest", "grpc", "client")
Fields = dict[str, Any]
_DEADLINE_S = 30.0
_Detail = TypeVar("_Detail", bound=Message)


class Refused(Exception):  # noqa: N818
    """A request was not answered: `invalid` with the fields that do not fit, or `away`."""

    def __init__(self, kind: str, fields: list[str] | None = None) -> None:
        super().__init__(kind, fields)
        self.kind, self.fields = kind, fields or []


class Caller(Protocol):
    """One way to ask."""

    def recommend(self, **fields: Any) -> Fields: ...
    def batch(self, requests: list[Fields]) -> Fields: ...
    def rank(self, **fields: Any) -> Fields: ...
    def similar(self, **fields: Any) -> Fields: ...
    def popular(self, **fields: Any) -> Fields: ...
    def ingest(self, *events: Fields) -> Fields: ...
    def change(self, *items: Fields) -> Fields: ...


@contextmanager
def callers(service: Service) -> Iterator[dict[str, Caller]]:
    """Serve, and yield a caller per protocol; see `PROTOCOLS`."""
    with ExitStack() as opened:
        where: Served = opened.enter_context(served(service))
        channel = opened.enter_context(grpc.insecure_channel(where.rpc))
        http = opened.enter_context(httpx.Client(base_url=where.url, timeout=_DEADLINE_S))
        settings = ClientSettings(deadline_s=_DEADLINE_S, attempt_s=_DEADLINE_S, backoff_s=0, max_attempts=2)
        client = opened.enter_context(Client(where.url, settings, sleep=lambda _: None))
        found: tuple[Caller, ...] = (InProcess(service), Rest(http), Rpc(channel), Library(client))
        yield dict(zip(PROTOCOLS, found, strict=True))


class InProcess:
    def __init__(self, service: Service) -> None:
        self._service = service

    def recommend(self, **fields: Any) -> Fields:
        return self._ask(RecommendRequest, fields, self._service.recommend)

    def batch(self, requests: list[Fields]) -> Fields:
        return self._ask(BatchRequest, {"requests": requests}, self._service.batch)

    def rank(self, **fields: Any) -> Fields:
        return self._ask(RankRequest, fields, self._service.rank)

    def similar(self, **fields: Any) -> Fields:
        return self._ask(SimilarRequest, fields, self._service.similar)

    def popular(self, **fields: Any) -> Fields:
        return self._ask(PopularRequest, fields, self._service.popular)

    def ingest(self, *events: Fields) -> Fields:
        return self._ask(EventBatch, {"events": list(events)}, self._taken)

    def change(self, *items: Fields) -> Fields:
        return self._ask(BulkItems, {"items": list(items)}, lambda asked: self._service.change_items(asked.items))

    def _ask(self, model: type[BaseModel], fields: Fields, how: Callable[[Any], BaseModel]) -> Fields:
        try:
            return how(model.model_validate(fields)).model_dump()
        except ValidationError as error:
            raise Refused("invalid", [one.pointer for one in fields_of(error)]) from error
        except AllRejected as error:
            raise Refused("invalid", [one.pointer for one in error.fields]) from error
        except LogUnavailable as error:
            raise Refused("away") from error

    def _taken(self, batch: EventBatch) -> BaseModel:
        return some_taken(asyncio.run(self._service.events(batch)))


class Rest:
    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def recommend(self, **fields: Any) -> Fields:
        return self._ask("/v1/recommend", fields)

    def batch(self, requests: list[Fields]) -> Fields:
        return self._ask("/v1/recommend:batch", {"requests": requests})

    def rank(self, **fields: Any) -> Fields:
        return self._ask("/v1/rank", fields)

    def similar(self, **fields: Any) -> Fields:
        return self._ask("/v1/similar", fields)

    def popular(self, **fields: Any) -> Fields:
        return self._read(self._http.get("/v1/popular", params=fields))

    def ingest(self, *events: Fields) -> Fields:
        return self._ask("/v1/events", {"events": list(events)})

    def change(self, *items: Fields) -> Fields:
        return self._ask("/v1/items:bulk", {"items": list(items)})

    def _ask(self, path: str, body: Fields) -> Fields:
        return self._read(self._http.post(path, json=body))

    def _read(self, answer: httpx.Response) -> Fields:
        if answer.is_success:
            found: Fields = answer.json()
            return found
        problem = Refusal.model_validate_json(answer.content)
        kind = {422: "invalid", 503: "away"}[answer.status_code]
        raise Refused(kind, [one["pointer"] for one in problem.errors])


class Rpc:
    def __init__(self, channel: grpc.Channel) -> None:
        self._slates = stubs.RecommenderStub(channel)  # type: ignore[no-untyped-call]
        self._events = stubs.EventsStub(channel)  # type: ignore[no-untyped-call]
        self._catalogue = stubs.CatalogueStub(channel)  # type: ignore[no-untyped-call]

    def recommend(self, **fields: Any) -> Fields:
        return self._ask(self._slates.Recommend, recommend_message(fields))

    def batch(self, requests: list[Fields]) -> Fields:
        return self._ask(self._slates.RecommendBatch, pb.BatchRequest(requests=map(recommend_message, requests)))

    def rank(self, **fields: Any) -> Fields:
        return self._ask(self._slates.Rank, pb.RankRequest(**fields))

    def similar(self, **fields: Any) -> Fields:
        return self._ask(self._slates.Similar, pb.SimilarRequest(**fields))

    def popular(self, **fields: Any) -> Fields:
        return self._ask(self._slates.Popular, pb.PopularRequest(**fields))

    def ingest(self, *events: Fields) -> Fields:
        return self._ask(self._events.Ingest, pb.EventBatch(events=[pb.Event(**one) for one in events]))

    def change(self, *items: Fields) -> Fields:
        return self._ask(self._catalogue.Change, pb.ChangeRequest(items=[pb.ItemChange(**one) for one in items]))

    def _ask(self, method: Callable[..., Message], message: Message) -> Fields:
        try:
            answer = method(message, timeout=_DEADLINE_S)
        except grpc.RpcError as error:
            kind = {"INVALID_ARGUMENT": "invalid", "UNAVAILABLE": "away"}[error.code().name]
            bad = detail_of(error, error_details_pb2.BadRequest)
            raise Refused(kind, [one.field for one in bad.field_violations] if bad else []) from error
        found: Fields = MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return found


class Library:
    """Requests that the client's own types refuse are posted as they are, as its users could."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def recommend(self, **fields: Any) -> Fields:
        return self._ask(lambda: self._client.recommend(RecommendRequest(**fields)).model_dump())

    def batch(self, requests: list[Fields]) -> Fields:
        try:
            checked = [RecommendRequest(**fields) for fields in requests]
        except ValidationError:  # one that does not fit: the service says so in its place
            return self._ask(lambda: self._client.post("/v1/recommend:batch", {"requests": [*requests]}))
        return self._ask(lambda: self._client.recommend_batch(checked).model_dump())

    def rank(self, **fields: Any) -> Fields:
        return self._ask(lambda: self._client.rank(RankRequest(**fields)).model_dump())

    def similar(self, **fields: Any) -> Fields:
        return self._ask(lambda: self._client.similar(SimilarRequest(**fields)).model_dump())

    def popular(self, **fields: Any) -> Fields:
        def asked() -> Fields:
            checked = PopularRequest(**fields)
            return self._client.popular(checked.k, checked.placement, checked.window).model_dump()

        return self._ask(asked)

    def ingest(self, *events: Fields) -> Fields:
        checked = []
        for event in events:
            with suppress(ValidationError):  # the client's own types refuse what the service would
                checked.append(Event(**event))
        if len(checked) == len(events):
            return self._ask(lambda: self._client.send_events(checked).model_dump())
        return self._ask(lambda: self._client.post("/v1/events", {"events": list(events)}))

    def change(self, *items: Fields) -> Fields:
        try:
            checked = [BulkItem(**one) for one in items]
        except ValidationError:  # the service names the place in the whole body
            return self._ask(lambda: self._client.post("/v1/items:bulk", {"items": list(items)}))
        return self._ask(lambda: self._client.change_items(checked))

    def _ask(self, how: Callable[[], Any]) -> Fields:
        try:
            found: Fields = how()
        except ValidationError as error:
            raise Refused("invalid", [one.pointer for one in fields_of(error)]) from error
        except CallRefused as error:
            raise Refused("invalid", [one["pointer"] for one in error.refusal.errors]) from error
        except CallFailed as error:
            raise Refused({503: "away"}[error.status or 0]) from error
        return found


def recommend_message(fields: Fields) -> pb.RecommendRequest:
    """Return a request as a message; only `fields`, which may be absent or empty, has a type of its own there."""
    wanted = fields.get("fields")
    return pb.RecommendRequest(**fields | {"fields": None if wanted is None else pb.Names(names=wanted)})


def detail_of(error: Any, kind: type[_Detail]) -> _Detail | None:
    """Return the detail of a kind that came with an error of gRPC."""
    raw = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    for packed in status_pb2.Status.FromString(raw).details:
        found = kind()
        if packed.Unpack(found):
            detail: _Detail = found
            return detail
    return None
