"""Histories to try a model on: real ones, and real ones cut at random moments, of every length the model reads."""

import numpy as np

from retrank.contract.sequences import Sequences


def sample_histories(histories: Sequences, count: int, max_length: int, rng: np.random.Generator) -> Sequences:
    """Draw `count` histories as they could have stood before a request.

    The first three are the empty one, one of a single event and one of at least `max_length` events (or the longest
    there is). The rest end at a random event. About half of them reach back as far as the model reads, as for a known
    user; the others are cut to a length that is uniform in its logarithm, as for sessions.

    Args:
        histories: real histories with at least one event, oldest first.
        count: how many to draw, >= 3.
        max_length: longest history the model reads; events before that are left out.
        rng: source of randomness.
    """
    lengths = histories.lengths
    longest = int(np.argmax(lengths))
    last = rng.integers(0, len(histories.item_rows), size=count)
    users = np.searchsorted(histories.offsets, last, side="right") - 1
    short = np.exp(rng.uniform(0, np.log(max_length + 1), size=count)).astype(np.int64)
    reach = np.where(rng.random(count) < 0.5, max_length, short)
    starts, stops = np.maximum(histories.offsets[users], last + 1 - reach), last + 1
    stops[0] = starts[0]
    stops[1] = starts[1] + 1
    stops[2] = histories.offsets[longest + 1]
    starts[2] = max(int(histories.offsets[longest]), int(stops[2]) - max_length)
    return histories.slices(starts, stops)
