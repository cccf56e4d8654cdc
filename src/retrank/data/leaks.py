"""Checks that a split keeps the future out of the past; run them on any new splitter and on any new dataset."""

import numpy as np

from retrank.contract.cases import Cases
from retrank.contract.errors import DataError
from retrank.contract.sequences import Sequences
from retrank.data.splits import Split


def check_leaks(split: Split, *, one_moment: bool) -> None:
    """Refuse a split whose training data or inputs know something about the targets.

    Args:
        split: what a splitter returned.
        one_moment: also require that every train event is earlier than every target, over all users. True for a
            global temporal split; leave-last-out cannot promise it.

    Raises:
        DataError: naming the first leak found.
    """
    for name, cases in (("validation", split.validation), ("test", split.test)):
        _check_order_within_cases(name, cases)
        _check_targets_are_new(name, cases)
        _check_train_is_prefix(name, cases, split.train)
        if one_moment:
            _check_moment(f"train events and {name} targets", split.train, cases.targets)
    if one_moment:
        _check_moment("validation targets and test targets", split.validation.targets, split.test.targets)


def _check_order_within_cases(name: str, cases: Cases) -> None:
    if cases.inputs.times is None or cases.targets.times is None:
        return
    last_input = _reduce(cases.inputs, np.maximum, np.iinfo(np.int64).min)
    first_target = _reduce(cases.targets, np.minimum, np.iinfo(np.int64).max)
    late = np.flatnonzero(last_input > first_target)
    if len(late):
        raise DataError(f"{name}: an input of user position {cases.users[late[0]]} is later than its target")


def _check_targets_are_new(name: str, cases: Cases) -> None:
    width = int(max(cases.inputs.item_rows.max(initial=0), cases.targets.item_rows.max(initial=0))) + 1
    target_keys = _owners(cases.targets) * width + cases.targets.item_rows
    seen = np.isin(target_keys, _owners(cases.inputs) * width + cases.inputs.item_rows)
    if seen.any():
        user = cases.users[_owners(cases.targets)[np.argmax(seen)]]
        raise DataError(f"{name}: a target of user position {user} is already in the input")
    if len(np.unique(target_keys)) != len(target_keys):
        raise DataError(f"{name}: a case names the same target twice")


def _check_train_is_prefix(name: str, cases: Cases, train: Sequences) -> None:
    """The input of a case must start with the user's train events: nothing of the user is lost or invented."""
    trained = train.take(cases.users)
    if (trained.lengths > cases.inputs.lengths).any():
        user = cases.users[np.argmax(trained.lengths > cases.inputs.lengths)]
        raise DataError(f"{name}: user position {user} has more train events than input events")
    starts = cases.inputs.offsets[:-1]
    prefix = cases.inputs.slices(starts, starts + trained.lengths)
    if not np.array_equal(prefix.item_rows, trained.item_rows):
        raise DataError(f"{name}: the input of a user does not start with the train events of that user")


def _check_moment(what: str, earlier: Sequences, later: Sequences) -> None:
    if earlier.times is None or later.times is None:
        raise DataError(f"{what}: no times, so nothing can be said about their order")
    if len(earlier.times) and len(later.times) and earlier.times.max() >= later.times.min():
        raise DataError(f"{what} overlap in time: {earlier.times.max()} is not before {later.times.min()}")


def _owners(sequences: Sequences) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.repeat(np.arange(len(sequences)), sequences.lengths)


def _reduce(sequences: Sequences, ufunc: np.ufunc, empty: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return one extreme time per sequence; `empty` where there is none."""
    assert sequences.times is not None
    result = np.full(len(sequences), empty, dtype=np.int64)
    ufunc.at(result, _owners(sequences), sequences.times)
    return result
