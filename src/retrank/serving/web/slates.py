"""Routes that answer with items. A slate takes about a millisecond of one core, so it is made on the event loop: a
thread would only add a switch. A batch takes many, so it is made in a thread.
"""

from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from retrank.contract.api import MAX_K, PopularRequest, RecommendRequest, SimilarRequest, SlateResponse, Window
from retrank.contract.ranking import BatchRequest, BatchResponse, RankRequest, RankResponse
from retrank.contract.slate_options import Placement
from retrank.serving.guard.caller import charge
from retrank.serving.service import Service
from retrank.serving.telemetry.facade import NONE, Telemetry
from retrank.serving.web import openapi
from retrank.serving.web.bodies import read_model
from retrank.serving.web.messages import answer, left_ms_of, named, tenant_of, timed
from retrank.serving.web.request_id import request_id_of


class PopularParameters(BaseModel):
    """Parameters of `GET /v1/popular`, see `PopularRequest`; texts become numbers, an unknown one is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(default=10, ge=1, le=MAX_K)
    placement: Placement | None = None
    window: Window = "all"


def add_slates(app: FastAPI, service: Service, telemetry: Telemetry) -> None:
    """Add the routes; every answer is told to `telemetry`."""
    _add_recommend(app, service, telemetry)
    _add_others(app, service, telemetry)


def _shown(request: Request, slate: SlateResponse, telemetry: Telemetry, placement: str | None) -> Response:
    telemetry.observe_answer(request.scope, slate, placement=placement or NONE)
    return answer(slate)


def _add_recommend(app: FastAPI, service: Service, telemetry: Telemetry) -> None:
    @app.post(
        "/v1/recommend",
        responses=openapi.answers(SlateResponse, 400, 413, 415, 422),
        openapi_extra=openapi.body_of(RecommendRequest, {"user_id": "17850", "session": {"recent": []}, "k": 10}),
    )
    async def recommend(request: Request) -> Response:
        """Recommend for a known user, an anonymous visitor, or nobody in particular."""
        asked = timed(request, named(request, await read_model(request, RecommendRequest)))
        slate = service.recommend(asked, tenant_of(request.scope))
        return _shown(request, slate, telemetry, asked.placement)

    @app.post(
        "/v1/recommend:batch",
        responses=openapi.answers(BatchResponse, 400, 413, 415, 422),
        openapi_extra=openapi.body_of(BatchRequest, {"requests": [{"user_id": "17850"}, {"k": 5}]}),
    )
    async def batch(request: Request) -> Response:
        """Answer up to 256 recommend requests; each has a status of its own, and counts against the quota."""
        asked = await read_model(request, BatchRequest)
        charge(request.scope, len(asked.requests))
        scope, deadline_ms = request.scope, left_ms_of(request)
        answers = await run_in_threadpool(service.batch, asked, tenant_of(scope), request_id_of(scope), deadline_ms)
        telemetry.observe_batch(answers)
        return answer(answers)


def _add_others(app: FastAPI, service: Service, telemetry: Telemetry) -> None:
    @app.post(
        "/v1/rank",
        responses=openapi.answers(RankResponse, 400, 413, 415, 422),
        openapi_extra=openapi.body_of(RankRequest, {"user_id": "17850", "items": ["85123A", "22423"]}),
    )
    async def rank(request: Request) -> Response:
        """Score up to 1,000 items of the caller for somebody."""
        asked = timed(request, named(request, await read_model(request, RankRequest)))
        ranking = service.rank(asked, tenant_of(request.scope))
        telemetry.observe_answer(request.scope, ranking, placement=asked.placement or NONE)
        return answer(ranking)

    @app.post(
        "/v1/similar",
        responses=openapi.answers(SlateResponse, 400, 413, 415, 422),
        openapi_extra=openapi.body_of(SimilarRequest, {"item_id": "85123A", "k": 10}),
    )
    async def similar(request: Request) -> Response:
        """List the items closest to one item; popular ones, marked degraded, when the bundle does not know it."""
        asked = timed(request, named(request, await read_model(request, SimilarRequest)))
        slate = service.similar(asked, tenant_of(request.scope))
        return _shown(request, slate, telemetry, asked.placement)

    @app.get("/v1/popular", responses=openapi.answers(SlateResponse, 422, 503))
    async def popular(request: Request, asked: Annotated[PopularParameters, Query()]) -> Response:
        """List the most popular items."""
        question = PopularRequest.model_validate(asked.model_dump(exclude_unset=True))
        slate = service.popular(named(request, question), tenant_of(request.scope))
        return _shown(request, slate, telemetry, question.placement)
