"""A ranker's run that goes wrong: it says why and which setting to change, and what was good can be gone on with."""

import shutil
import signal
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from chain_world import rank

from retrank.contract.errors import ConfigError, TrainingError
from retrank.data.store import EventStore
from retrank.losses.multitask import MultitaskLoss
from retrank.training.checkpoint import differing
from retrank.training.ranking.folder import identity_of

SETTINGS = ("trainer.max_epochs=3", "batches.batch_size=32", "ranker.loss._target_=test_rank_faults.FaultyLoss")


class FaultyLoss(MultitaskLoss):
    """A loss that is interrupted, turns to NaN or wants too much memory at a given call."""

    interrupted_at: ClassVar[int] = -1
    nan_at: ClassVar[int] = -1
    hungry_at: ClassVar[int] = -1
    calls: ClassVar[int] = 0

    def forward(
        self, raw: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor, importance: torch.Tensor | None = None
    ) -> torch.Tensor:
        FaultyLoss.calls += 1
        if FaultyLoss.calls == self.interrupted_at:
            signal.raise_signal(signal.SIGINT)
        if FaultyLoss.calls == self.hungry_at:
            return torch.empty(2**60, dtype=torch.uint8).float().mean()
        loss = super().forward(raw, labels, mask, importance)
        return loss * float("nan") if FaultyLoss.calls == self.nan_at else loss


@pytest.fixture(autouse=True)
def sound_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("interrupted_at", "nan_at", "hungry_at"):
        monkeypatch.setattr(FaultyLoss, name, -1)
    monkeypatch.setattr(FaultyLoss, "calls", 0)


def _faulty(folder: Path, past: Path, name: str, *overrides: str) -> int:
    FaultyLoss.calls = 0
    return rank(folder, name, f"past={past / 'past'}", *SETTINGS, *overrides)


def _weights(run_dir: Path, name: str) -> dict[str, torch.Tensor]:
    saved = torch.load(run_dir / "checkpoints" / name, weights_only=True)
    averaged: dict[str, torch.Tensor] = saved["ema"]
    return averaged | {f"raw {key}": value for key, value in saved["state_dict"].items()}


def test_an_interrupted_ranker_goes_on_with_the_same_command_as_if_nothing_had_happened(
    folder: Path, ranked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _faulty(folder, ranked, "straight") == 0
    steps = FaultyLoss.calls // 3
    monkeypatch.setattr(FaultyLoss, "interrupted_at", 2 * steps + 2)  # in the last of three epochs
    assert _faulty(folder, ranked, "broken") == 128 + signal.SIGINT
    said = capsys.readouterr().err
    assert (
        f"interrupted by SIGINT in epoch 2; the same command with run_dir={folder / 'broken'} goes on where it was"
        in said
    )
    assert not (folder / "broken" / "ranking.html").exists()
    monkeypatch.setattr(FaultyLoss, "interrupted_at", -1)
    torch.manual_seed(999)  # whatever other code did to the generator in between
    assert _faulty(folder, ranked, "broken") == 0
    assert FaultyLoss.calls == steps  # one epoch, not three
    for name in ("last.ckpt", "best.ckpt"):
        expected, found = (_weights(folder / run, name) for run in ("straight", "broken"))
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert (folder / "broken" / "ranker.json").read_text() == (folder / "straight" / "ranker.json").read_text()


def test_a_folder_is_gone_on_with_only_by_the_run_that_it_holds(
    folder: Path, ranked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FaultyLoss, "nan_at", 10)
    _faulty(folder, ranked, "other")
    capsys.readouterr()
    assert _faulty(folder, ranked, "other", "optim.learning_rate=1e-5", "seed=2") == ConfigError.exit_code
    said = capsys.readouterr().err
    assert "already holds a run with other settings: optim.learning_rate is 1e-05 now" in said
    assert "seed is 2 now and 1 there" in said
    assert rank(folder, "ranked") == ConfigError.exit_code
    assert "already holds a finished run; choose another" in capsys.readouterr().err


def test_runs_count_for_their_weights_and_not_for_where_they_lie(folder: Path, ranked: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((ranked / "config.yaml").read_text()) | {"past": str(ranked / "past")}
    store = EventStore.open(folder / "store")
    before = identity_of(config, store, (30, 64), None)
    for name, run in (("run", folder / "run"), ("past", ranked / "past")):
        shutil.copytree(run, tmp_path / name)
        moved = config | {name: str(tmp_path / name)}
        assert identity_of(moved, store, (30, 64), None) == before
        with (tmp_path / name / "checkpoints" / "best.ckpt").open("ab") as stream:
            stream.write(b"trained further")
        assert differing(before, identity_of(moved, store, (30, 64), None), "there")[0].startswith(f"{name} is")


def test_a_ranker_that_diverges_stops_and_keeps_the_last_good_checkpoint(
    folder: Path, ranked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FaultyLoss, "nan_at", 10)
    assert _faulty(folder, ranked, "diverged") == TrainingError.exit_code
    said = capsys.readouterr().err
    assert "loss is nan at step 9" in said
    assert "The last good checkpoint is kept; lower optim.learning_rate" in said
    kept = _weights(folder / "diverged", "best.ckpt")
    assert all(torch.isfinite(value).all() for value in kept.values())
    assert not (folder / "diverged" / "ranker.json").exists()


def test_memory_that_runs_out_names_the_settings_of_a_ranker(
    folder: Path, ranked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FaultyLoss, "hungry_at", 1)
    assert _faulty(folder, ranked, "hungry") == TrainingError.exit_code
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert "out of memory" in said
    for name in ("batches.batch_size (now 32", "batches.max_candidates (now 128", "ranker.model.width (now 64"):
        assert name in said
    assert "past_share (now 0.12; requests that are held to learn from)" in said
    assert "sampled" not in said


def test_memory_that_runs_out_before_training_is_told_too(
    folder: Path, ranked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("retrank.training.ranking.fit.prepare", greedy)
    assert _faulty(folder, ranked, "greedy") == TrainingError.exit_code
    assert "sources.limits (now {" in capsys.readouterr().err
    assert not (folder / "greedy").exists()  # nothing but settings was in it
