"""The plain files of a bundle: arrays and tables, written so that equal input gives equal bytes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrank.contract import bundle
from retrank.contract.attributes import AttributeArrays
from retrank.contract.context import ContextRows, ContextSpec
from retrank.contract.features import ITEM_COLUMN
from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab
from retrank.data.arrow_texts import texts_of
from retrank.export.exact import exact_top_k
from retrank.export.sources import Catalogue, Fallbacks

LENGTH_EDGES = np.array([0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000, np.inf])
_SCORE_BINS = 40


def write_catalogue(catalogue: Catalogue, attributes: AttributeArrays, directory: Path) -> None:
    """Write items with their attributes, users with what models read of them, and histories."""
    Vocab(texts_of(catalogue.items.column(ITEM_COLUMN))).write(directory, bundle.ITEM_VOCAB)
    Vocab(catalogue.user_ids).write(directory, bundle.USER_VOCAB)
    attributes.write(directory)
    histories = catalogue.sealed_histories
    np.save(directory / bundle.HISTORY_ITEMS, np.asarray(histories.item_rows, dtype=np.int32))
    np.save(directory / bundle.HISTORY_TIMES, np.asarray(() if histories.times is None else histories.times, np.int64))
    actions = () if histories.actions is None else histories.actions
    np.save(directory / bundle.HISTORY_ACTIONS, np.asarray(actions, dtype=np.int16))
    np.save(directory / bundle.HISTORY_OFFSETS, np.asarray(histories.offsets, dtype=np.int64))
    if catalogue.context is not None:
        _write_user_fields(catalogue.context, histories, directory)


def _write_user_fields(context: ContextSpec, histories: Sequences, directory: Path) -> None:
    """Write the rows of the fields that users tell, if there are any; they are the same at all events of a user."""
    of_users = ContextRows(context).of_users
    if of_users.any():
        assert histories.contexts is not None, "a catalogue with fields has their rows"
        rows = np.zeros((len(histories) + 1, len(of_users)), dtype=np.int32)
        met = np.flatnonzero(histories.lengths)
        rows[met + 1] = histories.contexts[histories.offsets[met]] * of_users
        np.save(directory / bundle.USER_FIELDS, rows)


def write_unlearned(unlearned: NDArray[np.bool_] | None, directory: Path) -> None:
    """Write which items nothing was learned of, `[N + 1]`, if there are any."""
    if unlearned is not None and unlearned.any():
        np.save(directory / bundle.UNLEARNED_ITEMS, unlearned)


def write_fallbacks(fallbacks: Fallbacks, directory: Path) -> None:
    """Write popular items, best first with ties by row, and the successors of every item."""
    scores = np.asarray(fallbacks.popularity[1:], dtype=np.float32)
    order = np.argsort(-scores, kind="stable")
    np.save(directory / bundle.POPULAR_ITEMS, (order + 1).astype(np.int32))
    np.save(directory / bundle.POPULARITY, _shares(np.asarray(fallbacks.popularity, dtype=np.float32)))
    np.save(directory / bundle.COVISIT_ITEMS, np.asarray(fallbacks.covisit_items, dtype=np.int32))
    np.save(directory / bundle.COVISIT_WEIGHTS, np.asarray(fallbacks.covisit_weights, dtype=np.float32))


def _shares(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the `[N + 1]` shares of the best score, 0..1; row 0 has none."""
    best = scores[1:].max(initial=0)
    shares = np.zeros(len(scores), dtype=np.float32)
    if best > 0:
        shares[1:] = np.clip(scores[1:] / best, 0.0, 1.0)
    return shares


def write_histograms(
    histories: Sequences, queries: NDArray[np.float32], item_vectors: NDArray[np.float32], directory: Path
) -> None:
    """Write what is normal: history lengths of all users, and the ten best scores of `[B, D]` sample queries.

    Keys: `length_edges` [13], `length_counts` [12], `score_edges` [41], `score_counts` [40]. Edges as in
    `numpy.histogram`; the last length bin is open.
    """
    _, scores = exact_top_k(queries, item_vectors, min(10, len(item_vectors) - 1))
    score_counts, score_edges = np.histogram(scores, bins=_SCORE_BINS)
    length_counts, _ = np.histogram(histories.lengths, bins=LENGTH_EDGES)
    np.savez(
        directory / bundle.REFERENCE_HISTOGRAMS,
        length_edges=LENGTH_EDGES,
        length_counts=length_counts,
        score_edges=score_edges,
        score_counts=score_counts,
    )
