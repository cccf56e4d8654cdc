"""Admin routes of placements and rules: read, put, drop; each with a dry run that says how far it would reach."""

import logging
from functools import partial
from typing import Annotated, Protocol

from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from retrank.contract.placement_rules import PlacementDefaults, Rule, RuleId
from retrank.contract.slate_options import Placement
from retrank.serving.guard.caller import caller_of
from retrank.serving.placements.desk import ShelfDesk, ShelfOutcome, Who
from retrank.serving.placements.shelf import Shelf
from retrank.serving.web import openapi
from retrank.serving.web.admin_answers import explained, json_answer, tenant_of
from retrank.serving.web.bodies import read_model

_audit = logging.getLogger("retrank.audit")
_Tenant = Annotated[str, Field(min_length=1, max_length=100)]


class Flags(BaseModel):
    """Query parameters of every change: only say what would change; change it although it reaches far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dry_run: bool = False
    force: bool = False


class TenantAsked(BaseModel):
    """Query parameters of what is read: whose placements; the caller's when it does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: _Tenant | None = None


class _Order(Flags):
    """What every change says; flags may stand in the body or in the query. Without a tenant it is the caller's."""

    tenant: _Tenant | None = None
    by: Annotated[str, Field(max_length=100)] = "admin"


class PutRule(_Order):
    """Put a rule; it replaces the one with its id."""

    rule: Rule


class DropRule(_Order):
    """Drop a rule."""

    id: RuleId


class PutPlacement(_Order):
    """Put the defaults of a placement; they replace those it had."""

    placement: PlacementDefaults


class DropPlacement(_Order):
    """Drop the defaults of a placement; rules that name it stay."""

    name: Placement


SHELF_MESSAGES = openapi.Messages(
    asked=(PutRule, DropRule, PutPlacement, DropPlacement), answered=(ShelfOutcome, Shelf)
)
_RULE = {"id": "no-old-stock", "action": "block", "filter": {"range": {"attribute": "price", "lt": 1}}}


class _Act(Protocol):
    def __call__(self, who: Who, *, dry_run: bool, force: bool) -> ShelfOutcome: ...


def add_shelf(app: FastAPI, desk: ShelfDesk) -> None:
    """Add the routes."""
    _add_reading(app, desk)

    @app.post("/admin/v1/rules", **openapi.order(PutRule, ShelfOutcome, {"rule": _RULE}, 409, 507))
    async def put_rule(request: Request, flags: Annotated[Flags, Query()]) -> Response:
        """Pin, boost, bury or block items."""
        order = await read_model(request, PutRule)
        return await _done(request, flags, order, partial(desk.put_rule, order.rule))

    @app.post("/admin/v1/rules:drop", **openapi.order(DropRule, ShelfOutcome, {"id": "no-old-stock"}, 409, 507))
    async def drop_rule(request: Request, flags: Annotated[Flags, Query()]) -> Response:
        """End a rule."""
        order = await read_model(request, DropRule)
        return await _done(request, flags, order, partial(desk.drop_rule, order.id))

    @app.post(
        "/admin/v1/placements", **openapi.order(PutPlacement, ShelfOutcome, {"placement": {"name": "home"}}, 409, 507)
    )
    async def put_placement(request: Request, flags: Annotated[Flags, Query()]) -> Response:
        """Say what requests that name a placement inherit."""
        order = await read_model(request, PutPlacement)
        return await _done(request, flags, order, partial(desk.put_placement, order.placement))

    @app.post("/admin/v1/placements:drop", **openapi.order(DropPlacement, ShelfOutcome, {"name": "home"}, 409, 507))
    async def drop_placement(request: Request, flags: Annotated[Flags, Query()]) -> Response:
        """Let requests that name a placement inherit nothing."""
        order = await read_model(request, DropPlacement)
        return await _done(request, flags, order, partial(desk.drop_placement, order.name))


def _add_reading(app: FastAPI, desk: ShelfDesk) -> None:
    """Rules and placements are one document, so both routes answer with all of it."""

    @app.get("/admin/v1/placements", responses=openapi.answers(Shelf, 403, 422, 503))
    def placements(request: Request, asked: Annotated[TenantAsked, Query()]) -> Response:
        """Show placements, rules, and who changed them."""
        tenant = tenant_of(request, asked.tenant)
        return json_answer(explained(lambda: desk.shelf(tenant)))

    @app.get("/admin/v1/rules", responses=openapi.answers(Shelf, 403, 422, 503))
    def rules(request: Request, asked: Annotated[TenantAsked, Query()]) -> Response:
        """Show rules, placements, and who changed them."""
        tenant = tenant_of(request, asked.tenant)
        return json_answer(explained(lambda: desk.shelf(tenant)))


async def _done(request: Request, flags: Flags, order: _Order, act: _Act) -> Response:
    """Carry out a change in the thread pool, as replicas are asked first, and leave a line in the audit log."""
    who = Who(tenant_of(request, order.tenant), order.by, caller_of(request.scope).key_id)
    dry_run, force = flags.dry_run or order.dry_run, flags.force or order.force
    outcome = await run_in_threadpool(explained, lambda: act(who, dry_run=dry_run, force=force))
    if not outcome.dry_run:
        _audit.warning("done %s for tenant %r, %s", outcome.shelf.audit[-1].model_dump(), who.tenant, outcome.blast)
    return json_answer(outcome)
