"""Attributes come out of mapped arrays as they went into the table, or as JSON says them."""

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.attributes import AttributeArrays
from retrank.contract.errors import BundleError, FormatError
from retrank.contract.manifest import ItemColumn
from retrank.contract.vocab import Vocab
from retrank.export.attributes import attribute_arrays
from retrank.serving import attributes
from retrank.serving.attributes import ItemAttributes

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
ITEMS = st.lists(
    st.fixed_dictionaries(
        {
            "title": st.none() | TEXT,
            "brand": st.none() | st.sampled_from(["acme", "zenith", ""]),
            "sale": st.none() | st.booleans(),
            "stock": st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
            "price": st.none() | st.floats(),
        }
    ),
    max_size=8,
)
SCHEMA = pa.schema(
    {"title": pa.string(), "brand": pa.string(), "sale": pa.bool_(), "stock": pa.int64(), "price": pa.float64()}
)


def _opened(table: pa.Table) -> ItemAttributes:
    """Write the attributes of a table and map them again."""
    made, ids = attribute_arrays(table), Vocab([f"i{row}" for row in range(1, table.num_rows + 1)])
    with tempfile.TemporaryDirectory() as folder:
        made.write(Path(folder))
        return ItemAttributes(ids, AttributeArrays.open(Path(folder), made.columns, table.num_rows))


@given(ITEMS)
def test_records_are_those_of_the_table_without_what_is_missing(items: list[dict[str, Any]]) -> None:
    attributes = _opened(pa.Table.from_pylist(items, SCHEMA))
    wanted = [{name: value for name, value in item.items() if value is not None and not _odd(value)} for item in items]
    rows = np.arange(len(items), 0, -1)
    found = attributes.of(rows)
    assert found == wanted[::-1]
    assert [_types(one) for one in found] == [_types(one) for one in wanted[::-1]]
    json.dumps(found, allow_nan=False)


@given(ITEMS, TEXT)
def test_titles_and_search_agree_with_a_loop(items: list[dict[str, Any]], text: str) -> None:
    attributes = _opened(pa.Table.from_pylist(items, SCHEMA))
    titles = [item["title"] for item in items]
    assert attributes.titles() == {f"i{row}": title for row, title in enumerate(titles, 1) if title}
    plain = "".join(character for character in text if character.isascii())
    found = [
        plain.lower() in f"i{row}" or (title is not None and plain.lower() in title.lower())
        for row, title in enumerate(titles, 1)
        if title is None or title.isascii()
    ]
    matching = attributes.matching(plain)
    assert matching[[title is None or title.isascii() for title in titles]].tolist() == found


def test_what_json_has_no_word_for_becomes_text() -> None:
    table = pa.table({"since": [date(2026, 1, 31), None], "size": pa.array([1, 2], pa.uint8())})
    assert _opened(table).of(np.array([1, 2])) == [{"since": "2026-01-31", "size": 1}, {"size": 2}]


@pytest.mark.parametrize(("value", "kind"), [(2**64 - 1, pa.uint64()), (-(2**63), pa.int64())])
def test_an_integer_that_does_not_fit_is_refused(value: int, kind: pa.DataType) -> None:
    with pytest.raises(BundleError, match=r"'stock'.*make it text"):
        attribute_arrays(pa.table({"stock": pa.array([value], kind)}))


@pytest.mark.parametrize(
    "column",
    [
        ItemColumn(name="brand", kind="text", place=1),
        ItemColumn(name="brand", kind="text", place=0, stop_word=9),
        ItemColumn(name="brand", kind="number", place=0),
    ],
)
def test_an_attribute_outside_the_arrays_is_refused(tmp_path: Path, column: ItemColumn) -> None:
    attribute_arrays(pa.table({"brand": ["acme"]})).write(tmp_path)
    with pytest.raises(FormatError, match="'brand' lies outside"):
        AttributeArrays.open(tmp_path, [column], 1)


def test_what_answers_does_not_load_arrow() -> None:
    """It costs every replica ten megabytes of its own."""
    program = "import sys, retrank.serving.recommender; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def _types(record: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in record.items()}


def _odd(value: object) -> bool:
    return isinstance(value, float) and not np.isfinite(value)


def test_threads_that_share_records_all_get_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes, "_MAX_KEPT", 20)
    shared = _opened(pa.table({"size": list(range(100))}))

    def ask(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        asked = (rng.integers(1, 101, 10) for _ in range(3_000))
        return all([one["size"] + 1 for one in shared.of(rows)] == rows.tolist() for rows in asked)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as executor:
            assert all(executor.map(ask, range(4)))
    finally:
        sys.setswitchinterval(interval)
