"""The verdict says who leads, and points at a cause when the model does not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from retrank.config import compose
from retrank.data.splits import Split
from retrank.metrics.bootstrap import PairedDifference
from retrank.training.baseline_table import RECIPES, BaselineTable, baseline_table
from retrank.training.evaluator import Evaluation
from retrank.training.report import ReportFacts, write_report
from retrank.training.verdict import verdict

FACTS = ReportFacts(
    title="t", model="model", data_name="circle", data_hash="0", protocol="P1", validation={"ndcg@10": 0.01}
)


@pytest.fixture(scope="module")
def table(circle: Split) -> BaselineTable:
    recipes = [recipe for recipe in RECIPES if recipe.name in ("popularity", "markov")]
    return baseline_table(circle, 40, data_hash="0", recipes=recipes)


def test_a_model_that_leads_everybody_is_said_to_lead(tmp_path: Path, good: Evaluation, table: BaselineTable) -> None:
    only_popularity = replace(table, rows=[row for row in table.rows if row.name == "popularity"])
    found = write_report(tmp_path, FACTS, good, only_popularity)["verdict"]
    assert (found["leads"], found["clear"], found["rival"], found["reasons"]) == (True, True, "popularity", [])
    assert found["text"] in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == found


def test_a_model_behind_everywhere_is_told_that_it_is_the_model(
    tmp_path: Path, poor: Evaluation, table: BaselineTable
) -> None:
    found = write_report(tmp_path, FACTS, poor, table)["verdict"]
    markov = next(row for row in table.rows if row.name == "markov")
    assert (found["leads"], found["clear"], found["rival"]) == (False, True, "markov")
    assert f"{poor.metrics['ndcg@10'] - markov.metrics['ndcg@10']:+.4f} against markov" in found["text"]
    assert found["reasons"][0].startswith("It is behind on validation too")
    assert [reason.split()[1] for reason in found["reasons"][1:-1]] == ["history", "target"]
    assert found["reasons"][-1].endswith("; try what reads order and times: model=hstu.")


def test_a_model_is_not_told_to_be_itself(poor: Evaluation, table: BaselineTable) -> None:
    row = next(row for row in table.rows if row.name == "markov")
    against = PairedDifference(0.4, 0.5, -0.1, -0.2, -0.05, 0.0)
    hint = verdict("HSTU", poor, {}, [row], {"markov": against}).reasons[-1]
    assert hint == "markov reads what came last alone; try `retrank sweep`: HSTU can read that too."


def test_every_baseline_has_something_to_try_against_it(poor: Evaluation, table: BaselineTable) -> None:
    """Whatever a hint names composes with the configuration of training."""
    for recipe in RECIPES:
        row = replace(table.rows[0], name=recipe.name)
        against = PairedDifference(0.4, 0.5, -0.1, -0.2, -0.05, 0.0)
        hint = verdict("model", poor, {}, [row], {recipe.name: against}).reasons[-1]
        named = [word.rstrip(",.") for word in hint.split() if "=" in word]
        for experiment in ([], ["experiment=auto"]):
            compose("train", [*experiment, "name=t", "store=t", *named])
        assert hint.startswith(f"{recipe.name} reads ")


def test_a_model_ahead_on_validation_alone_is_told_that_the_order_turned(
    tmp_path: Path, poor: Evaluation, table: BaselineTable
) -> None:
    found = write_report(tmp_path, replace(FACTS, validation={"ndcg@10": 0.99}), poor, table)["verdict"]
    assert found["reasons"][0].startswith("The order turned between the windows: from validation to test model goes")


def test_a_difference_that_may_be_chance_is_called_so(tmp_path: Path, good: Evaluation, table: BaselineTable) -> None:
    """The good scorer is the Markov baseline itself with other settings."""
    twin = replace(table.rows[0], name="twin", metrics=good.metrics, ranks=good.ranks)
    found = write_report(tmp_path, FACTS, good, replace(table, rows=[twin]))["verdict"]
    assert (found["leads"], found["clear"]) == (False, False)
    assert "which includes zero" in found["text"]


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (0.00004, "is level with popularity: NDCG@10 0.5000, +0.0000 against"),
        (-0.00004, "is level with popularity: NDCG@10 0.5000, +0.0000 against"),
        (0.0, "is level with popularity: NDCG@10 0.5000, +0.0000 against"),
        (0.00006, "leads every baseline: NDCG@10 0.5000, +0.0001 against"),
        (-0.00006, "does not beat popularity: NDCG@10 0.5000, -0.0001 against"),
    ],
)
def test_a_difference_that_reads_as_zero_is_called_level(
    good: Evaluation, table: BaselineTable, difference: float, said: str
) -> None:
    row = next(row for row in table.rows if row.name == "popularity")
    found = PairedDifference(0.5 - difference, 0.5, difference, -0.01, 0.01, 0.9)
    judged = verdict("model", good, {}, [row], {"popularity": found})
    assert judged.text.startswith(f"model {said}")
    assert judged.leads == ("leads" in said)
    apart = ["On these cases the two cannot be told apart."] if "does not" in said else []
    assert judged.reasons[:1] == apart  # and no cause is read into it
    assert not any("order turned" in reason or "loses most" in reason for reason in judged.reasons)


def test_without_baselines_there_is_no_verdict(tmp_path: Path, good: Evaluation) -> None:
    assert write_report(tmp_path, FACTS, good)["verdict"] is None
