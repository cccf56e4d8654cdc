"""`retrank rank` from a trained run to the files it leaves, in a world of forty items."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from chain_world import HEADS, SMALL, rank, train

from retrank.cli import main
from retrank.contract.api import RecommendRequest
from retrank.contract.bundle import MODEL_CARD, verify
from retrank.contract.errors import ConfigError, TrainingError
from retrank.serving.recommender import Recommender
from retrank.training.ranking.load import load_ranker


def test_a_run_leaves_everything_that_later_commands_need(ranked: Path) -> None:
    expected = {
        "config.yaml", "run_card.json", "ranker.json", "rotation.npy", "metrics.json", "ranks.npz", "report.html",
        "ranking.html", "ranking.json", "past", "checkpoints", "logs",
    }  # fmt: skip
    assert expected <= {path.name for path in ranked.iterdir()}


def test_retriever_blend_and_ranker_stand_in_one_report(ranked: Path) -> None:
    metrics = json.loads((ranked / "metrics.json").read_text())
    assert set(metrics["baselines"]) == {"retriever", "blend"}
    assert all(0 < metrics["test"][f"hr@{k}"] <= 1 for k in (10, 50))
    record = json.loads((ranked / "ranking.json").read_text())
    assert set(record["heads"]) == {"any", "bought"}
    assert 0 <= record["heads"]["bought"]["ece"] < 0.2
    assert set(record["values"]) == {"spent"}
    assert 1 < record["values"]["spent"]["mean"] < 7
    assert 0 <= record["values"]["spent"]["calibration_error"] <= record["values"]["spent"]["error"]
    assert "expected amount" in (ranked / "ranking.html").read_text()
    assert record["gains"][0]["sources"] == ["sequence", "covisit", "neighbours", "popular", "fresh"]
    context = record["context"]
    assert context["lift"]["difference"] == pytest.approx(context["real"] - context["shuffled"])
    assert context["real"] == pytest.approx(metrics["test"]["ndcg@10"])


@pytest.mark.parametrize("rival", ["retriever", "blend"])
def test_the_ranker_is_judged_against_the_retriever_and_against_the_blend(ranked: Path, rival: str) -> None:
    metrics, record = (json.loads((ranked / name).read_text()) for name in ("metrics.json", "ranking.json"))
    gap = record[f"against_{rival}"]
    assert gap["difference"] == pytest.approx(metrics["test"]["ndcg@10"] - metrics["baselines"][rival]["ndcg@10"])
    assert gap["low"] <= gap["difference"] <= gap["high"]
    assert f"<td>{rival}</td>" in (ranked / "ranking.html").read_text()


def test_progress_and_threads_hold_for_the_past_run_too(ranked: Path) -> None:
    past = yaml.safe_load((ranked / "past" / "config.yaml").read_text())["trainer"]
    assert (past["progress"], past["threads"]) == (False, 1)


def test_an_interrupted_past_run_is_continued_and_the_verdicts_are_printed(
    folder: Path, ranked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ranked / "past", folder / "continued" / "past")
    (folder / "continued" / "past" / "report.html").unlink()
    assert rank(folder, "continued", "trainer.threads=2") == 0
    said = capsys.readouterr().out
    assert re.search(r"ranker - retriever, NDCG@10: [+-]0\.\d{4}", said)
    assert re.search(r"ranker - blend, NDCG@10: [+-]0\.\d{4}", said)
    assert re.search(r"(?m)^Ranker (leads every baseline|does not beat|is level with) ", said)
    assert (folder / "continued" / "past" / "report.html").is_file()


def test_a_conditional_head_never_says_more_than_what_it_is_given(ranked: Path) -> None:
    model, spec, rotation, _ = load_ranker(ranked)
    assert [head.name for head in spec.heads] == ["any", "bought", "spent"]
    assert [head.calibration is not None for head in spec.heads] == [True, True, False]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(len(rotation)), atol=1e-4)
    assert not model.training


@pytest.mark.parametrize("command", ["evaluate", "export", "rank"])
def test_where_a_retriever_is_wanted_the_run_of_a_ranker_is_refused_in_one_line(
    folder: Path, ranked: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [f"out={folder / 'none'}"] if command == "export" else []
    out = [f"run_dir={folder / 'none'}"] if command == "rank" else out
    assert main([command, f"run={ranked}", *out, f"paths.root={folder}"]) == TrainingError.exit_code
    said = capsys.readouterr().err
    assert "this is the run of a ranker" in said
    assert f"its report is {ranked / 'report.html'}" in said
    assert f"export both with run={folder / 'run'} ranker={ranked}" in said
    assert len(said.splitlines()) == 1


def test_a_ranker_is_exported_with_its_retriever_and_answers(
    folder: Path, ranked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "bundles"
    quick = ("sealing.gates.parity_rows=20", f"out={out}", f"paths.root={folder}")
    assert main(["export", f"run={folder / 'run'}", f"ranker={ranked}", *quick]) == 0
    assert "left out" not in capsys.readouterr().out
    card = verify(out).path(MODEL_CARD).read_text()
    assert "| bought | binary | any | 1 | buy |" in card
    assert re.search(r"- against the retriever: NDCG@10 [+-]0\.\d{4} \([+-]0\.\d{4} to", card)
    assert re.search(r"\| bought \| 0\.\d{4} \| 0\.\d{4} \(0\.\d{4}\) \|", card)
    assert re.search(r"- spent: [\d,]+ amounts, mean", card)
    assert main(["recommend", f"bundle={out}", "user_id=u3", "k=4", f"paths.root={folder}"]) == 0
    out_text = capsys.readouterr().out
    assert ", 4 items in" in out_text
    assert "failed" not in out_text
    scores = [float(line.split()[1]) for line in out_text.splitlines()[1:5]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)  # the probability of the one head with a weight


def test_a_ranker_that_is_not_taken_along_is_named_with_the_key_that_does(
    folder: Path, ranked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("run", "ranked"):  # the newest of two, beside the run and below the folder of all runs
        shutil.copytree(folder / name, tmp_path / name, ignore=shutil.ignore_patterns("past"))
    config = yaml.safe_load((ranked / "config.yaml").read_text()) | {"run": str(tmp_path / "run")}
    shutil.copytree(tmp_path / "ranked", tmp_path / "runs" / "shop_ranker" / "newer")
    for place in (tmp_path / "ranked", tmp_path / "runs" / "shop_ranker" / "newer"):
        (place / "config.yaml").write_text(yaml.safe_dump(config))
    newer = tmp_path / "runs" / "shop_ranker" / "newer"
    os.utime(tmp_path / "ranked" / "ranker.json", (1, 1))
    quick = ("sealing.gates.parity_rows=20", "sealing.gates.not_worse_than=[]", f"paths.root={tmp_path}")
    assert main(["export", f"run={tmp_path / 'run'}", f"out={tmp_path / 'bundles'}", *quick]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"export: ranker {newer}, the newest of 2 on this run, is left out" in last
    assert f"ranker={newer} takes it along" in last


def test_a_past_run_is_used_again_and_counts_can_be_renewed(folder: Path, ranked: Path) -> None:
    assert rank(folder, "again", f"past={ranked / 'past'}", "sources.refresh_hours=24") == 0
    assert not (folder / "again" / "past").exists()
    model, _, _, config = load_ranker(folder / "again")
    assert (model.attention.num_actions, config["ranker"]["model"]["num_actions"]) == (2, 2)


def test_two_towers_that_read_what_items_are_get_a_ranker_and_answer_with_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = "+item_content._target_=retrank.data.item_content.ItemContent"
    towers = ("model=two_tower", "~model.num_blocks", content, "+item_content.texts=[title]")
    assert train(folder, "towers", *towers, "+item_content.numbers=[list_price]") == 0
    assert rank(folder, "on_towers", f"run={folder / 'towers'}", "sources.numbers=[list_price]") == 0
    past = yaml.safe_load((folder / "on_towers" / "past" / "config.yaml").read_text())
    assert past["item_content"]["texts"] == ["title"]
    assert (folder / "on_towers" / "past" / "item_encoding.json").is_file()
    out = folder / "towers_bundles"
    quick = ("sealing.gates.parity_rows=20", "sealing.gates.not_worse_than=[]", f"out={out}", f"paths.root={folder}")
    assert main(["export", f"run={folder / 'towers'}", f"ranker={folder / 'on_towers'}", *quick]) == 0
    capsys.readouterr()
    assert main(["recommend", f"bundle={out}", "user_id=u3", "k=4", f"paths.root={folder}"]) == 0
    said = capsys.readouterr().out
    assert ", 4 items in" in said
    assert "failed" not in said


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["past_share=0.9"], "past_share is 0.9"),
        (["heads=[{name: a, kind: binary, actions: [steal]}]"], r"actions \['steal'\] are not in the store"),
        (["sources.numbers=[colour]"], "numeric columns of the items are"),
        (["sources.limits.oracle=5"], "oracle"),
        (["ranker.model.width=7"], "width"),
        (["ranker.model.width=wide"], "ranker.model"),
        (["batches.max_candidates=1"], "max_candidates 1"),
        (["batches.batch_size=many"], "batches"),
        (["optim.learning_rate=-1"], "optim"),
        (["trainer.patience=0"], "trainer.patience is 0"),
        (["trainer.ema_decay=2"], "ema decay is 2"),
        (["visit_hours=0"], "visit_hours is 0"),
        (["history_length=0"], "history_length is 0"),
    ],
)
def test_bad_settings_are_named_before_anything_is_trained(
    folder: Path, overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rank(folder, "refused", *overrides) != 0
    assert not (folder / "refused").exists()
    error = capsys.readouterr().err
    assert error.count("\n") <= 2
    assert re.search(message, error)


@pytest.mark.parametrize("setting", ["run", "past"])
@pytest.mark.parametrize(("missing", "advice"), [("run_card.json", "ckpt="), ("report.html", "retrank evaluate run=")])
def test_a_retriever_that_is_not_finished_is_refused_as_export_refuses_it(
    folder: Path,
    ranked: Path,
    tmp_path: Path,
    setting: str,
    missing: str,
    advice: str,
    *,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unfinished = shutil.copytree(folder / "run" if setting == "run" else ranked / "past", tmp_path / "unfinished")
    (unfinished / missing).unlink()
    assert rank(folder, "refused", f"{setting}={unfinished}") == TrainingError.exit_code
    said = capsys.readouterr().err
    assert missing in said
    assert f"{advice}{unfinished}" in said
    assert len(said.splitlines()) == 1
    assert not (folder / "refused").exists()


def test_a_run_that_ends_as_late_is_no_past(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rank(folder, "refused", f"past={folder / 'run'}") == ConfigError.exit_code
    assert "trained at least as far as the run itself" in capsys.readouterr().err


def test_an_unfinished_ranker_is_not_opened(folder: Path) -> None:
    with pytest.raises(TrainingError, match=r"no ranker\.json"):
        load_ranker(folder / "run")


@pytest.mark.slow
def test_a_ranker_learns_from_retrievers_that_are_told_the_moment(folder: Path) -> None:
    """The past run reads the same rows of the same fields as the run itself."""
    told = ("context.fields=[weekday]", "experiment=smoke", "trainer.max_epochs=1", "batches.batch_size=16")
    fixed = (f"store={folder / 'store'}", f"run_dir={folder / 'told'}", f"paths.root={folder}", "model.max_length=16")
    assert main(["train", *told, *fixed, "optim.warmup_steps=2", *SMALL]) == 0
    assert rank(folder, "ranked_in_context", HEADS, f"run={folder / 'told'}") == 0
    for run in (folder / "told", folder / "ranked_in_context" / "past"):
        assert yaml.safe_load((run / "config.yaml").read_text())["model"]["context"] == {"weekday": 7}
    quick = ("sealing.gates.parity_rows=50", f"out={folder / 'sealed'}", f"paths.root={folder}")
    gates = ("sealing.gates.not_worse_than=[]", "sealing.gates.must_beat=[]")
    assert main(["export", f"run={folder / 'told'}", f"ranker={folder / 'ranked_in_context'}", *quick, *gates]) == 0
    request = RecommendRequest(user_id="u1", context={"weekday": "sunday"})  # the clock tells, whatever a request says
    assert Recommender.open(folder / "sealed").recommend(request).degraded.reasons == []
