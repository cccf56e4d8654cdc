"""Settings of bundle swaps and of the admin port; apart from `bundles`, which reads the settings of the service."""

from pydantic import BaseModel, ConfigDict, Field

MAX_WATCHED = 2_000


class LoadSettings(BaseModel):
    """What a bundle must show before it answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recall_queries: int = Field(default=64, ge=1, le=10_000, description="users drawn for the recall check")
    recall_tolerance: float = Field(default=0.05, ge=0, le=1, description="allowed below the recall in the manifest")
    max_rehearsal: int = Field(default=100, ge=1, le=200, description="requests served lately that are answered again")
    same_data: bool = Field(default=True, description="refuse a bundle of another data set than the active one")


class WatchSettings(BaseModel):
    """When a newly activated bundle is taken out again; a share is one of the answers since it was activated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    watch_s: float = Field(default=60.0, ge=0, le=86_400, description="how long a new bundle is watched, seconds")
    min_answers: int = Field(default=50, ge=1, le=MAX_WATCHED, description="answers seen before anything is concluded")
    max_failed_rise: float = Field(default=0.02, ge=0, le=1, description="rise of the share with a failed stage")
    max_empty_rise: float = Field(default=0.05, ge=0, le=1, description="rise of the share without any item")
    max_latency_ratio: float = Field(default=2.0, ge=1, description="p95 against the bundle before")
    min_latency_rise_ms: float = Field(default=20.0, ge=0, description="a rise below this is noise, whatever its ratio")


class BundlesSettings(BaseModel):
    """How replicas follow the desired state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    poll_s: float = Field(default=0.2, gt=0, le=60, description="how often a replica looks for changes, seconds")
    beat_s: float = Field(default=1.0, gt=0, le=60, description="how often a replica says how it is, seconds")
    ttl_s: float = Field(default=10.0, gt=0, le=600, description="silence after which a replica counts as gone")
    patience_s: float = Field(
        default=120.0, ge=0, le=3_600, description="wait for its turn to load, and then for others to be ready, seconds"
    )
    max_bytes: int = Field(default=64 << 30, ge=1, description="largest bundle that is fetched")
    load: LoadSettings = LoadSettings()
    watch: WatchSettings = WatchSettings()


class BlastSettings(BaseModel):
    """How much a change of placements or rules may change unless the operator says force."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_slates: float = Field(default=0.25, ge=0, le=1, description="share of the sampled slates that may change")
    max_items: float = Field(default=0.1, ge=0, le=1, description="share of the catalogue that one rule may block")
    min_sample: int = Field(default=20, ge=1, le=10_000, description="requests below which the share says nothing")
    wait_s: float = Field(default=10.0, gt=0, le=60, description="how long replicas have for their counts, seconds")


class AdminSettings(BaseModel):
    """Where operators reach the service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="whether the admin routes are served at all")
    host: str = Field(default="127.0.0.1", description="interface; keep it off the network that users reach")
    port: int = Field(default=8001, ge=1, le=65_535)
    blast: BlastSettings = BlastSettings()
