"""Read a JSON body: bounded while it streams in, then validated in one pass."""

from http import HTTPStatus
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from retrank.contract.api import MAX_BODY_BYTES
from retrank.serving.web.problems import ProblemError, from_validation

_MEDIA_TYPE = "application/json"
_Model = TypeVar("_Model", bound=BaseModel)


async def read_model(request: Request, model: type[_Model]) -> _Model:
    """Read the body of a request as a model.

    Raises:
        ProblemError: 415 not declared as JSON, 413 too large, 400 not JSON, 422 a field does not fit.
    """
    _check_media_type(request)
    body = await _read_bounded(request)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise from_validation(error) from error


def _check_media_type(request: Request) -> None:
    declared = request.headers.get("content-type", "")
    media_type, _, _ = declared.partition(";")
    if media_type.strip().lower() != _MEDIA_TYPE:
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"content-type is {declared[:100]!r}, expected {_MEDIA_TYPE!r}",
        )


async def _read_bounded(request: Request) -> bytes:
    """Stop at the limit, whether or not the client announced a length."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large() -> ProblemError:
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body exceeds {MAX_BODY_BYTES:,} bytes")
