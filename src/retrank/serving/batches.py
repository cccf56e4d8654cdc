"""A batch of requests, one answer or problem for each: a bad one spoils no other, a late one is told so."""

import math
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus

from pydantic import ValidationError

from retrank.contract.api import Problem, RecommendRequest, SlateResponse
from retrank.contract.ranking import BatchItem, BatchRequest
from retrank.serving.faults import fields_of, summary
from retrank.serving.pipeline import Clock


def answer_each(
    batch: BatchRequest, answer: Callable[[RecommendRequest], SlateResponse], due: float, clock: Clock
) -> list[BatchItem]:
    """Answer the requests of a batch one after the other.

    Args:
        batch: the requests, as they were sent.
        answer: answers one.
        due: when all of them shall be answered, on `clock`; infinite sets no such bound. Requests whose turn comes
            later are not answered any more: their caller has gone.
        clock: monotonic seconds.
    """
    return [_one(fields, answer, due, clock) for fields in batch.requests]


def _one(
    fields: Mapping[str, object], answer: Callable[[RecommendRequest], SlateResponse], due: float, clock: Clock
) -> BatchItem:
    try:
        request = RecommendRequest.model_validate(fields)
    except ValidationError as error:
        return BatchItem(status=HTTPStatus.UNPROCESSABLE_ENTITY, problem=_misfit(fields, error))
    own: dict[str, object] = {"request_id": request.request_id or uuid.uuid4().hex}  # nobody's key of an experiment
    if due != math.inf:
        left_s = due - clock()
        if left_s <= 0:
            return BatchItem(status=HTTPStatus.GATEWAY_TIMEOUT, problem=_too_late(str(own["request_id"])))
        left_ms = max(int(left_s * 1e3), 1)
        own["deadline_ms"] = min(left_ms, request.deadline_ms or left_ms)
    return BatchItem(status=HTTPStatus.OK, slate=answer(request.model_copy(update=own)))


def _too_late(request_id: str) -> Problem:
    return Problem(
        type="/problems/deadline",
        title=HTTPStatus.GATEWAY_TIMEOUT.phrase,
        status=HTTPStatus.GATEWAY_TIMEOUT,
        detail="the time of the batch was over before this request; give it more, or fewer requests",
        instance=request_id,
        code="deadline",
    )


def _misfit(fields: Mapping[str, object], error: ValidationError) -> Problem:
    found = fields_of(error)
    return Problem(
        type="/problems/invalid_field",
        title=HTTPStatus.UNPROCESSABLE_ENTITY.phrase,
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
        detail=summary(found, error.error_count()),
        instance=str(fields.get("request_id", ""))[:256],
        code="invalid_field",
        errors=found,
    )
