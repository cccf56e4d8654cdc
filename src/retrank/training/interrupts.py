"""Ctrl-C ends a run even where Python drops the exception that it raises.

`KeyboardInterrupt` is raised wherever the main thread happens to be. In a destructor or a callback from C it is printed
and forgotten, and the run would go on as if nobody had asked. So the signal is also remembered, and raised again after
the batch.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from typing_extensions import override

from retrank.contract.errors import InterruptedRun


@contextmanager
def told_how_to_go_on(onward: Callable[[], str]) -> Iterator[None]:
    """Say after a signal how to go on. Where one run trains another, the outer one has the last word.

    Args:
        onward: the words, asked for when a signal came.

    Raises:
        InterruptedRun: a signal came.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptedRun(f"interrupted by {signal.SIGINT.name}", signal.SIGINT, onward()) from error
    except InterruptedRun as error:
        raise InterruptedRun(error.what, error.signal_number, onward()) from error


class Interrupts(pl.Callback):
    """Remembers SIGINT; leaves it alone where it is ignored or handled otherwise, and outside the main thread."""

    def __init__(self) -> None:
        self._came = self._listening = False

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to listen."""
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if usual and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._hear)
            self._listening = True

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Raise what was dropped."""
        if self._came:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Give the signal back."""
        if self._listening:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._listening = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        signal.default_int_handler(number, frame)
