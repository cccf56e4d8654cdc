"""A store that is missing, damaged or of another version says so."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retrank.contract.errors import SourceError
from retrank.data.ingest import ingest
from retrank.data.readers.sequences import SequenceFile
from retrank.data.store import EventStore


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    source = tmp_path / "pairs.txt"
    source.write_text("a x\na y\nb x\n")
    return ingest(SequenceFile(str(source), "pairs"), tmp_path / "store")


def test_a_store_opens_by_its_root_and_by_its_version(store: EventStore) -> None:
    assert EventStore.open(store.directory.parent).facts == EventStore.open(store.directory).facts
    assert (store.num_users, store.num_items, store.facts.name) == (2, 2, "pairs")
    assert [store.sequences.times, store.values, store.sequences.actions] == [None, None, None]
    assert (store.actions.ids, store.action_counts()) == ([], {})


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such directory"):
        EventStore.open(tmp_path / "nothing")
    with pytest.raises(SourceError, match=r"no readable store\.json"):
        EventStore.open(tmp_path)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [Path.unlink, _truncate, _empty])
@pytest.mark.parametrize("name", ["store.json", "item_rows.npy", "offsets.npy", "users.parquet", "items.parquet"])
def test_a_damaged_or_missing_file_is_named(store: EventStore, name: str, damage: Callable[[Path], None]) -> None:
    damage(store.directory / name)
    with pytest.raises(SourceError, match=name):
        EventStore.open(store.directory)


def test_columns_of_another_length_or_type_are_refused(store: EventStore) -> None:
    np.save(store.directory / "item_rows.npy", np.ones(4, np.int32))
    with pytest.raises(SourceError, match=r"item_rows.npy: int32 \[4\], expected int32 \[3\]"):
        EventStore.open(store.directory)
    np.save(store.directory / "item_rows.npy", np.ones(3, np.int64))
    with pytest.raises(SourceError, match="int64"):
        EventStore.open(store.directory)


def test_another_format_version_is_refused(store: EventStore) -> None:
    path = store.directory / "store.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(SourceError, match="store format 2, this version reads 1"):
        EventStore.open(store.directory)


def test_an_unknown_context_column_is_named(store: EventStore) -> None:
    with pytest.raises(SourceError, match="no context column 'shop'"):
        store.context("shop")
    with pytest.raises(SourceError, match="not a text column"):
        store.context_names("shop")
