"""What is said after a signal: what happened, how far the run had come, and how to go on."""

import signal

import pytest

from retrank.contract.errors import InterruptedRun
from retrank.training.interrupts import told_how_to_go_on


def test_the_outer_run_says_how_to_go_on_and_keeps_how_far_the_inner_one_had_come() -> None:
    with (
        pytest.raises(InterruptedRun) as ended,
        told_how_to_go_on(lambda: "run the outer one again"),
        told_how_to_go_on(lambda: "continue the inner one"),
    ):
        raise InterruptedRun("interrupted by SIGTERM in epoch 3", signal.SIGTERM)
    assert str(ended.value) == "interrupted by SIGTERM in epoch 3; run the outer one again"
    assert ended.value.exit_code == 128 + signal.SIGTERM


def test_an_interrupt_outside_of_the_loop_is_told_as_well() -> None:
    with (
        pytest.raises(InterruptedRun, match=r"^interrupted by SIGINT; again$") as ended,
        told_how_to_go_on(lambda: "again"),
    ):
        signal.raise_signal(signal.SIGINT)
    assert ended.value.exit_code == 128 + signal.SIGINT
