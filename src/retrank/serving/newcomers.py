"""Give items that came after the bundle a vector, and rows behind its own, state by state of the catalogue.

Requests never wait for it: they find what was made for the state they see. Vectors belong to the model of one bundle,
so each recommender has newcomers of its own, and a new bundle encodes anew what it does not hold itself.
"""

import heapq
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract import bundle as layout
from retrank.contract.vocab import Vocab
from retrank.serving.new_rows import NewRows
from retrank.serving.overlay import Changes
from retrank.serving.runtime import Runtime
from retrank.serving.stores.protocol import ItemChange

AT_ONCE = 1_000
"""Items encoded in one go; what a bulk may hold. The rest waits for the next look at the catalogue."""
_NO_CONTENT: Mapping[str, JsonValue] = {}
_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from retrank.serving.new_items import NewItemEncoder


class NewItemCounts(NamedTuple):
    """Items that may be shown and that the bundle has no row for, by what became of them.

    Attributes:
        offered: have a vector and take part.
        unreadable: say nothing that the model reads.
        failed: the item encoder failed on them; tried again when they change.
        beyond: more than the settings allow; the ones that changed last are taken.
        waiting: will be encoded with the next looks.
    """

    offered: int = 0
    unreadable: int = 0
    failed: int = 0
    beyond: int = 0
    waiting: int = 0

    def plus(self, other: "NewItemCounts") -> "NewItemCounts":
        """Return both together."""
        return NewItemCounts(*(one + another for one, another in zip(self, other, strict=True)))


class _Made(NamedTuple):
    """What became of an item at one version."""

    version: int
    vector: NDArray[np.float32] | None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class _Kept:
    """Made for one state.

    Attributes:
        unknown: every item that may be shown and that the bundle has no row for.
        made: what became of the newest of them, by item id.
        rows: those with a vector; None when there is none.
        counts: of all of them.
    """

    unknown: Mapping[str, ItemChange] = field(default_factory=dict)
    made: Mapping[str, _Made] = field(default_factory=dict)
    rows: NewRows | None = None
    counts: NewItemCounts = field(default_factory=NewItemCounts)


_NOTHING = _Kept()


class Newcomers:
    """New items of one bundle whose model reads content."""

    def __init__(self, encoder: "NewItemEncoder", items: Vocab, limit: int) -> None:
        """Start with none.

        Args:
            encoder: of the bundle.
            items: of the bundle; what it knows is no newcomer.
            limit: how many are offered at most, >= 1; of more, those that changed last.
        """
        self._encoder, self._items, self._limit = encoder, items, limit
        self._kept: WeakKeyDictionary[Changes, _Kept] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._counting = threading.Lock()

    def of(self, changes: Changes) -> NewRows | None:
        """Return the new items of a state as far as they are prepared; None when there are none."""
        kept = self._kept.get(changes)
        return None if kept is None else kept.rows

    def prepare(self, changes: Changes) -> bool:
        """Encode what is new in a state, `AT_ONCE` at most; returns whether some are left for the next time."""
        with self._lock:
            kept = self._kept.get(changes)
            if kept is None or kept.counts.waiting:
                kept = self._next(kept, changes)
                with self._counting:
                    self._kept[changes] = kept
            return kept.counts.waiting > 0

    def counts(self) -> NewItemCounts:
        """Count the new items of every state that somebody still keeps: one for each tenant asked about lately."""
        total = NewItemCounts()
        with self._counting:  # a state that is added meanwhile would end the loop with an error
            found = list(self._kept.values())
        for kept in found:
            total = total.plus(kept.counts)
        return total

    def _next(self, kept: _Kept | None, changes: Changes) -> _Kept:
        """Return what is known of a state after one step more."""
        if kept is not None:
            unknown, before = kept.unknown, kept
        else:
            earlier = None if changes.before is None else changes.before()
            known = None if earlier is None else self._kept.get(earlier)
            before = known or _NOTHING
            unknown = self._unknown(before.unknown, changes.items.values() if known is None else changes.newest)
            if unknown is before.unknown:
                return before
        chosen = heapq.nlargest(self._limit, unknown.values(), key=_age)
        made = {one.item_id: found for one in chosen if (found := before.made.get(one.item_id)) and _same(found, one)}
        missing = [one for one in chosen if one.item_id not in made]
        made.update(self._made(missing[:AT_ONCE]))
        return self._keep(unknown, chosen, made)

    def _unknown(self, before: Mapping[str, ItemChange], newest: Iterable[ItemChange]) -> Mapping[str, ItemChange]:
        """Return the items to be offered after further changes; the very same where these are about none of them."""
        strangers = [change for change in newest if not self._items.row(change.item_id)]
        if not strangers:
            return before
        unknown = dict(before)
        for change in strangers:
            unknown.pop(change.item_id, None)
            if change.available and not change.deleted:
                unknown[change.item_id] = change
        return unknown

    def _keep(
        self, unknown: Mapping[str, ItemChange], chosen: Sequence[ItemChange], made: Mapping[str, _Made]
    ) -> _Kept:
        found = [
            (one, vector)
            for one in reversed(chosen)  # rows in the order in which they came
            if (known := made.get(one.item_id)) and (vector := known.vector) is not None
        ]
        rows = None
        if found:
            rows = NewRows(
                first=len(self._items) + 1,
                ids=tuple(one.item_id for one, _ in found),
                attributes=tuple(one.attributes or _NO_CONTENT for one, _ in found),
                vectors=np.stack([vector for _, vector in found]),
            )
        failed = sum(one.failed for one in made.values())
        counts = NewItemCounts(
            offered=len(found),
            unreadable=len(made) - len(found) - failed,
            failed=failed,
            beyond=len(unknown) - len(chosen),
            waiting=len(chosen) - len(made),
        )
        return _Kept(unknown, made, rows, counts)

    def _made(self, changes: Sequence[ItemChange]) -> dict[str, _Made]:
        """Encode items; where that fails, half of them at a time, so that one spoils no other."""
        if not changes:
            return {}
        try:
            vectors, readable = self._encoder.described([one.attributes or _NO_CONTENT for one in changes])
        except Exception:  # noqa: BLE001  (ONNX Runtime's exceptions share no public base class)
            if len(changes) == 1:
                _log.exception("a new item cannot be encoded and waits for the next bundle")
                return {changes[0].item_id: _Made(changes[0].version, None, failed=True)}
            middle = len(changes) // 2
            return self._made(changes[:middle]) | self._made(changes[middle:])
        finite = np.atleast_1d(np.isfinite(vectors).all(axis=1))
        return {
            one.item_id: _Made(one.version, vector if reads and sound else None, failed=bool(reads and not sound))
            for one, vector, reads, sound in zip(changes, vectors, readable, finite, strict=True)
        }


def open_newcomers(runtime: Runtime, limit: int) -> Newcomers | None:
    """Return newcomers of an open bundle, none yet; None when its model knows items by id alone, or `limit` is 0.

    Raises:
        SourceError: its item encoder was written by a version that encodes items in another way.
    """
    if limit < 1 or layout.ITEM_ENCODER not in runtime.manifest.files:
        return None
    # Reads Arrow, which takes memory and time to load: only who serves such a bundle pays it.
    from retrank.serving.new_items import open_item_encoder  # noqa: PLC0415

    encoder = open_item_encoder(runtime.bundle)
    return None if encoder is None else Newcomers(encoder, runtime.items, limit)


def _age(change: ItemChange) -> tuple[int, str]:
    return change.version, change.item_id


def _same(made: _Made, change: ItemChange) -> bool:
    return made.version == change.version
