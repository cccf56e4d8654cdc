"""The order of events in a store: user row, then time, then original order. Vectorised; no per-event Python."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError

_MAX_EVENTS = 2**32 - 1
_BLOCK = 1 << 18
_RESOLUTIONS = (1_000_000, 1_000)
_POSITION_BITS = np.uint64(32)
_KEY_BITS = 63


def user_offsets(user_rows: NDArray[np.int32], num_users: int) -> NDArray[np.int64]:
    """Return `[U + 1]` int64 offsets of each user's events, given `[E]` int32 user rows 1..U in any order."""
    counts = np.bincount(user_rows, minlength=num_users + 1)[1:]
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def order_by_user(user_rows: NDArray[np.int32]) -> NDArray[np.uint32]:
    """Return the `[E]` uint32 permutation that sorts events by user and keeps the original order within a user.

    User and position are packed into one 64-bit key: keys are distinct, so the fastest unstable sort is a stable one.

    Raises:
        DataError: more events than a 32-bit position can number.
    """
    num_events = len(user_rows)
    if num_events > _MAX_EVENTS:
        raise DataError(f"{num_events:,} events; one store holds at most {_MAX_EVENTS:,}, split the source by user")
    keys = np.empty(num_events, dtype=np.uint64)
    for start in range(0, num_events, _BLOCK):
        block = user_rows[start : start + _BLOCK].astype(np.uint64)
        block <<= _POSITION_BITS
        block |= np.arange(start, start + len(block), dtype=np.uint64)
        keys[start : start + _BLOCK] = block
    keys.sort()
    return keys.astype(np.uint32)


def order_within_users(order: NDArray[np.uint32], times: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
    """Refine `order` (by user) in place to user, then time, then original order; `times` is put into that order too.

    Args:
        order: `[E]` uint32 result of `order_by_user`.
        times: `[E]` int64 times already permuted by `order`.
        offsets: `[U + 1]` int64.
    """
    for start, stop in user_blocks(offsets):
        block = times[start:stop]
        disordered = block[1:] < block[:-1]
        if not disordered.any():
            continue
        first, last = np.searchsorted(offsets, (start, stop), side="right") - 1
        owners = np.repeat(np.arange(first, last), np.diff(offsets[first : last + 1]))
        if not (disordered & (owners[1:] == owners[:-1])).any():
            continue
        refined = _order_block(owners - owners[0], block)
        times[start:stop] = block[refined]
        order[start:stop] = order[start:stop][refined]


def _order_block(owners: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what `np.lexsort((times, owners))` returns; much faster where all fits one 64-bit key with the position.

    Args:
        owners: `[n]` int64 from 0, non-decreasing.
        times: `[n]` int64 microseconds.
    """
    elapsed = times - times.min()
    for resolution in _RESOLUTIONS:
        if not (elapsed % resolution).any():
            elapsed //= resolution
            break
    position_bits = len(owners).bit_length()
    time_bits = int(elapsed.max()).bit_length()
    if int(owners[-1]).bit_length() + time_bits + position_bits > _KEY_BITS:
        return np.lexsort((times, owners))
    keys = (owners << (time_bits + position_bits)) | (elapsed << position_bits) | np.arange(len(owners))
    keys.sort()
    positions: NDArray[np.int64] = keys & ((1 << position_bits) - 1)
    return positions


def user_blocks(offsets: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut events at user borders into blocks of about `_BLOCK` events (one user may be longer)."""
    num_events = int(offsets[-1])
    wanted = np.arange(_BLOCK, num_events, _BLOCK)
    borders = np.unique(np.concatenate([[0], offsets[np.searchsorted(offsets, wanted)], [num_events]]))
    return [(int(start), int(stop)) for start, stop in pairwise(borders)]
