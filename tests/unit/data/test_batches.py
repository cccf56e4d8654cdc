"""Training batches: what is predicted from what, which windows are cut, and that an epoch repeats exactly."""

from dataclasses import is_dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.contract.encode import ITEM_ROWS, InputName
from retrank.contract.errors import DataError
from retrank.contract.sequences import Sequences
from retrank.data.batches import Batch, Batches
from retrank.data.targets import Chooser, NextEvent


def pairs(batch: Batch) -> list[tuple[tuple[int, ...], int]]:
    """List (events so far, target) of a batch."""
    width = batch.item_rows.shape[1]
    found = []
    for position, target in zip(batch.positions.tolist(), batch.target_rows[:, 0].tolist(), strict=True):
        row, column = divmod(position, width)
        events = batch.item_rows[row, : column + 1]
        found.append((tuple(events[events > 0].tolist()), target))
    return found


def all_pairs(batches: Batches) -> list[tuple[tuple[int, ...], int]]:
    return sorted(pair for batch in batches for pair in pairs(batch))


def test_every_event_but_the_newest_predicts_its_successor() -> None:
    histories = Sequences.from_lists([[5, 6, 7], [8, 9]])
    batches = Batches(histories, batch_size=2, max_length=10, seed=0)
    assert all_pairs(batches) == [((5,), 6), ((5, 6), 7), ((8,), 9)]


def test_histories_without_a_next_event_give_nothing() -> None:
    batches = Batches(Sequences.from_lists([[], [1], [2, 3]]), batch_size=4, max_length=10, seed=0)
    assert all_pairs(batches) == [((2,), 3)]


def test_padding_is_on_the_left_and_never_supervised() -> None:
    histories = Sequences.from_lists([[1, 2, 3, 4], [5, 6]])
    (batch,) = Batches(histories, batch_size=2, max_length=10, seed=0)
    rows = sorted(batch.item_rows.tolist())
    assert rows == [[0, 0, 5], [1, 2, 3]]
    assert (batch.item_rows.flatten()[batch.positions] > 0).all()


def test_long_histories_give_another_window_in_each_epoch() -> None:
    histories = Sequences.from_lists([list(range(1, 101))])
    starts = set()
    for epoch in range(20):
        (batch,) = Batches(histories, batch_size=1, max_length=5, seed=0).at(epoch)
        rows = batch.item_rows[0].tolist()
        assert rows == list(range(rows[0], rows[0] + 5))
        assert batch.target_rows[:, 0].tolist() == list(range(rows[0] + 1, rows[0] + 6))
        starts.add(rows[0])
    assert len(starts) > 10


def test_an_epoch_repeats_with_its_seed_and_differs_from_others() -> None:
    histories = Sequences.from_lists([[user + 1] * 3 for user in range(50)])

    def order(seed: int, epoch: int) -> list[list[int]]:
        batches = Batches(histories, batch_size=10, max_length=5, seed=seed).at(epoch)
        return [batch.item_rows[:, -1].tolist() for batch in batches]

    assert order(1, 3) == order(1, 3)
    assert order(1, 3) != order(1, 4)
    assert order(1, 3) != order(2, 3)


def test_no_history_with_two_events_is_refused() -> None:
    with pytest.raises(DataError, match="none of 2 histories has a target"):
        Batches(Sequences.from_lists([[1], []]), batch_size=1, max_length=5, seed=0)


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    batch_size=st.integers(1, 10),
    max_length=st.integers(1, 12),
    epoch=st.integers(0, 3),
)
def test_an_epoch_holds_each_history_once_in_the_promised_number_of_batches(
    lengths: list[int], batch_size: int, max_length: int, epoch: int
) -> None:
    histories = Sequences.from_lists([[user + 1] * length for user, length in enumerate(lengths)])
    users = [user + 1 for user, length in enumerate(lengths) if length >= 2]
    if not users:
        return
    batches = Batches(histories, batch_size=batch_size, max_length=max_length, seed=0).at(epoch)
    made = list(batches)
    assert len(made) == len(batches)
    assert sorted(row for batch in made for row in batch.item_rows[:, -1].tolist()) == users
    targets = torch.cat([batch.target_rows[:, 0] for batch in made])
    expected = {user: min(lengths[user - 1] - 1, max_length) for user in users}
    assert np.bincount(targets, minlength=len(lengths) + 1)[users].tolist() == list(expected.values())


def test_batches_hold_about_equally_many_events() -> None:
    random = np.random.default_rng(0)
    histories = Sequences.from_lists([[1] * int(length) for length in random.integers(2, 200, 600)])
    sizes = [len(batch.target_rows) for batch in Batches(histories, batch_size=50, max_length=200, seed=0)]
    assert max(sizes) < 1.2 * min(sizes)


def test_the_action_of_a_target_is_not_among_what_is_read_before_it() -> None:
    """The action of an event equals its item, so a position that knew its target's action would be seen here."""
    lists = [[5, 6, 7, 8, 9], [3, 4]]
    histories = Sequences.from_lists(lists, actions=lists)
    inputs: tuple[InputName, ...] = ("item_rows", "actions")
    for epoch in range(5):
        for batch in Batches(histories, batch_size=2, max_length=3, seed=0, inputs=inputs).at(epoch):
            actions = batch.inputs["actions"]
            assert torch.equal(actions, batch.item_rows)
            for position, target in zip(batch.positions.tolist(), batch.target_rows[:, 0].tolist(), strict=True):
                row, column = divmod(position, actions.shape[1])
                assert target not in actions[row, : column + 1].tolist()


def test_ages_run_to_the_event_that_follows_the_window() -> None:
    """The newest position of a window is asked about when the next event happens, as at serving."""
    times = [[minute * 60_000_000 for minute in (0, 1, 3, 6, 10)]]
    histories = Sequences.from_lists([[1, 2, 3, 4, 5]], times)
    for epoch in range(10):
        (batch,) = Batches(histories, batch_size=1, max_length=3, seed=0, inputs=("item_rows", "ages")).at(epoch)
        first = int(batch.item_rows[0, 0]) - 1
        moments = np.array([0, 1, 3, 6, 10])
        expected = 60 * (moments[first + 3] - moments[first : first + 3])
        assert batch.inputs["ages"][0].tolist() == expected.tolist()


def plain_batch(histories: list[list[int]], stops: list[int], max_length: int) -> Batch:
    """The windows that end with the events `stops`, as one would explain them: a loop over rows and events."""
    owners = {event: history for history in histories for event in history}
    windows = []
    for stop in stops:
        place = owners[stop].index(stop) + 1
        length = min(len(owners[stop]) - 1, max_length)
        windows.append((owners[stop][place - length : place], owners[stop][place - length + 1 : place + 1]))
    width = max(len(events) for events, _ in windows)
    rows = [[0] * (width - len(events)) + events for events, _ in windows]
    places = [place for place, event in enumerate(event for row in rows for event in row) if event]
    targets = [[target] for _, following in windows for target in following]
    return Batch({ITEM_ROWS: torch.tensor(rows)}, torch.tensor(places), torch.tensor(targets))


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=40), max_length=st.integers(1, 40))
def test_a_batch_equals_the_plain_loop_over_its_windows(lengths: list[int], max_length: int) -> None:
    """No two events share an item, so the newest event of a row says which window it should be."""
    bounds = [1, *(1 + np.cumsum(lengths)).tolist()]
    histories = [list(range(start, stop)) for start, stop in pairwise(bounds)]
    if max(lengths) < 2:
        return
    for batch in Batches(Sequences.from_lists(histories), batch_size=5, max_length=max_length, seed=0):
        expected = plain_batch(histories, batch.item_rows[:, -1].tolist(), max_length)
        for made, wanted in zip((batch.item_rows, *batch[1:]), (expected.item_rows, *expected[1:]), strict=True):
            torch.testing.assert_close(made, wanted, rtol=0, atol=0)


def test_choosing_one_by_one_and_at_once_give_the_same_batches() -> None:
    """The next event needs no question per event; asked nevertheless, the answers are the same."""

    class Asked(NextEvent):
        def prepare(self, histories: Sequences) -> Chooser:
            chooser = super().prepare(histories)
            assert is_dataclass(chooser)
            return replace(chooser, always_next=False)

    histories = Sequences.from_lists([list(range(1 + 9 * user, 2 + 10 * user)) for user in range(30)])
    ways = (NextEvent(), Asked())
    plain, asked = (Batches(histories, batch_size=4, max_length=7, seed=0, targets=way) for way in ways)
    for one, other in zip(plain, asked, strict=True):
        for left, right in zip((one.item_rows, *one[1:]), (other.item_rows, *other[1:]), strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=0)
