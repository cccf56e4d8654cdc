"""Exact ranks over the whole catalogue, without a sort and without ties.

Tie policy: equal scores are ordered by a fixed pseudo-random order of the items that differs from user to user and
depends on nothing but the two row numbers. So no two items share a rank (NDCG stays <= 1 with several targets), the
answer is the same on every machine and for every batch size, and a scorer that gives all items the same score gets
chance level on every metric. Ordering ties by item row would not do: rows are often numbered by popularity or by first
appearance. The mean rank of a tied block would not do either: it puts the constant scorer at HR@10 = 0.

`reference.py` holds the loop version of everything here; tests hold the two together.
"""

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError

UNRANKED = np.iinfo(np.int32).max
"""Rank of a target the scorer cannot recommend (score -inf): it counts as found at no k."""

_REMOVED = np.iinfo(np.int64).min
_MINUS_INFINITY = np.float32(-np.inf)


def tie_keys(users: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Pseudo-random order of items for each user; of two items with the same score the greater key goes first.

    Args:
        users: user positions, at least one dimension, broadcast against `items`.
        items: item rows; different items of a user have different keys, since each step is a bijection.

    Returns:
        uint32 keys in the broadcast shape.

    Source: the "lowbias32" integer hash of C. Wellons (hash-prospector).
    """
    return _scramble(_scramble(users.astype(np.uint32)) ^ items.astype(np.uint32))


def _scramble(key: NDArray[np.uint32]) -> NDArray[np.uint32]:
    key = key ^ (key >> np.uint32(16))
    key *= np.uint32(0x7FEB352D)
    key ^= key >> np.uint32(15)
    key *= np.uint32(0x846CA68B)
    key ^= key >> np.uint32(16)
    return key


def sort_keys(scores: NDArray[np.float32], users: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn scores into integers that sort the same way and have no ties.

    Args:
        scores: `[B, N + 1]` float32, no NaN and no +inf; column 0 is ignored.
        users: `[B]` int64 user positions; they only choose the order of tied items.

    Returns:
        `[B, N + 1]` int64, higher is better; the smallest int64 where the score is -inf and in column 0.

    Raises:
        DataError: a score is NaN or +inf.
    """
    refuse_not_finite(scores)
    keys = keys_of(scores, users[:, None], np.arange(scores.shape[1]))
    keys[scores == _MINUS_INFINITY] = _REMOVED
    keys[:, 0] = _REMOVED
    return keys


def keys_of(scores: NDArray[np.float32], users: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.int64]:
    """Key of each score: its order as the high half, the tie key of user and item as the low one; one shape for all."""
    bits = (scores.astype(np.float32, copy=False) + np.float32(0)).view(np.int32)  # + 0 makes -0.0 equal 0.0
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)  # float order as integer order
    keys <<= 32
    keys |= tie_keys(users, items)
    return keys


def refuse_not_finite(scores: NDArray[np.float32], first_case: int = 0) -> None:
    """Check `[B, N + 1]` scores of the cases from `first_case` on.

    Raises:
        DataError: one outside column 0 is NaN or +inf.
    """
    if not (scores[:, 1:] < np.inf).all():
        case, item = np.argwhere(~(scores[:, 1:] < np.inf))[0]
        raise DataError(
            f"score {scores[case, item + 1]} for item row {item + 1} in case {first_case + case} of the batch; "
            "scores must be finite, or -inf for an item that cannot be recommended"
        )


def remove_seen(
    keys: NDArray[np.int64], seen: tuple[NDArray[np.integer], ...], targets: tuple[NDArray[np.integer], ...]
) -> None:
    """Take seen items out of the ranking in place; a target stays even when it was seen.

    Args:
        keys: `[B, N + 1]` int64 from `sort_keys`, changed in place.
        seen: (case in the batch, item row) of every seen item, two arrays of equal length.
        targets: (case in the batch, item row) of every target.
    """
    kept = keys[targets]
    keys[seen] = _REMOVED
    keys[targets] = kept


def ranks_of(
    keys: NDArray[np.int64], targets: tuple[NDArray[np.integer], NDArray[np.integer]], block: int = 512
) -> NDArray[np.int32]:
    """Rank of each target: 1 + number of items with a greater key. Counting beats sorting by far.

    Args:
        keys: `[B, N + 1]` int64 from `sort_keys`.
        targets: (case in the batch, item row) of T targets.
        block: targets compared at a time; bounds the memory to block * (N + 1) keys.

    Returns:
        `[T]` int32 ranks 1..N, or `UNRANKED`.
    """
    cases, items = targets
    own = keys[cases, items]
    ranks = np.empty(len(cases), dtype=np.int32)
    for start in range(0, len(cases), block):
        part = slice(start, start + block)
        ranks[part] = 1 + np.count_nonzero(keys[cases[part]] > own[part, None], axis=1)
    ranks[own == _REMOVED] = UNRANKED
    return ranks


def top_items(keys: NDArray[np.int64], top_k: int) -> NDArray[np.int32]:
    """Best items of each case.

    Args:
        keys: `[B, N + 1]` int64 from `sort_keys`.
        top_k: length of the list, >= 1.

    Returns:
        `[B, min(top_k, N)]` int32 item rows, best first; 0 where nothing is left to recommend.
    """
    top_k = min(top_k, keys.shape[1] - 1)
    best = np.argpartition(keys, -top_k, axis=1)[:, -top_k:]
    best_keys = np.take_along_axis(keys, best, axis=1)
    order = np.argsort(best_keys, axis=1)[:, ::-1]
    items = np.take_along_axis(best, order, axis=1)
    items[np.take_along_axis(best_keys, order, axis=1) == _REMOVED] = 0
    return items.astype(np.int32)
