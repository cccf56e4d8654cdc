"""What a cell says is the same whatever a source is written in, and the same as in a request."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.context import ContextRows, as_text
from retrank.contract.errors import SourceError
from retrank.data.context_columns import ContextSettings, in_context
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.readers.items_file import ItemsFile, UsersFile
from retrank.data.readers.normalise import as_words
from retrank.data.readers.parquet_files import ParquetFiles
from retrank.data.store import EventStore

EVENTS = {
    "user": ["u", "u", "v", "", "v", "v"],
    "item": ["i", "j", "i", "j", "", "k"],
    "time": ["1", "2", "3", "4", "5", ""],
    "act": ["buy", "", "view", "buy", "buy", "buy"],
    "paid": ["1.5", "", "2", "3", "4", "5"],
    "channel": ["", "app", "", "app", "app", "app"],
    "size": ["2", "", "1", "1", "1", "1"],
    "title": ["", "J", "I", "J", "J", "K"],
}
COLUMNS = Columns(
    "user", "item", "time", action="act", value="paid",
    context={"channel": "channel", "size": "size"}, attributes={"title": "title"}, numbers=["size"],
)  # fmt: skip


def _events(folder: Path, context: pa.Array, **more: Any) -> str:
    """Write events of two users with a column `context`."""
    places = range(len(context))
    columns = {"u": [f"u{n % 2}" for n in places], "i": [f"i{n % 3}" for n in places], "context": context} | more
    pq.write_table(pa.table(columns), folder / "events.parquet")
    return str(folder / "events.parquet")


def _told(store: EventStore, name: str) -> list[str | None]:
    names = store.context_names(name)
    return [names[code] if code >= 0 else None for code in store.context(name)]


def _read(path: str, folder: Path, **columns: Any) -> EventStore:
    return ingest(ParquetFiles(path, Columns("u", "i", **columns)), folder / "store")


def test_an_empty_text_is_no_value_in_csv_and_in_parquet(tmp_path: Path) -> None:
    table, apart = (
        pa.table(EVENTS),
        pa.table({"id": ["i", "j", ""], "kind": ["", "big", "big"], "cost": ["", "2", "3"]}),
    )
    people = pa.table({"id": ["u", "v", ""], "tier": ["", "gold", "gold"]})
    hashes, bad = [], []
    for kind, write in (("csv", pacsv.write_csv), ("parquet", pq.write_table)):
        for name, one in (("events", table), ("items", apart), ("users", people)):
            write(one, tmp_path / f"{name}.{kind}")
        items = ItemsFile(str(tmp_path / f"items.{kind}"), "id", {"kind": "kind", "cost": "cost"}, ["cost"])
        users = UsersFile(str(tmp_path / f"users.{kind}"), "id", {"tier": "tier"})
        reader = {"csv": Delimited, "parquet": ParquetFiles}[kind](
            str(tmp_path / f"events.{kind}"), COLUMNS, "shop", items=items
        )
        store = ingest(reader, tmp_path / kind, max_bad_share=1, users=users)
        hashes.append(store.facts.data_hash)
        bad.append(store.facts.report["bad"])
        assert store.facts.actions == ["buy", "view"]
        assert store.context_names("channel") == ["app"]
        assert store.item_table["title"].to_pylist() == ["I", "J"]
        assert store.user_table["tier"].to_pylist() == [None, "gold"]
    assert hashes[0] == hashes[1]
    missing = ("user_id (column 'user')", "item_id (column 'item')", "time")
    assert bad[0] == bad[1] == {f"missing {named}": 1 for named in missing}


def test_an_empty_text_of_a_request_and_of_json_is_unknown(tmp_path: Path) -> None:
    path = _events(tmp_path, pa.array(['{"channel": ""}', '{"channel": "app"}'] * 3))
    told = in_context(
        _read(path, tmp_path, context={"channel": "context.channel"}), ContextSettings(["channel"], "UTC", 1)
    )
    assert told.context_spec is not None
    assert told.context_spec.fields[0].values == ("app",)
    rows = ContextRows(told.context_spec)
    assert [int(rows.of_request({"channel": said}, 0)[0]) for said in ("", "app")] == [0, 1]


JSON = pa.array(['{"channel": "app"}', None, '{"channel": "web"}'])


@pytest.mark.parametrize(
    "cells",
    [
        JSON,
        JSON.cast(pa.large_string()),
        JSON.dictionary_encode(),
        pa.array([{"channel": "app"}, None, {"channel": "web"}]),
        pa.StructArray.from_arrays([pa.array(["app", "", "web"]).dictionary_encode()], ["channel"]),
    ],
    ids=["json", "large", "dictionary of json", "struct", "struct of dictionary"],
)
def test_a_key_is_found_whatever_cells_are_made_of(tmp_path: Path, cells: pa.Array) -> None:
    store = _read(_events(tmp_path, cells), tmp_path, context={"channel": "context.channel"})
    assert _told(store, "channel") == ["app", "web", None]  # events of u0, then of u1


def test_numbers_of_a_struct_are_numbers(tmp_path: Path) -> None:
    cells = pa.array([{"paid": 1.5, "place": 3}, {"paid": 2.0, "place": None}])
    columns = {"value": "context.paid", "context": {"position": "context.place"}, "numbers": ["position"]}
    store = _read(_events(tmp_path, cells), tmp_path, **columns)
    assert store.values is not None
    assert store.values.tolist() == [1.5, 2.0]
    assert str(store.context("position").tolist()) == "[3.0, nan]"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (pa.array([{"chanel": "app"}]), r"structs with the fields \['chanel'\] have no 'channel'"),
        (pa.array([{"channel": ["app"]}]), r"a column of words holds list<.*>, which has no text"),
        (
            pa.array([[("channel", "app")]], pa.map_(pa.string(), pa.string())),
            r"'channel' is looked for in cells of map<",
        ),
        (pa.array([7]), "'channel' is looked for in cells of int64; expected JSON texts or structs"),
    ],
)
def test_cells_that_cannot_have_a_key_are_refused_with_their_place(
    tmp_path: Path, cells: pa.Array, message: str
) -> None:
    path = _events(tmp_path, cells)
    with pytest.raises(SourceError, match=r"events\.parquet: row 1: " + message):
        _read(path, tmp_path, context={"channel": "context.channel"})


@given(st.lists(st.one_of(st.floats(), st.none(), st.sampled_from([-0.0, 1e15, 1e-7, 1e300, 3.0])), max_size=9))
def test_a_number_is_the_word_that_a_request_makes_of_it(numbers: list[float | None]) -> None:
    expected = [None if one is None or not np.isfinite(one) else as_text(one) for one in numbers]
    assert as_words(pa.array(numbers, pa.float64())).to_pylist() == expected


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.array([0.1, 1e15, 3, -0.0], pa.float32()), ["0.1", "1000000000000000", "3", "0"]),
        (pa.array([Decimal("3.50"), Decimal("3.00")]), ["3.5", "3"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([3, 1 << 53]), ["3", str(1 << 53)]),
    ],
)
def test_what_is_stored_otherwise_is_the_same_word(column: pa.Array, words: list[str | None]) -> None:
    assert as_words(column).to_pylist() == words


def test_numbers_of_events_and_of_users_meet_those_of_requests(tmp_path: Path) -> None:
    numbers = [1e15, 2.5e-5, 0.1, -0.0]
    path = _events(tmp_path, pa.array(numbers), level=pa.array(numbers))
    pq.write_table(pa.table({"id": ["u0", "u1"], "rate": [1e16, 1e-7]}), tmp_path / "users.parquet")
    users = UsersFile(str(tmp_path / "users.parquet"), "id", {"rate": "rate"})
    store = ingest(ParquetFiles(path, Columns("u", "i", context={"level": "level"})), tmp_path / "store", users=users)
    spec = in_context(store, ContextSettings(["level", "rate"], min_events=1)).context_spec
    assert spec is not None
    rows = ContextRows(spec)
    assert all(rows.of_request({"level": number}, 0)[0] for number in numbers)
    assert all(rows.of_request({"rate": number}, 0)[1] for number in (1e16, 1e-7))
