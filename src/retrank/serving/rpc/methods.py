"""What each method of the API does: its messages in and out, around the handler that REST calls too.

A slate is made on the event loop and anything longer in a thread, for the reasons in `web/slates.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message
from pydantic import BaseModel

from retrank.contract.api import MAX_DEADLINE_MS, PopularRequest, RecommendRequest, SimilarRequest, SlateResponse
from retrank.contract.catalogue_changes import BulkItems, UserAsked
from retrank.contract.events import EventBatch
from retrank.contract.ranking import BatchRequest, RankRequest
from retrank.serving.faults import some_taken
from retrank.serving.guard.caller import caller_of, charge, left_of
from retrank.serving.rpc.messages import as_message, fields_of_message
from retrank.serving.rpc.v1 import recommender_pb2 as pb
from retrank.serving.service import Service
from retrank.serving.telemetry.facade import NONE, Telemetry

PACKAGE = "retrank.v1"
_Asked = TypeVar("_Asked", bound=BaseModel)


@dataclass
class Call:
    """One call on its way through.

    Attributes:
        request_id: of the metadata, or new; one in the message replaces it.
        remaining_s: until the caller gives up; None when it waits for ever.
        message: what was sent, once it is decoded.
        scope: what telemetry and the guard keep of a request.
    """

    request_id: str
    remaining_s: float | None = None
    message: Message | None = None
    scope: MutableMapping[str, Any] = field(default_factory=dict)

    @property
    def tenant(self) -> str:
        """Whose namespace the call works in."""
        return caller_of(self.scope).tenant

    @property
    def left_ms(self) -> int | None:
        """Milliseconds until the caller gives up, 1 to `MAX_DEADLINE_MS`; None when it waits for ever."""
        return None if self.remaining_s is None else min(max(int(self.remaining_s * 1_000), 1), MAX_DEADLINE_MS)

    def read(self, model: type[_Asked]) -> _Asked:
        """Return the message as the contract reads it.

        Raises:
            ValidationError: a field does not fit.
            TooDeep: an open part nests too deep.
        """
        assert self.message is not None
        return model.model_validate(fields_of_message(self.message))

    def named(self, model: type[_Asked]) -> _Asked:
        """Like `read`, named by the call where the message has no name, and with what is left of the shorter deadline.

        gRPC counts that of the call; of the one in the message, waiting for its turn is taken off here.
        """
        asked = self.read(model)
        self.request_id = getattr(asked, "request_id", None) or self.request_id
        more: dict[str, Any] = {"request_id": self.request_id}
        said: int | None = getattr(asked, "deadline_ms", None)
        left_ms = [self.left_ms, None if said is None else max(left_of(self.scope, said), 1)]
        bounds = [bound for bound in left_ms if bound is not None]
        if bounds and "deadline_ms" in model.model_fields:
            more["deadline_ms"] = min(bounds)
        return asked.model_copy(update=more)


class Method(NamedTuple):
    """One method.

    Attributes:
        twin: method and path of the REST route that needs the same permission and waits in the same lane.
        asked: type of the message that comes in.
        answer: what it does.
    """

    twin: tuple[str, str]
    asked: type[Message]
    answer: Callable[[Call], Awaitable[Message]]


def methods_of(service: Service, telemetry: Telemetry) -> Mapping[str, Mapping[str, Method]]:
    """Return the methods of every gRPC service by name."""
    slates, writes, users = _Slates(service, telemetry), _Writes(service, telemetry), _Users(service)
    return {
        f"{PACKAGE}.Recommender": {
            "Recommend": Method(("POST", "/v1/recommend"), pb.RecommendRequest, slates.recommend),
            "RecommendBatch": Method(("POST", "/v1/recommend:batch"), pb.BatchRequest, slates.batch),
            "Rank": Method(("POST", "/v1/rank"), pb.RankRequest, slates.rank),
            "Similar": Method(("POST", "/v1/similar"), pb.SimilarRequest, slates.similar),
            "Popular": Method(("GET", "/v1/popular"), pb.PopularRequest, slates.popular),
        },
        f"{PACKAGE}.Events": {"Ingest": Method(("POST", "/v1/events"), pb.EventBatch, writes.ingest)},
        f"{PACKAGE}.Catalogue": {"Change": Method(("POST", "/v1/items:bulk"), pb.ChangeRequest, writes.change)},
        f"{PACKAGE}.Users": {
            "Forget": Method(("DELETE", "/v1/users/user_id"), pb.UserRequest, users.forget),
            "Erase": Method(("POST", "/v1/users/user_id:erase"), pb.UserRequest, users.erase),
            "Export": Method(("POST", "/v1/users/user_id:export"), pb.UserRequest, users.export),
        },
    }


class _Slates:
    """Methods that answer with items."""

    def __init__(self, service: Service, telemetry: Telemetry) -> None:
        self._service, self._telemetry = service, telemetry

    async def recommend(self, call: Call) -> Message:
        asked = call.named(RecommendRequest)
        return self._shown(call, self._service.recommend(asked, call.tenant), asked.placement)

    async def batch(self, call: Call) -> Message:
        asked = call.read(BatchRequest)
        charge(call.scope, len(asked.requests))
        answers = await asyncio.to_thread(self._service.batch, asked, call.tenant, call.request_id, call.left_ms)
        self._telemetry.observe_batch(answers)
        return as_message(pb.BatchResponse, answers)

    async def rank(self, call: Call) -> Message:
        asked = call.named(RankRequest)
        ranking = self._service.rank(asked, call.tenant)
        self._telemetry.observe_answer(call.scope, ranking, placement=asked.placement or NONE)
        return as_message(pb.RankResponse, ranking)

    async def similar(self, call: Call) -> Message:
        asked = call.named(SimilarRequest)
        return self._shown(call, self._service.similar(asked, call.tenant), asked.placement)

    async def popular(self, call: Call) -> Message:
        asked = call.named(PopularRequest)
        return self._shown(call, self._service.popular(asked, call.tenant), asked.placement)

    def _shown(self, call: Call, slate: SlateResponse, placement: str | None) -> Message:
        self._telemetry.observe_answer(call.scope, slate, placement=placement or NONE)
        return as_message(pb.SlateResponse, slate)


class _Writes:
    """Methods that change something."""

    def __init__(self, service: Service, telemetry: Telemetry) -> None:
        self._service, self._telemetry = service, telemetry

    async def ingest(self, call: Call) -> Message:
        batch = call.read(EventBatch)
        started = time.perf_counter()
        receipt = await self._service.events(batch, call.tenant)
        self._telemetry.event_ack(time.perf_counter() - started)
        self._telemetry.events("any", "accepted", receipt.accepted)
        self._telemetry.events("any", "duplicate", receipt.duplicates)
        self._telemetry.events("any", "rejected", len(receipt.rejected))
        return as_message(pb.EventReceipt, some_taken(receipt))

    async def change(self, call: Call) -> Message:
        changes = call.read(BulkItems).items
        receipt = await asyncio.to_thread(self._service.change_items, changes, call.tenant)
        return as_message(pb.CatalogueReceipt, receipt)


class _Users:
    """Methods about what is kept of a user."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def forget(self, call: Call) -> Message:
        who = call.read(UserAsked).user_id
        return as_message(pb.Erased, await asyncio.to_thread(self._service.forget_user, who, call.tenant))

    async def erase(self, call: Call) -> Message:
        return as_message(pb.Erased, await self._service.erase_user(call.read(UserAsked).user_id, call.tenant))

    async def export(self, call: Call) -> Message:
        who = call.read(UserAsked).user_id
        kept = await asyncio.to_thread(self._service.export_user, who, call.tenant)
        made = pb.UserExport()
        for entry in kept:
            made.entries.add().update(entry)
        return made
