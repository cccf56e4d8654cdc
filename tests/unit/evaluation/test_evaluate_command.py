import json
from pathlib import Path

import pytest

from retrank.cli import main


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of sixty users who walk a circle of twenty items."""
    root = tmp_path_factory.mktemp("evaluate")
    source = root / "circle.txt"
    source.write_text("".join(f"{user} {(user + step) % 20 + 1}\n" for user in range(1, 61) for step in range(8)))
    status = main(["ingest", "data=sequence_file", f"data.path={source}", f"out={root / 'store'}", "progress=false"])
    assert status == 0
    return root / "store"


@pytest.fixture(scope="module")
def trained_run(store: Path) -> Path:
    """A model of two epochs on that store."""
    run_dir = store.parent / "runs" / "one"
    overrides = [f"store={store}", f"run_dir={run_dir}", "split=leave_last_out", "trainer.progress=false"]
    assert main(["train", "experiment=smoke", *overrides]) == 0
    return run_dir


def _evaluate(*overrides: str) -> int:
    return main(["evaluate", "progress=false", *overrides])


def test_baselines_alone_are_printed_as_a_table(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate(f"store={store}", "split=leave_last_out", "only=[popularity,markov]") == 0
    printed = capsys.readouterr().out.splitlines()
    assert "leave-last-out" in printed[0]
    assert "60 test cases over 20 items" in printed[0]
    assert [line.split()[:2] for line in printed[2:]] == [["markov", "1.0000"], ["popularity", printed[3].split()[1]]]


def test_a_baseline_that_does_not_fit_the_data_is_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate(f"store={store}", "split=leave_last_out", "only=[decayed_popularity]") == 0
    assert "decayed_popularity is missing: decayed popularity needs event times" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "needs run=RUN"),
        (["store=/nowhere"], "/nowhere"),
        (["run=/nowhere"], "/nowhere"),
        (["store={store}", "split=leave_last_out", "only=[magic]"], "no baseline is called magic"),
        (["store={store}", "split=leave_last_out", "fit_on=test"], "fit_on is 'test'"),
        (["store={store}"], "needs event times"),
        (["stor=x"], "stor"),
    ],
)
def test_a_wrong_setting_ends_in_one_message(
    store: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    assert _evaluate(*(override.format(store=store) for override in overrides)) == 2
    assert message in capsys.readouterr().err


def test_a_run_is_reported_beside_the_baselines(trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate(f"run={trained_run}") == 0
    printed = capsys.readouterr().out
    assert "SASRec" in printed
    assert "markov" in printed
    metrics = json.loads((trained_run / "metrics.json").read_text())
    assert set(metrics["baselines"]) == {"popularity", "markov", "item_knn", "ease"}
    assert metrics["validation"].keys() == metrics["test"].keys()
    assert "<svg" in (trained_run / "report.html").read_text()


def test_a_run_on_other_data_is_refused(trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = trained_run.parents[1] / "other"
    source = trained_run.parents[1] / "other.txt"
    source.write_text("1 1\n1 2\n1 3\n")
    assert main(["ingest", "data=sequence_file", f"data.path={source}", f"out={other}", "progress=false"]) == 0
    assert _evaluate(f"run={trained_run}", f"store={other}") == 2
    assert "was trained on data" in capsys.readouterr().err
