"""Events of a store that say nothing new: every column is that of another event. They stay; the ingest counts them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrank.data.ordering import user_blocks

_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, as in splitmix64
_SHIFT = np.uint64(29)


def count_repeats(offsets: NDArray[np.int64], times: NDArray[np.int64], others: Sequence[NDArray[Any]]) -> int:
    """Return how many of E events repeat an earlier one of the same user at the same microsecond in every column.

    Columns are compared by their bits, so that a missing value is like a missing value, and through a hash of 64 bits:
    two events that differ are taken for one with a chance of about 1e-9 in a hundred million.

    Args:
        offsets: `[U + 1]` int64 events of each user.
        times: `[E]` int64, sorted within a user.
        others: `[E]` each: item rows, actions, values, context.
    """
    found = 0
    for start, stop in user_blocks(offsets):
        first, last = np.searchsorted(offsets, (start, stop), side="right") - 1
        columns = [np.asarray(one[start:stop]) for one in others]
        found += _in_block(offsets[first:last] - start, np.asarray(times[start:stop]), columns)
    return found


def _in_block(starts: NDArray[np.int64], times: NDArray[np.int64], others: Sequence[NDArray[Any]]) -> int:
    begins = np.ones(len(times), dtype=bool)
    begins[1:] = times[1:] != times[:-1]
    begins[starts[starts < len(times)]] = True
    alone = begins & np.append(begins[1:], True)
    together = np.flatnonzero(~alone)
    keys = np.cumsum(begins)[together].astype(np.uint64)
    for column in others:
        bits = column[together].view(f"u{column.dtype.itemsize}").astype(np.uint64)
        keys = _mixed(keys ^ _mixed(bits))
    return len(keys) - len(np.unique(keys))


def _mixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return numbers in which every bit of the given ones has a say, different for different ones."""
    keys = (keys + _ODD) * _ODD
    keys ^= keys >> _SHIFT
    mixed: NDArray[np.uint64] = keys * _ODD
    return mixed ^ (mixed >> _SHIFT)
