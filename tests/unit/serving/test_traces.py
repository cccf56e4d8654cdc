"""Spans, read back from OpenTelemetry's in-memory exporter."""

import asyncio
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from retrank.contract.api import BundleInfo, Degraded, SlateResponse
from retrank.contract.errors import ConfigError
from retrank.serving.telemetry.facade import Telemetry
from retrank.serving.telemetry.settings import TelemetrySettings
from retrank.serving.telemetry.traces import open_tracer
from retrank.serving.web.traced import Traced

NOW_NS = 1_000_000_000
SAMPLED = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
UNSAMPLED = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
SLATE = SlateResponse(
    request_id="r",
    items=[],
    bundle=BundleInfo(id="b1", created_at=datetime(2026, 1, 1, tzinfo=UTC), model="m"),
    degraded=Degraded(is_degraded=True, reasons=["unknown_user"]),
    took_ms={"hydrate": 1.0, "retrieve": 2.0, "total": 3.0},
)


class Traces:
    """An application whose spans are kept."""

    def __init__(self, share: float) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(share)))
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        app = FastAPI()
        app.add_middleware(Traced, tracer=provider.get_tracer("test"), now_ns=lambda: NOW_NS)

        @app.post("/v1/recommend")
        async def recommend(request: Request) -> Response:
            Telemetry().observe_answer(request.scope, SLATE, placement="home")
            return Response("{}")

        @app.get("/v1/users/{user_id}")
        async def user(user_id: str) -> Response:
            return Response("{}", 503)

        @app.get("/livez")
        async def livez() -> Response:
            return Response("ok")

        self.app = app

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[ReadableSpan, ...]:
        async def request() -> None:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://a") as client:
                await client.request(method, path, headers=headers)

        asyncio.run(request())
        return self.exporter.get_finished_spans()


def test_a_request_has_one_span_per_stage_with_the_times_the_pipeline_took() -> None:
    *stages, request = Traces(1.0).ask("POST", "/v1/recommend")
    assert (request.name, request.kind) == ("POST /v1/recommend", SpanKind.SERVER)
    shown = [(span.name, span.start_time, span.end_time) for span in stages]
    begun, middle = NOW_NS - 3_000_000, NOW_NS - 2_000_000
    assert shown == [("stage hydrate", begun, middle), ("stage retrieve", middle, NOW_NS)]
    assert request.context is not None
    assert all(span.parent and span.parent.span_id == request.context.span_id for span in stages)


def test_a_degraded_answer_is_flagged_with_its_reasons() -> None:
    attributes = Traces(1.0).ask("POST", "/v1/recommend")[-1].attributes
    assert attributes is not None
    assert (attributes["retrank.degraded"], attributes["retrank.degraded_reasons"]) == (True, ("unknown_user",))
    assert (attributes["retrank.bundle"], attributes["retrank.placement"]) == ("b1", "home")


def test_the_callers_trace_goes_on_and_its_decision_wins() -> None:
    *_, request = Traces(0.0).ask("POST", "/v1/recommend", SAMPLED)
    assert request.parent is not None
    assert (request.parent.trace_id, request.parent.span_id) == (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)
    assert Traces(1.0).ask("POST", "/v1/recommend", UNSAMPLED) == ()
    assert Traces(0.0).ask("POST", "/v1/recommend") == ()


def test_ids_in_paths_stay_out_of_spans_and_failures_are_marked() -> None:
    (span,) = Traces(1.0).ask("GET", "/v1/users/somebody")
    assert "somebody" not in span.to_json()
    assert (span.name, span.status.status_code) == ("GET /v1/users/{user_id}", StatusCode.ERROR)


def test_probes_are_not_traced() -> None:
    assert Traces(1.0).ask("GET", "/livez") == ()


def test_a_destination_whose_package_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_tracer(TelemetrySettings()) is None
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match="opentelemetry-exporter-otlp-proto-http"):
        open_tracer(TelemetrySettings(traces="otlp"))
