"""Settings of bundle swaps."""

from pydantic import BaseModel, ConfigDict, Field

from retrank.serving.bundles.load import LoadSettings
from retrank.serving.bundles.watch import GuardSettings


class BundlesSettings(BaseModel):
    """How replicas follow the desired state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    poll_s: float = Field(default=0.2, gt=0, le=60, description="how often a replica looks for changes, seconds")
    beat_s: float = Field(default=1.0, gt=0, le=60, description="how often a replica says how it is, seconds")
    ttl_s: float = Field(default=10.0, gt=0, le=600, description="silence after which a replica counts as gone")
    max_bytes: int = Field(default=64 << 30, ge=1, description="largest bundle that is fetched")
    load: LoadSettings = LoadSettings()
    guard: GuardSettings = GuardSettings()


class AdminSettings(BaseModel):
    """Where operators reach the service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="whether the admin routes are served at all")
    host: str = Field(default="127.0.0.1", description="interface; keep it off the network that users reach")
    port: int = Field(default=8001, ge=1, le=65_535)
