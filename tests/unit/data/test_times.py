"""Times of every unit; what cannot be read is null and never a guess."""

import pyarrow as pa
import pytest

from retrank.data.readers.times import to_microseconds

DAY = 1_700_000_000_000_000  # 2023-11-14 22:13:20 UTC


@pytest.mark.parametrize(
    ("texts", "unit", "expected"),
    [
        (["1700000000", "x", "1700000000.5", "", "-1"], "seconds", [DAY, None, DAY + 500_000, None, None]),
        (["99999999999"], "seconds", [None]),
        (["1700000000000"], "milliseconds", [DAY]),
        (["1700000000000000"], "microseconds", [DAY]),
        (["2023-11-14T22:13:20", "2023-11-14 22:13:20"], "iso", [DAY, DAY]),
        (["2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00"], "iso", [DAY, DAY]),
        (["2023-11-14T22:13:20Z", "2023-11-14T22:13:20", "2023-02-30", "soon"], "iso", [DAY, DAY, None, None]),
        (["14/11/2023 22:13:20", "14/13/2023 22:13:20"], "%d/%m/%Y %H:%M:%S", [DAY, None]),
        (["1e9", "0x10", "１７", "99999999999999999999"], "seconds", [None, None, None, None]),
    ],
)  # fmt: skip
def test_text_becomes_microseconds_or_null(texts: list[str], unit: str, expected: list[int | None]) -> None:
    assert to_microseconds(pa.array(texts), unit).to_pylist() == expected


def test_numbers_become_microseconds_or_null() -> None:
    assert to_microseconds(pa.array([1_700_000_000, None, -5, 2**62]), "seconds").to_pylist() == [DAY, None, None, None]
    floats = pa.array([1.7e9, float("nan"), float("inf"), -1.0])
    assert to_microseconds(floats, "seconds").to_pylist() == [DAY, None, None, None]
