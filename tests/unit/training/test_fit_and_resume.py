"""A whole training run in small: what it writes, and that an interrupted run continues as if nothing had happened."""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from ring_world import NUM_ITEMS, NUM_USERS, TWO_TOWERS, Configure

from retrank.config import instantiate
from retrank.contract.errors import ConfigError, TrainingError
from retrank.data.store import EventStore
from retrank.losses.items import Items
from retrank.losses.softmax import FullSoftmax
from retrank.training import checkpoint, fit
from retrank.training.checkpoint import load_model


class FaultyLoss(FullSoftmax):
    """A loss that cuts the power or turns to NaN at a given call."""

    power_cut_at: ClassVar[int] = -1
    nan_at: ClassVar[int] = -1
    calls: ClassVar[int] = 0

    def forward(self, queries: torch.Tensor, items: Items, target_rows: torch.Tensor) -> torch.Tensor:
        FaultyLoss.calls += 1
        if FaultyLoss.calls == self.power_cut_at:
            raise RuntimeError("power cut")
        loss = super().forward(queries, items, target_rows)
        return loss * float("nan") if FaultyLoss.calls == self.nan_at else loss


FAULTY = "loss._target_=test_fit_and_resume.FaultyLoss"


@pytest.fixture(autouse=True)
def sound_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("power_cut_at", "nan_at"):
        monkeypatch.setattr(FaultyLoss, name, -1)
    monkeypatch.setattr(FaultyLoss, "calls", 0)


def weights(run_dir: Path | str, name: str = "last.ckpt") -> dict[str, dict[str, torch.Tensor]]:
    saved = torch.load(Path(run_dir) / "checkpoints" / name, weights_only=True)
    return {"raw": saved["state_dict"], "averaged": saved["ema"]}


def learn(config: dict[str, Any], resume: Path | None = None) -> fit.Trained:
    """Train without the evaluation and the report that `fit.run` adds."""
    store = EventStore.open(config["store"])
    split = instantiate(config["split"])(store.sequences)
    return fit.train(config, store, split, Path(config["run_dir"]), resume=resume)


def test_a_run_leaves_everything_that_later_commands_need(finished_run: Path) -> None:
    expected = {"config.yaml", "run_card.json", "metrics.json", "ranks.npz", "report.html", "report.json"}
    assert expected <= {path.name for path in finished_run.iterdir()}
    assert {path.name for path in (finished_run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list((finished_run / "logs").glob("csv/*/metrics.csv"))
    assert list((finished_run / "logs").glob("tensorboard/*/events*"))


def test_the_run_card_says_where_the_numbers_come_from(finished_run: Path) -> None:
    card = json.loads((finished_run / "run_card.json").read_text())
    assert card["seed"] == 1
    assert card["data"]["num_items"] == NUM_ITEMS
    assert len(card["data"]["data_hash"]) == 64
    assert card["versions"]["torch"] == torch.__version__
    assert card["config"] == yaml.safe_load((finished_run / "config.yaml").read_text())
    assert card["metrics"] == json.loads((finished_run / "metrics.json").read_text())
    training = card["training"]
    assert training["events"] == 4 * sum(min(2 + user % 6, 8) for user in range(NUM_USERS))
    assert training["cpu_s"] > 0
    assert training["wall_s"] > 0
    assert [entry["epoch"] for entry in training["validation"]] == [1, 2, 3, 4]


def test_the_best_model_is_opened_with_averaged_weights_ready_to_score(finished_run: Path) -> None:
    model, config = load_model(finished_run)
    assert not model.training
    assert config["name"] == "smoke"
    for name, value in weights(finished_run, "best.ckpt")["averaged"].items():
        assert torch.equal(model.state_dict()[name], value)


def test_a_predictable_world_is_learned(configure: Configure) -> None:
    settings = (
        "trainer.max_epochs=40",
        "trainer.validate_every=10",
        "trainer.ema_decay=0.9",
        "optim.learning_rate=0.01",
    )
    assert learn(configure("ring", *settings)).selection.best["value"] > 0.9


@pytest.mark.parametrize("model", ["sequence model", "two towers"])
def test_an_interrupted_run_continues_bit_identically(
    model: str, configure: Configure, described_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (FAULTY, *((f"store={described_store}", *TWO_TOWERS) if model == "two towers" else ()))
    straight = configure("straight", *settings)
    expected = learn(straight)
    steps = FaultyLoss.calls // 4
    monkeypatch.setattr(FaultyLoss, "calls", 0)
    monkeypatch.setattr(FaultyLoss, "power_cut_at", 2 * steps + 2)  # in the third of four epochs
    broken = configure("broken", *settings)
    with pytest.raises(RuntimeError, match="power cut"):
        learn(broken)
    monkeypatch.setattr(FaultyLoss, "power_cut_at", -1)
    last = Path(broken["run_dir"]) / "checkpoints" / "last.ckpt"
    before = weights(broken["run_dir"])["raw"]
    torch.manual_seed(999)  # whatever other code did to the generator in between
    resumed = learn(broken, resume=last)
    after = weights(broken["run_dir"])
    for kind, values in weights(straight["run_dir"]).items():
        for name, value in values.items():
            assert torch.equal(after[kind][name], value), f"{kind} {name}"
    assert any(not torch.equal(value, before[name]) for name, value in after["raw"].items())
    assert resumed.selection.history == expected.selection.history
    assert resumed.throughput.totals["events"] == expected.throughput.totals["events"]


def test_ckpt_last_continues_the_newest_run_in_its_folder(
    finished_run: Path, configure: Configure, tmp_path: Path
) -> None:
    copied = tmp_path / "runs" / "earlier"
    shutil.copytree(finished_run, copied)
    assert fit.run(configure("later", "ckpt=last")) == copied
    assert not (tmp_path / "runs" / "later").exists()


def test_ckpt_last_is_the_run_of_the_run_folder_where_that_holds_one(finished_run: Path, tmp_path: Path) -> None:
    """Another run beside it may be newer, and of another recipe."""
    for name in ("mine", "newer"):
        shutil.copytree(finished_run, tmp_path / name)
        (tmp_path / name / "checkpoints" / "last.ckpt").touch()
    assert checkpoint.find("last", tmp_path / "mine") == tmp_path / "mine" / "checkpoints" / "last.ckpt"
    assert checkpoint.find("last", tmp_path / "absent") == tmp_path / "newer" / "checkpoints" / "last.ckpt"


def test_a_finished_run_can_be_given_more_epochs(finished_run: Path, configure: Configure, tmp_path: Path) -> None:
    copied = tmp_path / "runs" / "longer"
    shutil.copytree(finished_run, copied)
    fit.run(configure("longer", "ckpt=last", "trainer.max_epochs=5"))
    card = json.loads((copied / "run_card.json").read_text())
    assert [entry["epoch"] for entry in card["training"]["validation"]] == [1, 2, 3, 4, 5]


def test_equal_seeds_give_equal_weights_and_other_seeds_others(finished_run: Path, configure: Configure) -> None:
    same, other = configure("same"), configure("other", "seed=2")
    learn(same)
    learn(other)
    first = weights(finished_run)["raw"]
    assert all(torch.equal(first[name], value) for name, value in weights(same["run_dir"])["raw"].items())
    assert not torch.equal(first["model.items.weight"], weights(other["run_dir"])["raw"]["model.items.weight"])


def test_a_diverged_run_says_so_and_keeps_the_last_good_checkpoint(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaultyLoss, "nan_at", 10)
    config = configure("diverged", FAULTY)
    with pytest.raises(TrainingError, match=r"loss is nan at step 9 .*last good checkpoint is kept.*train again"):
        learn(config)
    kept = weights(config["run_dir"])
    assert all(torch.isfinite(value).all() for part in kept.values() for value in part.values())


def test_training_stops_when_validation_no_longer_improves(configure: Configure) -> None:
    config = configure("patience", "optim.learning_rate=1e-12", "trainer.patience=2", "trainer.max_epochs=9")
    stopped = learn(config)
    assert [entry["epoch"] for entry in stopped.selection.history] == [1, 2, 3]
    again = learn(config, resume=Path(config["run_dir"]) / "checkpoints" / "last.ckpt")
    assert again.throughput.totals["steps"] == stopped.throughput.totals["steps"]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model.width=32", "model.width"),
        ("seed=5", "seed"),
        ("batches.batch_size=9", "batches.batch_size"),
        ("loss.temperature=1", "loss.temperature"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_name(
    finished_run: Path, configure: Configure, override: str, named: str
) -> None:
    with pytest.raises(TrainingError, match=f"cannot resume.*{named} is .* now and .* in the checkpoint"):
        fit.run(configure("changed", override, f"ckpt={finished_run}"))


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    torch.save({checkpoint.IDENTITY_KEY: {"data_hash": "old"}}, path)
    with pytest.raises(TrainingError, match="data_hash is 'new' now and 'old' in the checkpoint"):
        checkpoint.check_resumable(path, {"data_hash": "new"})


def test_a_damaged_checkpoint_is_refused(finished_run: Path, tmp_path: Path) -> None:
    whole = (finished_run / "checkpoints" / "last.ckpt").read_bytes()
    for name, content in (("cut", whole[:500]), ("flipped", b"\x00" + whole[1:]), ("empty", b"")):
        path = tmp_path / f"{name}.ckpt"
        path.write_bytes(content)
        with pytest.raises(TrainingError, match=f"{name}.ckpt: not a readable checkpoint"):
            checkpoint.read(path)


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.ckpt"
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(TrainingError, match="not a checkpoint written by"):
        checkpoint.read(path)


@pytest.mark.parametrize("setting", ["last", "no/such/run"])
def test_a_missing_checkpoint_is_named(tmp_path: Path, setting: str) -> None:
    with pytest.raises(TrainingError, match=f"ckpt={setting}"):
        checkpoint.find(setting, tmp_path)


def test_a_folder_that_holds_a_run_is_not_overwritten(finished_run: Path, configure: Configure) -> None:
    with pytest.raises(ConfigError, match="already holds a run"):
        fit.run(configure("x") | {"run_dir": str(finished_run)})


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no config\.yaml"):
        load_model(tmp_path)


def test_sampled_softmax_and_the_classic_block_train_too(configure: Configure) -> None:
    settings = ("loss=sampled_softmax", "loss.num_negatives=5", "model=sasrec_classic", "loss.temperature=1")
    learn(configure("variant", *settings, "trainer.max_epochs=1"))
