"""Settings of the state store: where it is, how much it keeps of whom, and for how long."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr

_DAY_S = 86_400.0


class StateSettings(BaseModel):
    """What the service remembers between requests.

    The URL may hold a password, so it prints as asterisks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr | None = Field(
        default=None,
        description="None is state.sqlite in the folder of the service; else sqlite:PATH, "
        "redis://[user:password@]host:port/db, rediss:// (TLS), redis+cluster://host:port, rediss+cluster://, "
        "or file:PATH of a file that holds one of these",
    )
    timeout_s: float = Field(default=0.25, gt=0, le=30, description="longest wait for the store, per round trip")
    answer_timeout_s: float = Field(
        default=0.04,
        gt=0,
        le=30,
        description="the same while somebody waits for a slate: two of them must fit into a deadline",
    )
    key_prefix: str = Field(
        default="retrank", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="what all keys in Redis start with"
    )
    max_events_per_person: int = Field(default=200, ge=1, le=10_000, description="newest events kept of a person")
    max_events_per_session: int = Field(default=100, ge=1, le=10_000, description="newest events kept of a session")
    max_seen_per_person: int = Field(
        default=1_000, ge=1, le=100_000, description="pairs of item and kind of event kept"
    )
    max_sessions_per_person: int = Field(
        default=50, ge=1, le=1_000, description="sessions at a time that a person's events are also kept under"
    )
    max_event_ids_per_person: int = Field(
        default=10_000, ge=1, le=1_000_000, description="newest event ids that deduplication remembers of a person"
    )
    max_changed_items: int = Field(default=100_000, ge=1, le=10_000_000, description="items in a tenant's overlay")
    events_ttl_s: float = Field(default=90 * _DAY_S, gt=0, description="seconds after which an event is forgotten")
    session_ttl_s: float = Field(default=_DAY_S, gt=0, description="the same for the events of a session")
    seen_ttl_s: float = Field(default=30 * _DAY_S, gt=0, description="seconds after which an item counts as unseen")


def url_of(settings: StateSettings) -> str:
    """Return the URL in clear; that of a file in the working directory when none is named."""
    return "sqlite:state.sqlite" if settings.url is None else settings.url.get_secret_value()
