"""The states of random generators go through a checkpoint: that of the CPU, and that of the device trained on."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from retrank.training.random_stream import DEVICE_RANDOM_STATE_KEY, RANDOM_STATE_KEY, RandomStream


class On(pl.LightningModule):
    """A module that says it is on a device."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.place = torch.device(device)

    @property
    def device(self) -> torch.device:
        return self.place


def _saved(device: str) -> dict[str, Any]:
    checkpoint: dict[str, Any] = {}
    RandomStream().on_save_checkpoint(pl.Trainer(logger=False), On(device), checkpoint)
    return checkpoint


def _resumed(checkpoint: dict[str, Any], device: str) -> None:
    stream, trainer = RandomStream(), pl.Trainer(logger=False)
    stream.on_load_checkpoint(trainer, On(device), checkpoint)
    torch.manual_seed(999)  # whatever Lightning draws before training starts
    stream.on_train_start(trainer, On(device))


def test_the_stream_of_the_cpu_goes_on_where_it_was_saved() -> None:
    torch.manual_seed(1)
    checkpoint = _saved("cpu")
    expected = torch.rand(5)
    _resumed(checkpoint, "cpu")
    assert torch.equal(torch.rand(5), expected)
    assert [*checkpoint] == [RANDOM_STATE_KEY]


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The states of two CUDA devices that this machine may not have."""
    held = {f"cuda:{index}": torch.full((16,), index, dtype=torch.uint8) for index in range(2)}

    def put(state: torch.Tensor, device: torch.device) -> None:
        held[str(device)] = state

    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: held[str(device)].clone())
    monkeypatch.setattr(torch.cuda, "set_rng_state", put)
    return held


def test_the_stream_of_the_device_that_trains_is_kept_and_no_other(states: dict[str, torch.Tensor]) -> None:
    checkpoint = _saved("cuda:1")
    assert checkpoint[DEVICE_RANDOM_STATE_KEY].tolist() == [1] * 16
    for name in states:
        states[name] = torch.full((16,), 7, dtype=torch.uint8)
    _resumed(checkpoint, "cuda:1")
    assert {name: int(state[0]) for name, state in states.items()} == {"cuda:0": 7, "cuda:1": 1}


@pytest.mark.parametrize(("saved_on", "resumed_on"), [("cuda:0", "cpu"), ("cpu", "cuda:0")])
def test_on_another_kind_of_device_the_stream_of_the_cpu_goes_on_alone(
    states: dict[str, torch.Tensor], saved_on: str, resumed_on: str
) -> None:
    before = {name: state.clone() for name, state in states.items()}
    torch.manual_seed(1)
    checkpoint = _saved(saved_on)
    expected = torch.rand(5)
    _resumed(checkpoint, resumed_on)
    assert torch.equal(torch.rand(5), expected)
    assert all(torch.equal(states[name], state) for name, state in before.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_dropout_on_a_gpu_draws_what_it_would_have_drawn() -> None:
    torch.manual_seed(1)
    checkpoint = _saved("cuda:0")
    expected = torch.rand(5, device="cuda:0")
    _resumed(checkpoint, "cuda:0")
    assert torch.equal(torch.rand(5, device="cuda:0"), expected)
