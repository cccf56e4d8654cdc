"""Several processes on one backend: every event counts once, and nobody's words are lost."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from state_backends import Backend, apply_one_by_one, write_numbers

from retrank.serving.stores.protocol import LiveEvent, PersonEvent

NOW = 1_800_000_000.0
NUM_PROCESSES = 3


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(NUM_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_concurrent_appliers_apply_every_event_exactly_once(backend: Backend, processes: ProcessPoolExecutor) -> None:
    events = [
        PersonEvent(f"u:{n % 5}", LiveEvent(f"e{n}", "click", f"i{n % 7}", round(NOW * 1e6) - n, f"s{n % 5}"))
        for n in range(60)
    ]
    orders = [np.random.default_rng(seed).permutation(len(events)).tolist() for seed in range(NUM_PROCESSES)]
    running = [
        processes.submit(apply_one_by_one, backend.settings(), [events[place] for place in order], NOW)
        for order in orders
    ]
    times_new = np.zeros(len(events), dtype=int)
    for order, job in zip(orders, running, strict=True):
        times_new[order] += job.result(timeout=60)
    assert times_new.tolist() == [1] * len(events)
    store = backend.open()
    for n in range(5):
        theirs = sorted(event for person, event in events if person == f"u:{n}")
        assert sorted(store.profile("shop", f"u:{n}", None, NOW).events) == theirs
        assert sorted(store.profile("shop", "a:new", f"s{n}", NOW).events) == theirs


def test_compare_and_swap_loses_no_write_of_any_process(backend: Backend, processes: ProcessPoolExecutor) -> None:
    numbers = [list(range(part, 30, NUM_PROCESSES)) for part in range(NUM_PROCESSES)]
    running = [processes.submit(write_numbers, backend.settings(), part) for part in numbers]
    for job in running:
        job.result(timeout=60)
    document = backend.open().document("numbers")
    assert isinstance(document.value, list)
    assert sorted(map(str, document.value)) == sorted(map(str, range(30)))
    assert document.version == 30
