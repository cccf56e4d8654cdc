"""From a history to the arrays a model reads: the one implementation, used by training, export and serving.

No array tells what is to be predicted. An event and its action become known together, when the event happens; a query
is asked after the events it reads and before its target, whose item and action are in no array. That holds inside a
training window too: position i reads events up to i and is asked for event i + 1, whose action stands at i + 1, where
models let only later positions look.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError
from retrank.contract.sequences import Sequences

PADDING_ROW = 0
InputName = Literal["item_rows", "ages", "actions"]
ITEM_ROWS: InputName = "item_rows"
AGES: InputName = "ages"
ACTIONS: InputName = "actions"
"""Names of what a model can read.

`ages`: whole seconds from an event to the moment that is asked about, >= 0. `actions`: what was done, rows 1..A of the
store's action names; 0 = padding or unknown.
"""

ModelInputs = Mapping[InputName, NDArray[np.int64]]
"""`[B, L]` int64 by name; newest event last, padded on the left with 0."""
_SECOND = 1_000_000


def encode(histories: Sequences, inputs: Sequence[InputName], max_length: int) -> ModelInputs:
    """Keep the newest `max_length` events of each history and pad on the left.

    Args:
        histories: B histories, oldest event first.
        inputs: which arrays the model reads, of `ITEM_ROWS`, `AGES` and `ACTIONS`.
        max_length: longest history a model reads, >= 1.

    Returns:
        One `[B, L]` int64 array per name with L = min(max_length, longest history), at least 1; newest event last.
        The moment asked about is `histories.asked_at`; without one it is that of the newest event.

    Raises:
        DataError: ages or actions are asked for and the histories have none.
    """
    lengths = np.minimum(histories.lengths, max_length)
    width = max(1, int(lengths.max(initial=0)))
    columns = np.arange(width) - (width - lengths)[:, None]
    real = columns >= 0
    positions = ((histories.offsets[1:] - lengths)[:, None] + columns)[real]
    encoded: dict[InputName, NDArray[np.int64]] = {}
    for name in inputs:
        encoded[name] = np.full((len(histories), width), PADDING_ROW, dtype=np.int64)
        encoded[name][real] = _COLUMNS[name](histories)[positions]
    return encoded


def asked_now(
    item_rows: NDArray[np.integer], ages: NDArray[np.integer], actions: NDArray[np.integer] | None = None
) -> Sequences:
    """Return one history of H events, oldest first, as it stands when something is asked.

    Args:
        item_rows: `[H]` rows 1..N.
        ages: `[H]` whole seconds since each event.
        actions: `[H]` action rows, 0 = unknown; None = all unknown.
    """
    offsets = np.array([0, len(item_rows)], dtype=np.int64)
    times = -np.asarray(ages, dtype=np.int64) * _SECOND
    done = np.zeros(len(item_rows), dtype=np.int16) if actions is None else np.asarray(actions, dtype=np.int16)
    return Sequences(np.asarray(item_rows, dtype=np.int32), offsets, times, np.zeros(1, dtype=np.int64), done)


def _ages(histories: Sequences) -> NDArray[np.int64]:
    """Return `[E]` int64 seconds before the moment asked about."""
    if histories.times is None:
        raise DataError(
            "this model reads how long ago events were and the histories have no times; set model.time_bias=false, "
            "or ingest a source with a time column"
        )
    asked_at = histories.asked_at
    if asked_at is None:
        newest = np.maximum(histories.offsets[1:] - 1, 0)
        asked_at = histories.times[newest] if len(histories.times) else np.zeros(len(histories), dtype=np.int64)
    ages: NDArray[np.int64] = (np.repeat(asked_at, histories.lengths) - histories.times) // _SECOND
    return np.maximum(ages, 0)


def _actions(histories: Sequences) -> NDArray[np.int16]:
    """Return `[E]` int16 action rows."""
    if histories.actions is None:
        raise DataError(
            "this model reads what was done and the histories have no actions; set model.num_actions=0, or ingest a "
            "source with an action column"
        )
    return histories.actions


_COLUMNS: Mapping[InputName, Callable[[Sequences], NDArray[np.integer]]] = {
    ITEM_ROWS: lambda histories: histories.item_rows,
    AGES: _ages,
    ACTIONS: _actions,
}
