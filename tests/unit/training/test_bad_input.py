"""Odd data trains or is refused in words; what fails on the way says why and which setting to change."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ring_world import SMALL, Configure

from retrank.config import compose, resolve
from retrank.contract.errors import DataError, RetrankError, TrainingError
from retrank.contract.sequences import Sequences
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.readers.sequences import SequenceFile
from retrank.data.store import EventStore
from retrank.losses.items import Items
from retrank.losses.softmax import FullSoftmax
from retrank.models.sasrec import SASRec
from retrank.training import fit
from retrank.training.memory import bound_kernels, told_by_settings
from retrank.training.run_card import read
from retrank.training.scorer import ModelScorer

WALK = "abcdefgh"
TRAINS = {
    "one user": {"u": WALK},
    "some users with one event": {"u": WALK, "v": "a", "w": "b", "x": WALK[::-1]},
    "an item that training never sees": {"u": "abcdz", "v": "bcdea", "w": "cdeab"},
}
REFUSED = {
    "one item": ({"u": "aaaa", "v": "aaa"}, r"1 item in 7 events, .*\(data\.columns\.item\) the right one"),
    "two items": ({"u": "aab", "v": "bba"}, r"no cases to evaluate: nobody .* second-last event .*2 users, 2 items"),
    "only histories of one event": ({"u": "a", "v": "b"}, "no cases to evaluate: nobody with three events"),
    "one event after another": ({"u": "abc", "v": "cab"}, "none of 2 histories has a target"),
}


class Exploding(FullSoftmax):
    """A loss that is a number while its gradient is not."""

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        loss = super().forward(queries, items, target_rows)
        loss.register_hook(lambda gradient: gradient * float("nan"))  # type: ignore[no-untyped-call]
        return loss


class Hungry(FullSoftmax):
    """A loss that asks for more memory than any machine has."""

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        return torch.empty(2**60, dtype=torch.uint8).float().mean()


def learn(world: dict[str, str], folder: Path, said: list[str] | None = None) -> Path:
    lines = [f"{user} {item}" for user, items in world.items() for item in items]
    (folder / "events.txt").write_text("\n".join(lines) + "\n")
    ingest(SequenceFile(str(folder / "events.txt"), name="odd"), folder / "store")
    fixed = [f"store={folder / 'store'}", f"run_dir={folder / 'run'}", f"paths.root={folder}", "trainer.max_epochs=1"]
    return fit.learn(resolve(compose("train", [*SMALL, *fixed])), say=([] if said is None else said).append)


@pytest.mark.parametrize("world", TRAINS.values(), ids=TRAINS.keys())
def test_odd_data_trains(world: dict[str, str], tmp_path: Path) -> None:
    (entry,) = read(learn(world, tmp_path))["training"]["validation"]
    assert 0 <= entry["ndcg@10"] <= 1


@pytest.mark.parametrize(("world", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_data_that_leaves_nothing_to_learn_or_to_ask_is_refused(
    world: dict[str, str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        learn(world, tmp_path)
    assert not (tmp_path / "run").exists()  # before anything is trained


def test_a_window_in_which_nobody_meets_anything_new_is_refused_with_the_share_to_raise(tmp_path: Path) -> None:
    lines = [f"{user},{item},{day}" for user in "uv" for day, item in enumerate("abcdefghijklmnopqrst" + "a" * 4)]
    (tmp_path / "events.csv").write_text("user,item,time\n" + "\n".join(lines) + "\n")
    ingest(Delimited(str(tmp_path / "events.csv"), Columns("user", "item", time="time"), "late"), tmp_path / "store")
    fixed = [f"store={tmp_path / 'store'}", f"run_dir={tmp_path / 'run'}", "split=global_temporal"]
    with pytest.raises(
        DataError, match=r"before the test window met .* raise split\.test_share, or take split=leave_las"
    ):
        fit.learn(resolve(compose("train", [*SMALL, *fixed])), say=lambda _: None)


def test_one_user_trains_with_a_warning(tmp_path: Path) -> None:
    said: list[str] = []
    learn(TRAINS["one user"], tmp_path, said)
    assert said[0].startswith("warning: the store has 1 user, 8 items and 8 events; is the column of users")


def test_histories_without_any_known_event_are_scored() -> None:
    model = SASRec(num_items=5, max_length=4, width=8, num_blocks=1, num_heads=1).eval()
    scores = ModelScorer(model).score(Sequences.from_lists([[], [3], [1, 2, 3, 4, 5, 1, 2]]))
    assert scores.shape == (3, 6)
    assert np.isfinite(scores[:, 1:]).all()


def test_weights_spoiled_by_the_last_step_are_never_kept(configure: Configure) -> None:
    config = configure("exploding", "loss._target_=test_bad_input.Exploding", "trainer.gradient_clip=0")
    with pytest.raises(TrainingError, match=r"loss is nan at step 1|weights are not finite after epoch 1 \(.*items"):
        fit.learn(config, say=lambda _: None)
    assert not list((Path(config["run_dir"]) / "checkpoints").glob("*"))


def test_one_step_that_spoils_the_weights_is_caught_before_the_checkpoint(configure: Configure) -> None:
    config = configure(
        "one_step", "loss._target_=test_bad_input.Exploding", "trainer.gradient_clip=0", "batches.batch_size=100"
    )
    with pytest.raises(TrainingError, match=r"weights are not finite after epoch 1 .*lower optim\.learning_rate"):
        fit.learn(config, say=lambda _: None)
    assert not list((Path(config["run_dir"]) / "checkpoints").glob("*"))


def test_out_of_memory_names_the_settings(configure: Configure) -> None:
    with pytest.raises(
        TrainingError, match=r"out of memory .*batches\.batch_size \(now 8.*model\.max_length.*loss\.chunk"
    ):
        fit.learn(configure("hungry", "loss._target_=test_bad_input.Hungry"), say=lambda _: None)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")])
def test_every_kind_of_memory_error_is_told(error: Exception) -> None:
    settings = {"loss": {"num_negatives": 9}}
    with pytest.raises(TrainingError, match=r"loss\.num_negatives \(now 9"), told_by_settings(settings):
        raise error


def test_kernels_are_kept_in_bounds_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    bound_kernels()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "64"
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    bound_kernels()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"


def test_other_errors_of_the_runtime_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="shapes") as raised, told_by_settings({}):
        raise RuntimeError("shapes do not fit")
    assert not isinstance(raised.value, RetrankError)


def test_the_store_of_an_odd_world_still_opens_after_a_refused_run(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        learn({"u": "aaaa"}, tmp_path)
    assert EventStore.open(tmp_path / "store").num_items == 1
