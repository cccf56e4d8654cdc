"""Times of any source as int64 microseconds since 1970 UTC. What cannot be read becomes null; nothing is guessed."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from retrank.contract.errors import ConfigError, SourceError

_FACTORS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}
_NUMBER = r"^\s*-?\d{1,18}(\.\d*)?\s*$"
LAST_TIME = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""Times outside 1970..2100 are bad: they come from a wrong unit far more often than from the future."""


def check_time_unit(unit: str) -> None:
    """Refuse an unknown unit.

    Raises:
        ConfigError: not one of the units, not "iso", and not a strptime format.
    """
    if unit not in _FACTORS and unit != "iso" and "%" not in unit:
        raise ConfigError(
            f"data.columns.time_unit is {unit!r}; expected {', '.join(_FACTORS)}, iso or a format like '%Y-%m-%d %H:%M'"
        )


def to_microseconds(column: pa.Array, unit: str) -> pa.Array:
    """Return int64 microseconds; null where the time is missing, unparsable or outside 1970..2100.

    Args:
        column: timestamps, dates, numbers or text, with nulls.
        unit: see `check_time_unit`; ignored for timestamps and dates. Text without a zone is taken as UTC.

    Raises:
        SourceError: the column has a type that cannot be a time, or does not fit the unit.
    """
    if pat.is_timestamp(column.type) or pat.is_date(column.type):
        times = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    elif pat.is_string(column.type) or pat.is_large_string(column.type):
        times = _from_text(column, unit)
    elif (pat.is_integer(column.type) or pat.is_floating(column.type)) and unit in _FACTORS:
        times = _from_numbers(column, _FACTORS[unit])
    else:
        raise SourceError(
            f"the time column holds {column.type} and data.columns.time_unit is {unit!r}; they do not fit"
        )
    inside = pc.and_(pc.greater_equal(times, 0), pc.less(times, LAST_TIME))
    return pc.if_else(inside, times, pa.scalar(None, pa.int64()))


def _from_numbers(column: pa.Array, factor: int) -> pa.Array:
    """Scale numbers; those that would leave 1970..2100 become null before they can overflow."""
    if pat.is_floating(column.type):
        seconds = column.cast(pa.float64())
        inside = pc.and_(pc.greater_equal(seconds, 0.0), pc.less(seconds, float(LAST_TIME // factor)))
        return pc.round(pc.multiply(pc.if_else(inside, seconds, None), float(factor))).cast(pa.int64())
    inside = pc.and_(pc.greater_equal(column, 0), pc.less(column, LAST_TIME // factor))
    return pc.multiply(pc.if_else(inside, column, None).cast(pa.int64()), factor)


def _from_text(column: pa.Array, unit: str) -> pa.Array:
    if unit in _FACTORS:
        return _from_numbers(_numbers_in(column), _FACTORS[unit])
    if unit == "iso":
        return _from_iso(column)
    return pc.strptime(column, format=unit, unit="us", error_is_null=True).cast(pa.int64())


def _numbers_in(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        numeric = pc.match_substring_regex(column, _NUMBER)
        return pc.utf8_trim_whitespace(pc.if_else(numeric, column, None)).cast(pa.float64())


def _from_iso(column: pa.Array) -> pa.Array:
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return column.cast(kind).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
    return pa.array([_iso_or_none(text) for text in column.to_pylist()], pa.int64())


def _iso_or_none(text: str | None) -> int | None:
    """Read one ISO 8601 text; the slow way, for batches in which something is wrong or zones are mixed."""
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(np.datetime64(aware.astimezone(UTC).replace(tzinfo=None), "us").astype(np.int64))
