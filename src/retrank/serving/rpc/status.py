"""Every error as a gRPC status with the details of `google.rpc`: the twin of `web/problems.py`.

`ErrorInfo.reason` is the `code` of the problem document, `BadRequest` names each offending field, `RetryInfo` says when
to come back, `RequestInfo` names the request. Source: google/rpc/error_details.proto; the details travel in
`grpc-status-details-bin`, which must fit the 8 KiB that clients read of trailers, so texts are cut.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from pydantic import ValidationError

from retrank.contract.api import FieldProblem
from retrank.contract.problem_codes import ProblemCode
from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.faults import AllRejected, NotOffered, fields_of, outside, summary
from retrank.serving.guard.gate import Refusal
from retrank.serving.rpc.messages import TooDeep
from retrank.serving.stores.protocol import StoreFull, StoreUnavailable

DOMAIN = "retrank"
DETAILS = "grpc-status-details-bin"
RETRY_AFTER_S = 1.0
MAX_NAMED = 8
_MAX_DETAIL = 300
_MAX_FIELD = 160
_REFUSALS = {
    HTTPStatus.BAD_REQUEST: StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: StatusCode.PERMISSION_DENIED,
    HTTPStatus.UNPROCESSABLE_ENTITY: StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: StatusCode.UNAVAILABLE,
}
_RETRY_HEADER = b"retry-after"


class Failed(NamedTuple):
    """How a call ends that was not answered.

    Attributes:
        code: of gRPC.
        http: status that REST would answer with, for the metrics that both share.
        reason: for programs.
        detail: for people.
        fields: what did not fit.
        retry_s: seconds after which it may be tried again; None when that does not help.
    """

    code: StatusCode
    http: HTTPStatus
    reason: ProblemCode
    detail: str
    fields: Sequence[FieldProblem] = ()
    retry_s: float | None = None


_BUG = Failed(
    StatusCode.INTERNAL,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "internal",
    "the service failed; its log has this request id",
)


def failed(error: Exception) -> Failed:
    """Say how a call ends that an error stopped; one that nobody expected is a bug."""
    if isinstance(error, Refusal):
        return _refused(error)
    if isinstance(error, ValidationError):
        fields = fields_of(error)
        return _misfit(summary(fields, error.error_count()), fields)
    if isinstance(error, AllRejected):
        return _misfit(str(error), error.fields, "all_rejected")
    if isinstance(error, TooDeep):
        return _misfit(str(error))
    if isinstance(error, DecodeError):
        return _misfit("the message is not of the type that this method takes")
    return _state(error)


def trailers(failure: Failed, request_id: str) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata that carries the details."""
    said: list[Message] = [
        error_details_pb2.ErrorInfo(reason=failure.reason, domain=DOMAIN),
        error_details_pb2.RequestInfo(request_id=request_id[:_MAX_FIELD]),
    ]
    if failure.fields:
        said.append(_bad_request(failure.fields))
    if failure.retry_s is not None:
        said.append(error_details_pb2.RetryInfo(retry_delay=_duration(failure.retry_s)))
    status = status_pb2.Status(
        code=failure.code.value[0], message=brief(failure), details=[_packed(one) for one in said]
    )
    return ((DETAILS, status.SerializeToString()),)


def brief(failure: Failed) -> str:
    """Return the message of a status."""
    return failure.detail[:_MAX_DETAIL]


def _refused(refusal: Refusal) -> Failed:
    waits = [float(value) for name, value in refusal.headers if name == _RETRY_HEADER]
    code = _REFUSALS[refusal.status]
    return Failed(code, refusal.status, refusal.code, refusal.detail, retry_s=waits[0] if waits else None)


def _misfit(detail: str, fields: Sequence[FieldProblem] = (), reason: ProblemCode = "invalid_field") -> Failed:
    return Failed(StatusCode.INVALID_ARGUMENT, HTTPStatus.UNPROCESSABLE_ENTITY, reason, detail, fields)


def _state(error: Exception) -> Failed:
    away = HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, StoreUnavailable):
        return Failed(StatusCode.UNAVAILABLE, away, "store_unavailable", outside(error), retry_s=RETRY_AFTER_S)
    if isinstance(error, LogUnavailable):
        return Failed(StatusCode.UNAVAILABLE, away, "log_unavailable", outside(error), retry_s=RETRY_AFTER_S)
    if isinstance(error, NotOffered):
        return Failed(StatusCode.UNIMPLEMENTED, away, "not_offered", str(error))
    if isinstance(error, StoreFull):
        return Failed(StatusCode.RESOURCE_EXHAUSTED, HTTPStatus.INSUFFICIENT_STORAGE, "store_full", str(error))
    return _BUG


def _bad_request(fields: Sequence[FieldProblem]) -> Message:
    violations = [
        error_details_pb2.BadRequest.FieldViolation(field=one.pointer[:_MAX_FIELD], description=one.detail[:_MAX_FIELD])
        for one in fields[:MAX_NAMED]
    ]
    return error_details_pb2.BadRequest(field_violations=violations)


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _packed(message: Message) -> Any:
    packed = Packed()
    packed.Pack(message)
    return packed
