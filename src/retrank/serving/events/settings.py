"""Settings of the event log, and the log they describe."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrank.contract.errors import ConfigError, said_of
from retrank.serving.events.checking import MAX_AGE_S
from retrank.serving.events.folders import STREAMS
from retrank.serving.events.protocol import RecordLog
from retrank.serving.events.segment_log import SegmentLog, SegmentOptions

_MIB = 1 << 20
_NOWHERE = "events have nowhere to be written; set directory, or kafka_servers"
_UNAWAITED_LINGER_S = 0.1
"""Decisions and dead letters, for which nobody waits, leave the disk to events: they share a flush for so long."""


class EventSettings(BaseModel):
    """Where events, decisions, dead letters and erasures are kept, and how quickly they are made durable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path | None = Field(default=None, description="folder of the embedded log; shared by all replicas")
    kafka_servers: str | None = Field(
        default=None, description="host:port,host:port of a Kafka-compatible broker for events and decisions"
    )
    kafka_topic_prefix: str = Field(default="retrank.", description="topics are <prefix>events, <prefix>decisions, ...")
    kafka_options: Mapping[str, str] = Field(default={}, description="further options of librdkafka (TLS, SASL)")
    delivery_timeout_s: float = Field(default=10.0, gt=0, le=300, description="a broker must acknowledge by then")
    segment_bytes: int = Field(
        default=32 * _MIB, ge=4_096, le=1_024 * _MIB, description="a segment is closed behind it"
    )
    segment_age_s: float = Field(default=3_600.0, gt=0, description="a segment is closed when it is that old")
    linger_ms: float = Field(
        default=0.0,
        ge=0,
        le=1_000,
        description="how long a group commit waits for company; whoever comes while the disk is busy shares the next",
    )
    batch_bytes: int = Field(default=4 * _MIB, ge=4_096, le=256 * _MIB, description="most that one fsync covers")
    queue_bytes: int = Field(default=32 * _MIB, ge=4_096, le=1_024 * _MIB, description="most that waits; then refused")
    max_age_days: float = Field(
        default=MAX_AGE_S / 86_400, gt=0, le=36_500, description="an event that is said to be older is rejected"
    )
    retry_s: float = Field(default=0.5, ge=0, le=60, description="pause of a log after its disk failed")
    decisions_bytes: int = Field(
        default=1_024 * _MIB, ge=4_096, description="decisions kept per replica; the oldest segments go"
    )
    rejected_bytes: int = Field(default=64 * _MIB, ge=4_096, description="dead letters kept per replica; oldest go")

    @property
    def somewhere(self) -> bool:
        """Whether they say where to write."""
        return self.directory is not None or self.kafka_servers is not None


def parse_event_settings(values: Mapping[str, Any]) -> EventSettings:
    """Return checked settings.

    Raises:
        ConfigError: an unknown key, a value that does not fit, or nowhere to write; the message names the key.
    """
    try:
        settings = EventSettings.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "events"
        raise ConfigError(f"event setting {key!r}: {said_of(first['msg'])}, got {first['input']!r}") from error
    if not settings.somewhere:
        raise ConfigError(_NOWHERE)
    return settings


def open_log(settings: EventSettings, stream: str = "events") -> RecordLog:
    """Open the log of one stream for writing: `events`, `decisions`, `rejected` or `erasures`.

    Events and decisions go to the broker if one is configured; dead letters and erasures stay in the folder if there is
    one, since the jobs that read them work on folders.

    Raises:
        LogUnavailable: the folder cannot be made.
        ConfigError: the stream is unknown, nothing says where to write, or Kafka is asked for without its package.
    """
    if not settings.somewhere:
        raise ConfigError(_NOWHERE)
    if stream not in STREAMS:
        raise ConfigError(f"unknown stream {stream!r}; expected one of {', '.join(STREAMS)}")
    local = settings.directory is not None and stream in ("rejected", "erasures")
    if settings.kafka_servers is not None and not local:
        from retrank.serving.events.kafka_sink import KafkaLog, KafkaOptions  # noqa: PLC0415  (an extra)

        return KafkaLog(
            settings.kafka_servers,
            f"{settings.kafka_topic_prefix}{stream}",
            KafkaOptions(
                delivery_timeout_s=settings.delivery_timeout_s,
                linger_ms=settings.linger_ms,
                queue_bytes=settings.queue_bytes,
                further=settings.kafka_options,
            ),
        )
    assert settings.directory is not None
    return SegmentLog(settings.directory / stream, segment_options(settings, stream), clock=time.time)


def segment_options(settings: EventSettings, stream: str) -> SegmentOptions:
    """Return the options of the embedded log of one stream."""
    kept = {"decisions": settings.decisions_bytes, "rejected": settings.rejected_bytes}.get(stream)
    return SegmentOptions(
        segment_bytes=settings.segment_bytes if kept is None else min(settings.segment_bytes, kept // 4),
        segment_age_s=settings.segment_age_s,
        linger_s=settings.linger_ms / 1_000 if kept is None else max(settings.linger_ms / 1_000, _UNAWAITED_LINGER_S),
        batch_bytes=settings.batch_bytes,
        queue_bytes=settings.queue_bytes,
        retry_s=settings.retry_s,
        keep_bytes=kept,
    )
