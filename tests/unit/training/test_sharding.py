"""Processes share a batch: together they have all of it, once, with the weight it has in one process."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.sequences import Sequences
from retrank.data.batches import Batch, Batches
from retrank.training.launch.place import Place
from retrank.training.launch.sharding import Shards, idle_loss, shard

histories = st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=7), min_size=1, max_size=12)


def batches_of(lists: list[list[int]]) -> Batches:
    rows = Sequences.from_lists(lists)
    return Batches(rows, batch_size=4, max_length=5, seed=1, event_dropout=0.2)


def questions(batch: Batch) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return what the model reads up to each supervised position, and the targets, in any order."""
    length = batch.item_rows.shape[1]
    found = []
    for position, targets in zip(batch.positions.tolist(), batch.target_rows.tolist(), strict=True):
        row, at = divmod(position, length)
        found.append((tuple(batch.item_rows[row, : at + 1].tolist()), tuple(targets)))
    return sorted(found)


@given(histories, st.integers(2, 4))
def test_the_parts_of_a_batch_are_the_batch(lists: list[list[int]], processes: int) -> None:
    batches = batches_of(lists)
    parts = [list(Shards(batches, Place(rank, processes))) for rank in range(processes)]
    assert {len(steps) for steps in parts} == {len(batches)}
    for whole, *pieces in zip(batches, *parts, strict=True):
        assert sum(len(piece.item_rows) for piece in pieces) == len(whole.item_rows)
        assert sorted(question for piece in pieces for question in questions(piece)) == questions(whole)


def test_a_batch_of_one_history_leaves_the_others_idle() -> None:
    (batch,) = batches_of([[1, 2, 3]])
    piece = shard(batch, Place(1, 2))
    assert len(piece.item_rows) == len(piece.positions) == 0


def test_an_idle_process_has_a_loss_of_zero_that_reaches_every_weight() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    loss = idle_loss(module)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


@pytest.mark.parametrize("processes", [2, 3])
def test_histories_are_spread_evenly(processes: int) -> None:
    batches = batches_of([[1, 2, 3, 4]] * 12)
    sizes = [[len(part.item_rows) for part in Shards(batches, Place(rank, processes))] for rank in range(processes)]
    assert np.ptp(np.array(sizes), axis=0).max() <= 1
