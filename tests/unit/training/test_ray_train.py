"""Ray Train starts the workers, replaces a killed one, and leaves the files that a run without Ray leaves."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ring_world import Configure

from retrank.contract.errors import TrainingError
from retrank.losses.items import Items
from retrank.losses.softmax import FullSoftmax
from retrank.training import fit

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),  # Ray warns itself of its own defaults
]
TWO = ("trainer=ray", "trainer.progress=false", "trainer.accelerator=cpu", "trainer.max_epochs=4")


class KilledOnce(FullSoftmax):
    """A loss during which the first worker to get to step 10 is killed, once."""

    def __init__(self, mark: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.mark, self.calls = Path(mark), 0

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 10 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(queries, items, target_rows)


class NotANumber(FullSoftmax):
    """A loss that diverges at once."""

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        return super().forward(queries, items, target_rows) * float("nan")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import this file."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


def quiet(_: str) -> None:
    pass


def final(run_dir: str) -> dict[str, torch.Tensor]:
    saved: dict[str, torch.Tensor] = torch.load(Path(run_dir) / "checkpoints" / "last.ckpt", weights_only=True)["ema"]
    return saved


def test_a_killed_worker_is_replaced_and_the_run_ends_as_if_nothing_had_happened(
    configure: Configure, tmp_path: Path
) -> None:
    broken = configure("ray", *TWO, "loss._target_=test_ray_train.KilledOnce", f"+loss.mark={tmp_path / 'killed'}")
    fit.learn(broken, say=quiet)
    assert (tmp_path / "killed").exists()
    straight = configure("ddp", *TWO, "trainer.launcher=local")
    fit.learn(straight, say=quiet)
    expected = final(straight["run_dir"])
    assert all(torch.equal(value, expected[name]) for name, value in final(broken["run_dir"]).items())


def test_an_error_of_ours_comes_back_as_it_was(configure: Configure) -> None:
    with pytest.raises(TrainingError, match="loss is nan at step 0"):
        fit.learn(configure("nan", *TWO, "loss._target_=test_ray_train.NotANumber"), say=quiet)
