"""Two processes train as one: the same curve, one set of files, resumable, and errors that reach the person."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from ring_world import SMALL, Configure

from retrank.contract.errors import ConfigError, TrainingError
from retrank.losses.items import Items
from retrank.losses.softmax import FullSoftmax
from retrank.training import fit
from retrank.training.launch.local import launch
from retrank.training.launch.place import Place

TWO = ("trainer=ddp", "trainer.progress=false", "trainer.accelerator=cpu", "trainer.max_epochs=4")
EXACT = ("model.dropout=0", "trainer.precision=fp32")


class NotANumber(FullSoftmax):
    """A loss that diverges at once."""

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        return super().forward(queries, items, target_rows) * float("nan")


class Neighbour(FullSoftmax):
    """A loss that names two items per target, whatever else the process holds: itself and the item of the next row."""

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        targets = target_rows[:, :1]
        vectors = items.item_vectors(torch.cat([targets, targets % items.num_items + 1], dim=1))  # [T, 2, D]
        logits = torch.einsum("td,tkd->tk", queries, vectors) / self.temperature
        return torch.nn.functional.cross_entropy(logits, torch.zeros_like(targets[:, 0]))


def losses(run_dir: str) -> list[float]:
    files = sorted(Path(run_dir).glob("logs/csv/*/metrics.csv"))
    rows = [row for path in files for row in csv.DictReader(path.read_text().splitlines())]
    return [float(row["train/loss"]) for row in rows if row["train/loss"]]


def final(run_dir: str) -> dict[str, torch.Tensor]:
    saved = torch.load(Path(run_dir) / "checkpoints" / "last.ckpt", weights_only=True)
    return {**saved["state_dict"], **{f"ema.{name}": value for name, value in saved["ema"].items()}}


def quiet(_: str) -> None:
    pass


def rank_of(place: Place) -> dict[str, int]:
    return {"rank": place.rank, "of": torch.distributed.get_world_size()}


def die(place: Place) -> dict[str, int]:
    if place.rank == 1:
        signal.raise_signal(signal.SIGKILL)
    torch.distributed.barrier()
    return {}


@pytest.mark.slow
def test_the_first_process_answers() -> None:
    assert launch(rank_of, 2) == {"rank": 0, "of": 2}


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_and_is_named() -> None:
    with pytest.raises(TrainingError, match=r"process 1 of 2 was ended by SIGKILL.*lower batches\.batch_size"):
        launch(die, 2)


def test_more_processes_than_histories_in_a_batch_are_refused(configure: Configure) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.processes is 9 and batches\.batch_size 8"):
        fit.learn(configure("many", *TWO, "trainer.processes=9"), say=quiet)


@pytest.mark.parametrize(("override", "said"), [("processes=0", "processes is 0"), ("launcher=slurm", "'slurm'")])
def test_settings_that_cannot_work_are_refused(configure: Configure, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fit.learn(configure("wrong", f"trainer.{override}"), say=quiet)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(configure: Configure) -> None:
    one, two = configure("one", *EXACT), configure("two", *TWO, *EXACT)
    fit.learn(one, say=quiet)
    fit.learn(two, say=quiet)
    assert losses(two["run_dir"]) == pytest.approx(losses(one["run_dir"]), rel=1e-5)
    expected = final(one["run_dir"])
    for name, value in final(two["run_dir"]).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5, msg=name)
    cards = [yaml.safe_load((Path(run["run_dir"]) / "run_card.json").read_text()) for run in (one, two)]
    assert cards[0]["training"]["events"] == cards[1]["training"]["events"]
    assert cards[0]["training"]["steps"] == cards[1]["training"]["steps"]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "moments"), [("Neighbour", "full"), ("Neighbour", "one"), ("FullSoftmax", "full")])
def test_a_table_that_moves_by_rows_moves_in_two_processes_as_in_one(
    configure: Configure, loss: str, moments: str
) -> None:
    """One history each: the processes touch different rows, and each must move those of the other; some have none."""
    by_rows = (f"optim.row_moments={moments}", "optim.touched_rows_from=1", f"loss._target_=test_ddp.{loss}")
    alike = (*EXACT, *by_rows, "batches.batch_size=2")
    one, two = configure("one", *alike), configure("two", *TWO, *alike)
    fit.learn(one, say=quiet)
    fit.learn(two, say=quiet)
    assert losses(two["run_dir"]) == pytest.approx(losses(one["run_dir"]), rel=1e-4)
    expected = final(one["run_dir"])
    for name, value in final(two["run_dir"]).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5, msg=name)
    state = torch.load(Path(two["run_dir"]) / "checkpoints" / "last.ckpt", weights_only=True)
    kept = {name for of in state["optimizer_states"][0]["state"].values() for name in of}
    assert ("row_sq" in kept) == (moments == "one")


@pytest.mark.slow
def test_a_run_in_two_processes_continues_bit_identically(configure: Configure) -> None:
    same_rate = ("optim.decay=constant", "optim.warmup_steps=0")  # whatever the number of epochs
    straight, resumed = (configure(name, *TWO, *same_rate) for name in ("straight", "resumed"))
    fit.learn(straight, say=quiet)
    fit.learn({**resumed, "trainer": {**resumed["trainer"], "max_epochs": 2}}, say=quiet)
    fit.learn({**resumed, "ckpt": resumed["run_dir"]}, say=quiet)
    expected = final(straight["run_dir"])
    assert all(torch.equal(value, expected[name]) for name, value in final(resumed["run_dir"]).items())


@pytest.mark.slow
def test_a_loss_that_diverges_in_a_process_is_told_as_in_one(configure: Configure) -> None:
    with pytest.raises(TrainingError, match="loss is nan at step 0"):
        fit.learn(configure("nan", *TWO, "loss._target_=test_ddp.NotANumber"), say=quiet)


@pytest.mark.slow
def test_another_model_trains_in_two_processes_too(configure: Configure) -> None:
    hstu = ("model=hstu", "model.time_bias=false", "trainer.max_epochs=1")
    fit.learn(configure("hstu", *TWO, *hstu), say=quiet)


@pytest.mark.slow
def test_a_signal_ends_all_processes(ring_store: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    settings = [*SMALL, *TWO, f"store={ring_store}", f"run_dir={run_dir}", "trainer.max_epochs=5000"]
    program = "import sys; from retrank.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "train", *settings]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not (run_dir / "checkpoints" / "last.ckpt").is_file():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert f"interrupted by SIGTERM; continue with the same settings and ckpt={run_dir}" in said
