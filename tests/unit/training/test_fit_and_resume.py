"""A whole training run in small: what it writes, and that an interrupted run continues as if nothing had happened."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from conftest import Configure

from retrank.contract.errors import ConfigError, TrainingError
from retrank.losses.softmax import FullSoftmax
from retrank.training import checkpoint, fit
from retrank.training.checkpoint import load_model


class FaultyLoss(FullSoftmax):
    """A loss that cuts the power or turns to NaN at a given call."""

    power_cut_at: ClassVar[int] = -1
    nan_at: ClassVar[int] = -1
    calls: ClassVar[int] = 0

    def forward(self, queries: torch.Tensor, item_vectors: torch.Tensor, target_rows: torch.Tensor) -> torch.Tensor:
        FaultyLoss.calls += 1
        if FaultyLoss.calls == self.power_cut_at:
            raise RuntimeError("power cut")
        loss = super().forward(queries, item_vectors, target_rows)
        return loss * float("nan") if FaultyLoss.calls == self.nan_at else loss


FAULTY = "loss._target_=test_fit_and_resume.FaultyLoss"


@pytest.fixture(autouse=True)
def sound_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("power_cut_at", "nan_at"):
        monkeypatch.setattr(FaultyLoss, name, -1)
    monkeypatch.setattr(FaultyLoss, "calls", 0)


def weights(run_dir: Path, name: str = "last.ckpt") -> dict[str, dict[str, torch.Tensor]]:
    saved = torch.load(run_dir / "checkpoints" / name, weights_only=True)
    return {"raw": saved["state_dict"], "averaged": saved["ema"]}


def test_a_run_leaves_everything_that_later_commands_need(configure: Configure) -> None:
    config = configure("whole")
    run_dir = fit.run(config)
    expected = {"config.yaml", "run_card.json", "metrics.json", "ranks.npz", "report.html", "report.json"}
    assert expected <= {path.name for path in run_dir.iterdir()}
    assert {path.name for path in (run_dir / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list((run_dir / "logs").glob("csv/*/metrics.csv"))
    assert list((run_dir / "logs").glob("tensorboard/*/events*"))
    assert yaml.safe_load((run_dir / "config.yaml").read_text()) == config


def test_the_run_card_says_where_the_numbers_come_from(configure: Configure) -> None:
    run_dir = fit.run(configure("card", "seed=7"))
    card = json.loads((run_dir / "run_card.json").read_text())
    assert card["seed"] == 7
    assert card["data"]["num_items"] == 12
    assert len(card["data"]["data_hash"]) == 64
    assert card["versions"]["torch"] == torch.__version__
    assert card["metrics"] == json.loads((run_dir / "metrics.json").read_text())
    training = card["training"]
    assert training["events"] == 4 * sum(min(2 + user % 6, 8) for user in range(30))
    assert training["cpu_s"] > 0
    assert training["wall_s"] > 0
    assert [entry["epoch"] for entry in training["validation"]] == [1, 2, 3, 4]


def test_the_best_model_is_opened_with_averaged_weights_ready_to_score(configure: Configure) -> None:
    run_dir = fit.run(configure("open"))
    model, config = load_model(run_dir)
    assert not model.training
    assert config["name"] == "smoke"
    for name, value in weights(run_dir, "best.ckpt")["averaged"].items():
        assert torch.equal(model.state_dict()[name], value)


def test_a_predictable_world_is_learned(configure: Configure) -> None:
    settings = ("trainer.max_epochs=40", "trainer.ema_decay=0.9", "optim.learning_rate=0.01")
    run_dir = fit.run(configure("ring", *settings))
    assert json.loads((run_dir / "metrics.json").read_text())["test"]["ndcg@10"] > 0.9


def test_an_interrupted_run_continues_bit_identically(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = fit.run(configure("straight", FAULTY))
    steps = FaultyLoss.calls // 4
    monkeypatch.setattr(FaultyLoss, "calls", 0)
    monkeypatch.setattr(FaultyLoss, "power_cut_at", 2 * steps + 2)  # in the third of four epochs
    with pytest.raises(RuntimeError, match="power cut"):
        fit.run(configure("broken", FAULTY))
    broken = straight.parent / "broken"
    before = weights(broken)["raw"]
    monkeypatch.setattr(FaultyLoss, "power_cut_at", -1)
    torch.manual_seed(999)  # whatever other code did to the generator in between
    assert fit.run(configure("unused", FAULTY, f"ckpt={broken}")) == broken
    for kind, expected in weights(straight).items():
        for name, value in weights(broken)[kind].items():
            assert torch.equal(value, expected[name]), f"{kind} {name}"
    assert any(not torch.equal(value, before[name]) for name, value in weights(broken)["raw"].items())
    first, second = (json.loads((run / "metrics.json").read_text())["test"] for run in (straight, broken))
    assert first == second
    history = [json.loads((run / "run_card.json").read_text())["training"]["validation"] for run in (straight, broken)]
    assert history[0] == history[1]


def test_ckpt_last_finds_the_newest_run_of_the_experiment(configure: Configure) -> None:
    run_dir = fit.run(configure("first"))
    assert fit.run(configure("second", "ckpt=last")) == run_dir
    assert not (run_dir.parent / "second").exists()


def test_equal_seeds_give_equal_weights_and_other_seeds_others(configure: Configure) -> None:
    first, second = weights(fit.run(configure("a")))["raw"], weights(fit.run(configure("b")))["raw"]
    other = weights(fit.run(configure("c", "seed=2")))["raw"]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["model.items.weight"], other["model.items.weight"])


def test_a_diverged_run_says_so_and_keeps_the_last_good_checkpoint(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaultyLoss, "nan_at", 10)
    config = configure("diverged", FAULTY)
    with pytest.raises(TrainingError, match=r"loss is nan at step 9 .*ckpt=last"):
        fit.run(config)
    kept = weights(Path(config["run_dir"]))
    assert all(torch.isfinite(value).all() for part in kept.values() for value in part.values())


def test_training_stops_when_validation_no_longer_improves(configure: Configure) -> None:
    still = ("optim.learning_rate=1e-12", "trainer.patience=2", "trainer.max_epochs=9")
    run_dir = fit.run(configure("patience", *still))
    training = json.loads((run_dir / "run_card.json").read_text())["training"]
    assert [entry["epoch"] for entry in training["validation"]] == [1, 2, 3]
    fit.run(configure("again", *still, f"ckpt={run_dir}"))
    again = json.loads((run_dir / "run_card.json").read_text())["training"]
    assert again["steps"] == training["steps"]


@pytest.mark.parametrize(
    ("override", "named"),
    [("model.width=32", "model"), ("seed=5", "seed"), ("batches.batch_size=9", "batches"), ("loss.temperature=1", "loss")],
)
def test_a_checkpoint_of_another_run_is_refused_by_name(configure: Configure, override: str, named: str) -> None:
    run_dir = fit.run(configure("original", "trainer.max_epochs=1"))
    with pytest.raises(TrainingError, match=f"cannot resume.*{named} is .* now and .* in the checkpoint"):
        fit.run(configure("changed", override, f"ckpt={run_dir}"))


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    torch.save({checkpoint.IDENTITY_KEY: {"data_hash": "old"}}, path)
    with pytest.raises(TrainingError, match="data_hash is 'new' now and 'old' in the checkpoint"):
        checkpoint.check_resumable(path, {"data_hash": "new"})


def test_a_damaged_checkpoint_is_refused(configure: Configure) -> None:
    run_dir = fit.run(configure("damaged", "trainer.max_epochs=1"))
    path = run_dir / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        fit.run(configure("x", f"ckpt={run_dir}"))


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.ckpt"
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(TrainingError, match="not a checkpoint written by"):
        checkpoint.read(path)


@pytest.mark.parametrize("setting", ["last", "no/such/run"])
def test_a_missing_checkpoint_is_named(tmp_path: Path, setting: str) -> None:
    with pytest.raises(TrainingError, match=f"ckpt={setting}"):
        checkpoint.find(setting, tmp_path)


def test_a_folder_that_holds_a_run_is_not_overwritten(configure: Configure) -> None:
    config = configure("twice", "trainer.max_epochs=1")
    fit.run(config)
    with pytest.raises(ConfigError, match="already holds a run"):
        fit.run(config)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no config\.yaml"):
        load_model(tmp_path)


def test_sampled_softmax_and_the_classic_block_train_too(configure: Configure) -> None:
    run_dir = fit.run(
        configure("variant", "loss=sampled_softmax", "loss.num_negatives=5", "model=sasrec_classic", "loss.temperature=1")
    )
    assert (run_dir / "metrics.json").is_file()
