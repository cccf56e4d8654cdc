"""Settings of the service; an unknown key or a value out of range is an error that names the key."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from retrank.contract.errors import ConfigError
from retrank.serving.stores.settings import StateSettings
from retrank.serving.swap_settings import AdminSettings, BundlesSettings


class PipelineSettings(BaseModel):
    """How one request is answered; the same in process and over HTTP."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_candidates: int = Field(default=200, ge=1, le=10_000, description="items retrieved per source")
    covisit_window: int = Field(default=10, ge=1, le=200, description="newest events that co-visitation looks at")
    explain_window: int = Field(default=50, ge=1, le=200, description="newest events that a reason may name")
    min_similarity: float = Field(default=0.3, ge=0.0, le=1.0, description="cosine below which nothing is similar")


class Settings(BaseModel):
    """Everything `retrank serve` and `serving/config.yaml` can say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path = Field(description="a bundle, or a folder whose `current` points at one")
    replicas: int = Field(default=1, ge=1, le=256, description="processes that answer")
    host: str = Field(default="127.0.0.1", description="interface to listen on; 0.0.0.0 opens it to the network")
    port: int = Field(default=8000, ge=1, le=65_535)
    max_ongoing_requests: int = Field(default=32, ge=1, le=10_000, description="concurrent requests per replica")
    ready_timeout_s: float = Field(default=120.0, gt=0, description="give up when the replicas are not ready by then")
    pipeline: PipelineSettings = PipelineSettings()
    state: StateSettings = StateSettings()
    bundles: BundlesSettings = BundlesSettings()
    admin: AdminSettings = AdminSettings()

    @field_validator("host")
    @classmethod
    def _as_address(cls, host: str) -> str:
        """Treat the name of this machine's loopback like its address, which is what keeps every listener local."""
        return "127.0.0.1" if host == "localhost" else host


def parse_settings(values: dict[str, Any]) -> Settings:
    """Return checked settings.

    Raises:
        ConfigError: an unknown key, a missing one, or a value that does not fit; the message names the key.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(Settings.model_fields)
        raise ConfigError(f"serving setting {key!r}: {first['msg']}, got {first['input']!r}; known: {known}") from error
