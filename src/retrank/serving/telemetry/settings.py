"""Settings of what the service says about itself."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TelemetrySettings(BaseModel):
    """Traces and logs; metrics are always there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    traces: Literal["off", "console", "otlp"] = Field(default="off", description="where spans go")
    trace_share: float = Field(
        default=0.01, ge=0, le=1, description="share of requests without a traceparent that are traced"
    )
    log_format: Literal["text", "json"] = Field(default="text", description="json: one object per line")
