"""`retrank events compact|replay|status`: the jobs around the event log."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from retrank.contract.errors import ConfigError, DataError, said_of
from retrank.serving.events.applied import read_applied
from retrank.serving.events.compact import compact
from retrank.serving.events.erasures import ordered, proofs
from retrank.serving.events.folders import STREAMS, is_abandoned, segments, writers
from retrank.serving.events.intake import open_intake
from retrank.serving.events.replay import dead_letters, replay, resubmit
from retrank.serving.events.segment import CorruptSegment, SegmentReader
from retrank.serving.events.settings import EventSettings
from retrank.serving.events.tables import ROOT_NAME, published_files
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.settings import StateSettings


class JobSettings(BaseModel):
    """Everything `retrank events` can say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    act: Literal["compact", "replay", "status"] = Field(description="what to do")
    directory: Path = Field(description="folder of the event log")
    root: Path | None = Field(default=None, description="root of the Parquet partitions; null = directory/parquet")
    since: datetime | None = Field(default=None, description="replay: only what arrived then or later")
    dead_letters: Literal["list", "resubmit"] | None = Field(
        default=None, description="replay: show refused events, or send them again, instead of replaying the log"
    )
    keep_days: float = Field(default=30.0, ge=0, description="compact: decisions and dead letters go when that old")
    state: StateSettings = Field(default=StateSettings(), description="replay: the store that events are applied to")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.since is not None and self.since.tzinfo is None:
            raise ValueError("since has no time zone; write 2026-01-31T12:00:00Z, for instance")
        return self

    @property
    def partitions(self) -> Path:
        """Root of the Parquet partitions."""
        return self.directory / ROOT_NAME if self.root is None else self.root


def run(config: Mapping[str, Any]) -> None:
    """Do one job and print what came of it.

    Raises:
        ConfigError: a setting does not fit.
        DataError: there is no log, or some of it is damaged.
        StoreUnavailable: the store went away; run the job again.
    """
    try:
        settings = JobSettings.model_validate(dict(config))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "events"
        raise ConfigError(f"{key}: {said_of(first['msg'])}, got {first['input']!r}") from error
    if not settings.directory.is_dir():
        raise DataError(f"{settings.directory}: no such folder; expected the directory of an event log")
    {"compact": _compact, "replay": _replay, "status": _status}[settings.act](settings)


def _compact(settings: JobSettings) -> None:
    summary = compact(settings.directory, settings.partitions, now=time.time, keep_s=86_400 * settings.keep_days)
    print(summary.line())
    print(f"partitions: {settings.partitions}")
    if summary.damaged:
        raise DataError("left out whole, everything else is published:\n" + "\n".join(summary.damaged))


def _replay(settings: JobSettings) -> None:
    if settings.dead_letters == "list":
        for letter in dead_letters(settings.directory):
            print(letter.model_dump_json())
        return
    store = open_store(settings.state)
    store.ping()
    try:
        if settings.dead_letters == "resubmit":
            letters = list(dead_letters(settings.directory))
            intake = open_intake(EventSettings(directory=settings.directory), store)
            receipt = resubmit(letters, intake)
            intake.close()
            print(
                f"{receipt.accepted} accepted, {receipt.duplicates} duplicates, {len(receipt.rejected)} refused again"
            )
        else:
            since_us = 0 if settings.since is None else int(settings.since.timestamp() * 1e6)
            done = replay(settings.directory, settings.partitions, store, since_us=since_us, now=time.time)
            print(f"{done.read:,} events read, {done.new:,} of them new to the store")
    finally:
        store.close()


def _status(settings: JobSettings) -> None:
    damaged: list[str] = []
    for stream in STREAMS:
        for folder in writers(settings.directory / stream):
            state = "gone" if is_abandoned(folder) else "alive"
            found = segments(folder)
            size = sum(path.stat().st_size for path in found)
            applied = read_applied(folder)
            mark = "" if applied is None else f", applied below {applied:,}"
            print(f"{stream:<9} {folder.name}  {state}, {len(found)} segments, {size:,} bytes, ", end="")
            print(f"{_count(found, damaged):,} records{mark}")
    files = published_files(settings.partitions)
    rows = sum(pq.ParquetFile(path).metadata.num_rows for path in files)
    print(f"published {rows:,} events in {len(files)} files below {settings.partitions}{_newest(files)}")
    done = proofs(settings.directory)
    due = set(ordered(settings.directory)) - {line.erasure for line in done}
    print(f"erasures  {len(done)} done, {len(due)} to do")
    if damaged:
        raise DataError("damaged:\n" + "\n".join(damaged))


def _count(paths: list[Path], damaged: list[str]) -> int:
    number = 0
    for path in paths:
        try:
            for _ in SegmentReader(path):
                number += 1
        except CorruptSegment as error:
            damaged.append(str(error))
    return number


def _newest(files: list[Path]) -> str:
    if not files:
        return ""
    moment = datetime.fromtimestamp(max(path.stat().st_mtime for path in files), UTC)
    return f", the newest of {moment:%Y-%m-%d %H:%M:%S} UTC"
