"""Windows of a ranker whose visits are counted before anything is trained."""

from pathlib import Path

import pytest

from retrank.contract.errors import ConfigError
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.store import EventStore
from retrank.training.ranking.heads import HeadSettings
from retrank.training.ranking.visit_windows import VisitWindows, visit_windows
from retrank.training.ranking.windows import Moments

DAY = 86_400_000_000
HEADS = [HeadSettings("click")]
MOMENTS = Moments(past_ends_at=10 * DAY, ends_at=20 * DAY, test_at=30 * DAY)


def _windows(folder: Path, visits: dict[int, str]) -> VisitWindows:
    """Cut the visits of one person, who met item a on the first day: items by day."""
    lines = ["user,item,time", "ann,a,0"]
    lines += [f"ann,{item},{day * 86_400 + place}" for day, items in visits.items() for place, item in enumerate(items)]
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    columns = Columns(user="user", item="item", time="time", time_unit="seconds")
    ingest(Delimited(path=str(folder / "events.csv"), name="few", columns=columns), folder / "store")
    store = EventStore.open(folder / "store")
    return visit_windows(store, HEADS, MOMENTS, hours=24, shown=None, min_shown_share=0.2)


def test_each_window_has_the_visits_between_its_moments_and_what_happens_twice_is_still_a_yes(tmp_path: Path) -> None:
    found = _windows(tmp_path, {11: "bb", 13: "c", 21: "d", 31: "ef"})
    assert [len(part.cases) for part in (found.learned, found.calibration, found.test)] == [2, 1, 1]
    assert found.learned.marks.tolist() == [[1], [1]]
    assert found.coverage is None


@pytest.mark.parametrize(
    ("visits", "counts", "remedy"),
    [
        ({21: "b", 31: "c"}, r"0 \(learned\), 1 \(calibration\), 1 \(test\)", "raise past_share$"),
        (
            {11: "b", 21: "ab", 31: "c"},
            r"1 \(learned\), 0 \(calibration\), 1 \(test\)",
            "larger split.validation_share$",
        ),
        ({11: "b", 21: "c", 31: "abc"}, r"1 \(learned\), 1 \(calibration\), 0 \(test\)", "larger split.test_share$"),
        ({11: "b"}, r"1 \(learned\), 0 \(calibration\), 0 \(test\)", "validation_share; .*split.test_share$"),
    ],
)
def test_a_window_in_which_nobody_meets_anything_new_is_refused_with_the_counts_and_the_remedy(
    tmp_path: Path, visits: dict[int, str], counts: str, remedy: str
) -> None:
    with pytest.raises(ConfigError, match=counts) as refused:
        _windows(tmp_path, visits)
    assert refused.match(remedy)


def test_a_past_run_that_ends_as_late_as_the_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="raise past_share, or name with past"):
        Moments(past_ends_at=20 * DAY, ends_at=20 * DAY, test_at=30 * DAY)
