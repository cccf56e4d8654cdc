"""What is known of the moment of a request, as rows of small vocabularies: one implementation, offline and online.

A field is told by the request (its `context`, a column of the events), by the clock (`hour`, `weekday`), or is an
attribute of the user, which a request may tell as well. Row 0 means unknown: not told, or a value never learned.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from retrank.contract.errors import ConfigError
from retrank.contract.moments import DAY_US, HOUR_US, SECOND_US

MAX_CONTEXT_FIELDS = 16
MAX_VALUES = 30_000
MAX_NAME = 64
"""Letters of the name of a field, and of any other key in `context` of a request."""
UNKNOWN = 0
HOUR, WEEKDAY = "hour", "weekday"
CLOCK: Mapping[str, tuple[str, ...]] = {
    HOUR: tuple(f"{hour:02d}" for hour in range(24)),
    WEEKDAY: ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
}
"""Fields that the clock tells, with what their rows 1.. mean."""
_QUARTER_US = 900 * SECOND_US  # clocks are set by whole quarters of an hour
_THURSDAY = 3  # 1970 began with one; Monday is 0


class ContextField(BaseModel):
    """One field: its name in `context` of a request, who tells it, and the values that rows 1..V stand for."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=MAX_NAME)
    told_by: Literal["request", "clock", "user"] = "request"
    values: tuple[str, ...] = Field(max_length=MAX_VALUES)


class ContextSpec(BaseModel):
    """The fields a model reads, in the order it reads them; sealed with the history encoding."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    fields: tuple[ContextField, ...] = Field(default=(), max_length=MAX_CONTEXT_FIELDS)
    time_zone: str = "UTC"
    """In which the clock is read, a name of the IANA database."""

    @property
    def sizes(self) -> dict[str, int]:
        """Number of values V of each field, by name."""
        return {field.name: len(field.values) for field in self.fields}


class ContextRows:
    """Turns what is told of moments into rows; F fields."""

    def __init__(self, spec: ContextSpec) -> None:
        """Number the values.

        Raises:
            ConfigError: the time zone is unknown here.
        """
        self.spec = spec
        self._zone = _zone(spec.time_zone)
        self._rows = {field.name: {value: row for row, value in enumerate(field.values, 1)} for field in spec.fields}

    def of_request(self, context: Mapping[str, bool | int | float | str], now_us: int) -> NDArray[np.int64]:
        """Return the `[F]` rows of one request.

        Args:
            context: what was sent; names that are no field are not read.
            now_us: the moment of the request, microseconds since the Unix epoch (UTC).
        """
        moment = np.array([now_us], dtype=np.int64)
        return np.array(
            [
                self.of_times(field.name, moment)[0]
                if field.told_by == "clock"
                else self._rows[field.name].get(as_text(context.get(field.name, "")), UNKNOWN)
                for field in self.spec.fields
            ],
            dtype=np.int64,
        )

    def told(self, context: Mapping[str, bool | int | float | str]) -> NDArray[np.bool_]:
        """Return `[F]`: which fields are told, by a request with this context or by the clock; learned or not."""
        return np.array([field.told_by == "clock" or field.name in context for field in self.spec.fields], dtype=bool)

    @property
    def untold(self) -> NDArray[np.int64]:
        """`[F]` rows of a moment of which nothing is told."""
        return np.zeros(len(self.spec.fields), dtype=np.int64)

    @property
    def of_users(self) -> NDArray[np.bool_]:
        """`[F]`: which fields are attributes of the user."""
        return np.array([field.told_by == "user" for field in self.spec.fields], dtype=bool)

    def of_texts(self, name: str, values: Sequence[str]) -> NDArray[np.int64]:
        """Return `[V]` rows of values of a field that requests or users tell."""
        known = self._rows[name]
        return np.array([known.get(value, UNKNOWN) for value in values], dtype=np.int64)

    def of_times(self, name: str, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return `[E]` rows of moments, microseconds since the Unix epoch (UTC), for a field that the clock tells."""
        local = self._local(np.asarray(times))
        places = local // HOUR_US % 24 if name == HOUR else (local // DAY_US + _THURSDAY) % 7
        return places + 1

    def _local(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return times as the clock on the wall shows them: shifted by what the zone is ahead of UTC at that moment."""
        if self._zone is UTC:
            return times
        quarters, places = np.unique(times // _QUARTER_US, return_inverse=True)
        ahead = [self._ahead_us(quarter) for quarter in quarters.tolist()]
        return times + np.array(ahead, dtype=np.int64)[places]

    def _ahead_us(self, quarter: int) -> int:
        offset = datetime.fromtimestamp(quarter * (_QUARTER_US // SECOND_US), self._zone).utcoffset()
        assert offset is not None, "a zone has an offset at every moment"
        return int(offset.total_seconds()) * SECOND_US


def as_text(value: bool | int | float | str) -> str:
    """Return a value, of a request or of a source, as the text it is compared as: `true`, `3` for 3.0, `3.5`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # needs no database
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"context.time_zone is {name!r}, which is unknown here; expected a name such as Europe/Berlin, and the "
            "package tzdata where the system has no database of time zones"
        ) from error
