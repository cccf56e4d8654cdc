"""What is told of items and users in files of their own is about those of the events, or somebody hears of it."""

from pathlib import Path

import pytest

from retrank.cli import main
from retrank.contract.errors import ConfigError, SourceError
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.readers.items_file import ItemsFile, UsersFile
from retrank.data.store import EventStore, report_lines


def _ingest(folder: Path, *, users: str | None = None, items: str | None = None) -> EventStore:
    (folder / "events.csv").write_text("user,item\nann,tea\nann,cup\nbob,tea\n")
    for name, text in (("users", users), ("items", items)):
        (folder / f"{name}.csv").write_text(text or "")
    described = ItemsFile(str(folder / "items.csv"), "id", {"title": "title"}) if items else None
    known = UsersFile(str(folder / "users.csv"), "id", {"tier": "tier"}) if users else None
    reader = Delimited(str(folder / "events.csv"), Columns("user", "item"), "shop", items=described)
    return ingest(reader, folder / "store", users=known)


def test_the_report_says_of_how_many_something_is_told(tmp_path: Path) -> None:
    store = _ingest(tmp_path, users="id,tier\nann,gold\nzoe,tin\n", items="id,title\ntea,Tea\ncup,Cup\npot,Pot\n")
    lines = report_lines(store.facts.report)
    assert "user rows read 2, about 1 users with events" in lines
    assert "item rows read 3, about 2 items with events" in lines


@pytest.mark.parametrize("kind", ["user", "item"])
def test_a_file_about_none_of_those_with_events_is_refused(tmp_path: Path, kind: str) -> None:
    strangers = {"users": "id,tier\nu:ann,gold\nu:bob,tin\n"} if kind == "user" else {"items": "id,title\n001,Tea\n"}
    with pytest.raises(
        SourceError, match=rf"none of its \d different {kind}_ids, such as .* of the events, such as"
    ) as said:
        _ingest(tmp_path, **strangers)
    assert ("'u:ann'" in str(said.value)) == (kind == "user")
    assert not (tmp_path / "store" / "current").exists()


def test_names_that_no_attribute_can_have_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"users\.attributes: the name 'user_id' is taken"):
        UsersFile("users.csv", "id", {"user_id": "id"})
    with pytest.raises(ConfigError, match=r"data\.items\.attributes: the name 'item_id' is taken"):
        ItemsFile("items.csv", "id", {"item_id": "id"})
    with pytest.raises(ConfigError, match=r"users\.attributes: 'a{65}' names no field of a context"):
        UsersFile("users.csv", "id", {"a" * 65: "tier"})


def test_a_missing_id_column_of_users_names_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id\nu,i\n")
    (tmp_path / "people.csv").write_text("customer,tier\nu,gold\n")
    told = ("users=file", f"users.path={tmp_path / 'people.csv'}", "+users.attributes.tier=tier")
    source = ("data=csv", f"data.path={tmp_path / 'events.csv'}", f"out={tmp_path / 'store'}", "progress=false")
    assert main(["ingest", *source, *told]) == 2
    said = capsys.readouterr().err
    assert "no column 'user_id', which users.id names, found ['customer', 'tier']; set users.id" in said
    assert main(["ingest", *source, *told, "users.id=customer"]) == 0
