"""The application: routes, the catalogue for people, probes and the page over one service."""

from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Lifespan, Receive, Scope, Send

from retrank import __version__
from retrank.contract.api import MAX_ID_LENGTH, CatalogueItems, Health, KnownUsers, RankerInfo, UserHistory, Version
from retrank.contract.manifest import RankerFacts
from retrank.serving.recommender import Recommender
from retrank.serving.service import Service
from retrank.serving.web import openapi, problems
from retrank.serving.web.catalogue import MAX_LISTED, MAX_QUERY_LENGTH, Catalogue
from retrank.serving.web.direct import Direct
from retrank.serving.web.head import Head
from retrank.serving.web.messages import answer, tenant_of
from retrank.serving.web.protection import OPEN, Protection, guard, meter
from retrank.serving.web.raw_paths import RawPaths
from retrank.serving.web.request_id import RequestIds
from retrank.serving.web.slates import add_slates
from retrank.serving.web.writes import add_events, add_items, add_users

PAGE = Path(__file__).parents[1] / "page"
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class _Parameters(BaseModel):
    """Query parameters; an unknown one is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchParameters(_Parameters):
    """Parameters of `GET /v1/catalogue/items`."""

    query: str = Field(default="", max_length=MAX_QUERY_LENGTH)
    limit: int = Field(default=20, ge=1, le=MAX_LISTED)


class UsersParameters(_Parameters):
    """Parameters of `GET /v1/catalogue/users`."""

    limit: int = Field(default=8, ge=1, le=MAX_LISTED)


class HistoryParameters(_Parameters):
    """Parameters of `GET /v1/catalogue/history`."""

    user_id: str = Field(min_length=1, max_length=MAX_ID_LENGTH)
    limit: int = Field(default=20, ge=1, le=MAX_LISTED)


def create_app(
    answering: Service | Recommender,
    *,
    echo_request_id: bool = True,
    protection: Protection = OPEN,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """Return the HTTP application.

    Args:
        answering: answers the requests; a recommender alone has no state, no events and no decision log.
        echo_request_id: put `X-Request-ID` on every answer; False when the server in front does.
        protection: who may come in, and what is counted; by default everybody, and nothing.
        lifespan: what runs beside the routes, on their event loop, from before the first request to after the last.
    """
    service = answering if isinstance(answering, Service) else Service.over(answering)
    app = FastAPI(
        title="retrank",
        version=__version__,
        summary="Ranked recommendations from one sealed bundle",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours are bounded, and hold nobody's ids
    )
    app.add_middleware(Direct)
    app.add_middleware(Head)
    problems.install(app)
    guard(app, protection)
    app.add_middleware(RequestIds, echo=echo_request_id)
    meter(app, protection)
    app.add_middleware(RawPaths)
    add_slates(app, service, protection.telemetry)
    add_events(app, service, protection.telemetry)
    add_items(app, service)
    add_users(app, service)
    _add_catalogue(app, service)
    _add_probes(app, service)
    _add_page(app)
    return app


def _add_catalogue(app: FastAPI, service: Service) -> None:
    """Searching may take longer than a slate, so these run in the thread pool."""

    @app.get("/v1/catalogue/items", responses=openapi.answers(CatalogueItems, 422))
    def items(request: Request, asked: Annotated[SearchParameters, Query()]) -> Response:
        """Find items whose id or title contains a text, most popular first; new items stand last."""
        new = service.new_items(tenant_of(request.scope))
        return answer(Catalogue(service.recommender.runtime).search(asked.query, asked.limit, new))

    @app.get("/v1/catalogue/users", responses=openapi.answers(KnownUsers, 422))
    def users(asked: Annotated[UsersParameters, Query()]) -> Response:
        """Name a few example users."""
        return answer(Catalogue(service.recommender.runtime).example_users(asked.limit))

    @app.get("/v1/catalogue/history", responses=openapi.answers(UserHistory, 422))
    def history(request: Request, asked: Annotated[HistoryParameters, Query()]) -> Response:
        """Show the newest events of a user, live ones first, none for an unknown one."""
        profile = service.profile(asked.user_id, tenant_of(request.scope))
        return answer(Catalogue(service.recommender.runtime).history(asked.user_id, asked.limit, profile))


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/livez", responses=openapi.answers(Health))
    async def livez() -> Response:
        """Tell that the process answers."""
        return answer(Health(status="ok"))

    @app.get("/readyz", responses=openapi.answers(Health))
    async def readyz() -> Response:
        """Tell that a proven bundle is open; this application only exists once one is."""
        return answer(Health(status="ready", bundle=service.recommender.bundle.id))

    @app.get("/version", responses=openapi.answers(Version))
    async def what() -> Response:
        """Tell what is running."""
        recommender = service.recommender
        manifest = recommender.runtime.manifest
        second = manifest.ranker
        version = Version(
            package=__version__,
            bundle=recommender.bundle,
            data=manifest.data.name,
            num_items=manifest.data.num_items,
            num_users=manifest.data.num_users,
            index=manifest.index.factory,
            metrics=manifest.metrics.values,
            ranker=None if second is None else _ranker(second),
        )
        return answer(version)


def _ranker(second: RankerFacts) -> RankerInfo:
    return RankerInfo(run=second.run_id, heads=second.heads, metrics=second.values)


def _add_page(app: FastAPI) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    async def describe() -> dict[str, object]:
        return openapi.document(app)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return _WholeFile(PAGE / "index.html", headers=_PAGE_HEADERS)

    app.mount("/page", _WholeFiles(directory=PAGE))


def _whole(scope: Scope) -> Scope:
    """Ask for all of a file: they are small, and a range that makes no sense would be refused in plain text.

    Source: RFC 9110, section 14.2: a server may ignore the Range header.
    """
    return {**scope, "headers": [header for header in scope["headers"] if header[0] != b"range"]}


class _WholeFile(FileResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(_whole(scope), receive, send)


class _WholeFiles(StaticFiles):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(_whole(scope), receive, send)
