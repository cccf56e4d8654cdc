"""At which place a candidate was shown, from a store of impressions; read in training, and there alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import ConfigError, DataError
from retrank.contract.moments import HOUR_US
from retrank.contract.vocab import Vocab
from retrank.data.store import EventStore
from retrank.data.visits import Visits

POSITION = "position"
"""Name of the context column with the place, 1 = first."""
NOT_SHOWN = 2**31 - 1
"""The place of what was not shown: behind every other, so `PositionBias` counts it as its last one."""
_BEFORE_US = HOUR_US
"""A visit begins with what somebody did; what they had been shown came earlier, on the same page."""


@dataclass(frozen=True)
class Shown:
    """Impressions of the users of a store.

    Attributes:
        offsets: `[U + 1]` int64; user u (0-based) was shown `offsets[u]:offsets[u + 1]`, in order of time.
        item_rows: `[E]` int32 rows of the store.
        times: `[E]` int64 microseconds, as in `Sequences`.
        places: `[E]` int64, 1 = first.
        data_hash: of the store they were read from.
    """

    offsets: NDArray[np.int64]
    item_rows: NDArray[np.int32]
    times: NDArray[np.int64]
    places: NDArray[np.int64]
    data_hash: str

    def of_candidates(self, visits: Visits, visit: int, rows: NDArray[np.int64], hours: float) -> NDArray[np.int64]:
        """Return `[C]` int64 places at which distinct candidates were first shown in a visit or the hour before it.

        Args:
            visits: whose cases have a moment.
            visit: which of them.
            rows: `[C]` item rows.
            hours: length of a visit.
        """
        part = self._during(visits, visit, hours)
        items, first = np.unique(self.item_rows[part], return_index=True)
        found = np.full(len(rows), NOT_SHOWN, dtype=np.int64)
        _, here, there = np.intersect1d(rows, items, assume_unique=True, return_indices=True)
        found[here] = self.places[part][first[there]]
        return found

    def covers(self, visits: Visits, hours: float) -> NDArray[np.bool_]:
        """Tell for each of `[V]` visits whether anything was logged as shown in it or in the hour before it."""
        parts = (self._during(visits, visit, hours) for visit in range(len(visits.cases)))
        return np.fromiter((part.stop > part.start for part in parts), dtype=bool, count=len(visits.cases))

    def _during(self, visits: Visits, visit: int, hours: float) -> slice:
        """Return which impressions fall into a visit or the hour before it."""
        assert visits.cases.inputs.asked_at is not None, "visits have a moment"
        user, begin = int(visits.cases.users[visit]), int(visits.cases.inputs.asked_at[visit])
        own, stop = int(self.offsets[user]), int(self.offsets[user + 1])
        span = np.searchsorted(self.times[own:stop], [begin - _BEFORE_US, begin + int(hours * HOUR_US)])
        return slice(own + int(span[0]), own + int(span[1]))


@dataclass(frozen=True)
class Coverage:
    """How many of the visits to learn from have an impression.

    Attributes:
        visits: all of them.
        covered: those in which something was logged as shown; the ranker learns from these alone.
    """

    visits: int
    covered: int

    @property
    def share(self) -> float:
        """Share of the visits that are learned from, 0..1."""
        return self.covered / max(self.visits, 1)

    def as_text(self) -> str:
        """Say it in a line."""
        return (
            f"shown: {self.covered:,} of {self.visits:,} visits to learn from ({self.share:.1%}) have an impression; "
            "the others are left out"
        )


def with_impressions(visits: Visits, shown: Shown, *, hours: float, least: float) -> tuple[Visits, Coverage]:
    """Return the visits that something was logged as shown in, and how many these are.

    Of the others no place is known. "Not shown" would be wrong of what was clicked there and "unknown" would be right,
    but a click without a place is judged as if places played no part: what decided the order gets the credit back.

    Args:
        visits: to learn from.
        shown: impressions.
        hours: length of a visit.
        least: smallest share of the visits that must have one, 0..1.

    Raises:
        ConfigError: it is smaller, or no visit has one.
    """
    kept = np.flatnonzero(shown.covers(visits, hours))
    coverage = Coverage(len(visits.cases), len(kept))
    if coverage.covered == 0 or coverage.share < least:
        raise ConfigError(
            f"shown: {coverage.covered:,} of {coverage.visits:,} visits to learn from ({coverage.share:.1%}) have an "
            f"impression in them or the hour before; expected at least {least:.1%}, since only these are learned from. "
            "Are times and user ids those of the events? Log more, lower min_shown_share, or leave shown out"
        )
    of_kept = np.isin(np.repeat(np.arange(len(visits.cases)), visits.cases.targets.lengths), kept)
    return Visits(visits.cases.take(kept), visits.marks[of_kept]), coverage


def read_shown(path: Path | str, store: EventStore) -> Shown:
    """Read impressions, ingested into a store of their own, in the rows of another store.

    Impressions of strangers, of unknown items and without a place are left out.

    Args:
        path: root of the store of impressions.
        store: whose users and items are meant.

    Raises:
        SourceError: there is no store.
        ConfigError: it has no times, or no number column `position`.
        DataError: a place is no whole number from 1, or nothing of it is about users and items of the other store.
    """
    shown = EventStore.open(path)
    if not shown.facts.has_times or shown.facts.context.get(POSITION) != "number":
        raise ConfigError(
            f"shown={path}: expected a store with times and a number {POSITION!r}; ingest impressions with "
            f"data.columns.time=..., +data.columns.context.{POSITION}=... and data.columns.numbers=[{POSITION}]"
        )
    assert shown.sequences.times is not None, "has_times"
    places = np.asarray(shown.context(POSITION), dtype=np.float64)
    known = np.isfinite(places)
    wrong = places[known & ((places < 1) | (places != np.floor(places)))]
    if len(wrong):
        raise DataError(f"shown={path}: {len(wrong):,} places such as {wrong[0]:g}; expected whole numbers, 1 = first")
    users = _people_in(store, shown)[np.repeat(np.arange(shown.num_users), shown.sequences.lengths)]
    items = _rows_in(store.items, shown.items)[np.asarray(shown.sequences.item_rows) - 1]
    kept = np.flatnonzero(known & (users > 0) & (items > 0))
    if len(kept) == 0:
        raise DataError(f"shown={path}: no impression of a user and an item of the run's store; are the ids the same?")
    kept = kept[np.argsort(users[kept], kind="stable")]  # order of time inside a user stays
    counts = np.bincount(users[kept] - 1, minlength=store.num_users)
    return Shown(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item_rows=items[kept].astype(np.int32),
        times=np.asarray(shown.sequences.times[kept]),
        places=places[kept].astype(np.int64),
        data_hash=shown.facts.data_hash,
    )


def check_shown(places: NDArray[np.int64], labels: NDArray[np.float32]) -> None:
    """Refuse impressions that say nothing about what a place is worth.

    Args:
        places: `[M]` of the candidates that a ranker learns from.
        labels: `[M, H]` what happened to them.

    Raises:
        DataError: no candidate was shown, or something happened to each that was.
    """
    seen = places < NOT_SHOWN
    if not seen.any():
        raise DataError(
            "shown: nothing of it is among the candidates of the visits to learn from; raise sources.limits"
        )
    if labels[seen].any(axis=1).all():
        raise DataError(
            f"shown: something happened to each of {int(seen.sum()):,} candidates that were shown; a place can be "
            "judged only if impressions without a click are there as well"
        )


def _people_in(store: EventStore, shown: EventStore) -> NDArray[np.int64]:
    """Return `[U']` the user row in one store of each user of the other, users by their ids and visitors by theirs."""
    visitors = _rows_in(store.visitors, shown.visitors)
    return np.concatenate([_rows_in(store.users, shown.users), np.where(visitors > 0, visitors + store.num_named, 0)])


def _rows_in(known: Vocab, others: Vocab) -> NDArray[np.int64]:
    """Return the row in one vocab of each id of another, in order; 0 = unknown there."""
    return np.array([known.row(raw) for raw in others.ids], dtype=np.int64)
