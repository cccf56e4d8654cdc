"""The short way to a handler that takes nothing but the request.

The framework solves dependencies, opens two exit stacks and matches one pattern after the other for every request. A
route whose path has no parameters and whose handler takes the request, reads the body itself and returns a response
needs none of it, so it is found in a table and called. Handlers, problem documents and the OpenAPI document are the
framework's own: a route is written once.
"""

import inspect
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

Handler = Callable[[Request], Awaitable[Response]]


class _Found(NamedTuple):
    route: APIRoute
    handler: Handler


class Direct:
    """ASGI middleware next to the routes."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the framework."""
        self._app = app
        self._table: dict[tuple[str, str], _Found] | None = None  # known once all routes are added

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the handler, or leave the request to the framework."""
        found = self._find(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = found.route  # where middleware reads the template of the path, as the framework leaves it
        request = Request(scope, receive)
        try:
            response = await found.handler(request)
        except Exception as error:  # noqa: BLE001  (raised again where no handler of the application wants it)
            response = await _problem(request, error)
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> _Found | None:
        if self._table is None:
            self._table = _table(scope["app"])
        return self._table.get((scope["method"], scope["path"]))


def _table(app: FastAPI) -> dict[tuple[str, str], _Found]:
    """Return the routes that need nothing of the framework, by method and path."""
    table: dict[tuple[str, str], _Found] = {}
    for route in app.routes:
        if isinstance(route, APIRoute) and "{" not in route.path and _takes_the_request_alone(route):
            for method in route.methods or ():
                table.setdefault((method, route.path), _Found(route, route.endpoint))
    return table


def _takes_the_request_alone(route: APIRoute) -> bool:
    signature = inspect.signature(route.endpoint)
    return (
        inspect.iscoroutinefunction(route.endpoint)
        and [parameter.annotation for parameter in signature.parameters.values()] == [Request]
        and signature.return_annotation is Response
        and not route.dependencies
    )


async def _problem(request: Request, error: Exception) -> Response:
    """Return what the application's own handler of an exception answers.

    Raises:
        Exception: the same, when nobody handles it.
    """
    handlers = request.app.exception_handlers
    handler = next((handlers[kind] for kind in type(error).__mro__ if kind in handlers), None)
    if handler is None:
        raise error
    answered = handler(request, error)
    response: Response = await answered if inspect.isawaitable(answered) else answered
    return response
