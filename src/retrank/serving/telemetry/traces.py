"""Spans of OpenTelemetry: where they go, and those of a pipeline's stages.

The pipeline times its stages anyway, so their spans are made from those times when the answer is ready, and only for
requests that are traced: others pay one look at a header.
"""

from opentelemetry import trace
from opentelemetry.trace import Span, Tracer

from retrank.contract.errors import ConfigError
from retrank.serving.telemetry.facade import Answered
from retrank.serving.telemetry.settings import TelemetrySettings

NAME = "retrank"
_NS_PER_MS = 1_000_000


def open_tracer(settings: TelemetrySettings) -> Tracer | None:
    """Return a tracer whose spans go where the settings say; None when they go nowhere.

    Where an OTLP collector is, OpenTelemetry reads from its usual variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, ...).

    Raises:
        ConfigError: a package for the destination is not installed.
    """
    if settings.traces == "off":
        return None
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  (the SDK is optional)
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

        if settings.traces == "otlp":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"serving.telemetry.traces={settings.traces} needs {error.name}; install opentelemetry-sdk and, for otlp, "
            "opentelemetry-exporter-otlp-proto-http"
        ) from error
    provider = TracerProvider(
        resource=Resource.create({"service.name": NAME}), sampler=ParentBased(TraceIdRatioBased(settings.trace_share))
    )
    exporter = OTLPSpanExporter() if settings.traces == "otlp" else ConsoleSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer(NAME)


def add_stages(tracer: Tracer, request: Span, answer: Answered, ended_ns: int) -> None:
    """Give the span of a request one child per stage, and say what the answer lacks.

    Args:
        tracer: makes the children.
        request: the span of the request.
        answer: the slate; `took_ms` is in the order in which stages ran.
        ended_ns: when the pipeline was done, nanoseconds since the Unix epoch.
    """
    request.set_attribute("retrank.bundle", answer.bundle.id)
    request.set_attribute("retrank.items", len(answer.items))
    request.set_attribute("retrank.degraded", answer.degraded.is_degraded)
    if answer.degraded.reasons:
        request.set_attribute("retrank.degraded_reasons", list(answer.degraded.reasons))
    context = trace.set_span_in_context(request)
    took_ns = {name: int(took * _NS_PER_MS) for name, took in answer.took_ms.items() if name != "total"}
    begun = ended_ns - sum(took_ns.values())
    for name, took in took_ns.items():
        stage = tracer.start_span(f"stage {name}", context=context, start_time=begun)
        begun += took
        stage.end(end_time=begun)
