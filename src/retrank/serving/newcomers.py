"""Give items that came after the bundle a vector, and rows behind its own, state by state of the catalogue.

Requests never wait for the encoder: they find what was made for the state they see. A state begins with what was made
for the one before it, which takes milliseconds (`carry_over`); what is missing is encoded after it is seen (`prepare`).
Until then an item that changed keeps the vector of what it was, and one that nobody encoded yet is not offered. Vectors
belong to the model of one bundle, so each recommender has newcomers of its own, and a new bundle encodes anew what it
does not hold itself.
"""

import heapq
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple
from weakref import ReferenceType, WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract import bundle as layout
from retrank.contract.vocab import Vocab
from retrank.serving.changes import Changes
from retrank.serving.new_rows import NewRows
from retrank.serving.runtime import Runtime
from retrank.serving.stand_ins import StandIns
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
        offered: have a vector and take part; the vector may be that of what they were before their last change.
        unreadable: say nothing that the model reads.
        failed: the item encoder failed on them; tried again when they change.
        beyond: more than the settings allow; the ones that changed last are taken.
        waiting: have no vector yet, and will be encoded with the next looks.
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
    """What became of an item as one change left it; its vector is in the rows.

    Attributes:
        change: what was encoded; compared whole, as a store that lost changes gives a version a second time.
        offered: it has a vector.
        failed: the item encoder, or the search for a stand-in, failed on it.
        stand_in: row of the item of the bundle that is read in its place; 0 where it is not offered.
    """

    change: ItemChange
    offered: bool
    failed: bool = False
    stand_in: int = 0


class _Encoded(NamedTuple):
    """What came of one item: its vector `[D]` float32, if it has one."""

    made: _Made
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """Made for one state.

    Attributes:
        unknown: every item that may be shown and that the bundle has no row for.
        chosen: the newest of them, newest first.
        missing: those of the chosen that wait to be encoded as they are now, newest first.
        made: what became of the others, and of those that are missing and were offered as they were before, by item id.
        rows: those with a vector; None when there is none. Nothing else holds vectors.
        counts: of all of them.
    """

    unknown: Mapping[str, ItemChange] = field(default_factory=dict)
    chosen: Sequence[ItemChange] = ()
    missing: Sequence[ItemChange] = ()
    made: Mapping[str, _Made] = field(default_factory=dict)
    rows: NewRows | None = None
    counts: NewItemCounts = field(default_factory=NewItemCounts)


_NOTHING = _Kept()


class Newcomers:
    """New items of one bundle whose model reads content."""

    def __init__(
        self,
        encoder: "NewItemEncoder",
        items: Vocab,
        limit: int,
        stand_ins: Callable[[NDArray[np.float32]], NDArray[np.int64]],
    ) -> None:
        """Start with none.

        Args:
            encoder: of the bundle.
            items: of the bundle; what it knows is no newcomer.
            limit: how many are offered at most, >= 1; of more, those that changed last.
            stand_ins: from the vectors of new items, `[M, D]` float32, to the rows read in their place, `[M]`.
        """
        self._encoder, self._items, self._limit, self._stand_ins = encoder, items, limit, stand_ins
        self._kept: WeakKeyDictionary[Changes, _Kept] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._counting = threading.Lock()

    def of(self, changes: Changes) -> NewRows | None:
        """Return the new items of a state as far as they are prepared; None when there are none."""
        kept = self._kept.get(changes)
        return None if kept is None else kept.rows

    def carry_over(self, changes: Changes) -> None:
        """Begin a state that nobody sees yet with what was made for the one before; waits for nobody who encodes.

        Where nothing was made and there is much to look through, all of it is left to `prepare`.
        """
        sources = [kept for state in (changes.before, changes.akin) if (kept := self._kept_of(state))]
        if not any(kept.made for kept in sources) and (not sources or len(changes.newest) > AT_ONCE):
            return
        kept = self._begun(changes)
        with self._counting:
            self._kept.setdefault(changes, kept)

    def prepare(self, changes: Changes) -> bool:
        """Encode what is missing in a state, `AT_ONCE` at most; returns whether some are left for the next time."""
        with self._lock:
            known = self._kept.get(changes)
            kept = self._further(self._begun(changes) if known is None else known)
            if kept is not known:
                with self._counting:
                    self._kept[changes] = kept
            return bool(kept.missing)

    def counts(self) -> NewItemCounts:
        """Count the new items of every state that somebody still keeps: one for each tenant asked about lately."""
        total = NewItemCounts()
        with self._counting:  # a state that is added meanwhile would end the loop with an error
            found = list(self._kept.values())
        for kept in found:
            total = total.plus(kept.counts)
        return total

    def _further(self, kept: _Kept) -> _Kept:
        """Return what is known of a state after one step more; the very same where nothing is missing."""
        if not kept.missing:
            return kept
        encoded = self._encoded(kept.missing[:AT_ONCE])
        made = {**kept.made, **{one.made.change.item_id: one.made for one in encoded}}
        return self._keep(replace(kept, missing=kept.missing[AT_ONCE:], made=made), kept.rows, encoded)

    def _begun(self, changes: Changes) -> _Kept:
        """Return a state before its first step: with what was made of the same items in the one before."""
        known, akin = self._kept_of(changes.before), self._kept_of(changes.akin)
        before = known or _NOTHING
        unknown = self._unknown(before.unknown, changes.items.values() if known is None else changes.newest)
        if unknown is before.unknown:
            return before
        source = akin or before
        chosen = heapq.nlargest(self._limit, unknown.values(), key=_recency)
        made = {
            one.item_id: last
            for one in chosen
            if (last := source.made.get(one.item_id)) and (last.offered or last.change == one)
        }
        missing = [one for one in chosen if one.item_id not in made or made[one.item_id].change != one]
        return self._keep(_Kept(unknown, chosen, missing, made), source.rows, ())

    def _kept_of(self, state: "ReferenceType[Changes] | None") -> _Kept | None:
        found = None if state is None else state()
        return None if found is None else self._kept.get(found)

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

    def _keep(self, kept: _Kept, last: NewRows | None, encoded: Sequence[_Encoded]) -> _Kept:
        """Return a state with its rows, in the order in which the items came, and its counts."""
        found = [one for one in reversed(kept.chosen) if (made := kept.made.get(one.item_id)) and made.offered]
        rows = None
        if found:
            ids = tuple(one.item_id for one in found)
            rows = NewRows(
                first=len(self._items) + 1,
                ids=ids,
                attributes=tuple(one.attributes or _NO_CONTENT for one in found),
                vectors=_gathered(ids, last, encoded),
                stand_ins=np.array([kept.made[item].stand_in for item in ids], dtype=np.int64),
            )
        failed = sum(one.failed for one in kept.made.values())
        counts = NewItemCounts(
            offered=len(found),
            unreadable=len(kept.made) - len(found) - failed,
            failed=failed,
            beyond=len(kept.unknown) - len(kept.chosen),
            waiting=sum(one.item_id not in kept.made for one in kept.missing),
        )
        return replace(kept, rows=rows, counts=counts)

    def _encoded(self, changes: Sequence[ItemChange]) -> list[_Encoded]:
        """Encode items; where that fails, half of them at a time, so that one spoils no other."""
        if not changes:
            return []
        try:
            vectors, readable = self._encoder.described([one.attributes or _NO_CONTENT for one in changes])
            sound = readable & np.isfinite(vectors).all(axis=1)
            stand_ins = np.zeros(len(changes), dtype=np.int64)
            stand_ins[sound] = self._stand_ins(vectors[sound])
        except Exception:  # noqa: BLE001  (those of ONNX Runtime and FAISS share no public base class)
            if len(changes) == 1:
                _log.exception("a new item cannot be encoded and waits for the next bundle")
                return [_Encoded(_Made(changes[0], offered=False, failed=True))]
            middle = len(changes) // 2
            return self._encoded(changes[:middle]) + self._encoded(changes[middle:])
        return [
            _Encoded(_Made(one, bool(offered), bool(reads and not offered), int(stand_in)), vector)
            for one, vector, reads, offered, stand_in in zip(changes, vectors, readable, sound, stand_ins, strict=True)
        ]


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
    if encoder is None:
        return None
    return Newcomers(encoder, runtime.items, limit, StandIns(runtime.index, runtime.item_vectors))


def _recency(change: ItemChange) -> tuple[int, str]:
    """Return what is larger for what changed later; of one version the id decides."""
    return change.version, change.item_id


def _gathered(ids: Sequence[str], last: NewRows | None, encoded: Sequence[_Encoded]) -> NDArray[np.float32]:
    """Return the `[M, D]` vectors of items: those just encoded, all others from the last rows."""
    new = {one.made.change.item_id: one.vector for one in encoded if one.made.offered and one.vector is not None}
    pools = [] if last is None else [last.vectors]
    places = {} if last is None else dict(last.places)
    places.update({item: place for place, item in enumerate(new, 0 if last is None else len(last))})
    if new:
        pools.append(np.stack(list(new.values())))
    gathered: NDArray[np.float32] = np.concatenate(pools)[[places[item] for item in ids]]
    return gathered
