"""Visitors: learned from like users, told apart from them by row and not by spelling, and nobody can ask as one."""

from pathlib import Path

from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.readers.items_file import UsersFile

VISITS = """who,cookie,what
ann,c1,tea
,c1,tea
,ann,cup
bob,,cup
,c1,pot
,,pot
"""


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_visitor_is_nobody_who_can_be_named(tmp_path: Path) -> None:
    """A user's other ids are not read, and a cookie that is spelled like a user is not that user."""
    source = Delimited(str(_write(tmp_path / "visits.csv", VISITS)), Columns("who", "what", visitor="cookie"), "visits")
    (tmp_path / "users.csv").write_text("id,tier\nann,gold\nc1,tin\n")
    users = UsersFile(str(tmp_path / "users.csv"), "id", {"tier": "tier"})
    store = ingest(source, tmp_path / "store", max_bad_share=0.5, users=users)
    assert (store.num_users, store.num_named, store.facts.num_visitors) == (4, 2, 2)
    assert (store.users.ids, store.visitors.ids) == (["ann", "bob"], ["c1", "ann"])
    assert store.users.row("c1") == 0
    assert [store.items.ids_of(rows) for rows in store.sequences] == [["tea"], ["cup"], ["tea", "pot"], ["cup"]]
    assert store.user_table["tier"].to_pylist() == ["gold", None, None, None]
    assert store.facts.report["bad"] == {"missing user_id (column 'who') and visitor (column 'cookie')": 1}


def test_who_is_a_visitor_is_part_of_the_data(tmp_path: Path) -> None:
    """Two stores that differ in nothing but whether the second one to act can be named."""
    hashes = []
    for name, text in (("named", "a,,x\nb,,y\n"), ("not", "a,,x\n,b,y\n")):
        path = _write(tmp_path / f"{name}.csv", "who,cookie,what\n" + text)
        source = Delimited(str(path), Columns("who", "what", visitor="cookie"), name)
        hashes.append(ingest(source, tmp_path / name).facts.data_hash)
    plain = Delimited(str(tmp_path / "named.csv"), Columns("who", "what"), "plain")
    assert hashes[0] == ingest(plain, tmp_path / "plain").facts.data_hash
    assert hashes[0] != hashes[1]


def test_a_store_of_visitors_alone_has_nobody_to_ask_for(tmp_path: Path) -> None:
    path = _write(tmp_path / "visits.csv", "who,cookie,what\n,b,x\n,b,y\n,c,x\n")
    store = ingest(Delimited(str(path), Columns("who", "what", visitor="cookie"), "visits"), tmp_path / "store")
    assert (len(store.users), store.visitors.ids) == (0, ["b", "c"])
    assert store.sequences.lengths.tolist() == [2, 1]
