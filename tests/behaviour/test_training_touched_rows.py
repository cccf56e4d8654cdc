"""What training promises when a step updates only the item rows it touched, whichever the model and the loss."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ring_world import configuration, make_store
from torch.profiler import ProfilerActivity, profile

from retrank.config import instantiate
from retrank.data.store import EventStore
from retrank.losses.gbce import GeneralisedBCE
from retrank.losses.sampled_softmax import SampledSoftmax
from retrank.models.hstu import HSTU
from retrank.models.sasrec import SASRec
from retrank.training import fit
from retrank.training.checkpoint import load_model
from retrank.training.optim import AdamW
from retrank.training.retrieval_module import RetrievalModule

MODELS = {
    "sasrec": lambda num_items: SASRec(num_items, max_length=8, width=16, num_blocks=1),
    "hstu": lambda num_items: HSTU(num_items, max_length=8, width=16, num_blocks=1, time_bias=False),
}
LOSSES = {
    "uniform softmax": lambda: SampledSoftmax(num_negatives=20, temperature=0.1),
    "mixed softmax": lambda: SampledSoftmax(num_negatives=20, num_in_batch=50, temperature=0.1),
    "gBCE": lambda: GeneralisedBCE(num_negatives=20, temperature=0.1),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
TOUCHED, ONE_MOMENT = "optim.touched_rows_from=1", "optim.row_moments=one"
RUNS = {
    "sasrec, sampled softmax": ("model=sasrec", "loss=sampled_softmax", "loss.num_negatives=20"),
    "sasrec, mixed softmax": ("model=sasrec", "loss=mixed_softmax", "loss.num_negatives=20"),
    "sasrec, mixed softmax, one moment": ("model=sasrec", "loss=mixed_softmax", "loss.num_negatives=20", ONE_MOMENT),
    "hstu, gBCE": ("model=hstu", "model.time_bias=false", "loss=gbce", "loss.num_negatives=20"),
    "hstu, full softmax": ("model=hstu", "model.time_bias=false", "loss=full_softmax"),
}
every_run = pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS.keys())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("ring"))


def learn(config: dict[str, Any], resume: Path | None = None) -> fit.Trained:
    opened = EventStore.open(config["store"])
    return fit.train(
        config, opened, instantiate(config["split"])(opened.sequences), Path(config["run_dir"]), resume=resume
    )


def last(config: dict[str, Any]) -> Path:
    return Path(config["run_dir"]) / "checkpoints" / "last.ckpt"


def _steps(module: RetrievalModule, num_items: int) -> Callable[[], None]:
    """Return a whole training step on random histories, without Lightning."""
    optimizer = module.recipe.optimizer(module.parameters())
    random = torch.Generator().manual_seed(0)

    def step() -> None:
        rows = torch.randint(1, num_items + 1, (4, 7), generator=random)
        queries = module.model.encode_all(rows[:, :-1]).flatten(0, 1)
        optimizer.zero_grad()
        module.loss(queries, module.model, rows[:, 1:].flatten()).backward()
        module.on_after_backward()
        module.configure_gradient_clipping(optimizer, 1.0)
        optimizer.step()

    return step


@every_loss
@every_model
@pytest.mark.parametrize("moments", ["full", "one"])
def test_a_step_makes_nothing_of_the_size_of_the_catalogue(
    make: Callable[[int], SASRec | HSTU], loss: Callable[[], torch.nn.Module], moments: str
) -> None:
    num_items = 200_000
    recipe = AdamW(touched_rows_from=100_000, row_moments=moments)  # type: ignore[arg-type]  # the cases are literals
    step = _steps(RetrievalModule(make(num_items), loss(), recipe), num_items)
    step()  # moments, and what a loss remembers per item, are allocated once
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    assert 0 < max(event.self_cpu_memory_usage for event in profiler.key_averages()) < num_items


@every_run
def test_a_run_in_two_parts_is_a_run_bit_by_bit(settings: tuple[str, ...], store: Path, tmp_path: Path) -> None:
    def run(name: str, epochs: int) -> dict[str, Any]:
        steady = ("optim.decay=constant", "optim.warmup_steps=0", f"trainer.max_epochs={epochs}")
        return configuration(store, tmp_path, name, *settings, TOUCHED, *steady)

    learn(run("whole", 4))
    learn(run("parts", 2))
    learn(run("parts", 4), resume=last(run("parts", 4)))
    expected, found = (torch.load(last(run(name, 4)), weights_only=True) for name in ("whole", "parts"))
    assert found["global_step"] == expected["global_step"]
    for part in ("state_dict", "ema"):
        for name, value in expected[part].items():
            assert torch.equal(found[part][name], value), f"{part} {name}"


@every_run
def test_a_predictable_world_is_learned(settings: tuple[str, ...], store: Path, tmp_path: Path) -> None:
    pace = ("trainer.max_epochs=30", "trainer.validate_every=30", "trainer.ema_decay=0.9", "optim.learning_rate=0.01")
    assert learn(configuration(store, tmp_path, "ring", *settings, TOUCHED, *pace)).selection.best["value"] > 0.9


def test_where_every_step_reads_all_items_both_ways_give_the_same_weights(store: Path, tmp_path: Path) -> None:
    dense, touched = (
        configuration(store, tmp_path, name, "trainer.precision=fp32", f"optim.touched_rows_from={rows}")
        for name, rows in (("dense", 0), ("touched", 1))
    )
    learn(dense)
    learn(touched)
    expected, found = (torch.load(last(config), weights_only=True) for config in (dense, touched))
    for part in ("state_dict", "ema"):
        for name, value in expected[part].items():
            torch.testing.assert_close(found[part][name], value, atol=1e-4, rtol=1e-4)


def test_a_finished_run_is_evaluated_and_opened_like_any_other(store: Path, tmp_path: Path) -> None:
    config = configuration(store, tmp_path, "whole", "loss=gbce", "loss.num_negatives=20", TOUCHED)
    run_dir = fit.run(config)
    model, _ = load_model(run_dir)
    averaged = torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=True)["ema"]
    assert torch.equal(model.state_dict()["items.weight"], averaged["items.weight"])
    assert (run_dir / "metrics.json").is_file()
