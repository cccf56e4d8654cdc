import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from retrank.data.splits import Split
from retrank.training.baseline_table import RECIPES, BaselineTable, baseline_table
from retrank.training.evaluator import Evaluation
from retrank.training.report import ReportFacts, metric_label, write_report

FACTS = ReportFacts(
    title="a <b>bold</b> name",
    model="sasrec",
    data_name="circle",
    data_hash="0123456789abcdef",
    protocol="leave-last-out (P1)",
    details={"seed": "1"},
    validation={"ndcg@10": 0.5},
)
LOG = "epoch,step,train/loss,val/ndcg@10\n0,10,3.5,\n0,10,,0.1\n1,20,2.5,\n1,20,,0.2\n"


@pytest.fixture(scope="module")
def table(circle: Split) -> BaselineTable:
    recipes = [recipe for recipe in RECIPES if recipe.name in ("popularity", "decayed_popularity")]
    return baseline_table(circle, 40, data_hash=FACTS.data_hash, recipes=recipes)


def test_the_page_shows_the_model_beside_the_baselines(tmp_path: Path, good: Evaluation, table: BaselineTable) -> None:
    (tmp_path / "logs" / "csv").mkdir(parents=True)
    (tmp_path / "logs" / "csv" / "metrics.csv").write_text(LOG)
    write_report(tmp_path, FACTS, good, table)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 6
    assert "decayed_popularity is missing: decayed popularity needs event times" in page
    assert "95 % interval" in page
    assert "&lt;b&gt;bold" in page


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path, good: Evaluation, table: BaselineTable) -> None:
    write_report(tmp_path, FACTS, good, table)
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!#)""", page.replace("xlink:href", ""))
    HTMLParser().feed(page)


def test_the_json_files_hold_the_same_numbers(tmp_path: Path, good: Evaluation, table: BaselineTable) -> None:
    returned = write_report(tmp_path, FACTS, good, table)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    report = json.loads((tmp_path / "report.json").read_text())
    assert metrics == returned
    assert metrics["test"] == report["metrics"] == good.metrics
    assert metrics["validation"] == {"ndcg@10": 0.5}
    assert metrics["baselines"]["popularity"] == table.rows[0].metrics
    difference = report["baselines"][0]["model_minus_baseline_ndcg@10"]
    assert difference["low"] <= difference["difference"] <= difference["high"]
    assert difference["second"] == pytest.approx(good.metrics["ndcg@10"])


def test_a_report_without_baselines_and_log_is_a_report(tmp_path: Path, good: Evaluation) -> None:
    write_report(tmp_path, FACTS, good)
    page = (tmp_path / "report.html").read_text()
    assert "No baselines were evaluated" in page
    assert page.count("<svg") == 5


def test_the_same_run_gives_the_same_page(tmp_path: Path, good: Evaluation, table: BaselineTable) -> None:
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, FACTS, good, table)
        pages.append((tmp_path / name / "report.html").read_text())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("name", "label"),
    [("ndcg@10", "NDCG@10"), ("coverage@10", "Coverage@10"), ("popularity_lift@10", "Popularity lift@10")],
)
def test_metrics_have_names_for_people(name: str, label: str) -> None:
    assert metric_label(name) == label
