"""Delimited text of every shape, and what is said when it is not what it claims to be."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from retrank.contract.errors import BadRowsError, ConfigError, SourceError
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.readers.items_file import ItemsFile
from retrank.data.readers.text_table import TextFormat
from retrank.data.report import RowReport

NUMBERED = Columns(user=1, item=2, time=3)
NAMED = Columns(user="u", item="i", time="t")
LINES = "a,x,1\nb,y,2\n"


def read(reader: Delimited) -> tuple[list[tuple[str, str, int]], RowReport]:
    report = RowReport()
    table = pa.Table.from_batches(list(reader.batches(report)))
    return list(zip(*(table[name].to_pylist() for name in ("user_id", "item_id", "time")), strict=True)), report


def make(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


EXPECTED = [("a", "x", 1_000_000), ("b", "y", 2_000_000)]


@pytest.mark.parametrize(
    ("content", "columns", "settings"),
    [
        ("u,i,t\n" + LINES, NAMED, {}),
        ("t,extra,i,u\n1,?,x,a\n2,?,y,b\n", NAMED, {}),
        (LINES, NUMBERED, {"header": False}),
        ("u,i,t\n" + LINES, NUMBERED, {}),
        ("u,i,t\r\na,x,1\r\nb,y,2\r\n", NAMED, {}),
        ("\ufeffu,i,t\n" + LINES, NAMED, {}),
        ("\ufeff" + LINES, NUMBERED, {"header": False}),
        ("u,i,t\n" + LINES.rstrip("\n"), NAMED, {}),
        ('u,i,t\n"a","x","1"\nb,"y",2\n', NAMED, {}),
        ("u\ti\tt\na\tx\t1\nb\ty\t2\n", NAMED, {"delimiter": "\t"}),
        ("a::x::1\nb::y::2\n", NUMBERED, {"delimiter": "::", "header": False, "quote": None}),
        ("u::i::t\na::x::1\nb::y::2\n", NAMED, {"delimiter": "::", "quote": None}),
    ],
)
def test_the_same_events_come_out_of_every_shape(
    tmp_path: Path, content: str, columns: Columns, settings: dict[str, str | bool | None]
) -> None:
    events, report = read(Delimited(make(tmp_path / "events.csv", content), columns, **settings))  # type: ignore[arg-type]  # one dict of mixed settings
    assert events == EXPECTED
    assert (report.rows, report.num_bad) == (2, 0)


def test_gz_files_and_directories_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    (folder / "2").mkdir(parents=True)
    make(folder / "1.csv.gz", gzip.compress(b"u,i,t\na,x,1\n"))
    make(folder / "2" / "part.csv", "t,u,i\n2,b,y\n")
    make(folder / "_SUCCESS", "")
    make(folder / ".hidden", "")
    assert read(Delimited(str(folder), NAMED))[0] == EXPECTED


def test_latin_1_is_read_when_asked_for(tmp_path: Path) -> None:
    path = make(tmp_path / "events.csv", "u,i,t\ncafé,x,1\n".encode("latin-1"))
    assert read(Delimited(path, NAMED, encoding="latin-1"))[0] == [("café", "x", 1_000_000)]


def test_a_delimiter_of_two_characters_survives_the_borders_of_blocks(tmp_path: Path) -> None:
    lines = [f"user:{number}::item{number % 7}::{number}" for number in range(300_000)]
    path = make(tmp_path / "events.dat", "\n".join(lines) + "\n")
    events, _ = read(Delimited(path, NUMBERED, delimiter="::", header=False, quote=None))
    assert events == [(f"user:{n}", f"item{n % 7}", n * 1_000_000) for n in range(300_000)]


UNPARSABLE = "time (column 't') unparsable as seconds, or outside 1970..2100"


def test_bad_rows_are_counted_with_their_line_and_good_ones_kept(tmp_path: Path) -> None:
    content = "u,i,t\na,x,1\nb,x\n,x,3\na,,4\n\na,x,\na,x,soon\na,x,9999999999\na,x,1,extra\nb,y,2\n"
    events, report = read(Delimited(path := make(tmp_path / "events.csv", content), NAMED))
    assert events == EXPECTED
    assert report.examples == {
        "wrong number of columns": [
            f"{path}:3: 2 columns, expected 3: 'b,x'",
            f"{path}:10: 4 columns, expected 3: 'a,x,1,extra'",
        ],
        "missing user_id (column 'u')": [f"{path}:4: None"],
        "missing item_id (column 'i')": [f"{path}:5: None"],
        "missing time (column 't')": [f"{path}:7: None"],
        UNPARSABLE: [f"{path}:8: 'soon'", f"{path}:9: '9999999999'"],
    }  # fmt: skip
    assert report.filtered == {"blank line": 1}
    assert (report.rows, report.accepted, report.num_bad) == (10, 2, 7)


def test_the_line_of_a_bad_row_is_right_far_into_a_file(tmp_path: Path) -> None:
    lines = [f"user number {number},item,{number}" for number in range(400_000)]
    lines[123] = "short"
    lines[399_000] = "a,x,never"
    report = read(Delimited(path := make(tmp_path / "events.csv", "u,i,t\n" + "\n".join(lines)), NAMED))[1]
    assert report.examples[UNPARSABLE] == [f"{path}:399002: 'never'"]


def test_empty_values_become_nulls_or_nan_but_text_in_numbers_is_bad(tmp_path: Path) -> None:
    columns = Columns("u", "i", value="v", context={"c": "c", "n": "n"}, numbers=["n"])
    path = make(tmp_path / "events.csv", "u,i,v,c,n\na,x,,,\nb,y,1e3,red,2.5\nc,z,cheap,red,1\nd,z,1,red,one\n")
    report = RowReport()
    (batch,) = Delimited(path, columns).batches(report)
    assert batch["context_c"].to_pylist() == [None, "red"]
    assert batch["context_n"].to_pylist() == [None, 2.5]
    assert str(batch["value"].to_pylist()) == "[nan, 1000.0]"
    assert report.bad == {"value (column 'v') is not a number": 1, "context_n (column 'n') is not a number": 1}


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("", NAMED, "the file is empty"),
        ("\n\n", NAMED, "starts with an empty line"),
        ("u;i;t\na;x;1\n", NAMED, r"csv:1: no column 'u', .* is data.delimiter really ',', the line holds ';'"),
        ("user,i,t\na,x,1\n", NAMED, r"no column 'u', .* found \['user', 'i', 't'\]; set data\.columns\.user"),
        ("a,x\n", NUMBERED, r"data\.columns\.time is column 3 but the line has 2"),
        (b"u,i,t\na,x,1\n\xff\xfe,x,2\n", NAMED, r"csv:3: byte 1 of the line is not utf-8 .*latin-1"),
        (b"\xff,i,t\n", NAMED, "csv:1: byte 1 of the line is not utf-8"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_refused_by_name(
    tmp_path: Path, content: str | bytes, columns: Columns, message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read(Delimited(make(tmp_path / "events.csv", content), columns))


@pytest.mark.parametrize("kept", [5, 60, 0.5, 0.99])
def test_a_truncated_gz_is_refused_by_name(tmp_path: Path, kept: float) -> None:
    packed = gzip.compress(("u,i,t\n" + "".join(f"{n * 7919 % 1009},x,{n}\n" for n in range(50_000))).encode())
    path = make(tmp_path / "events.csv.gz", packed[: kept if isinstance(kept, int) else int(len(packed) * kept)])
    with pytest.raises(SourceError, match=r"events\.csv\.gz: cannot be read.*truncated"):
        read(Delimited(path, NAMED))


def test_something_that_is_no_gz_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"events\.csv\.gz: cannot be read"):
        read(Delimited(make(tmp_path / "events.csv.gz", "u,i,t\n"), NAMED))


def test_names_without_a_header_are_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use column numbers from 1"):
        read(Delimited(make(tmp_path / "events.csv", LINES), NAMED, header=False))


def test_a_path_that_leads_nowhere_or_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or directory"):
        Delimited(str(tmp_path / "nothing"), NAMED).sources()
    with pytest.raises(SourceError, match="holds no file"):
        Delimited(str(tmp_path), NAMED).sources()


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"delimiter": ""}, "data.delimiter"), ({"quote": "''"}, "data.quote"), ({"encoding": "morse"}, "data.encoding")],
)
def test_a_format_that_cannot_be_is_refused_by_key(settings: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        Delimited("events.csv", NAMED, **settings)  # type: ignore[arg-type]  # one dict of mixed settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context": {"a/b": "c"}}, "'a/b'"),
        ({"attributes": {"item_id": "c"}}, "'item_id' is taken"),
        ({"numbers": ["price"]}, "'price'"),
        ({"time_unit": "days"}, "time_unit is 'days'"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_by_key(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Columns("u", "i", **settings)  # type: ignore[arg-type]  # one dict of mixed settings


def test_item_attributes_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    path = make(tmp_path / "items.csv", 'sku;name;cost\nx;"Cup; blue\nand big";3.5\ny;;\n;nobody;1\n')
    items = ItemsFile(path, "sku", {"title": "name", "price": "cost"}, ["price"], TextFormat(";"))
    report = RowReport()
    assert items.read(report).to_pylist() == [
        {"item_id": "x", "title": "Cup; blue\nand big", "price": 3.5},
        {"item_id": "y", "title": None, "price": None},
    ]
    assert (report.rows, report.filtered, report.bad) == (3, {"missing item_id": 1}, {})


def test_cells_of_items_that_are_no_numbers_are_counted_and_an_empty_one_is_missing(tmp_path: Path) -> None:
    path = make(tmp_path / "items.csv", 'sku,cost,mass\na,"13,93",abc\nb,,1\nc,2.5,2\nc,9,3\n,1,1\n')
    report = RowReport()
    items = ItemsFile(path, "sku", {"price": "cost", "mass": "mass"}, ["price", "mass"]).read(report)
    assert items.to_pydict() == {
        "item_id": ["a", "b", "c", "c"],
        "price": [None, None, 2.5, 9],
        "mass": [None, 1, 2, 3],
    }
    assert report.bad == {"price is not a number": 1}
    assert report.examples == {"price is not a number": [f"{path}:2: '13,93'"]}
    assert report.filtered == {"missing item_id": 1, "item_id seen before, its first row counts": 1}


@pytest.mark.parametrize(("cells", "seen"), [('"13,93"\ny,', "items.csv:2: '13,93'"), ("\ny,", "its cells are empty")])
def test_a_number_of_items_that_none_has_is_refused(tmp_path: Path, cells: str, seen: str) -> None:
    path = make(tmp_path / "items.csv", f"sku,cost\nx,{cells}\n")
    with pytest.raises(SourceError, match=rf"no number in column 'cost'.*'price'.*{seen}"):
        ItemsFile(path, "sku", {"price": "cost"}, ["price"]).read(RowReport())


def test_an_items_file_without_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"items\.csv: no row below the header"):
        ItemsFile(make(tmp_path / "items.csv", "sku,cost\n"), "sku", {"price": "cost"}).read(RowReport())


def test_numbers_of_items_that_are_no_attributes_are_refused_by_key() -> None:
    with pytest.raises(ConfigError, match=r"data\.items\.numbers: \['prize'\].*which has \['price'\]"):
        ItemsFile("items.csv", "sku", {"price": "cost"}, ["prize"])


def test_a_ragged_items_file_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "items.csv", "sku,name\nx,Cup\ny\n")
    report = RowReport()
    ItemsFile(path, "sku", {"title": "name"}).read(report)
    with pytest.raises(BadRowsError, match=r"items\.csv:3: 1 columns, expected 2"):
        report.check(0.01)
