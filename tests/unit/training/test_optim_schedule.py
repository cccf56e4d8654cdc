"""The learning rate over the steps of a run, and which weights decay."""

import pytest
import torch

from retrank.contract.errors import ConfigError
from retrank.training.optim import AdamW


@pytest.mark.parametrize(
    ("decay", "expected"),
    [("cosine", [0.2, 1.0, 0.5, 0.0]), ("linear", [0.2, 1.0, 0.5, 0.0]), ("constant", [0.2, 1.0, 1.0, 1.0])],
)
def test_the_rate_warms_up_and_decays_by_steps(decay: str, expected: list[float]) -> None:
    recipe = AdamW(warmup_steps=4, decay=decay)  # type: ignore[arg-type]  # the cases are literals
    assert [recipe.share(step, 104) for step in (0, 4, 54, 104)] == pytest.approx(expected)


def test_the_floor_is_left_at_the_end() -> None:
    assert AdamW(warmup_steps=0, floor=0.1).share(50, 50) == pytest.approx(0.1)


def test_norms_and_biases_do_not_decay() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    matrices, others = AdamW(weight_decay=0.3).optimizer(model.parameters()).param_groups
    assert (matrices["weight_decay"], [p.ndim for p in matrices["params"]]) == (0.3, [2])
    assert (others["weight_decay"], [p.ndim for p in others["params"]]) == (0.0, [1, 1, 1])


@pytest.mark.parametrize("setting", [{"learning_rate": 0.0}, {"warmup_steps": -1}, {"floor": 2.0}, {"decay": "stairs"}])
def test_settings_that_cannot_train_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="optim"):
        AdamW(**setting)  # type: ignore[arg-type]  # wrong on purpose
