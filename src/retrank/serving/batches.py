"""A batch of requests, one answer or problem for each: one that is bad, late or fails spoils no other."""

import logging
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

from pydantic import ValidationError

from retrank.contract.api import MAX_ID_LENGTH, FieldProblem, Problem, RecommendRequest, SlateResponse
from retrank.contract.problem_codes import ProblemCode
from retrank.contract.ranking import BatchItem, BatchRequest
from retrank.serving.faults import fields_of, summary
from retrank.serving.pipeline import Clock

_log = logging.getLogger(__name__)


class _Failure(NamedTuple):
    """A request at which the service failed; ids are the callers' and need not differ."""

    request_id: str
    error: Exception


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

    Raises:
        Exception: every request failed, with this one first; then it is no matter of some requests.
    """
    failures: list[_Failure] = []
    answers = [_one(fields, answer, due, clock, failures) for fields in batch.requests]
    if failures:
        first = failures[0].error
        if len(failures) == len(answers):
            raise first
        names = ", ".join(failed.request_id for failed in failures)
        _log.error("requests %s of a batch failed, the first one so", names, exc_info=first)
    return answers


def _one(
    fields: Mapping[str, object],
    answer: Callable[[RecommendRequest], SlateResponse],
    due: float,
    clock: Clock,
    failures: list[_Failure],
) -> BatchItem:
    try:
        request = RecommendRequest.model_validate(fields)
    except ValidationError as error:
        return BatchItem(status=HTTPStatus.UNPROCESSABLE_ENTITY, problem=_misfit(fields, error))
    request_id = request.request_id or uuid.uuid4().hex  # nobody's key of an experiment
    own: dict[str, object] = {"request_id": request_id}
    if due != math.inf:
        left_s = due - clock()
        if left_s <= 0:
            return BatchItem(status=HTTPStatus.GATEWAY_TIMEOUT, problem=_too_late(request_id))
        left_ms = max(int(left_s * 1e3), 1)
        own["deadline_ms"] = min(left_ms, request.deadline_ms or left_ms)
    try:
        return BatchItem(status=HTTPStatus.OK, slate=answer(request.model_copy(update=own)))
    except Exception as error:  # noqa: BLE001  (a bug must not cost the others their answers)
        failures.append(_Failure(request_id, error))
        return BatchItem(status=HTTPStatus.INTERNAL_SERVER_ERROR, problem=_failed(request_id))


def _too_late(request_id: str) -> Problem:
    detail = "the time of the batch was over before this request; give it more, or fewer requests"
    return _problem(HTTPStatus.GATEWAY_TIMEOUT, "deadline", detail, request_id)


def _failed(request_id: str) -> Problem:
    detail = "the service failed; its log has this request id"
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail, request_id)


def _misfit(fields: Mapping[str, object], error: ValidationError) -> Problem:
    found = fields_of(error)
    detail, request_id = summary(found, error.error_count()), str(fields.get("request_id", ""))[:MAX_ID_LENGTH]
    return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_field", detail, request_id, found)


def _problem(
    status: HTTPStatus, code: ProblemCode, detail: str, request_id: str, errors: Sequence[FieldProblem] = ()
) -> Problem:
    return Problem(
        type=f"/problems/{code}",
        title=status.phrase,
        status=status,
        detail=detail,
        instance=request_id,
        code=code,
        errors=list(errors),
    )
