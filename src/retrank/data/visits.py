"""Visits: when people came, what they had done before, and what they did then. What a ranker learns from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.cases import Cases
from retrank.contract.moments import HOUR_US
from retrank.contract.sequences import Sequences


@dataclass(frozen=True)
class Visits:
    """V visits of users with a history.

    Attributes:
        cases: input = everything the user did before the visit, asked at its first event; targets = the distinct items
            of the visit that the user had not met before.
        marks: `[T, H]` float32 beside the targets: what the events with that item add up to, column by column.
    """

    cases: Cases
    marks: NDArray[np.float32]


def visits_between(
    sequences: Sequences, marks: NDArray[np.float32], start: int, stop: int, *, hours: float = 24.0
) -> Visits:
    """Cut the events of `[start, stop)` into visits.

    A visit begins with the first event of a user in the window, or with the first one `hours` or more after the last
    visit began, and lasts that long. Visits without a new item, and those of users without a history, are left out.

    Args:
        sequences: U histories with times.
        marks: `[E, H]` float32 per event.
        start: first microsecond (as in `Sequences.times`) of the window.
        stop: end of the window, not part of it.
        hours: length of a visit, > 0.
    """
    assert sequences.times is not None, "visits need times"
    times = np.asarray(sequences.times)
    owners = np.repeat(np.arange(len(sequences)), sequences.lengths)
    inside = np.flatnonzero((times >= start) & (times < stop))
    begins = _begins(owners[inside], times[inside], int(hours * HOUR_US))
    visit = np.cumsum(begins) - 1  # [events inside]
    first = inside[begins]  # [V] position of the first event of each visit
    asked_in = None if sequences.contexts is None else sequences.contexts[first]
    inputs = sequences.slices(sequences.offsets[owners[first]], first, times[first], asked_in)
    kept = _first_meetings(owners, np.asarray(sequences.item_rows))[inside] & (inputs.lengths > 0)[visit]
    targets, owner_of_target = inside[kept], visit[kept]
    summed = _sums(inside, visit, np.asarray(sequences.item_rows), marks, targets=targets, owner=owner_of_target)
    used, lengths = np.unique(owner_of_target, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    found = Sequences(np.asarray(sequences.item_rows[targets]), offsets, times[targets])
    return Visits(Cases(owners[first[used]], inputs.take(used), found), summed)


def event_marks(
    num_events: int, *, actions: NDArray[np.integer] | None, chosen: Sequence[Sequence[int] | None]
) -> NDArray[np.float32]:
    """Return `[E, H]` float32: 1 where the action of an event is among the chosen ones; None chooses every event."""
    marks = np.ones((num_events, len(chosen)), dtype=np.float32)
    for column, wanted in enumerate(chosen):
        if wanted is not None and actions is not None:
            marks[:, column] = np.isin(actions, list(wanted))
    return marks


def _begins(owners: NDArray[np.int64], times: NDArray[np.int64], span: int) -> NDArray[np.bool_]:
    """Mark the first event of each visit; each pass finds the next visit of every user at once."""
    begins = np.zeros(len(owners), dtype=bool)
    keys = owners * (times.max(initial=0) - times.min(initial=0) + span + 1) + times - times.min(initial=0)
    at = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])[: len(owners)]
    while len(at):
        begins[at] = True
        following = np.searchsorted(keys, keys[at] + span)
        inside = following < len(owners)
        following = following[inside]
        at = following[owners[following] == owners[at[inside]]]
    return begins


def _first_meetings(owners: NDArray[np.int64], item_rows: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Tell for each event whether its user met its item for the first time."""
    first = np.zeros(len(owners), dtype=bool)
    first[np.unique(owners * (int(item_rows.max(initial=0)) + 1) + item_rows, return_index=True)[1]] = True
    return first


def _sums(
    inside: NDArray[np.int64],
    visit: NDArray[np.int64],
    item_rows: NDArray[np.integer],
    marks: NDArray[np.float32],
    *,
    targets: NDArray[np.int64],
    owner: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Add up the marks of all events of a visit with the same item, for each target."""
    size = int(item_rows.max(initial=0)) + 1
    keys, place = np.unique(visit * size + item_rows[inside], return_inverse=True)
    sums = np.stack([np.bincount(place, column, len(keys)) for column in marks[inside].T], axis=1)
    summed: NDArray[np.float32] = sums[np.searchsorted(keys, owner * size + item_rows[targets])].astype(np.float32)
    return summed
