"""Impressions of a store of their own, and the place at which each candidate of a visit was first shown."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from chain_world import rank

from retrank.contract.cases import Cases
from retrank.contract.errors import ConfigError, DataError
from retrank.contract.sequences import Sequences
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.store import EventStore
from retrank.data.visits import Visits
from retrank.training.ranking.load import load_ranker
from retrank.training.ranking.shown import NOT_SHOWN, Shown, check_shown, read_shown, with_impressions

HOUR = 3_600_000_000
SECONDS = Columns(
    user="user", item="item", time="time", time_unit="seconds", context={"position": "place"}, numbers=["position"]
)
PLACED = Columns(user="user", item="item", time="time", context={"position": "place"}, numbers=["position"])


def _ingest(folder: Path, name: str, lines: list[str], columns: Columns) -> Path:
    (folder / f"{name}.csv").write_text("\n".join(["user,item,time,place", *lines]) + "\n")
    ingest(Delimited(path=str(folder / f"{name}.csv"), name=name, columns=columns), folder / name)
    return folder / name


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    """Three people and four items, b before a."""
    lines = ["b,p,1,", "a,q,2,", "a,r,3,", "c,s,4,"]
    return EventStore.open(_ingest(tmp_path, "events", lines, Columns(user="user", item="item", time="time")))


def test_impressions_are_read_in_the_rows_of_the_other_store(store: EventStore, tmp_path: Path) -> None:
    lines = ["a,r,70,2", "stranger,p,71,1", "a,elsewhere,72,1", "b,q,80,3", "a,p,60,1", "b,p,81,"]
    shown = read_shown(_ingest(tmp_path, "slates", lines, PLACED), store)
    assert store.users.ids == ["b", "a", "c"]
    assert shown.offsets.tolist() == [0, 1, 3, 3]
    assert [store.items.id(int(row)) for row in shown.item_rows] == ["q", "p", "r"]
    assert (shown.times // 1_000_000).tolist() == [80, 60, 70]
    assert shown.places.tolist() == [3, 1, 2]


def test_what_visitors_were_shown_is_theirs_whoever_is_called_alike(tmp_path: Path) -> None:
    def read(name: str, header: str, *lines: str, **more: object) -> EventStore:
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")
        columns = Columns("user", "item", time="time", visitor="cookie", **more)  # type: ignore[arg-type]  # one dict
        return ingest(Delimited(str(tmp_path / f"{name}.csv"), columns, name), tmp_path / name)

    acts = read("acts", "user,cookie,item,time", "c,,p,1", ",c,q,2", ",d,q,2")
    places = {"context": {"position": "place"}, "numbers": ["position"]}
    read("places", "user,cookie,item,time,place", ",c,p,3,1", "c,,q,4,2", "d,,p,5,3", ",e,p,5,4", **places)
    shown = read_shown(tmp_path / "places", acts)
    assert shown.offsets.tolist() == [0, 1, 2, 2]
    assert shown.places.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("lines", "columns", "error", "message"),
    [
        (["a,p,1,0"], PLACED, DataError, "1 places such as 0; expected whole numbers, 1 = first"),
        (["a,p,1,1.5"], PLACED, DataError, "places such as 1.5"),
        (["x,p,1,1"], PLACED, DataError, "no impression of a user and an item"),
        (["a,p,1,"], PLACED, DataError, "no impression of a user and an item"),
        (["a,p,1,1"], Columns(user="user", item="item", time="time"), ConfigError, "a number 'position'"),
        (
            ["a,p,1,1"],
            Columns(user="user", item="item", context={"position": "place"}, numbers=["position"]),
            ConfigError,
            "expected a store with times",
        ),
    ],
)
def test_impressions_that_cannot_be_used_are_refused_in_words(
    store: EventStore, tmp_path: Path, lines: list[str], columns: Columns, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_shown(_ingest(tmp_path, "slates", lines, columns), store)


def test_the_first_place_in_a_visit_or_the_hour_before_it_counts() -> None:
    moments = [8.9, 9.1, 9.5, 11, 21.9, 22.1]
    rows = [1, 2, 2, 3, 4, 5]
    shown = Shown(
        offsets=np.array([0, 0, 6]),
        item_rows=np.array(rows, np.int32),
        times=np.array([int(hour * HOUR) for hour in moments]),
        places=np.array([1, 2, 7, 3, 4, 5]),
        data_hash="by hand",
    )
    asked = Sequences(np.array([1], np.int32), np.array([0, 1]), np.array([0]), np.array([10 * HOUR]))
    cases = Cases(np.array([1]), asked, Sequences.from_lists([[3]]))
    found = shown.of_candidates(Visits(cases, np.ones((1, 1), np.float32)), 0, np.array([5, 4, 3, 2, 1, 9]), 12)
    assert found.tolist() == [NOT_SHOWN, 4, 3, 2, NOT_SHOWN, NOT_SHOWN]


def _logged(users: list[int], hours: list[float]) -> Shown:
    """Return an impression of item 9 for each of three users, if any."""
    return Shown(
        offsets=np.concatenate([[0], np.cumsum(np.bincount(users, minlength=3))]),
        item_rows=np.full(len(users), 9, np.int32),
        times=np.array([int(hour * HOUR) for hour in hours]),
        places=np.ones(len(users), np.int64),
        data_hash="by hand",
    )


def _visits() -> Visits:
    """Users 0, 1 and 2 come at ten o'clock; 1 takes two items."""
    asked = Sequences(np.ones(3, np.int32), np.arange(4), np.zeros(3, np.int64), np.full(3, 10 * HOUR))
    cases = Cases(np.arange(3), asked, Sequences.from_lists([[3], [4, 5], [6]]))
    return Visits(cases, np.array([[3], [4], [5], [6]], np.float32))


def test_only_visits_in_which_something_was_logged_are_learned_from() -> None:
    shown = _logged([0, 1, 2, 2], [8.9, 9.1, 8.0, 22.1])  # too early, in time, too early and too late
    found, coverage = with_impressions(_visits(), shown, hours=12, least=0.3)
    assert found.cases.users.tolist() == [1]
    assert (found.cases.targets.item_rows.tolist(), found.marks.tolist()) == ([4, 5], [[4], [5]])
    assert (coverage.covered, coverage.visits) == (1, 3)
    assert (
        coverage.as_text() == "shown: 1 of 3 visits to learn from (33.3%) have an impression; the others are left out"
    )


@pytest.mark.parametrize(("users", "least"), [([1], 0.5), ([], 0.0)])
def test_too_few_visits_with_an_impression_are_refused_by_the_name_of_the_setting(
    users: list[int], least: float
) -> None:
    said = rf"{len(users)} of 3 visits to learn from .* at least {least:.1%}.* lower min_shown_share"
    with pytest.raises(ConfigError, match=said):
        with_impressions(_visits(), _logged(users, [10.0] * len(users)), hours=12, least=least)


def test_impressions_that_teach_nothing_are_refused() -> None:
    labels = np.array([[1.0], [0.0], [1.0]], np.float32)
    check_shown(np.array([1, 2, NOT_SHOWN]), labels)
    with pytest.raises(DataError, match="nothing of it is among the candidates"):
        check_shown(np.full(3, NOT_SHOWN), labels)
    with pytest.raises(DataError, match="something happened to each of 2 candidates that were shown"):
        check_shown(np.array([1, NOT_SHOWN, 4]), labels)


def test_a_ranker_learns_places_where_it_is_given_them_and_serves_without(
    folder: Path, ranked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    past = f"past={ranked / 'past'}"
    assert rank(folder, "placed", past, f"shown={folder / 'shown'}") == 0
    placed, _, _, config = load_ranker(folder / "placed")
    plain, *_ = load_ranker(ranked)
    assert config["shown"] == str(folder / "shown")
    assert placed.position_bias.steps.abs().max() > 0
    assert plain.position_bias.steps.abs().max() == 0
    told = json.loads((folder / "placed" / "ranking.json").read_text())["shown"]
    assert (told["covered"], told["share"]) == (told["visits"], 1.0)
    assert json.loads((ranked / "ranking.json").read_text())["shown"] is None
    assert f"{told['visits']:,} of {told['visits']:,} visits to learn from" in capsys.readouterr().out
    assert "Where it was shown" in (folder / "placed" / "ranking.html").read_text()


def test_impressions_are_looked_at_before_anything_is_trained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rank(folder, "unplaced", f"shown={folder / 'store'}") == ConfigError.exit_code
    assert "a number 'position'" in capsys.readouterr().err
    assert not (folder / "unplaced").exists()


def test_impressions_of_too_few_visits_are_refused_before_anything_is_trained(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, *lines = (folder / "shown.csv").read_text().splitlines()
    _ingest(tmp_path, "few", [line for line in lines if line.startswith(("u1,", "u2,"))], SECONDS)
    assert rank(folder, "unlogged", f"shown={tmp_path / 'few'}") == ConfigError.exit_code
    said = capsys.readouterr().err
    assert "expected at least 20.0%" in said
    assert "lower min_shown_share" in said
    assert not (folder / "unlogged").exists()


def test_other_impressions_in_the_same_folder_are_another_run(
    folder: Path, ranked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, *lines = (folder / "shown.csv").read_text().splitlines()
    slates, past = _ingest(tmp_path, "slates", lines, SECONDS), f"past={ranked / 'past'}"
    assert rank(folder, "replaced", past, f"shown={slates}") == 0
    (folder / "replaced" / "ranking.html").unlink()  # as if it had been interrupted
    _ingest(tmp_path, "slates", lines[::2], SECONDS)
    assert rank(folder, "replaced", past, f"shown={slates}") == ConfigError.exit_code
    assert re.search(r"other settings: shown_data_hash is '\w+' now and '\w+' there", capsys.readouterr().err)
    moved = _ingest(tmp_path, "moved", lines, SECONDS)
    assert rank(folder, "replaced", past, f"shown={moved}") == 0  # the same impressions, elsewhere
