"""What a step needs is foreseen within a factor of two; one that cannot fit is refused before it kills the process."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ring_world import Configure

from retrank.contract.errors import TrainingError
from retrank.models.hstu import HSTU
from retrank.models.pooling import PooledHistory
from retrank.models.sasrec import SASRec
from retrank.training import fit, step_size
from retrank.training.step_memory import StepSize, free_memory, judge, kept_bytes, step_bytes

GIB = 2**30
SMALL = StepSize(
    num_weights=1_000_000, num_tokens=10_000, length=100, width=64, num_blocks=2, num_heads=2, num_scores=512 * 10_000,
    num_items=10_000,
)  # fmt: skip


def test_the_parts_are_those_of_a_hand_count() -> None:
    assert step_bytes(SMALL) == {
        "weights and optimizer": 5 * 4 * 1_000_000,
        "activations": round(1.6 * 4 * 10_000 * (64 * (16 + 33 * 2) + 2 * 2 * 2 * 100)),
        "scores": 4 * (3 * 512 * 10_000 + 2 * 10_000 * 64),
    }


@pytest.mark.parametrize("field", ["num_weights", "num_tokens", "length", "width", "num_blocks", "num_scores"])
def test_more_of_anything_needs_more(field: str) -> None:
    larger = replace(SMALL, **{field: 2 * getattr(SMALL, field)})
    assert sum(step_bytes(larger).values()) > sum(step_bytes(SMALL).values())


@pytest.mark.parametrize("length", [50, 200])
@pytest.mark.parametrize(
    ("kind", "settings", "blocks"),
    [
        (SASRec, {"num_blocks": 2, "num_heads": 2}, 2),
        (HSTU, {"num_blocks": 3, "num_heads": 2}, 3),
        (PooledHistory, {}, 0),
    ],
)
def test_activations_are_within_a_factor_of_two_of_what_autograd_keeps(
    kind: Any, settings: dict[str, int], blocks: int, length: int
) -> None:
    model = kind(num_items=100, max_length=length, width=64, dropout=0.2, **settings).train()
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that its place is not given away again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.encode_all(*(torch.randint(1, 100, (4, length)) for _ in model.inputs))
    weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
    measured = sum(one.untyped_storage().nbytes() for place, one in kept.items() if place not in weights)
    size = StepSize(0, 4 * length, length, 64, blocks, 2 if blocks else 0, 0, 0)
    assert 0.5 < kept_bytes(size) / measured < 2


def test_what_fits_is_passed_over_what_may_not_is_warned_of_what_cannot_is_refused() -> None:
    needed = {"weights and optimizer": 1 * GIB, "activations": 6 * GIB, "scores": 1 * GIB}
    assert judge(needed, 8 * GIB, "memory") == ""
    warning = judge(needed, 5 * GIB, "memory")
    assert warning.startswith(
        "warning: a step needs about 8.0 GiB (weights and optimizer 1.0, activations 6.0, scores 1.0)"
    )
    assert "5.0 GiB of memory are free; lower batches.batch_size" in warning
    with pytest.raises(TrainingError, match=r"lower batches\.batch_size.*trainer\.check_memory=false"):
        judge(needed, 3 * GIB, "memory")
    with pytest.raises(TrainingError, match=r"lower loss\.chunk"):
        judge(needed | {"scores": 9 * GIB}, 3 * GIB, "memory of the GPU")


def test_free_memory_is_the_least_of_machine_and_container(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert free_memory(tmp_path / "meminfo", tmp_path) == 2048 * 1024
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path / "meminfo", tmp_path) == 2048 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    assert free_memory(tmp_path / "meminfo", tmp_path) == 4000
    assert free_memory(tmp_path / "none", tmp_path / "none") is None


def test_a_run_that_cannot_fit_is_refused_before_its_first_step(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_size, "free_memory", lambda: 100_000)
    config = configure("too_large", "batches.batch_size=30")
    with pytest.raises(TrainingError, match="a step needs about"):
        fit.learn(config, say=lambda _: None)
    assert not Path(config["run_dir"]).exists()
    assert fit.learn(configure("dared", "trainer.check_memory=false"), say=lambda _: None).is_dir()


def test_a_run_that_may_not_fit_is_warned_of(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[StepSize] = []

    def spied(size: StepSize) -> dict[str, int]:
        seen.append(size)
        return step_bytes(size)

    monkeypatch.setattr(step_size, "step_bytes", spied)
    monkeypatch.setattr(step_size, "free_memory", lambda: sum(step_bytes(seen[-1]).values()) - 1 if seen else 2**40)
    fit.learn(configure("first", "trainer.max_epochs=1"), say=lambda _: None)
    assert "warning" not in capsys.readouterr().out
    fit.learn(configure("second", "trainer.max_epochs=1"), say=lambda _: None)
    assert capsys.readouterr().out.startswith("warning: a step needs about 0.0 GiB")
    assert (seen[0].num_items, seen[0].length, seen[0].num_blocks) == (12, 7, 1)


@pytest.mark.parametrize(
    ("loss", "scored", "held"),
    [
        ({"chunk": 512}, 1_000, 512_000),
        ({"base": {"chunk": 64}, "num_negatives": 9}, 1_000, 64_000),
        ({"num_negatives": 256}, 256, 256 * 5_000),
        ({"num_negatives": 256, "num_in_batch": 4, "bf16_products": False}, 260, 0),
        ({"num_negatives": 256, "num_in_batch": 4, "bf16_products": False, "symmetric": True}, 260, 260 * 5_000),
        ({}, 1_000, 0),
    ],
)
def test_every_loss_holds_its_scores(loss: dict[str, Any], scored: int, held: int) -> None:
    assert step_size.scores_of(loss, 5_000, 1_000) == (scored, held)
