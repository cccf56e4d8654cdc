"""Whether order says more than the items alone: a ring, where it says everything, and tastes, where it says nothing."""

from collections.abc import Callable

import numpy as np
import pytest

from retrank.config import compose, resolve
from retrank.contract.sequences import Sequences
from retrank.data.splits import GlobalTemporal, LeaveLastOut, Split
from retrank.training.auto import ORDER
from retrank.training.order_probe import order_gain
from retrank.training.settle import settle

DAY_US = 86_400_000_000
NUM_ITEMS = 120
LENGTH = 30


def ring(num_users: int = 300) -> Sequences:
    """Everybody walks a ring of items one step at a time, from anywhere."""
    starts = np.random.default_rng(0).integers(0, NUM_ITEMS, num_users)
    return dated([(1 + (start + np.arange(LENGTH)) % NUM_ITEMS).tolist() for start in starts])


def tastes(num_users: int = 300) -> Sequences:
    """Everybody takes the items of one of three tastes, each once, in any order."""
    random = np.random.default_rng(0)
    picked = [random.permutation(NUM_ITEMS // 3)[:LENGTH] for _ in range(num_users)]
    return dated([(1 + items + random.integers(3) * (NUM_ITEMS // 3)).tolist() for items in picked])


def dated(lists: list[list[int]]) -> Sequences:
    """One event a day, everybody on the same days."""
    return Sequences.from_lists(lists, times=[[day * DAY_US for day in range(len(items))] for items in lists])


def parted(sequences: Sequences) -> Split:
    return GlobalTemporal(test_share=0.2, validation_share=0.2)(sequences)


WORLDS = [(ring, "HSTU", "NextEvent"), (tastes, "PooledHistory", "LaterBaskets")]


def test_order_gains_where_the_next_item_hangs_on_the_last_one() -> None:
    gain = order_gain(parted(ring()))
    assert gain is not None
    assert gain > 1.2 * ORDER


def test_order_gains_nothing_where_items_belong_together_in_any_order() -> None:
    gain = order_gain(parted(tastes()))
    assert gain is not None
    assert gain < ORDER


def test_nothing_is_said_without_validation_cases() -> None:
    split = LeaveLastOut()(ring())
    nobody = split.validation.take(np.zeros(0, dtype=np.int64))
    assert order_gain(Split(split.train, nobody, split.test, split.protocol)) is None


@pytest.mark.parametrize(("world", "model", "targets"), WORLDS)
def test_model_and_targets_follow(world: Callable[[], Sequences], model: str, targets: str) -> None:
    config = resolve(compose("train", ["experiment=auto", "store=none", "run_dir=none"]))
    settled = settle(config, world())
    assert settled["model"]["_target_"].endswith(model)
    assert settled["batches"]["targets"]["_target_"].endswith(targets)
