"""From a history to the arrays a model reads: the one implementation, used by training, export and serving."""

import numpy as np
from numpy.typing import NDArray

from retrank.contract.sequences import Sequences

PADDING_ROW = 0


def pad_left(histories: Sequences, max_length: int) -> NDArray[np.int64]:
    """Keep the newest `max_length` events of each history and pad on the left.

    Args:
        histories: B histories, oldest event first.
        max_length: longest history a model reads, >= 1.

    Returns:
        `[B, L]` int64 item rows with L = min(max_length, longest history), at least 1; newest event last, 0 = padding.
    """
    lengths = np.minimum(histories.lengths, max_length)
    width = max(1, int(lengths.max(initial=0)))
    columns = np.arange(width) - (width - lengths)[:, None]
    positions = (histories.offsets[1:] - lengths)[:, None] + columns
    encoded = np.full((len(histories), width), PADDING_ROW, dtype=np.int64)
    real = columns >= 0
    encoded[real] = histories.item_rows[positions[real]]
    return encoded
