"""Routes that change something: events, items, users. The state store takes a moment, so those run in threads."""

import json
import time
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, JsonValue
from starlette.concurrency import run_in_threadpool

from retrank.contract.catalogue_changes import (
    Availability,
    BulkItem,
    BulkItems,
    CatalogueReceipt,
    Erased,
    ItemPatch,
    ItemUpsert,
)
from retrank.contract.events import EventBatch, EventReceipt, EventsRefused
from retrank.serving.faults import some_taken
from retrank.serving.service import Service
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.web import openapi
from retrank.serving.web.bodies import read_model
from retrank.serving.web.messages import NOT_STORED, IdInPath, answer, checked_id, tenant_of

_EVENT = {"event_id": "e1", "type": "click", "item_id": "85123A", "user_id": "17850"}
_WRITES = (400, 413, 415, 422, 503, 507)


def add_events(app: FastAPI, service: Service, telemetry: Telemetry) -> None:
    """Add the route that takes events; what becomes of them is told to `telemetry`."""

    @app.post(
        "/v1/events",
        status_code=HTTPStatus.ACCEPTED,
        responses=openapi.answers(
            EventReceipt, 400, 413, 415, 422, 503, status=HTTPStatus.ACCEPTED, refused=EventsRefused
        ),
        openapi_extra=openapi.body_of(EventBatch, {"events": [_EVENT]}),
    )
    async def events(request: Request) -> Response:
        """Take up to 1,000 events; those that are accepted are on disk, and part of the person's next answer.

        A bad event does not stop the others; when all are bad, the answer is 422, with the receipt.
        """
        batch = await read_model(request, EventBatch)
        started = time.perf_counter()
        receipt = await service.events(batch, tenant_of(request.scope))
        telemetry.event_ack(time.perf_counter() - started)
        for result, count in (("accepted", receipt.accepted), ("duplicate", receipt.duplicates)):
            telemetry.events("any", result, count)
        telemetry.events("any", "rejected", len(receipt.rejected))
        return answer(some_taken(receipt), HTTPStatus.ACCEPTED)


def add_items(app: FastAPI, service: Service) -> None:
    """Add the routes that change the catalogue."""

    async def change(request: Request, *changes: BulkItem) -> Response:
        return answer(await run_in_threadpool(service.change_items, changes, tenant_of(request.scope)))

    @app.post(
        "/v1/items:bulk",
        responses=openapi.answers(CatalogueReceipt, *_WRITES),
        openapi_extra=openapi.body_of(BulkItems, {"items": [{"item_id": "85123A", "action": "delete"}]}),
    )
    async def bulk(request: Request) -> Response:
        """Change up to 1,000 items, all or none."""
        return await change(request, *(await read_model(request, BulkItems)).items)

    @app.put(
        "/v1/items/{item_id:raw_id}/availability",
        responses=openapi.answers(CatalogueReceipt, *_WRITES),
        openapi_extra=openapi.body_of(Availability, {"available": False}),
    )
    async def availability(request: Request, item_id: IdInPath) -> Response:
        """Show an item, or stop showing it; it still counts as history."""
        asked = await read_model(request, Availability)
        return await change(request, _of(item_id, "patch", asked))

    @app.put(
        "/v1/items/{item_id:raw_id}",
        responses=openapi.answers(CatalogueReceipt, *_WRITES),
        openapi_extra=openapi.body_of(ItemUpsert, {"attributes": {"price": 2.5}, "available": True}),
    )
    async def upsert(request: Request, item_id: IdInPath) -> Response:
        """Say everything about an item that differs from the bundle."""
        return await change(request, _of(item_id, "upsert", await read_model(request, ItemUpsert)))

    @app.patch(
        "/v1/items/{item_id:raw_id}",
        responses=openapi.answers(CatalogueReceipt, *_WRITES),
        openapi_extra=openapi.body_of(ItemPatch, {"attributes": {"price": 2.5}}),
    )
    async def patch(request: Request, item_id: IdInPath) -> Response:
        """Change what is named about an item."""
        return await change(request, _of(item_id, "patch", await read_model(request, ItemPatch)))

    @app.delete("/v1/items/{item_id:raw_id}", responses=openapi.answers(CatalogueReceipt, 422, 503, 507))
    async def delete(request: Request, item_id: IdInPath) -> Response:
        """Stop showing an item for good."""
        return await change(request, BulkItem(item_id=checked_id(item_id), action="delete"))


def add_users(app: FastAPI, service: Service) -> None:
    """Add the routes about what is kept of a user."""

    @app.delete("/v1/users/{user_id:raw_id}", responses=openapi.answers(Erased, 422, 503))
    async def forget(request: Request, user_id: IdInPath) -> Response:
        """Forget the live profile of a user; the event log keeps the events."""
        who = checked_id(user_id)
        return answer(await run_in_threadpool(service.forget_user, who, tenant_of(request.scope)))

    @app.post("/v1/users/{user_id:raw_id}:erase", responses=openapi.answers(Erased, 422, 503))
    async def erase(request: Request, user_id: IdInPath) -> Response:
        """Erase a user for good: profile now, event log with its next compaction, training after that."""
        return answer(await service.erase_user(checked_id(user_id), tenant_of(request.scope)))

    @app.post("/v1/users/{user_id:raw_id}:export", responses=openapi.lines(422, 503))
    async def export(request: Request, user_id: IdInPath) -> Response:
        """Return everything the state store keeps of a user, one JSON object per line."""
        who = checked_id(user_id)
        found = await run_in_threadpool(service.export_user, who, tenant_of(request.scope))
        return Response(_lines(found), headers=NOT_STORED, media_type="application/x-ndjson")


def _of(item_id: str, action: str, said: BaseModel) -> BulkItem:
    return BulkItem.model_validate({"item_id": checked_id(item_id), "action": action, **said.model_dump()})


def _lines(found: Iterable[Mapping[str, JsonValue]]) -> bytes:
    return b"".join(json.dumps(entry, ensure_ascii=False).encode() + b"\n" for entry in found)
