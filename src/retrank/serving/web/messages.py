"""What the routes have in common: the tenant, the request's name, the deadline header, the answer as JSON."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import Path, Request, Response
from pydantic import BaseModel

from retrank.contract.api import MAX_DEADLINE_MS, MAX_ID_LENGTH, FieldProblem
from retrank.serving.guard.caller import caller_of, left_of
from retrank.serving.web.problems import ProblemError
from retrank.serving.web.request_id import request_id_of, set_request_id

DEADLINE_HEADER = "X-Deadline-Ms"
NOT_STORED = {"Cache-Control": "private, no-store"}
IdInPath = Annotated[
    str,
    Path(
        description="Any text, percent-encoded as UTF-8: a slash in it is `%2F`.",
        json_schema_extra={"minLength": 1, "maxLength": MAX_ID_LENGTH},  # `checked_id` says it in our words
    ),
]
_Asked = TypeVar("_Asked", bound=BaseModel)
_NOT_UTF_8 = re.compile(r"[\ud800-\udfff]")


def answer(model: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Write a message as the body of an answer."""
    return Response(model.model_dump_json(), status, NOT_STORED, "application/json")


def tenant_of(scope: Mapping[str, Any]) -> str:
    """Return whose namespace a request works in: that of its caller, where callers are known."""
    return caller_of(scope).tenant


def named(request: Request, asked: _Asked) -> _Asked:
    """Let the id in the body win over the header, and give the message the header's when it has none."""
    given = getattr(asked, "request_id", None)
    if given is None:
        return asked.model_copy(update={"request_id": request_id_of(request.scope)})
    set_request_id(request.scope, given)
    return asked


def timed(request: Request, asked: _Asked) -> _Asked:
    """Give the message what is left of its deadline, >= 1, after waiting for its turn; the body wins over the header.

    Raises:
        ProblemError: 422 the header is not a number of milliseconds.
    """
    said: int | None = getattr(asked, "deadline_ms", None)
    deadline_ms = deadline_ms_of(request) if said is None else said
    if deadline_ms is None:
        return asked
    left_ms = max(left_of(request.scope, deadline_ms), 1)
    return asked if left_ms == said else asked.model_copy(update={"deadline_ms": left_ms})


def deadline_ms_of(request: Request) -> int | None:
    """Return the deadline of the header, 1 to `MAX_DEADLINE_MS`; None without one.

    Raises:
        ProblemError: 422 the header is not a number of milliseconds.
    """
    text = request.headers.get(DEADLINE_HEADER)
    if text is None:
        return None
    if not (text.isdecimal() and len(text) <= len(str(MAX_DEADLINE_MS)) and 1 <= int(text) <= MAX_DEADLINE_MS):
        detail = f"{DEADLINE_HEADER} is {text[:20]!r}, expected whole milliseconds from 1 to {MAX_DEADLINE_MS}"
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, detail, [FieldProblem(pointer="/deadline_ms", detail=detail)]
        )
    return int(text)


def left_ms_of(request: Request) -> int | None:
    """Return what is left of the deadline of the header after waiting for its turn, >= 0; None without one.

    Raises:
        ProblemError: 422 the header is not a number of milliseconds.
    """
    deadline_ms = deadline_ms_of(request)
    return None if deadline_ms is None else left_of(request.scope, deadline_ms)


def checked_id(raw_id: str) -> str:
    """Return an id that stood in a path.

    Raises:
        ProblemError: 422 it is longer than ids are, or no text.
    """
    if _NOT_UTF_8.search(raw_id):
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "the id in the path is not percent-encoded UTF-8")
    if not 0 < len(raw_id) <= MAX_ID_LENGTH:
        detail = f"the id in the path has {len(raw_id)} characters, expected 1 to {MAX_ID_LENGTH}"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    return raw_id
