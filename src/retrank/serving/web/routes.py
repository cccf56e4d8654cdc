"""The routes: parse, call the recommender, write JSON.

Answering takes a few milliseconds of one core, so it stays on the event loop: a thread would only add a switch.
Searching the catalogue may take longer, so those routes run in the thread pool.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from retrank import __version__
from retrank.contract.api import (
    MAX_ID_LENGTH,
    MAX_K,
    BundleInfo,
    CatalogueItems,
    Health,
    KnownUsers,
    RecommendRequest,
    SimilarRequest,
    SlateResponse,
    UserHistory,
    Version,
)
from retrank.serving.bundles.front import Front
from retrank.serving.recommender import Recommender
from retrank.serving.runtime import Runtime
from retrank.serving.web import openapi, problems
from retrank.serving.web.bodies import read_model
from retrank.serving.web.catalogue import MAX_LISTED, MAX_QUERY_LENGTH, Catalogue
from retrank.serving.web.request_id import RequestIds, request_id_of, set_request_id

_Asked = TypeVar("_Asked", RecommendRequest, SimilarRequest)
PAGE = Path(__file__).parents[1] / "page"
_NOT_STORED = {"Cache-Control": "private, no-store"}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class _Parameters(BaseModel):
    """Query parameters; an unknown one is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PopularParameters(_Parameters):
    """Parameters of `GET /v1/popular`."""

    k: int = Field(default=10, ge=1, le=MAX_K)


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


def create_app(recommender: Recommender | Front, *, echo_request_id: bool = True) -> FastAPI:
    """Return the HTTP application over one open bundle.

    Args:
        recommender: answers the requests; a front answers each from the bundle that is active when it begins.
        echo_request_id: put `X-Request-ID` on every answer; False when the server in front does.
    """
    app = FastAPI(
        title="retrank",
        version=__version__,
        summary="Ranked recommendations from one sealed bundle",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    app.add_middleware(RequestIds, echo=echo_request_id)
    _add_slates(app, recommender)
    _add_catalogue(app, lambda: Catalogue(recommender.runtime))
    _add_probes(app, recommender)
    _add_page(app)
    return app


def _json(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), headers=_NOT_STORED, media_type="application/json")


def _add_slates(app: FastAPI, recommender: Recommender | Front) -> None:
    @app.post(
        "/v1/recommend",
        responses=openapi.answers(SlateResponse, 400, 413, 415, 422),
        openapi_extra=openapi.body_of(RecommendRequest, {"user_id": "17850", "session": {"recent": []}, "k": 10}),
    )
    async def recommend(request: Request) -> Response:
        """Recommend for a known user, an anonymous session, or nobody in particular."""
        asked = _named(request, await read_model(request, RecommendRequest))
        return _json(recommender.recommend(asked))

    @app.post(
        "/v1/similar",
        responses=openapi.answers(SlateResponse, 400, 413, 415, 422),
        openapi_extra=openapi.body_of(SimilarRequest, {"item_id": "85123A", "k": 10}),
    )
    async def similar(request: Request) -> Response:
        """List the items closest to one item; popular ones, marked degraded, when the bundle does not know it."""
        asked = _named(request, await read_model(request, SimilarRequest))
        return _json(recommender.similar(asked))

    @app.get("/v1/popular", responses=openapi.answers(SlateResponse, 422))
    async def popular(request: Request, asked: Annotated[PopularParameters, Query()]) -> Response:
        """List the most popular items."""
        return _json(recommender.popular(asked.k, request_id_of(request.scope)))


def _add_catalogue(app: FastAPI, catalogue: Callable[[], Catalogue]) -> None:
    @app.get("/v1/catalogue/items", responses=openapi.answers(CatalogueItems, 422))
    def items(asked: Annotated[SearchParameters, Query()]) -> Response:
        """Find items whose id or title contains a text, most popular first."""
        return _json(catalogue().search(asked.query, asked.limit))

    @app.get("/v1/catalogue/users", responses=openapi.answers(KnownUsers, 422))
    def users(asked: Annotated[UsersParameters, Query()]) -> Response:
        """Name a few example users."""
        return _json(catalogue().example_users(asked.limit))

    @app.get("/v1/catalogue/history", responses=openapi.answers(UserHistory, 422))
    def history(asked: Annotated[HistoryParameters, Query()]) -> Response:
        """Show the newest events of a user; none for an unknown user."""
        return _json(catalogue().history(asked.user_id, asked.limit))


def _add_probes(app: FastAPI, recommender: Recommender | Front) -> None:
    @app.get("/livez", responses=openapi.answers(Health))
    async def livez() -> Response:
        """Tell that the process answers."""
        return _json(Health(status="ok"))

    @app.get("/readyz", responses=openapi.answers(Health))
    async def readyz() -> Response:
        """Tell that a proven bundle is open; this application only exists once one is."""
        return _json(Health(status="ready", bundle=recommender.bundle.id))

    @app.get("/version", responses=openapi.answers(Version))
    async def what() -> Response:
        """Tell what is running."""
        return _json(_version(recommender.runtime))


def _version(runtime: Runtime) -> Version:
    manifest = runtime.manifest
    return Version(
        package=__version__,
        bundle=BundleInfo(id=runtime.bundle.bundle_id, created_at=manifest.created_at, model=manifest.model),
        data=manifest.data.name,
        num_items=manifest.data.num_items,
        num_users=manifest.data.num_users,
        index=manifest.index.factory,
        metrics=manifest.metrics.values,
    )


def _add_page(app: FastAPI) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    async def describe() -> dict[str, object]:
        return openapi.document(app)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html", headers=_PAGE_HEADERS)

    app.mount("/page", StaticFiles(directory=PAGE))


def _named(request: Request, asked: _Asked) -> _Asked:
    """Let the id in the body win over the header, and give the request the header's when it has none."""
    if asked.request_id is None:
        return asked.model_copy(update={"request_id": request_id_of(request.scope)})
    set_request_id(request.scope, asked.request_id)
    return asked
