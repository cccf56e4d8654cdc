"""Every error as a problem document of RFC 9457 (`application/problem+json`), never with a traceback.

Source: RFC 9457. `type` is a path below `/problems/`, `instance` is the request id, and two members are our own:
`code` for programs, and `errors`, which names each offending field as a JSON pointer (RFC 6901).
"""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrank.contract.api import FieldProblem, Problem
from retrank.contract.events import EventsRefused
from retrank.contract.field_faults import fault_of
from retrank.contract.problem_codes import ProblemCode
from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.faults import MAX_FIELD_PROBLEMS, AllRejected, NotOffered, fields_of, outside, pointer, summary
from retrank.serving.guard.gate import Refusal
from retrank.serving.stores.protocol import StoreFull, StoreUnavailable
from retrank.serving.web.request_id import request_id_of

MEDIA_TYPE = "application/problem+json"
_EMPTY = "EOF while parsing a value at line 1 column 0"
_CODES: dict[HTTPStatus, ProblemCode] = {
    HTTPStatus.BAD_REQUEST: "malformed_json",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_TIMEOUT: "request_timeout",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "body_too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_media_type",
    HTTPStatus.UNPROCESSABLE_ENTITY: "invalid_field",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal",
    HTTPStatus.NOT_IMPLEMENTED: "not_implemented",
    HTTPStatus.SERVICE_UNAVAILABLE: "store_unavailable",
    HTTPStatus.INSUFFICIENT_STORAGE: "store_full",
}
_WITH_IDS = ("/v1/items/", "/v1/users/")
RETRY_AFTER_S = 1
_STATES: dict[type[Exception], ProblemCode] = {
    StoreUnavailable: "store_unavailable",
    LogUnavailable: "log_unavailable",
    NotOffered: "not_offered",
}
_log = logging.getLogger(__name__)


class ProblemError(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        errors: Sequence[FieldProblem] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.headers = headers


def install(app: FastAPI) -> None:
    """Answer every error of an application with a problem document."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_query)
    app.add_exception_handler(HTTPException, _on_http)
    for state in (StoreUnavailable, LogUnavailable, NotOffered):
        app.add_exception_handler(state, _on_unavailable)
    app.add_exception_handler(StoreFull, _on_full)
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(AllRejected, _on_all_rejected)
    app.add_middleware(LastResort)


class LastResort:
    """ASGI middleware that turns a bug into a 500 and a log entry; a client that hung up is neither."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and answer it here when nothing else did."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            return
        except Exception:  # noqa: BLE001  (a bug must still end in a problem document)
            _log.exception("request %s failed", request_id_of(scope))
            if not started:
                request = Request(scope)
                detail = "the service failed; its log has this request id"
                await _response(request, HTTPStatus.INTERNAL_SERVER_ERROR, detail)(scope, receive, send)


def from_validation(error: ValidationError) -> ProblemError:
    """Translate a refused body: 400 when it is not JSON, 422 with a pointer per field when it does not fit."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        said = "is empty" if first["msg"].endswith(_EMPTY) else f"is not JSON: {first['msg']}"
        return ProblemError(HTTPStatus.BAD_REQUEST, f"the body {said}; expected a JSON object")
    fields = fields_of(error)
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, summary(fields, error.error_count()), fields)


def _response(
    request: Request,
    status: int,
    detail: str,
    errors: Sequence[FieldProblem] = (),
    headers: dict[str, str] | None = None,
    code: ProblemCode | None = None,
) -> Response:
    code = code or _CODES[HTTPStatus(status)]
    problem = Problem(
        type=f"/problems/{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request_id_of(request.scope),
        code=code,
        errors=list(errors),
    )
    return Response(problem.model_dump_json(), status, headers, MEDIA_TYPE)


def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return _response(request, error.status, error.detail, error.errors, error.headers)


def _on_unavailable(request: Request, error: Exception) -> Response:
    """A dependency is away: nothing was promised, and trying again may work; not when it was never there."""
    headers = None if isinstance(error, NotOffered) else {"Retry-After": str(RETRY_AFTER_S)}
    code = next(code for kind, code in _STATES.items() if isinstance(error, kind))
    return _response(request, HTTPStatus.SERVICE_UNAVAILABLE, outside(error), headers=headers, code=code)


def _on_refusal(request: Request, error: Exception) -> Response:
    """What the gate refuses once it is known how much is asked for."""
    assert isinstance(error, Refusal)
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return _response(request, error.status, error.detail, headers=headers, code=error.code)


def _on_full(request: Request, error: Exception) -> Response:
    return _response(request, HTTPStatus.INSUFFICIENT_STORAGE, str(error), code="store_full")


def _on_all_rejected(request: Request, error: Exception) -> Response:
    assert isinstance(error, AllRejected)
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    refused = EventsRefused(
        type="/problems/all_rejected",
        title=status.phrase,
        status=status,
        detail=str(error),
        instance=request_id_of(request.scope),
        code="all_rejected",
        errors=error.fields,
        receipt=error.receipt,
    )
    return Response(refused.model_dump_json(), status, media_type=MEDIA_TYPE)


def _on_http(request: Request, error: Exception) -> Response:
    """Routing errors of the framework: unknown route, wrong method."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"no route {request.url.path[:200]!r}; /openapi.json lists the routes"
        if request.url.path.startswith(_WITH_IDS):
            detail += "; a slash of an id is written %2F"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods(request)) or "another method"
        detail = f"{request.method} is not allowed here; use {allowed}"
        return _response(request, error.status_code, detail, headers={"Allow": allowed})
    else:
        detail = str(error.detail)
    return _response(request, error.status_code, detail, headers=_plain(error.headers))


def _methods(request: Request) -> list[str]:
    """Return the methods of every route of a path; the framework names those of the first one alone."""
    routes = [one for one in request.app.routes if one.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for one in routes for method in getattr(one, "methods", None) or ()})


def _on_query(request: Request, error: Exception) -> Response:
    """Refused query parameters; the pointer is into the object they form."""
    assert isinstance(error, RequestValidationError)
    fields = [FieldProblem(pointer=pointer(one["loc"][1:]), detail=fault_of(one)) for one in error.errors()]
    detail = "; ".join(f"query parameter {field.pointer[1:]!r}: {field.detail}" for field in fields[:3])
    return _response(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail, fields[:MAX_FIELD_PROBLEMS])


def _plain(headers: Any) -> dict[str, str] | None:
    return None if headers is None else dict(headers)
