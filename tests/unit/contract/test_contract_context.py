"""Fields of the moment of a request: from what is told to rows, the same for one request and for a table of events."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.context import CLOCK, MAX_VALUES, ContextField, ContextRows, ContextSpec, as_text
from retrank.contract.errors import ConfigError
from retrank.contract.features import FeatureSpec

HOUR, WEEKDAY = (ContextField(name=name, told_by="clock", values=CLOCK[name]) for name in ("hour", "weekday"))
COUNTRY = ContextField(name="country", values=("de", "br", "true", "3"))
MOMENT_US = int(datetime(2024, 3, 1, 23, 30, tzinfo=UTC).timestamp()) * 1_000_000
"""A Friday, half past eleven at night."""


def _rows(*fields: ContextField, zone: str = "UTC") -> ContextRows:
    return ContextRows(ContextSpec(fields=fields, time_zone=zone))


@pytest.mark.parametrize(
    ("told", "row"),
    [
        ({"country": "de"}, 1),
        ({"country": "br", "device": "phone"}, 2),
        ({"country": True}, 3),
        ({"country": 3}, 4),
        ({"country": 3.0}, 4),
        ({"country": 3.5}, 0),
        ({"country": "DE"}, 0),
        ({"country": "x" * 256}, 0),
        ({"country": ""}, 0),
        ({"device": "de"}, 0),
        ({}, 0),
    ],
)
def test_what_a_request_tells_is_a_row_and_what_nobody_knows_is_none(told: dict[str, str], row: int) -> None:
    assert _rows(COUNTRY).of_request(told, MOMENT_US).tolist() == [row]


@pytest.mark.parametrize(
    ("zone", "hour", "weekday"),
    [
        ("UTC", "23", "friday"),
        ("Europe/Berlin", "00", "saturday"),
        ("America/Sao_Paulo", "20", "friday"),
        ("Asia/Kathmandu", "05", "saturday"),
    ],
)
def test_the_clock_is_read_in_the_zone_that_is_named(zone: str, hour: str, weekday: str) -> None:
    rows = _rows(HOUR, WEEKDAY, zone=zone).of_request({"hour": "12"}, MOMENT_US)
    assert [HOUR.values[rows[0] - 1], WEEKDAY.values[rows[1] - 1]] == [hour, weekday]


@given(st.lists(st.integers(-(2**31), 2**32), min_size=1, max_size=20), st.sampled_from(["UTC", "Europe/Berlin"]))
def test_many_moments_are_read_like_one(seconds: list[int], zone: str) -> None:
    rows, times = _rows(HOUR, WEEKDAY, zone=zone), np.array(seconds, dtype=np.int64) * 1_000_000
    where = UTC if zone == "UTC" else ZoneInfo(zone)
    # In whole seconds of today's rules; before 1900 offsets were not whole quarters of an hour.
    local = [datetime.fromtimestamp(second, where) for second in seconds]
    assert rows.of_times("hour", times).tolist() == [moment.hour + 1 for moment in local]
    assert rows.of_times("weekday", times).tolist() == [moment.weekday() + 1 for moment in local]
    for moment, told in zip(times.tolist(), local, strict=True):
        assert rows.of_request({}, moment).tolist() == [told.hour + 1, told.weekday() + 1]


def test_a_table_of_values_has_the_rows_of_single_requests() -> None:
    rows, texts = _rows(COUNTRY), ["br", "fr", "de", "true", "3"]
    one_by_one = [rows.of_request({"country": text}, 0)[0] for text in texts]
    assert rows.of_texts("country", texts).tolist() == one_by_one == [2, 0, 1, 3, 4]


@pytest.mark.parametrize(("value", "text"), [(False, "false"), (7, "7"), (7.0, "7"), (0.5, "0.5"), ("7.0", "7.0")])
def test_values_are_compared_as_the_text_a_source_has(value: bool | float | str, text: str) -> None:
    assert as_text(value) == text


def test_a_zone_that_is_unknown_is_refused() -> None:
    for name in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(ConfigError, match="which is unknown here; expected a name such as Europe/Berlin"):
            _rows(HOUR, zone=name)


def test_a_vocabulary_is_bounded() -> None:
    with pytest.raises(ValueError, match="at most"):
        ContextField(name="agent", values=tuple(map(str, range(MAX_VALUES + 1))))


def test_fields_are_part_of_the_sealed_encoding_and_without_them_it_reads_as_before() -> None:
    plain = FeatureSpec(max_length=5, similarity="cosine")
    told = FeatureSpec(max_length=5, similarity="cosine", context=ContextSpec(fields=(COUNTRY, HOUR)))
    assert b"context" not in plain.canonical()
    assert FeatureSpec.model_validate_json(told.canonical()) == told
    other = ContextSpec(fields=(COUNTRY, HOUR), time_zone="Europe/Berlin")
    assert len({plain.hash, told.hash, told.model_copy(update={"context": other}).hash}) == 3
