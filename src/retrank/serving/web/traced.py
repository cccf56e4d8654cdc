"""ASGI middleware that makes a span per request, as a child of the caller's when it sends a `traceparent`."""

import time
from collections.abc import Callable

from opentelemetry.trace import SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrank.serving.telemetry.facade import answer_of, labels_of
from retrank.serving.telemetry.traces import add_stages

_FIELDS = (b"traceparent", b"tracestate")
_PROBES = ("/livez", "/readyz", "/metrics")
_FAILED = 500


class Traced:
    """Traces requests; ids of users and items never become attributes."""

    def __init__(self, app: ASGIApp, *, tracer: Tracer, now_ns: Callable[[], int] = time.time_ns) -> None:
        """Wrap an application; `now_ns` is nanoseconds since the Unix epoch."""
        self._app = app
        self._tracer = tracer
        self._now_ns = now_ns
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, inside a span."""
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        sent = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _FIELDS}
        parent = self._propagator.extract(sent)
        span = self._tracer.start_span(scope["method"], context=parent, kind=SpanKind.SERVER)
        if not span.is_recording():
            await self._app(scope, receive, send)
            return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
                if message["status"] >= _FAILED:
                    span.set_status(StatusCode.ERROR)
                answer = answer_of(scope)
                if answer is not None:
                    add_stages(self._tracer, span, answer, self._now_ns())
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", None)
            placement, variant = labels_of(scope)
            span.update_name(f"{scope['method']} {route}" if route else scope["method"])
            span.set_attribute("http.request.method", scope["method"])
            if route:
                span.set_attribute("http.route", route)
            span.set_attribute("retrank.placement", placement)
            span.set_attribute("retrank.variant", variant)
            span.end()
