"""Settings of protection: how much work is let in, how much each caller may ask for, and when to stop trying."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class LaneSettings(BaseModel):
    """Requests that share a limit; one lane answers slates, one answers batches, one takes events and changes."""

    model_config = _FROZEN

    concurrency: int = Field(default=4, ge=1, le=10_000, description="requests in flight at a time, per replica")
    max_queued: int = Field(default=64, ge=0, le=10_000, description="requests that wait for their turn, per replica")
    max_age_s: float = Field(
        default=0.2,
        gt=0,
        le=60,
        description="seconds a request may wait before it is refused; on arrival, at half of that",
    )
    burst_age_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="seconds one of a burst may wait that says its deadline; nobody waits for more than half of that",
    )


class BreakerSettings(BaseModel):
    """When a dependency is left alone for a while."""

    model_config = _FROZEN

    window: int = Field(default=20, ge=4, le=1_000, description="newest calls that are looked at")
    max_error_share: float = Field(default=0.5, gt=0, le=1, description="share of failed calls that opens it")
    max_p95_s: float = Field(default=0.05, gt=0, le=60, description="95th percentile of call times that opens it, s")
    max_wasted_s: float = Field(
        default=0.1, gt=0, le=60, description="seconds that failed calls among them may have taken together"
    )
    open_s: float = Field(default=1.0, gt=0, le=600, description="seconds until one call is let through as a trial")


class QuotaSettings(BaseModel):
    """How much one caller may ask for, on each replica; a caller is an API key, or everybody without keys."""

    model_config = _FROZEN

    per_second: float = Field(default=0.0, ge=0, description="requests a second that are sustained; 0 is no quota")
    burst: int = Field(default=100, ge=1, le=1_000_000, description="requests that may come at once")


class AuthSettings(BaseModel):
    """Who may call."""

    model_config = _FROZEN

    key_file: Path | None = Field(default=None, description="file written by `retrank keys`; none: no keys are asked")
    allow_open: bool = Field(default=False, description="listen beyond this machine although no keys are asked")


class DrainSettings(BaseModel):
    """How the service stops."""

    model_config = _FROZEN

    window_s: float = Field(default=2.0, ge=0, le=600, description="seconds it answers on, not ready, before it closes")
    finish_s: float = Field(default=8.0, gt=0, le=20, description="seconds that requests in flight get after that")


class GuardSettings(BaseModel):
    """Protection of the service."""

    model_config = _FROZEN

    answers: LaneSettings = LaneSettings()
    batches: LaneSettings = LaneSettings(concurrency=1, max_queued=8, max_age_s=5.0)
    writes: LaneSettings = LaneSettings(concurrency=128, max_queued=256, max_age_s=1.0)
    quota: QuotaSettings = QuotaSettings()
    breaker: BreakerSettings = BreakerSettings()
    auth: AuthSettings = AuthSettings()
    drain: DrainSettings = DrainSettings()
    retry_after_s: float = Field(
        default=1.0, gt=0, le=60, description="mean seconds that refused callers are asked for"
    )
