"""ASGI middleware that counts and times every request, refused ones too, and the route that shows the counts."""

import re
import time
from collections.abc import Callable
from functools import cache

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrank.serving.telemetry.exposition import CONTENT_TYPE, Exposition
from retrank.serving.telemetry.facade import Telemetry, labels_of
from retrank.serving.web import openapi

_UNKNOWN = "other"
_READING = re.compile(r":\w+}")
_SERIES = "every series, in the text format of Prometheus"


class Metered:
    """Counts requests by the template of their route, so that ids in paths make no time series."""

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry, clock: Callable[[], float] = time.perf_counter) -> None:
        """Wrap an application; `clock` is monotonic seconds."""
        self._app = app
        self._telemetry = telemetry
        self._clock = clock
        self._exact: frozenset[str] | None = None  # paths without parameters, known once all routes are added

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count how it ended; 499 when the client went away before."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 499

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = self._clock()
        try:
            await self._app(scope, receive, watched)
        finally:
            placement, variant = labels_of(scope)
            took = self._clock() - started
            self._telemetry.request(self._route(scope), status, took, placement=placement, variant=variant)

    def _route(self, scope: Scope) -> str:
        """Return the template of the route; one that was refused before routing is looked up."""
        template = getattr(scope.get("route"), "path", None)
        return self._refused_route(scope) if template is None else _plain(str(template))

    def _refused_route(self, scope: Scope) -> str:
        path = str(scope["path"])
        if self._exact is None:
            paths = [str(getattr(route, "path", "")) for route in scope["app"].routes]
            self._exact = frozenset(one for one in paths if "{" not in one)
        if path in self._exact:
            return path
        for route in scope["app"].routes:
            if route.matches(scope)[0] is not Match.NONE:
                return _plain(str(getattr(route, "path", _UNKNOWN)))
        return _UNKNOWN


@cache
def _plain(template: str) -> str:
    """Return a template as the OpenAPI document writes it: without how its parameters are read."""
    return _READING.sub("}", template)


def add_metrics(app: FastAPI, exposition: Exposition) -> None:
    """Add `GET /metrics`."""

    @app.get("/metrics", response_class=PlainTextResponse, responses=openapi.text("text/plain", _SERIES))
    def metrics() -> Response:
        """Show the time series of every replica on this host."""
        return Response(exposition.text(), media_type=CONTENT_TYPE)
