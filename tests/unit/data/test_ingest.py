"""Ingest end to end on small files: what comes out, that it is idempotent and atomic, and what it says to bad input."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from retrank.cli import main
from retrank.contract.api import MAX_ID_LENGTH, RecommendRequest
from retrank.contract.errors import BadRowsError, ConfigError, DataError, SourceError
from retrank.data.ingest import MAX_ACTIONS, ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.readers.items_file import ItemsFile
from retrank.data.readers.sequences import SequenceFile
from retrank.data.report import RowReport
from retrank.data.store import EventStore, report_lines

SALES = """who,what,when,act,paid,shop,title
ann,tea,300,buy,2.5,north,Tea
bob,cup,100,view,,south,Cup
ann,cup,100,view,0,north,
ann,pot,100,buy,9.25,,Pot
bob,tea,50,buy,2.5,south,Other tea
"""
COLUMNS = Columns(
    user="who", item="what", time="when", action="act", value="paid",
    context={"shop": "shop"}, attributes={"title": "title"},
)  # fmt: skip


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def sales(folder: Path, text: str = SALES) -> Delimited:
    return Delimited(str(write(folder / "sales.csv", text)), COLUMNS, "sales")


def test_a_table_of_events_becomes_sorted_columns(tmp_path: Path) -> None:
    store = ingest(sales(tmp_path), tmp_path / "store")
    assert (store.users.ids, store.items.ids) == (["ann", "bob"], ["tea", "cup", "pot"])
    assert [rows.tolist() for rows in store.sequences] == [[2, 3, 1], [1, 2]]
    assert store.sequences.times is not None
    assert store.sequences.times.tolist() == [100_000_000, 100_000_000, 300_000_000, 50_000_000, 100_000_000]
    assert store.values is not None
    assert np.array_equal(store.values, np.array([0, 9.25, 2.5, 2.5, np.nan], np.float32), equal_nan=True)
    assert store.sequences.actions is not None
    assert [store.actions.id(row) for row in store.sequences.actions] == ["view", "buy", "buy", "buy", "view"]
    names = store.context_names("shop")
    assert [names[code] if code >= 0 else None for code in store.context("shop")] == [
        "north", None, "north", "south", "south",
    ]  # fmt: skip
    assert store.item_table.to_pydict() == {"item_id": ["tea", "cup", "pot"], "title": ["Tea", "Cup", "Pot"]}
    assert store.facts.report["rows"] == store.facts.num_events == 5


def test_an_event_without_an_action_has_row_zero_and_is_counted(tmp_path: Path) -> None:
    store = ingest(sales(tmp_path, SALES.replace("50,buy", "50,")), tmp_path / "store")
    assert store.sequences.actions is not None
    assert store.sequences.actions.tolist().count(0) == 1
    assert store.action_counts() == {"view": 2, "buy": 2, "": 1}


def test_another_action_is_other_data(tmp_path: Path) -> None:
    hashes = [
        ingest(sales(tmp_path, SALES.replace("50,buy", f"50,{action}")), tmp_path / action).facts.data_hash
        for action in ("buy", "view", "like")
    ]
    assert len(set(hashes)) == 3


def test_repeats_of_an_item_with_other_actions_all_stay(tmp_path: Path) -> None:
    """First viewed, then bought: two events, in the order in which they happened."""
    text = SALES.splitlines()[0] + "\nann,tea,1,view,,,Tea\nann,tea,2,buy,2.5,,Tea\nann,tea,3,view,,,Tea\n"
    store = ingest(sales(tmp_path, text), tmp_path / "store")
    assert [rows.tolist() for rows in store.sequences] == [[1, 1, 1]]
    assert store.sequences.actions is not None
    assert store.sequences.actions.tolist() == [1, 2, 1]


def test_rows_of_unwanted_actions_are_counted_and_nothing_else_of_them_is_looked_at(tmp_path: Path) -> None:
    text = SALES + "cy,tea,never,shown,,,\n,,,shown,,,\ndan,tea,never,buy,,,\n"
    columns = replace(COLUMNS, leave_out_actions=["shown", "dismissed", "shown"])
    source = Delimited(str(write(tmp_path / "sales.csv", text)), columns, "sales")
    store = ingest(source, tmp_path / "store", max_bad_share=0.5)
    assert store.users.ids == ["ann", "bob"]
    assert store.facts.report["filtered"] == {"action shown": 2, "action dismissed": 0}
    [(reason, count)] = store.facts.report["bad"].items()
    assert (reason.split(",")[0], count) == ("time (column 'when') unparsable as seconds", 1)
    assert store.facts.report["examples"][reason] == [f"{tmp_path / 'sales.csv'}:9: 'never'"]
    assert (store.facts.report["rows"], store.facts.report["accepted"]) == (8, 5)


def test_custom_actions_have_their_own_names(tmp_path: Path) -> None:
    lines = ["who,what,did,called", "ann,tea,custom,share", "ann,jam,click,hero", "ann,pot,custom,", "ann,tea,,share"]
    lines += ["bob,tea,custom,share", "bob,jam,custom,scroll", "bob,pot,impression,", "bob,tea,custom,click"]
    columns = Columns("who", "what", action="did", action_name="called", leave_out_actions=["scroll", "impression"])
    path = write(tmp_path / "events.csv", "\n".join(lines) + "\n")
    store = ingest(Delimited(str(path), columns, "events"), tmp_path / "store")
    assert store.action_counts() == {"share": 2, "click": 2, "custom": 1, "": 1}
    assert store.facts.report["filtered"] == {"action scroll": 1, "action impression": 1}
    bare = replace(columns, leave_out_actions=["custom"])
    store = ingest(Delimited(str(path), bare, "events"), tmp_path / "bare")
    assert store.action_counts() == {"click": 1, "impression": 1, "": 1}
    assert store.facts.report["filtered"] == {"action custom": 5}


def test_a_name_of_custom_actions_needs_the_actions() -> None:
    with pytest.raises(ConfigError, match=r"action_name names custom actions"):
        Columns("who", "what", action_name="called")


def test_actions_are_left_out_only_where_they_are_read() -> None:
    with pytest.raises(ConfigError, match=r"leave_out_actions is \['shown'\] and data\.columns\.action is null"):
        Columns("who", "what", leave_out_actions=["shown"])


def test_an_action_column_full_of_ids_is_refused(tmp_path: Path) -> None:
    lines = [f"ann,tea,{number},a{number},,,Tea" for number in range(MAX_ACTIONS + 1)]
    with pytest.raises(SourceError, match=r"1,001 different actions such as 'a0'.*check data\.columns\.action"):
        ingest(sales(tmp_path, "\n".join([SALES.splitlines()[0], *lines]) + "\n"), tmp_path / "store")


def test_columns_are_memory_mapped_and_read_only(tmp_path: Path) -> None:
    store = ingest(sales(tmp_path), tmp_path / "store")
    assert isinstance(store.sequences.item_rows, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.sequences.item_rows[0] = 1


def test_a_second_ingest_has_nothing_to_do(tmp_path: Path) -> None:
    first = ingest(sales(tmp_path), tmp_path / "store")
    before = {path: path.stat().st_mtime_ns for path in first.directory.iterdir()}
    second = ingest(sales(tmp_path), tmp_path / "store")
    assert {path: path.stat().st_mtime_ns for path in second.directory.iterdir()} == before
    assert second.facts == first.facts


def test_equal_data_has_an_equal_hash_and_other_data_another(tmp_path: Path) -> None:
    first = ingest(sales(tmp_path), tmp_path / "a").facts.data_hash
    assert ingest(sales(tmp_path), tmp_path / "b").facts.data_hash == first
    assert ingest(sales(tmp_path, SALES.replace("9.25", "9.5")), tmp_path / "c").facts.data_hash != first
    assert ingest(sales(tmp_path, SALES.replace("Pot", "Kettle")), tmp_path / "d").facts.data_hash != first


def test_a_changed_source_replaces_the_store_and_a_changed_setting_its_facts(tmp_path: Path) -> None:
    first = ingest(sales(tmp_path), tmp_path / "store")
    assert ingest(sales(tmp_path, SALES + "cy,tea,1e9,,,,\n"), tmp_path / "store", max_bad_share=0.5).facts.report[
        "bad"
    ]
    grown = ingest(sales(tmp_path, SALES + "cy,tea,1000,buy,1,,\n"), tmp_path / "store")
    assert (first.facts.num_users, grown.facts.num_users) == (2, 3)
    same = ingest(sales(tmp_path, SALES + "cy,tea,1000,buy,1,,\n"), tmp_path / "store", max_bad_share=0.5)
    assert same.directory == grown.directory
    assert same.facts.fingerprint != grown.facts.fingerprint


def test_a_damaged_store_is_written_anew(tmp_path: Path) -> None:
    store = ingest(sales(tmp_path), tmp_path / "store")
    (store.directory / "item_rows.npy").write_bytes(b"damage")
    assert ingest(sales(tmp_path), tmp_path / "store").sequences.item_rows.tolist() == [2, 3, 1, 1, 2]


def test_ids_of_any_utf8_survive(tmp_path: Path) -> None:
    ids = [
        "żółw",
        "龍 dragon",
        "a\u0301",
        "👩‍👩‍👧",
        "NULL",
        "nan",
        "007",
        " 7",
        "-9223372036854775808",
        "x" * MAX_ID_LENGTH,
    ]
    text = "user_id,item_id\n" + "".join(f"{raw},{raw}\n" for raw in ids)
    store = ingest(Delimited(str(write(tmp_path / "ids.csv", text)), Columns("user_id", "item_id")), tmp_path / "store")
    assert store.users.ids == store.items.ids == ids


def test_too_many_bad_rows_stop_the_ingest_and_name_the_first_line(tmp_path: Path) -> None:
    bad = sales(tmp_path, SALES + "cy,tea,yesterday,buy,1,,\n,tea,5,buy,1,,\n")
    with pytest.raises(BadRowsError, match=r"2 of 7 rows .*sales\.csv:7: 'yesterday'"):
        ingest(bad, tmp_path / "store")
    assert not (tmp_path / "store" / "current").exists()
    assert not list((tmp_path / "store").glob(".staging-*"))
    store = ingest(bad, tmp_path / "store", max_bad_share=0.3)
    assert store.facts.report["bad"] == {
        "time (column 'when') unparsable as seconds, or outside 1970..2100": 1,
        "missing user_id (column 'who')": 1,
    }
    assert store.facts.num_events == 5


def test_an_ingest_that_fails_leaves_no_folder_and_no_lock(tmp_path: Path) -> None:
    with pytest.raises(BadRowsError):
        ingest(sales(tmp_path, SALES.replace("300", "never")), tmp_path / "store")
    assert not (tmp_path / "store").exists()
    kept = ingest(sales(tmp_path), tmp_path / "store").directory
    with pytest.raises(BadRowsError):
        ingest(sales(tmp_path, SALES.replace("300", "never")), tmp_path / "store")
    assert EventStore.open(tmp_path / "store").directory == kept


def test_bad_cells_of_items_fall_under_the_same_share_and_are_said(tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", 'sku,cost\ntea,"13,93"\ncup,2.5\ncup,3\n')
    described = ItemsFile(str(items), "sku", {"price": "cost"}, ["price"])
    reader = replace(sales(tmp_path), items=described)
    with pytest.raises(BadRowsError, match=r"1 of 3 rows .*price is not a number.*items\.csv:2: '13,93'"):
        ingest(reader, tmp_path / "store")
    assert not (tmp_path / "store" / "current").exists()
    store = ingest(reader, tmp_path / "store", max_bad_share=0.5)
    assert store.item_table["price"].to_pylist() == [None, 2.5, None]
    assert report_lines(store.facts.report) == [
        "rows read 5, accepted 5",
        "item rows read 3, about 2 items with events",
        "  left out: item_id seen before, its first row counts 1",
        "  bad row: price is not a number 1",
        f"    {items}:2: '13,93'",
    ]


def test_a_share_outside_its_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_bad_share is 1\.5"):
        ingest(sales(tmp_path), tmp_path / "store", max_bad_share=1.5)


def test_a_source_without_events_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no event was accepted"):
        ingest(sales(tmp_path, SALES.splitlines()[0] + "\n"), tmp_path / "store")


def test_a_full_disk_leaves_the_old_store(tmp_path: Path) -> None:
    old = ingest(sales(tmp_path), tmp_path / "store")
    big = sales(tmp_path, SALES + "".join(f"u{n},i{n},{n + 1},buy,1,,\n" for n in range(20_000)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(DataError, match=f"cannot write the store.*{os.strerror(errno.EFBIG)}.*nothing was changed"):
            ingest(big, tmp_path / "store", max_bad_share=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert EventStore.open(tmp_path / "store").facts == old.facts
    assert not list((tmp_path / "store").glob(".staging-*"))


KILLED = """
import sys, time
from pathlib import Path
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.store_writer import write_store
import retrank.data.ingest as target

class Slow(Delimited):
    def item_table(self, report):
        print("reading is done", flush=True)
        time.sleep(60)

columns = Columns("who", "what", "when")
target.ingest(Slow(sys.argv[1], columns, "sales"), Path(sys.argv[2]), max_bad_share=1)
"""


def test_a_killed_ingest_leaves_the_old_store_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    old = ingest(sales(tmp_path), tmp_path / "store")
    source = write(tmp_path / "more.csv", SALES + "cy,tea,400,buy,1,,\n")
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading is done\n"
        with pytest.raises(DataError, match="another ingest is writing"):
            ingest(sales(tmp_path, SALES + "dee,tea,400,buy,1,,\n"), tmp_path / "store")
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert list((tmp_path / "store").glob(".staging-*"))
    assert EventStore.open(tmp_path / "store").facts == old.facts
    new = ingest(Delimited(str(source), COLUMNS, "sales"), tmp_path / "store")
    assert new.facts.num_users == 3
    assert not list((tmp_path / "store").glob(".staging-*"))


@pytest.mark.slow
def test_killed_at_any_moment_ingest_leaves_the_old_store_or_the_new(tmp_path: Path) -> None:
    old = ingest(sales(tmp_path), tmp_path / "store")
    rows = "".join(f"u{n % 999},i{n % 77},{n + 1},buy,1,,\n" for n in range(300_000))
    source = write(tmp_path / "more.csv", SALES + rows)
    script = KILLED.replace("time.sleep(60)", "pass")
    for delay in np.linspace(0.0, 1.0, 8):
        command = [sys.executable, "-c", script, str(source), str(tmp_path / "store")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.kill()
        assert EventStore.open(tmp_path / "store").facts.num_events in (old.facts.num_events, 300_005)


class Numbers:
    """A reader whose second batch has other columns than the first."""

    name = "numbers"

    def sources(self) -> Sequence[Path]:
        return []

    def expected_rows(self) -> int | None:
        return 2

    def batches(self, report: RowReport) -> Iterator[pa.RecordBatch]:
        report.read(2)
        yield pa.record_batch({"user_id": [1], "item_id": [2**63 - 1]})
        yield pa.record_batch({"user_id": [1], "item_id": [5], "value": [1.0]})

    def item_table(self, report: RowReport) -> pa.Table | None:
        return None


def test_columns_that_change_from_batch_to_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="columns change"):
        ingest(Numbers(), tmp_path / "store")


def test_the_command_ingests_prints_counts_and_then_says_up_to_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "sales.csv", SALES)
    command = [
        "ingest", "data=csv", f"data.path={source}", "data.columns.user=who", "data.columns.item=what",
        "data.columns.time=when", "data.name=sales", "progress=false", f"paths.root={tmp_path}",
    ]  # fmt: skip
    assert main(command) == 0
    assert "written" in (first := capsys.readouterr().out)
    assert "2 users, 3 items, 5 events, 1970-01-01" in first
    assert main(command) == 0
    assert "up to date" in capsys.readouterr().out
    assert EventStore.open(tmp_path / "stores" / "sales").facts.num_events == 5


def test_the_command_says_which_live_event_each_action_is_and_the_report_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "sales.csv", SALES.replace("view,,", "gift wrap,,"))
    command = [
        "ingest", "data=csv", f"data.path={source}", "data.columns.user=who", "data.columns.item=what",
        "data.columns.action=act", "data.name=sales", "progress=false", f"paths.root={tmp_path}",
    ]  # fmt: skip
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "  action buy -> purchase, 3 events\n" in said
    assert "  action view -> click, 1 events\n" in said
    assert "  WARNING: action gift wrap (1 events) has no event type" in said
    store = EventStore.open(tmp_path / "stores" / "sales")
    assert store.facts.report["event_types"] == {"buy": "purchase", "gift wrap": "custom", "view": "click"}


def test_a_source_without_actions_has_no_event_types(tmp_path: Path) -> None:
    reader = Delimited(str(write(tmp_path / "sales.csv", SALES)), replace(COLUMNS, action=None), "sales")
    assert "event_types" not in ingest(reader, tmp_path / "store").facts.report


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.columns.item=sku", "no column 'sku', which data.columns.item names, found ['who', 'what'"),
        ("data.delimiter=';'", "is data.delimiter really ';', the line holds ','?"),
        ("data.colums.user=who", "data.colums.user"),
        ("+data.columns.usr=who", "usr"),
        ("data.columns.time_unit=days", "data.columns.time_unit is 'days'"),
        ("data.path=/nowhere.csv", "/nowhere.csv: no such file"),
        ("data.encoding=klingon", "data.encoding is 'klingon'"),
    ],
)
def test_a_wrong_setting_ends_in_one_message_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    source = write(tmp_path / "sales.csv", SALES)
    command = [
        "ingest", "data=csv", f"data.path={source}", "data.columns.user=who", "data.columns.item=what",
        "data.columns.time=when", "progress=false", f"paths.root={tmp_path}", override,
    ]  # fmt: skip
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "stores" / "csv" / "current").exists()


LONG = "x" * (MAX_ID_LENGTH + 1)


@pytest.mark.parametrize("role", ["user_id", "item_id"])
def test_an_id_that_no_request_could_name_is_a_bad_row_of_file_line_and_limit(tmp_path: Path, role: str) -> None:
    text = SALES + (f"{LONG},tea,5,buy,1,north,\n" if role == "user_id" else f"ann,{LONG},5,buy,1,north,\n")
    with pytest.raises(
        BadRowsError,
        match=rf"{role} \(column 'wh..?.?'\) is longer than 256 characters.*sales\.csv:7: 'x+'\.\.\. \(257 char",
    ):
        ingest(sales(tmp_path, text), tmp_path / "store")
    store = ingest(sales(tmp_path, text.replace(LONG, LONG[1:])), tmp_path / "store")
    RecommendRequest.model_validate({"user_id": store.users.ids[-1], "seed_items": [store.items.ids[-1]]})
    assert store.facts.num_events == 6


def test_a_long_id_of_any_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text(f"ann tea\nann {LONG}\n")
    with pytest.raises(SourceError, match=r"item id 'x+'\.\.\. has 257 characters; expected at most 256"):
        ingest(SequenceFile(str(tmp_path / "pairs.txt")), tmp_path / "store")
    (tmp_path / "items.csv").write_text(f"item,title\ntea,Tea\n{LONG},Cup\n")
    described = ItemsFile(str(tmp_path / "items.csv"), "item", {"title": "title"})
    with pytest.raises(SourceError, match="has 257 characters"):
        ingest(replace(sales(tmp_path), items=described), tmp_path / "store")
