"""Events that equal another in every column are counted, whatever lies between them, and stay."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrank.cli import main
from retrank.data import ordering
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.repeats import count_repeats
from retrank.data.store import report_lines

HEAD = "user,item,time,paid,shop\n"
EVENTS = [
    "ann,tea,100,2.5,north",
    "ann,cup,100,,",
    "ann,tea,100,2.5,north",  # repeats the first, with another in between
    "ann,cup,100,,",  # missing values are alike
    "ann,tea,100,2.5,south",
    "ann,tea,100,3,north",
    "ann,tea,200,2.5,north",
    "bob,tea,100,2.5,north",
    "ann,tea,100,2.5,north",
]


def _reader(folder: Path, events: list[str], time: str | None = "time") -> Delimited:
    (folder / "events.csv").write_text(HEAD + "\n".join(events) + "\n")
    columns = Columns("user", "item", time=time, value="paid", context={"shop": "shop"})
    return Delimited(str(folder / "events.csv"), columns, "twice")


def test_repeats_are_counted_and_all_events_stay(tmp_path: Path) -> None:
    store = ingest(_reader(tmp_path, EVENTS), tmp_path / "store")
    assert store.facts.report["repeats"] == 3
    assert store.facts.num_events == len(EVENTS)
    said = [line for line in report_lines(store.facts.report) if "repeats" in line]
    assert said == [
        "  repeats: 3 events equal another of the same user and moment in every column that is read; they stay, each "
        "counts: if the source says them twice by mistake, remove them there"
    ]


def test_without_times_nobody_can_tell(tmp_path: Path) -> None:
    report = ingest(_reader(tmp_path, EVENTS, time=None), tmp_path / "store").facts.report
    assert "repeats" not in report
    assert not any("repeats" in line for line in report_lines(report))


def test_the_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _reader(tmp_path, EVENTS)
    named = [f"data.columns.{role}={role}" for role in ("user", "item", "time")]
    told = ["data=csv", f"data.path={tmp_path / 'events.csv'}", f"out={tmp_path / 'store'}", "progress=false"]
    assert main(["ingest", *told, *named]) == 0
    assert "repeats: 5 events equal another" in capsys.readouterr().out  # paid and shop are not read


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 3), st.sampled_from([0.0, 1.0])), max_size=60
    ),
    st.integers(1, 8),
)
def test_the_count_is_that_of_a_plain_set(events: list[tuple[int, int, int, float]], block: int) -> None:
    events = sorted(events)
    users = np.array([event[0] for event in events], dtype=np.int32) + 1
    times, items = (np.array([event[at] for event in events], dtype=np.int64) for at in (1, 2))
    values: NDArray[np.float32] = np.array([event[3] for event in events], dtype=np.float32)
    offsets = ordering.user_offsets(users, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "_BLOCK", block)  # blocks end at every user, whatever there is to count
        found = count_repeats(offsets, times, [items.astype(np.int32), values])
    assert found == sum(count - 1 for count in Counter(events).values())
