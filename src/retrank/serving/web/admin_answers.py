"""What the admin routes have in common: refusals as problems, and answers as JSON."""

from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from fastapi import Request, Response
from pydantic import BaseModel

from retrank.contract.errors import RetrankError
from retrank.serving.bundles.desired import SwapRefused
from retrank.serving.guard.caller import caller_of
from retrank.serving.placements.shelf import ShelfRefused
from retrank.serving.stores.protocol import DEFAULT_TENANT, StoreFull, StoreUnavailable
from retrank.serving.web.messages import NOT_STORED
from retrank.serving.web.problems import ProblemError

_Answer = TypeVar("_Answer")


def explained(act: Callable[[], _Answer]) -> _Answer:
    """Turn a refusal into a problem: 409 for the state of the fleet, 503 and 507 for the store, 422 for what was named.

    Raises:
        ProblemError: instead of every error of our own.
    """
    try:
        return act()
    except (SwapRefused, ShelfRefused) as error:
        raise ProblemError(HTTPStatus.CONFLICT, str(error)) from error
    except StoreUnavailable as error:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
    except StoreFull as error:
        raise ProblemError(HTTPStatus.INSUFFICIENT_STORAGE, str(error)) from error
    except RetrankError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error


def tenant_of(request: Request, named: str | None) -> str:
    """Return the tenant a call is about: the one it names, else its caller's own.

    A key is for its own tenant alone; one of the default tenant, whose keys run the service, for all.

    Raises:
        ProblemError: 403, the key belongs to another tenant.
    """
    caller = caller_of(request.scope)
    tenant = caller.tenant if named is None else named
    if caller.tenant not in (tenant, DEFAULT_TENANT):
        detail = (
            f"this API key belongs to tenant {caller.tenant!r}, asked was for tenant {tenant!r}; "
            f"name its own tenant or none, or use a key of the tenant {DEFAULT_TENANT!r}"
        )
        raise ProblemError(HTTPStatus.FORBIDDEN, detail)
    return tenant


def check_operator(request: Request) -> None:
    """Let pass only who runs the service: bundles and draining are of all tenants.

    Raises:
        ProblemError: 403, the key belongs to a tenant.
    """
    tenant = caller_of(request.scope).tenant
    if tenant != DEFAULT_TENANT:
        detail = (
            f"this API key belongs to tenant {tenant!r}, and this is about the service of all tenants; "
            f"use a key of the tenant {DEFAULT_TENANT!r}"
        )
        raise ProblemError(HTTPStatus.FORBIDDEN, detail)


def json_answer(model: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Write a message as the body of an answer."""
    body = model.model_dump_json(by_alias=True)
    return Response(body, status, headers=NOT_STORED, media_type="application/json")
