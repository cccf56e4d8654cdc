"""`retrank ensemble` on the ring: files, figures, weights, and members that do not belong together."""

import json
import shutil
from pathlib import Path

import pytest
from ring_world import configuration

from retrank.cli import main
from retrank.training import fit
from retrank.training.run_card import RUN_CARD


@pytest.fixture(scope="module")
def second_run(ring_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a narrower run with another seed. Never modify it."""
    return fit.run(configuration(ring_store, tmp_path_factory.mktemp("second"), "narrow", "model.width=8", "seed=2"))


def _ensemble(*overrides: str) -> int:
    return main(["ensemble", "progress=false", *overrides])


def test_runs_and_a_baseline_are_weighed_evaluated_and_reported(
    finished_run: Path, second_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "together"
    members = f"runs=[{finished_run},{second_run}]"
    assert _ensemble(members, "with_baselines=[markov]", f"run_dir={out}") == 0
    printed = capsys.readouterr().out
    record = json.loads((out / "ensemble.json").read_text())
    assert [member["name"] for member in record["members"]] == ["whole", "narrow", "markov"]
    assert sum(member["weight"] for member in record["members"]) == pytest.approx(1)
    assert record["validation"] >= max(member["validation"] for member in record["members"])
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["validation"]["ndcg@10"] >= record["validation"] - 1e-9  # exact: ties are not all lost
    assert {"whole", "narrow", "markov", "ease"} <= metrics["baselines"].keys()
    own = json.loads((finished_run / "metrics.json").read_text())
    assert metrics["baselines"]["whole"] == own["test"]
    assert {"report.html", "ranks.npz", "config.yaml"} <= {path.name for path in out.iterdir()}
    assert "weights, chosen on validation: whole" in printed
    assert "Ensemble" in printed
    assert main(["compare", str(finished_run), str(out)]) == 0


def test_an_ensemble_works_without_baselines_in_its_report(
    finished_run: Path, second_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert _ensemble(f"runs=[{finished_run},{second_run}]", "baselines=false", f"run_dir={out}") == 0
    assert set(json.loads((out / "metrics.json").read_text())["baselines"]) == {"whole", "narrow"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["runs=[{run}]"], "an ensemble needs a run, and two members in all"),
        (["runs=[]", "with_baselines=[markov,ease]"], "an ensemble needs a run"),
        (["runs=[{run},nowhere]"], "nowhere: no config.yaml"),
        (["runs=[{run}]", "with_baselines=[magic]"], "no baseline is called magic"),
        (["runs=[{run}]", "with_baselines=[decayed_popularity]"], "with_baselines names decayed_popularity: decayed"),
        (["runs=[{run},{run}]", "run_dir={run}"], "already holds a report"),
    ],
)
def test_what_cannot_be_an_ensemble_is_refused_in_words(
    overrides: list[str], said: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [override.format(run=finished_run) for override in [f"run_dir={tmp_path / 'out'}", *overrides]]
    assert _ensemble(*filled) == 2
    assert said in capsys.readouterr().err


def test_a_member_that_was_interrupted_is_refused(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted = tmp_path / "interrupted"
    shutil.copytree(finished_run, interrupted)
    (interrupted / RUN_CARD).unlink()
    assert _ensemble(f"runs=[{finished_run},{interrupted}]", f"run_dir={tmp_path / 'out'}") == 2
    said = capsys.readouterr().err
    assert "is the run finished?" in said
    assert f"ckpt={interrupted}" in said


def test_a_member_trained_on_other_data_is_refused(
    finished_run: Path, described_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = fit.learn(configuration(described_store, tmp_path, "other", "trainer.max_epochs=1"), say=print)
    assert _ensemble(f"runs=[{finished_run},{other}]", f"run_dir={tmp_path / 'out'}") == 2
    assert "other cannot be a member: data_hash is" in capsys.readouterr().err
