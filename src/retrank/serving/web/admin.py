"""The admin routes, an application of its own on a port of its own: it edits desired state and reads heartbeats.

Whoever reaches it decides what the service answers, so it listens on the loopback address unless told otherwise, and
`protect` puts a check of the scope `admin` in front when keys are configured.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from retrank import __version__
from retrank.contract.api import Health, Problem
from retrank.serving.bundles.desired import Author
from retrank.serving.bundles.operator import BundleListed, FleetStatus, Operator, Outcome
from retrank.serving.bundles.sources import MAX_SOURCE_LENGTH
from retrank.serving.guard.caller import caller_of
from retrank.serving.placements.desk import ShelfDesk
from retrank.serving.stores.protocol import CatalogueOverlay
from retrank.serving.web import openapi, problems
from retrank.serving.web.admin_answers import check_operator, explained, json_answer, tenant_of
from retrank.serving.web.admin_shelf import SHELF_MESSAGES, add_shelf
from retrank.serving.web.bodies import read_model
from retrank.serving.web.head import Head
from retrank.serving.web.messages import NOT_STORED
from retrank.serving.web.problems import ProblemError
from retrank.serving.web.request_id import RequestIds

Protect = Callable[[FastAPI], None]
MAX_VERSION = 2**53
_audit = logging.getLogger("retrank.audit")
_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
_By = Annotated[str, Field(max_length=100)]


class Order(BaseModel):
    """What every order may say: only what would happen, and who asks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dry_run: bool = False
    by: _By = "admin"


class StageOrder(Order):
    """Hold a bundle ready everywhere: a folder, a file: or http(s): URL of one, or an id in the library."""

    source: str = Field(min_length=1, max_length=MAX_SOURCE_LENGTH)


class ActivateOrder(Order):
    """Let a bundle answer everything."""

    id: _Id


class UnstageOrder(Order):
    """Hold a bundle ready no longer."""

    id: _Id


class CanaryOrder(Order):
    """Let a bundle answer a share of the keys; 0 ends the trial."""

    id: _Id
    percent: float = Field(ge=0, le=100)


class RollbackOrder(Order):
    """Take the last change back."""

    reason: str = Field(default="", max_length=500)


class ForgetOrder(Order):
    """Drop a tenant's changes of items up to a version, because every bundle in use holds them."""

    tenant: str = Field(min_length=1, max_length=100)
    up_to: int = Field(ge=1, le=MAX_VERSION)


class Forgotten(BaseModel):
    """Answer of `POST /admin/v1/items:forget`: how many items had such a change."""

    forgotten: int
    dry_run: bool


class BundleList(BaseModel):
    """Answer of `GET /admin/v1/bundles`."""

    bundles: list[BundleListed]


class Draining(BaseModel):
    """Answer of `POST /admin/v1/:drain`: the service is leaving, or would be; only a restart takes it back."""

    status: Literal["draining"] = "draining"
    dry_run: bool


MESSAGES = openapi.Messages(
    asked=(
        StageOrder,
        UnstageOrder,
        ActivateOrder,
        CanaryOrder,
        RollbackOrder,
        ForgetOrder,
        Order,
        *SHELF_MESSAGES.asked,
    ),
    answered=(BundleList, FleetStatus, Outcome, Forgotten, Draining, Health, Problem, *SHELF_MESSAGES.answered),
)
_ONE = {"id": "8f3c01d2ab45ef67"}


def create_admin_app(
    operator: Operator,
    *,
    overlay: CatalogueOverlay | None = None,
    desk: ShelfDesk | None = None,
    drain: Callable[[], None] | None = None,
    protect: Protect | None = None,
) -> FastAPI:
    """Return the admin application.

    Args:
        operator: acts on the fleet.
        overlay: changes of items, which it may forget; None does not offer that.
        desk: placements and rules; None does not offer them.
        drain: lets the service of this host leave; None answers 501.
        protect: puts authentication in front; None lets in whoever reaches the port.
    """
    app = FastAPI(title="retrank admin", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(Head)
    problems.install(app)
    if protect is not None:
        protect(app)
    app.add_middleware(RequestIds, echo=True)
    _add_reading(app, operator)
    _add_orders(app, operator)
    if overlay is not None:
        _add_forgetting(app, overlay)
    if desk is not None:
        add_shelf(app, desk)
    _add_drain(app, drain)
    _add_description(app)
    return app


def _add_description(app: FastAPI) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    async def describe() -> dict[str, object]:
        return openapi.document(app, MESSAGES)


def _add_reading(app: FastAPI, operator: Operator) -> None:
    @app.get("/admin/v1/bundles", responses=openapi.answers(BundleList, 503))
    def bundles() -> Response:
        """List bundles and what each is to the fleet."""
        return json_answer(BundleList(bundles=explained(operator.bundles)))

    @app.get("/admin/v1/status", responses=openapi.answers(FleetStatus, 503))
    def status() -> Response:
        """Show the desired state, every live replica, and whether they agree."""
        return json_answer(explained(operator.status))

    @app.get("/livez", responses=openapi.answers(Health))
    async def livez() -> Response:
        """Tell that the process answers."""
        return Response('{"status":"ok"}', headers=NOT_STORED, media_type="application/json")


def _add_orders(app: FastAPI, operator: Operator) -> None:
    @app.post(
        "/admin/v1/bundles:stage",
        **openapi.order(StageOrder, Outcome, {"source": "/srv/bundles/8f3c01d2ab45ef67"}, 409),
    )
    async def stage(request: Request) -> Response:
        """Fetch and check a bundle on every replica."""
        order = await read_model(request, StageOrder)
        return await _done(request, order, lambda by: operator.stage(order.source, by, dry_run=order.dry_run))

    @app.post("/admin/v1/bundles:unstage", **openapi.order(UnstageOrder, Outcome, _ONE, 409))
    async def unstage(request: Request) -> Response:
        """Let replicas hold a bundle ready no longer."""
        order = await read_model(request, UnstageOrder)
        return await _done(request, order, lambda by: operator.unstage(order.id, by, dry_run=order.dry_run))

    @app.post("/admin/v1/bundles:activate", **openapi.order(ActivateOrder, Outcome, _ONE, 409))
    async def activate(request: Request) -> Response:
        """Swap to a bundle that every replica holds ready."""
        order = await read_model(request, ActivateOrder)
        return await _done(request, order, lambda by: operator.activate(order.id, by, dry_run=order.dry_run))

    @app.post("/admin/v1/bundles:canary", **openapi.order(CanaryOrder, Outcome, {**_ONE, "percent": 5.0}, 409))
    async def canary(request: Request) -> Response:
        """Try a bundle on a share of the traffic."""
        order = await read_model(request, CanaryOrder)
        return await _done(
            request, order, lambda by: operator.canary(order.id, order.percent, by, dry_run=order.dry_run)
        )

    @app.post("/admin/v1/bundles:rollback", **openapi.order(RollbackOrder, Outcome, {"reason": "fewer clicks"}, 409))
    async def rollback(request: Request) -> Response:
        """End the canary, or go back to the bundle before."""
        order = await read_model(request, RollbackOrder)
        return await _done(request, order, lambda by: operator.rollback(by, order.reason, dry_run=order.dry_run))


def _add_forgetting(app: FastAPI, overlay: CatalogueOverlay) -> None:
    @app.post("/admin/v1/items:forget", **openapi.order(ForgetOrder, Forgotten, {"tenant": "default", "up_to": 120}))
    async def forget(request: Request) -> Response:
        """Drop changes of items that every bundle in use holds."""
        order = await read_model(request, ForgetOrder)
        tenant = tenant_of(request, order.tenant)

        def act() -> int:
            if not order.dry_run:
                return overlay.forget_changes(tenant, order.up_to)
            return sum(one.version <= order.up_to for one in overlay.item_changes(tenant, 0))

        forgotten = await run_in_threadpool(explained, act)
        _audit.warning("forget %s: %d items, key %s", order.model_dump(), forgotten, _author(request, order).key)
        return json_answer(Forgotten(forgotten=forgotten, dry_run=order.dry_run))


def _add_drain(app: FastAPI, drain: Callable[[], None] | None) -> None:
    responses = openapi.answers(Draining, 400, 413, 415, 422, 501, status=HTTPStatus.ACCEPTED)

    @app.post("/admin/v1/:drain", responses=responses, openapi_extra=openapi.body_of(Order, {}))
    async def leave(request: Request) -> Response:
        """Let the service of this host say that it is leaving, and finish what it has."""
        order = await read_model(request, Order)
        check_operator(request)
        if drain is None:
            raise ProblemError(HTTPStatus.NOT_IMPLEMENTED, "this process cannot drain the service; send it SIGTERM")
        author = _author(request, order)
        _audit.warning("%s drain by %r, key %s", "tried" if order.dry_run else "done", author.name, author.key)
        if not order.dry_run:
            drain()
        return json_answer(Draining(dry_run=order.dry_run), HTTPStatus.ACCEPTED)


def _author(request: Request, order: Order) -> Author:
    return Author(order.by, caller_of(request.scope).key_id)


async def _done(request: Request, order: Order, act: Callable[[Author], Outcome]) -> Response:
    """Carry out an order in the thread pool, as a source may be slow, and leave a line in the audit log."""
    check_operator(request)
    outcome = await run_in_threadpool(explained, lambda: act(_author(request, order)))
    line, generation = outcome.desired.audit[-1].model_dump(), outcome.desired.generation
    _audit.warning("%s %s -> generation %d", "tried" if outcome.dry_run else "done", line, generation)
    return json_answer(outcome)
