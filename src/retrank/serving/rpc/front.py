"""What stands around the methods, as middleware stands around the routes:

    counted ▸ traced ▸ named ▸ guarded ▸ decoded ▸ method

The gate is that of the REST routes, so that a request takes a slot of the same lane however it comes. A message is
decoded after it has its slot.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from retrank.contract.api import MAX_ID_LENGTH
from retrank.serving.guard.caller import set_caller, set_charge, set_waited
from retrank.serving.guard.gate import Entry, Gate, Refusal
from retrank.serving.rpc.methods import Call, Method
from retrank.serving.rpc.status import Failed, brief, failed, trailers
from retrank.serving.telemetry.facade import Telemetry, answer_of, labels_of
from retrank.serving.telemetry.logs import answering
from retrank.serving.telemetry.traces import add_stages

REQUEST_ID = "x-request-id"
_GONE = 499
_FIRST_SERVER_ERROR = 500
_log = logging.getLogger(__name__)


class Around(NamedTuple):
    """What stands around every method of one replica.

    Attributes:
        gate: lets calls in; None lets in everything at once.
        telemetry: what the service says about itself.
        tracer: makes spans; None makes none.
    """

    gate: Gate | None = None
    telemetry: Telemetry = Telemetry()
    tracer: Tracer | None = None


class Front:
    """One method with everything around it; what gRPC calls with the bytes of a message."""

    def __init__(
        self, path: str, method: Method, around: Around, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Stand in front of a method.

        Args:
            path: name of the method as gRPC writes it, `/package.Service/Method`.
            method: the method.
            around: gate, telemetry, tracer.
            clock: monotonic seconds.
        """
        self._path, self._method, self._around, self._clock = path, method, around, clock
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, raw: bytes, context: Any) -> bytes:
        """Answer a call, or end it with a status; 499 is counted when the caller went away."""
        metadata = _texts(context.invocation_metadata())
        call = Call(metadata.get(REQUEST_ID, "")[:MAX_ID_LENGTH] or uuid.uuid4().hex, context.time_remaining())
        answering.set(call.request_id)
        span, started, status = self._span(metadata), self._clock(), _GONE
        try:
            await context.send_initial_metadata(((REQUEST_ID, call.request_id),))
            answer = await self._answer(raw, metadata, call, context)
            status = HTTPStatus.OK
            return answer
        except asyncio.CancelledError:
            raise
        except Exception as error:
            failure = failed(error)
            status = failure.http
            await _abort(context, failure, call, error)
            raise AssertionError("abort raises") from error
        finally:
            placement, variant = labels_of(call.scope)
            took = self._clock() - started
            self._around.telemetry.request(self._path, status, took, placement=placement, variant=variant)
            if span is not None:
                self._end(span, call, status)

    async def _answer(self, raw: bytes, metadata: Mapping[str, str], call: Call, context: Any) -> bytes:
        entry = await self._enter(metadata, call)
        try:
            if entry is not None:
                self._note(entry, call.scope)
                call.remaining_s = context.time_remaining()  # waiting for its turn took some
            call.message = self._method.asked.FromString(raw)
            made: bytes = (await self._method.answer(call)).SerializeToString()
            if entry is not None:
                context.set_trailing_metadata(tuple((name.decode(), value.decode()) for name, value in entry.headers))
            return made
        finally:
            if entry is not None and entry.lane is not None:
                entry.lane.leave()

    def _note(self, entry: Entry, scope: MutableMapping[str, Any]) -> None:
        assert self._around.gate is not None
        set_caller(scope, entry.caller)
        set_charge(scope, partial(self._around.gate.charge, entry))

    async def _enter(self, metadata: Mapping[str, str], call: Call) -> Entry | None:
        gate = self._around.gate
        if gate is None:
            return None
        sent = {name.encode(): value.encode("latin-1", "replace") for name, value in metadata.items()}
        entry = gate.check(*self._method.twin, sent)._replace(deadline_s=call.remaining_s)
        if entry.lane is not None:
            set_waited(call.scope, await gate.wait(entry))
        return entry

    def _span(self, metadata: Mapping[str, str]) -> Span | None:
        if self._around.tracer is None:
            return None
        parent = self._propagator.extract(dict(metadata))
        return self._around.tracer.start_span(self._path[1:], context=parent, kind=SpanKind.SERVER)

    def _end(self, span: Span, call: Call, status: int) -> None:
        """Say what became of a call, with a child per stage; ids of users and items never become attributes."""
        assert self._around.tracer is not None
        placement, variant = labels_of(call.scope)
        span.set_attribute("rpc.system", "grpc")
        span.set_attribute("http.response.status_code", int(status))
        span.set_attribute("retrank.placement", placement)
        span.set_attribute("retrank.variant", variant)
        if status >= _FIRST_SERVER_ERROR:
            span.set_status(StatusCode.ERROR)
        answer = answer_of(call.scope)
        if answer is not None and span.is_recording():
            add_stages(self._around.tracer, span, answer, time.time_ns())
        span.end()


async def _abort(context: Any, failure: Failed, call: Call, error: Exception) -> None:
    if failure.http == HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("request %s failed", call.request_id, exc_info=error)
    quota = error.headers if isinstance(error, Refusal) else []
    limits = tuple((name.decode(), value.decode()) for name, value in quota if name.startswith(b"ratelimit-"))
    await context.abort(failure.code, brief(failure), trailers(failure, call.request_id) + limits)


def _texts(metadata: Any) -> dict[str, str]:
    """Return the text values of metadata; binary ones are none of ours."""
    return {name: value for name, value in metadata or () if isinstance(value, str)}
