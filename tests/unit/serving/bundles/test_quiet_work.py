"""Quiet work runs last, and its caller hears what became of it."""

import os
import sys
import threading

import pytest

from retrank.serving.bundles.quiet import quietly


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_it_runs_in_a_thread_of_the_lowest_priority_and_leaves_the_callers_alone() -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert quietly(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())) == 19
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        quietly(lambda: 1 // 0)
