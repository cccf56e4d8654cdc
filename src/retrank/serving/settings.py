"""Settings of the service; an unknown key or a value out of range is an error that names the key."""

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from retrank.contract.bundle import library_of
from retrank.contract.errors import ConfigError, said_of
from retrank.serving.events.settings import EventSettings
from retrank.serving.guard.settings import GuardSettings
from retrank.serving.rpc_settings import RpcSettings
from retrank.serving.stores.settings import StateSettings
from retrank.serving.swap_settings import AdminSettings, BundlesSettings
from retrank.serving.telemetry.settings import TelemetrySettings

_MAY_BE_EMPTY = frozenset({"events.kafka_topic_prefix"})


class PipelineSettings(BaseModel):
    """How one request is answered; the same in process and over HTTP."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_candidates: int = Field(default=200, ge=1, le=10_000, description="items retrieved per source")
    covisit_window: int = Field(default=10, ge=1, le=200, description="newest events that co-visitation looks at")
    explain_window: int = Field(default=50, ge=1, le=200, description="newest events that a reason may name")
    min_similarity: float = Field(default=0.3, ge=0.0, le=1.0, description="cosine below which nothing is similar")
    max_new_items: int = Field(
        default=10_000,
        ge=0,
        le=100_000,
        description="items newer than the bundle that are offered by their content, the last changed first; 0 is none",
    )


class ServiceSettings(BaseModel):
    """What the service does around a recommender: deadlines, state, logs, tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deadline_ms: int = Field(default=100, ge=1, le=60_000, description="time for one answer when the caller sets none")
    catalogue_refresh_s: float = Field(
        default=0.5, ge=0.01, le=60, description="how often a replica looks at what others changed and counted"
    )
    folder: Path | None = Field(
        default=None,
        description="where state, logs and the token key are kept; None is BUNDLES.state beside the bundles",
    )
    quality_every_s: float = Field(
        default=30.0, ge=0, le=3_600, description="how often drift, coverage and recall are summed up; 0 is never"
    )
    recall_queries: int = Field(
        default=8, ge=0, le=64, description="requests each time whose neighbours are compared with exact search"
    )
    keep_decisions: bool = Field(default=True, description="write every answer to the decision log")


class Settings(BaseModel):
    """Everything `retrank serve` and `serving/config.yaml` can say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path = Field(description="a bundle, or a folder whose `current` points at one")
    replicas: int = Field(default=1, ge=1, le=256, description="processes that answer")
    host: str = Field(default="127.0.0.1", description="interface to listen on; 0.0.0.0 opens it to the network")
    port: int = Field(default=8000, ge=1, le=65_535)
    max_ongoing_requests: int = Field(
        default=512,
        ge=1,
        le=10_000,
        description="requests Ray hands to a replica; those in lanes and queues, and probes",
    )
    ready_timeout_s: float = Field(default=120.0, gt=0, description="give up when the replicas are not ready by then")
    pipeline: PipelineSettings = PipelineSettings()
    guard: GuardSettings = GuardSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    service: ServiceSettings = ServiceSettings()
    state: StateSettings = StateSettings()
    events: EventSettings = Field(
        default=EventSettings(), description="event and decision logs; in the folder, unless they say otherwise"
    )
    bundles: BundlesSettings = BundlesSettings()
    admin: AdminSettings = AdminSettings()
    rpc: RpcSettings = RpcSettings()

    @property
    def folder(self) -> Path:
        """Where the service keeps what must outlive single bundles."""
        if self.service.folder is not None:
            return self.service.folder
        root = library_of(self.bundle)
        return root.with_name(f"{root.resolve().name}.state")

    def state_store(self) -> StateSettings:
        """Return where state is kept: in the folder, unless the settings name a store."""
        if self.state.url is not None:
            return self.state
        return self.state.model_copy(update={"url": SecretStr(f"sqlite:{self.folder / 'state.sqlite'}")})

    def event_logs(self) -> EventSettings:
        """Return where events and decisions are kept: in the folder, unless the settings say otherwise."""
        return (
            self.events if self.events.somewhere else self.events.model_copy(update={"directory": self.folder / "logs"})
        )

    @field_validator("events", mode="before")
    @classmethod
    def _as_default(cls, events: object) -> object:
        return EventSettings() if events is None else events

    @field_validator("host")
    @classmethod
    def _as_address(cls, host: str) -> str:
        """Treat the name of this machine's loopback like its address, which is what keeps every listener local."""
        return "127.0.0.1" if host == "localhost" else host


def parse_settings(values: dict[str, Any]) -> Settings:
    """Return checked settings.

    Raises:
        ConfigError: an unknown key, a missing or an empty one, or a value that does not fit; the message names the key.
    """
    _refuse_empty(values)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        said = said_of(first["msg"])
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(Settings.model_fields)
        raise ConfigError(f"serving setting {key!r}: {said}, got {first['input']!r}; known: {known}") from error


def _refuse_empty(values: Mapping[str, Any], within: str = "") -> None:
    """Refuse `key=` with nothing behind it, which would become the working directory, or every interface."""
    for key, value in values.items():
        name = f"{within}{key}"
        if isinstance(value, Mapping):
            _refuse_empty(value, f"{name}.")
        elif value == "" and name not in _MAY_BE_EMPTY:
            raise ConfigError(f"serving setting {name!r} is empty; give it a value, or say null for its default")


def refuse_to_open(settings: Settings) -> None:
    """Refuse to listen beyond this machine without asking anybody who they are.

    Raises:
        ConfigError: no key file is named, and no setting says that this is meant.
    """
    auth = settings.guard.auth
    hosts = {"serving.host": settings.host}
    hosts |= {"serving.rpc.host": settings.rpc.host} if settings.rpc.enabled else {}
    hosts |= {"serving.admin.host": settings.admin.host} if settings.admin.enabled else {}
    opened = [f"{name}={host}" for name, host in hosts.items() if not is_local(host)]
    if not opened or auth.key_file is not None or auth.allow_open:
        return
    raise ConfigError(
        f"{opened[0]} opens the service to the network and nobody would be asked for a key; make "
        "keys with `retrank keys create` and name serving.guard.auth.key_file, or put a gateway that checks callers "
        "in front and say serving.guard.auth.allow_open=true"
    )


def is_local(host: str) -> bool:
    """Tell whether an address is reachable from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
