"""A signal in the middle of a run: a message, an exit status that says so, and a run that can be continued."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
from ring_world import SMALL, Configure

from retrank.cli import main
from retrank.contract.errors import ConfigError, TrainingError
from retrank.training import fit
from retrank.training.interrupts import Interrupts

HEEDING_SIGNALS = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore Ctrl-C
from retrank.cli import main
sys.exit(main())
"""
ENDLESS = ("baselines=false", "trainer.max_epochs=100000", "trainer.patience=100000")


@pytest.mark.parametrize(("ending", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_a_way_to_go_on(
    ring_store: Path, tmp_path: Path, ending: signal.Signals, status: int
) -> None:
    run_dir = tmp_path / "run"
    command = [sys.executable, "-c", HEEDING_SIGNALS, "train", *SMALL, *ENDLESS, f"store={ring_store}"]
    command.append(f"run_dir={run_dir}")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 120
            while not (run_dir / "checkpoints" / "last.ckpt").is_file():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            os.kill(process.pid, ending)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status
    assert f"retrank train: interrupted by {ending.name} in epoch" in said
    assert f"ckpt={run_dir}" in said
    assert "Traceback" not in said


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_dropped_ends_the_run_after_the_batch() -> None:
    """A destructor prints what is raised in it and goes on: as when Ctrl-C comes there."""

    class Interrupted:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    trainer, module, interrupts = pl.Trainer(barebones=True), pl.LightningModule(), Interrupts()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupts.on_fit_start(trainer, module)
        interrupts.on_train_batch_end(trainer, module, None, None, 0)
        Interrupted()
        with pytest.raises(KeyboardInterrupt):
            interrupts.on_train_batch_end(trainer, module, None, None, 1)
        interrupts.close()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_refused_setting_does_not_use_up_the_folder(configure: Configure) -> None:
    with pytest.raises(ConfigError, match="width 63"):
        fit.run(configure("again", "model.width=63"))
    fit.run(configure("again", "trainer.max_epochs=1", "baselines=false"))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.width=abc", "model.width is 'abc'; expected a number"),
        ("batches.batch_size=abc", "batches.batch_size is 'abc'; expected a number"),
        ("trainer.max_epochs=0", "trainer.max_epochs is 0; expected at least 1"),
    ],
)
def test_a_value_that_cannot_work_is_one_line(
    ring_store: Path, tmp_path: Path, setting: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *SMALL, f"store={ring_store}", f"run_dir={tmp_path / 'r'}", setting]) == 2
    assert said in capsys.readouterr().err


def test_resuming_with_another_width_names_that_setting_alone(finished_run: Path, configure: Configure) -> None:
    changed = configure("other", "model.width=32") | {"ckpt": str(finished_run)}
    with pytest.raises(TrainingError, match=r"cannot resume from it: model\.width is 32 now and") as caught:
        fit.run(changed)
    assert "model.dropout" not in str(caught.value)
