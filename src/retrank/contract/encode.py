"""From a history to the arrays a model reads: the one implementation, used by training, export and serving.

No array tells what is to be predicted. An event and its action become known together, when the event happens; a query
is asked after the events it reads and before its target, whose item and action are in no array. That holds inside a
training window too: position i reads events up to i and is asked for event i + 1, whose action stands at i + 1, where
models let only later positions look.

The context is of the moment that is asked about, which the one who asks knows: for a position inside a training window
that is the moment of the next event, of which nothing else is told.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError
from retrank.contract.moments import SECOND_US
from retrank.contract.sequences import Sequences

PADDING_ROW = 0
InputName = Literal["item_rows", "ages", "actions", "context"]
ITEM_ROWS: InputName = "item_rows"
AGES: InputName = "ages"
ACTIONS: InputName = "actions"
CONTEXT_ROWS: InputName = "context"
"""Names of what a model can read.

`ages`: whole seconds from an event to the moment that is asked about, >= 0. `actions`: what was done, rows 1..A of the
store's action names; 0 = padding or unknown. `context`: what is known of the moment asked about, rows of the fields of
`contract.context`, 0 = unknown.
"""

ModelInputs = Mapping[InputName, NDArray[np.int64]]
"""`[B, L]` int64 by name; newest event last, padded on the left with 0.

`context` alone is `[B, P, F]`: rows of F fields for the moments after the last P places. P is 1 where one moment is
asked about, and L where each place is.
"""
_Value = TypeVar("_Value", bound=np.generic)


def encode(histories: Sequences, inputs: Sequence[InputName], max_length: int) -> ModelInputs:
    """Keep the newest `max_length` events of each history and pad on the left.

    Args:
        histories: B histories, oldest event first.
        inputs: which arrays the model reads, of `ITEM_ROWS`, `AGES`, `ACTIONS` and `CONTEXT_ROWS`.
        max_length: longest history a model reads, >= 1.

    Returns:
        One `[B, L]` int64 array per name with L = min(max_length, longest history), at least 1; newest event last. The
        context is `[B, 1, F]`. The moment asked about is `histories.asked_at` and `asked_in`; without one it is that
        of the newest event.

    Raises:
        DataError: ages, actions or the context are asked for and the histories have none.
    """
    lengths = np.minimum(histories.lengths, max_length)
    asked_at = histories.asked_at
    if asked_at is None and AGES in inputs and histories.times is not None:
        newest = np.maximum(histories.offsets[1:] - 1, 0)
        asked_at = histories.times[newest] if len(histories.times) else np.zeros(len(histories), dtype=np.int64)
    of_events = [name for name in inputs if name != CONTEXT_ROWS]
    encoded = encode_windows(histories, histories.offsets[1:], real_places(lengths), of_events, asked_at)
    return {name: encoded[name] if name in encoded else _asked_in(histories) for name in inputs}


def encode_windows(
    histories: Sequences,
    stops: NDArray[np.int64],
    real: NDArray[np.bool_],
    inputs: Sequence[InputName],
    asked_at: NDArray[np.int64] | None = None,
) -> ModelInputs:
    """Lay out B windows of the flat columns: the events before `stops[i]`, as many as row i of `real` has places.

    Args:
        histories: the columns; its own moments asked about are not read.
        stops: `[B]` int64 absolute event positions, each at least the length of its window.
        real: `[B, L]` from `real_places`.
        inputs: which arrays the model reads.
        asked_at: `[B]` int64 moments from which ages count back.

    Returns:
        One `[B, L]` int64 array per name, 0 where a place is not real. The context is `[B, L, F]`, at each place that
        of the next event, which must exist.

    Raises:
        DataError: ages, actions or the context are asked for and the histories have none.
    """
    make: Mapping[InputName, Callable[[], NDArray[np.int64]]] = {
        ITEM_ROWS: lambda: _laid_out(histories.item_rows, stops, real),
        AGES: lambda: _ages(histories, stops, real, asked_at),
        ACTIONS: lambda: _laid_out(_actions(histories), stops, real),
        CONTEXT_ROWS: lambda: _following(_contexts(histories), stops, real),
    }
    return {name: make[name]() for name in inputs}


def real_places(lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return `[B, max(1, longest)]`: the last `lengths[i]` places of row i are true, the padding before is not."""
    width = max(1, int(lengths.max(initial=0)))
    return _staircase(width)[lengths]


def values_before(column: NDArray[np.integer], stops: NDArray[np.int64], width: int) -> NDArray[np.integer]:
    """Return the `width` values of a flat column before each of B stops, `[B, width]`, whosever they are.

    One copy of a row each, far cheaper than an index per value. Where fewer values come before a stop, they stand at
    the right and what is left of them means nothing.
    """
    column = np.ascontiguousarray(column)
    if len(column) < width:
        column, stops = np.r_[np.zeros(width - len(column), column.dtype), column], stops + (width - len(column))
    every, starts = _overlapping_rows(column, width), stops - width
    if len(starts) and starts.min() >= 0:
        return every[starts]
    rows = every[np.maximum(starts, 0)]
    for row in np.flatnonzero(starts < 0):
        rows[row, width - stops[row] :] = column[: stops[row]]
    return rows


def asked_now(
    item_rows: NDArray[np.integer],
    ages: NDArray[np.integer],
    actions: NDArray[np.integer] | None = None,
    context: NDArray[np.integer] | None = None,
) -> Sequences:
    """Return one history of H events, oldest first, as it stands when something is asked.

    Args:
        item_rows: `[H]` rows 1..N.
        ages: `[H]` whole seconds since each event.
        actions: `[H]` action rows, 0 = unknown; None = all unknown.
        context: `[F]` rows of what is known of the moment; None where nothing reads it.
    """
    offsets = np.array([0, len(item_rows)], dtype=np.int64)
    times = -np.asarray(ages, dtype=np.int64) * SECOND_US
    done = np.zeros(len(item_rows), dtype=np.int16) if actions is None else np.asarray(actions, dtype=np.int16)
    asked_at, asked_in = np.zeros(1, dtype=np.int64), None if context is None else np.asarray([context], dtype=np.int32)
    return Sequences(np.asarray(item_rows, dtype=np.int32), offsets, times, asked_at, done, asked_in=asked_in)


def encode_one(
    item_rows: NDArray[np.integer],
    ages: NDArray[np.integer],
    actions: NDArray[np.integer],
    context: NDArray[np.integer],
    inputs: Sequence[InputName],
    max_length: int,
) -> ModelInputs:
    """Encode one history as it stands when something is asked: what `encode` makes of `asked_now`, for less.

    Args:
        item_rows: `[H]` rows 1..N, oldest first, H >= 1.
        ages: `[H]` whole seconds since each event, >= 0.
        actions: `[H]` action rows, 0 = unknown.
        context: `[F]` rows of what is known of the moment.
        inputs: which arrays the model reads.
        max_length: longest history a model reads, >= 1.

    Returns:
        One `[1, L]` int64 array per name with L = min(max_length, H), of the context `[1, 1, F]`; there is nothing to
        pad.
    """
    columns = {ITEM_ROWS: item_rows, AGES: ages, ACTIONS: actions}
    return {
        name: (context[None, None] if name == CONTEXT_ROWS else columns[name][None, -max_length:]).astype(
            np.int64, copy=False
        )
        for name in inputs
    }


def _laid_out(column: NDArray[np.integer], stops: NDArray[np.int64], real: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return `[B, L]` int64 values of a flat column."""
    values = values_before(column, stops, real.shape[1]).astype(np.int64)
    values[~real] = 0
    return values


def _ages(
    histories: Sequences, stops: NDArray[np.int64], real: NDArray[np.bool_], asked_at: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Return `[B, L]` int64 seconds before the moment asked about."""
    if histories.times is None or asked_at is None:
        raise DataError(
            "this model reads how long ago events were and the histories have no times; set model.time_bias=false, "
            "or ingest a source with a time column"
        )
    ages = (asked_at[:, None] - values_before(histories.times, stops, real.shape[1])) // SECOND_US
    return np.asarray(np.maximum(ages, 0) * real)


def _actions(histories: Sequences) -> NDArray[np.int16]:
    """Return `[E]` int16 action rows."""
    if histories.actions is None:
        raise DataError(
            "this model reads what was done and the histories have no actions; set model.num_actions=0, or ingest a "
            "source with an action column"
        )
    return histories.actions


def _contexts(histories: Sequences) -> NDArray[np.int32]:
    """Return `[E, F]` int32 rows of the fields."""
    if histories.contexts is None:
        raise DataError(
            "this model reads the context of a request and the histories have none; open the store as the run was "
            "trained, with its context.fields"
        )
    return histories.contexts


def _following(contexts: NDArray[np.int32], stops: NDArray[np.int64], real: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return `[B, L, F]` int64: at each place the context of the event after it."""
    after = stops[:, None] + np.arange(1 - real.shape[1], 1)
    return contexts[np.maximum(after, 0)].astype(np.int64) * real[:, :, None]


def _asked_in(histories: Sequences) -> NDArray[np.int64]:
    """Return `[B, 1, F]` int64 rows of the moment asked about, or of the newest event where none is named."""
    if histories.asked_in is not None:
        return histories.asked_in[:, None].astype(np.int64)
    contexts = _contexts(histories)
    asked_in = np.zeros((len(histories), 1, contexts.shape[1]), dtype=np.int64)
    met = np.flatnonzero(histories.lengths)
    asked_in[met, 0] = contexts[histories.offsets[met + 1] - 1]
    return asked_in


@lru_cache(maxsize=256)  # a batch has one width, and an epoch few
def _staircase(width: int) -> NDArray[np.bool_]:
    """Return `[width + 1, width]`: the last i places of row i are true."""
    return _overlapping_rows(np.arange(2 * width) >= width, width)


def _overlapping_rows(column: NDArray[_Value], width: int) -> NDArray[_Value]:
    """View a contiguous column as rows of `width` values, row i starting at value i; nothing is copied."""
    return np.ndarray((len(column) - width + 1, width), column.dtype, column, strides=column.strides * 2)
