"""Does the index that was opened still find what exact search finds? A sample, with the encoder and users at hand."""

from dataclasses import replace

import numpy as np

from retrank.contract.rest import Rest, no_rest
from retrank.contract.sequences import Sequences
from retrank.serving.exact import found_share
from retrank.serving.runtime import Runtime

_AT_ONCE = 4


def sampled_recall(runtime: Runtime, num_queries: int, rng: np.random.Generator, rest: Rest = no_rest) -> float:
    """Return `found_share` for stored histories.

    Args:
        runtime: the open bundle.
        num_queries: users drawn, >= 1; all of them when there are fewer.
        rng: draws them.
        rest: called between pieces of work.
    """
    histories, queries = _asked_in_no_moment(_histories(runtime, num_queries, rng), runtime), []
    for start in range(0, len(histories), _AT_ONCE):
        some = np.arange(start, min(start + _AT_ONCE, len(histories)))
        queries.append(runtime.encoder.run(histories.take(some)))
        rest()
    return found_share(runtime, np.concatenate(queries), rest)


def _histories(runtime: Runtime, count: int, rng: np.random.Generator) -> Sequences:
    """Draw stored histories; single items when nobody has one."""
    eligible = np.flatnonzero(runtime.histories.lengths)
    if len(eligible) == 0:
        rows = rng.integers(1, len(runtime.items) + 1, count)
        return Sequences.from_lists([[int(row)] for row in rows], [[0]] * count, [[0]] * count)
    users = rng.choice(eligible, size=min(count, len(eligible)), replace=False)
    longest = runtime.manifest.encoder.max_length
    stops = runtime.histories.offsets[users + 1]
    return runtime.histories.slices(np.maximum(runtime.histories.offsets[users], stops - longest), stops)


def _asked_in_no_moment(histories: Sequences, runtime: Runtime) -> Sequences:
    """Return histories that tell nothing of the moment: a bundle has none of it, and any query is a fair sample."""
    return replace(histories, asked_in=np.tile(runtime.fields.untold, (len(histories), 1)).astype(np.int32))
