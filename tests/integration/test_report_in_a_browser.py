"""The report of a run in a real browser: no column is out of sight on a usual screen, and a narrow one can scroll.

Set RETRANK_SCREENSHOTS to a folder to keep the photographs.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving_chromium import BINARY, Tab, chromium

from retrank.contract.sequences import Sequences
from retrank.data.splits import LeaveLastOut
from retrank.models.baselines.popularity import Popularity
from retrank.training.baseline_table import BaselineRow, BaselineTable
from retrank.training.evaluator import evaluate
from retrank.training.report import ReportFacts, write_report

pytestmark = [pytest.mark.browser, pytest.mark.skipif(BINARY is None, reason="no Chromium on this machine")]
BOXES = "[...document.querySelectorAll('.scroll')]"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with as many baselines, and as long words on their settings, as a run has."""
    folder = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    split = LeaveLastOut()(Sequences.from_lists(random.integers(1, 300, (200, 9)).tolist()))
    scorer = Popularity()
    scorer.fit(split.train, 300)
    found = evaluate(scorer, split.test, split.train)
    long = {"regularisation": 1_000.0, "num_recent": 10, "half_life_days": 0.5}
    names = ("popularity", "decayed_popularity", "markov", "item_knn", "ease", "retriever", "blend")
    rows = [BaselineRow(name, long, 0.1, found.metrics, 1.0, 1.0, found.ranks) for name in names]
    facts = ReportFacts("a run", "MixtureOfLogits", "shop", "0" * 16, split.protocol)
    write_report(folder, facts, found, BaselineTable("0" * 16, split.protocol, "train", rows, {}))
    return folder / "report.html"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.mark.parametrize("width", [1200, 1366, 1600])
def test_no_column_is_out_of_sight_on_a_usual_screen(tab: Tab, page: Path, tmp_path: Path, width: int) -> None:
    tab.size(width, 1000)
    tab.open(page.as_uri())
    tab.wait_for(f"document.readyState === 'complete' && {BOXES}.length === 2")
    folder = Path(os.environ.get("RETRANK_SCREENSHOTS", tmp_path))
    tab.photograph(folder / f"report-{width}.png")
    assert tab.evaluate(f"{BOXES}.map(box => box.scrollWidth - box.clientWidth)") == [0, 0]
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_on_a_narrow_screen_the_table_scrolls_and_the_page_does_not(tab: Tab, page: Path) -> None:
    tab.size(700, 1000)
    tab.open(page.as_uri())
    tab.wait_for(f"document.readyState === 'complete' && {BOXES}.length === 2")
    assert tab.evaluate("document.documentElement.scrollWidth") == 700
    assert tab.evaluate(f"{BOXES}[0].scrollWidth > {BOXES}[0].clientWidth")
    assert tab.evaluate(f"{BOXES}[0].scrollTo(9999, 0), {BOXES}[0].scrollLeft > 0")
