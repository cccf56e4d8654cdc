"""A sweep draws settings, ranks trials by validation alone, survives failures, and continues where it was cut off."""

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from ring_world import SMALL

from retrank.cli import main
from retrank.contract.errors import ConfigError, InterruptedRun
from retrank.losses.items import Items
from retrank.losses.softmax import FullSoftmax
from retrank.training import sweep
from retrank.training.sweep_space import SweepSettings

BASE = (
    "trainer.max_epochs=2", "sweep.startup=2", "sweep.evaluate_best=false", "~sweep.space",
    "+sweep.space.optim.learning_rate={low: 1e-3, high: 3e-2, log: true}",
)  # fmt: skip
FAULTY = "loss._target_=test_sweep.MoodyLoss"


class MoodyLoss(FullSoftmax):
    """A loss that is not a number at some call, or during which somebody pulls the plug."""

    nan_at: ClassVar[int] = -1
    interrupted_at: ClassVar[int] = -1
    calls: ClassVar[int] = 0

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        MoodyLoss.calls += 1
        if MoodyLoss.calls == self.interrupted_at:
            raise InterruptedRun("interrupted by SIGTERM in epoch 1", 15)
        loss = super().forward(queries, items, target_rows)
        return loss * float("nan") if MoodyLoss.calls == self.nan_at else loss


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nan_at", "interrupted_at"):
        monkeypatch.setattr(MoodyLoss, name, -1)
    monkeypatch.setattr(MoodyLoss, "calls", 0)


def words(store: Path, folder: Path, *overrides: str) -> list[str]:
    fixed = [f"store={store}", f"sweep.directory={folder}", f"paths.root={folder.parent}", "baselines=false"]
    return [*SMALL, *BASE, *fixed, *overrides]


def results(folder: Path) -> list[tuple[int, dict[str, float], float | None]]:
    trials = json.loads((folder / "sweep.json").read_text())["trials"]
    return [(trial["number"], trial["params"], trial["validation_ndcg@10"]) for trial in trials]


def test_a_sweep_ends_with_a_ranked_table_and_a_page(
    ring_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    assert main(["sweep", *words(ring_store, folder, "sweep.trials=3", "sweep.evaluate_best=true")]) == 0
    found = results(folder)
    values = [value for _, _, value in found]
    assert values == sorted(values, key=lambda value: -(value or 0))
    assert len({params["optim.learning_rate"] for _, params, _ in found}) == 3
    said = capsys.readouterr().out
    assert "optim.learning_rate" in said
    assert str(folder / "sweep.html") in said
    page = (folder / "sweep.html").read_text()
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    evaluated = [path.parent.name for path in folder.glob("trial_*/metrics.json")]
    assert evaluated == [f"trial_{found[0][0]:03d}"]  # nothing but the best ever saw the test cases


def test_a_diverged_trial_is_recorded_and_does_not_end_the_sweep(
    ring_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MoodyLoss, "nan_at", 2)
    sweep.main(words(ring_store, tmp_path / "sweep", FAULTY, "sweep.trials=2"))
    trials = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["complete", "failed"]
    assert "loss is nan" in trials[1]["reason"]
    assert "failed" in (tmp_path / "sweep" / "sweep.html").read_text()


def test_a_sweep_in_which_everything_fails_still_reports(ring_store: Path, tmp_path: Path) -> None:
    sweep.main(words(ring_store, tmp_path / "sweep", "sweep.trials=2", "model.dropout=2"))
    trials = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["trials"]
    assert ["dropout is 2" in trial["reason"] for trial in trials] == [True, True]


def test_an_interrupted_sweep_continues_as_if_nothing_had_happened(
    ring_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    sweep.main(words(ring_store, straight, FAULTY, "sweep.trials=4"))
    per_trial = MoodyLoss.calls // 4
    monkeypatch.setattr(MoodyLoss, "calls", 0)
    monkeypatch.setattr(MoodyLoss, "interrupted_at", 2 * per_trial - 1)  # in the last epoch of the second trial
    with pytest.raises(InterruptedRun, match=f"sweep.directory={broken}") as stopped:
        sweep.main(words(ring_store, broken, FAULTY, "sweep.trials=4"))
    assert stopped.value.exit_code == 128 + 15
    assert len(results(broken)) == 1
    sweep.main(words(ring_store, broken, FAULTY, "sweep.trials=4"))
    assert [row[1:] for row in results(broken)] == [row[1:] for row in results(straight)]
    assert len(list(broken.glob("trial_*"))) == 4  # the cut trial went on in its own folder


def test_more_trials_can_be_added_to_a_finished_sweep(ring_store: Path, tmp_path: Path) -> None:
    sweep.main(words(ring_store, tmp_path / "sweep", "sweep.trials=1"))
    sweep.main(words(ring_store, tmp_path / "sweep", "sweep.trials=2"))
    assert len(results(tmp_path / "sweep")) == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optim.weight_decay=0.5", "optim.weight_decay is 0.5 now and 0.01 in"),
        ("sweep.seed=9", "sweep.seed is 9 now and 1 in"),
    ],
)
def test_a_folder_of_another_sweep_is_refused(ring_store: Path, tmp_path: Path, override: str, said: str) -> None:
    sweep.main(words(ring_store, tmp_path / "sweep", "sweep.trials=1"))
    with pytest.raises(ConfigError, match=said):
        sweep.main(words(ring_store, tmp_path / "sweep", "sweep.trials=1", override))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+sweep.space.model.no_such={choices: [1, 2]}", "model.no_such: no such setting; expected one of .*width"),
        ("+sweep.space.model.width={low: 1}", "model.width is .*expected low and high"),
        ("+sweep.space.model.width={low: 5, high: 1}", "model.width"),
        ("+sweep.space.model.width=7", "model.width is 7; expected low and high"),
        ("sweep.trials=0", "sweep.trials is 0"),
        ("ckpt=last", "a sweep starts runs of its own"),
    ],
)
def test_a_sweep_that_cannot_run_is_refused_before_it_starts(
    ring_store: Path, tmp_path: Path, override: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        sweep.main(words(ring_store, tmp_path / "sweep", override))
    assert not (tmp_path / "sweep").exists()


def test_a_folder_that_holds_something_else_is_refused(ring_store: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to_mother.txt").write_text("dear mother")
    with pytest.raises(ConfigError, match="holds no sweep"):
        sweep.main(words(ring_store, tmp_path / "letters"))


def test_a_sweep_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="name at least one setting"):
        SweepSettings(space={"model": None})


def test_a_searched_group_may_bring_its_own_settings(ring_store: Path, tmp_path: Path) -> None:
    chosen = ("+sweep.groups.loss=[full_softmax,sampled_softmax]", "sweep.trials=2", "sweep.startup=1")
    sweep.main(words(ring_store, tmp_path / "sweep", *chosen))
    assert {params["loss"] for _, params, _ in results(tmp_path / "sweep")} <= {"full_softmax", "sampled_softmax"}


@pytest.mark.slow
def test_a_multirun_trains_every_combination_and_ends_with_one_page(ring_store: Path, tmp_path: Path) -> None:
    """In a process of its own, as Hydra keeps what it composed."""
    varied = ("seed=1,2", "optim.learning_rate=0.01,0.03", "trainer.max_epochs=1")
    fixed = (f"store={ring_store}", f"paths.root={tmp_path}", f"hydra.sweep.dir={tmp_path / 'many'}")
    program = "import sys; from retrank.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [argument for argument in SMALL if not argument.startswith("trainer.max_epochs")]
    command = [sys.executable, "-c", program, "train", "--multirun", *words, *fixed, *varied]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr[-2000:]
    trials = json.loads((tmp_path / "many" / "sweep.json").read_text())["trials"]
    tried = {(trial["params"]["seed"], trial["params"]["optim.learning_rate"]) for trial in trials}
    assert tried == {(1, 0.01), (1, 0.03), (2, 0.01), (2, 0.03)}
    assert {trial["state"] for trial in trials} == {"complete"}
    values = [trial["validation_ndcg@10"] for trial in trials]
    assert values == sorted(values, reverse=True)
    assert len(list((tmp_path / "many").glob("*/metrics.json"))) == 4
    assert str(tmp_path / "many" / "sweep.html") in ended.stdout
    assert "<svg" in (tmp_path / "many" / "sweep.html").read_text()
