"""Read a JSON body: bounded while it streams in, then validated in one pass.

Of a name that stands twice in one object parsers take the last, the first or none (RFC 8259, section 4), and what
stands between a caller and the service may read it otherwise than the service does. Such a body is refused; the second
pass that finds it builds nothing, and costs about as much as the first: microseconds for a slate.
"""

import asyncio
import json
import re
from http import HTTPStatus
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from retrank.contract.api import MAX_BODY_BYTES
from retrank.serving.web.problems import ProblemError, from_validation

MAX_DEPTH = 16
MAX_BODY_S = 5.0
"""Seconds that a body may take to come: somebody waits for it meanwhile."""
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_MEDIA_TYPE = "application/json"
_MAX_SHOWN = 100
_Model = TypeVar("_Model", bound=BaseModel)


async def read_model(request: Request, model: type[_Model]) -> _Model:
    """Read the body of a request as a model.

    Raises:
        ProblemError: 415 not declared as JSON, or compressed, 413 too large, 408 too slow, 400 not JSON, too deep or
            with a name twice in one object, 422 a field does not fit.
    """
    _check_media_type(request)
    _check_coding(request)
    body = await _read_bounded(request)
    asked = _validated(model, body)
    if isinstance(asked, ProblemError):
        try:
            raise asked
        finally:
            del asked  # a problem whose traceback leads back to it would keep this frame, and the body, for a while
    return asked


def _validated(model: type[_Model], body: bytes) -> _Model | ProblemError:
    """Return the model, or why there is none.

    The problem is not raised here, where it would hold pydantic's error. That one holds the error that a validator of
    ours raised, whose traceback leads to the frames of the request, and so to the problem: a circle through an object
    that the garbage collector cannot look into, so each such request, its body with it, would be kept for good.
    """
    try:
        asked = model.model_validate_json(body)
    except ValidationError as error:
        problem = from_validation(error)
        return _too_deep() if problem.status == HTTPStatus.UNPROCESSABLE_ENTITY and too_deep(body) else problem
    if too_deep(body):
        return _too_deep()
    twice = named_twice(body)
    return asked if twice is None else _ambiguous(twice)


class _Twice(Exception):  # noqa: N818  (a finding, not a mistake)
    """A name stands twice in one object."""


def _noted(members: list[tuple[str, None]]) -> None:
    """Look at the members of one object, and keep nothing of them."""
    names = dict(members)
    if len(names) < len(members):
        seen = [name for name, _ in members]
        raise _Twice(next(name for name in names if seen.count(name) > 1))


_NAMES = json.JSONDecoder(object_pairs_hook=_noted, parse_int=len, parse_float=len, strict=False)


def named_twice(body: bytes) -> str | None:
    """Return a name that stands twice in one object of valid JSON, and None when none does."""
    try:
        _NAMES.decode(body.decode())
    except _Twice as twice:
        return str(twice)
    return None


def too_deep(body: bytes) -> bool:
    """Tell whether valid JSON nests deeper than `MAX_DEPTH`."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRINGS.sub(b"", body).translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):  # each pass takes the innermost level away
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _check_media_type(request: Request) -> None:
    declared = request.headers.get("content-type", "")
    media_type, _, _ = declared.partition(";")
    if media_type.strip().lower() != _MEDIA_TYPE:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"content-type is {declared[:100]!r}, expected {_MEDIA_TYPE!r}",
        )


def _check_coding(request: Request) -> None:
    """A compressed body would have to be bounded twice, so none is read (RFC 9110, section 15.5.16: the header)."""
    coding = request.headers.get("content-encoding", "identity").strip()
    if coding.lower() not in ("", "identity"):
        detail = f"content-encoding is {coding[:40]!r}, expected none: send the body uncompressed"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, headers={"Accept-Encoding": "identity"})


async def _read_bounded(request: Request) -> bytes:
    """Stop at the limits of size, whether or not the client announced a length, and of time.

    Behind a gate the body is here already, or fitted HAProxy's buffer; see `arrivals`.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(MAX_BODY_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise _too_large()
                chunks.append(chunk)
    except TimeoutError:
        detail = f"{size:,} bytes of the body came within {MAX_BODY_S:g} s, and not its end"
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, detail) from None
    return b"".join(chunks)


def _too_deep() -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, f"the body nests deeper than {MAX_DEPTH} levels")


def _ambiguous(name: str) -> ProblemError:
    shown = name[:_MAX_SHOWN].encode("utf-8", "replace").decode()
    return ProblemError(HTTPStatus.BAD_REQUEST, f"the body has {shown!r} twice in one object; send it once")


def _too_large() -> ProblemError:
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body exceeds {MAX_BODY_BYTES:,} bytes")
