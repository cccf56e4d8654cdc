"""New items in the rows of one bundle: those it has no row for stand behind its own, N + 1, N + 2, ...

Arrays of the bundle end at row N. Whoever reads one by row goes through the functions here, each of which is the plain
look-up where there is no new item. What the bundle cannot know of a new item (popularity, what goes with it, facts) it
has of row 0, the padding: just what it would have of an item of the catalogue that nobody has touched.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract.vocab import Vocab

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class NewRows:
    """M >= 1 items that may be shown and that the bundle has no row for; never changed.

    Attributes:
        first: row of the first one, N + 1; the others follow.
        ids: `[M]` their ids.
        attributes: `[M]` what they are; None where there is no value.
        vectors: `[M, D]` float32, comparable with queries as the vectors of the bundle are.
        stand_ins: `[M]` int64 rows in 1..N of the items that are read in their place, see `stand_ins`.
        places: id -> place among the M.
        names: attributes that any of them has.
    """

    first: int
    ids: tuple[str, ...]
    attributes: tuple[Mapping[str, JsonValue], ...]
    vectors: NDArray[np.float32]
    stand_ins: Rows
    places: Mapping[str, int] = field(init=False)
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Make ids and names of attributes findable."""
        object.__setattr__(self, "places", {item: place for place, item in enumerate(self.ids)})
        object.__setattr__(self, "names", frozenset().union(*self.attributes))

    def __len__(self) -> int:
        """Return the number of new items M."""
        return len(self.ids)

    def row(self, item_id: str) -> int:
        """Return the row of an item, or 0 when it is not among these."""
        place = self.places.get(item_id)
        return 0 if place is None else self.first + place

    @property
    def rows(self) -> Rows:
        """`[M]` int64 rows of all."""
        return np.arange(self.first, self.first + len(self.ids), dtype=np.int64)

    def among(self, rows: NDArray[np.integer]) -> list[tuple[int, int]]:
        """Return position among `[C]` item rows and place among these, for each that is one of these."""
        positions = np.flatnonzero(rows >= self.first)
        return list(zip(positions.tolist(), (rows[positions] - self.first).tolist(), strict=True))

    def value(self, place: int, name: str) -> JsonValue:
        """Return an attribute; None where there is none."""
        return self.attributes[place].get(name)

    def shown(self, place: int) -> dict[str, JsonValue]:
        """Return the attributes that have a value."""
        return {name: value for name, value in self.attributes[place].items() if value is not None}

    def joined(self, nearest: Rows, query: NDArray[np.float32], item_vectors: NDArray[np.float32], count: int) -> Rows:
        """Return the `count` best of these items and of what an index found, all by exact inner product, best first.

        Args:
            nearest: `[P]` rows that the index found.
            query: `[D]` float32.
            item_vectors: `[N + 1, D]` float32 of the bundle.
            count: how many, >= 1.
        """
        own = self.vectors @ query
        best = np.arange(len(own)) if len(own) <= count else np.sort(np.argpartition(-own, count - 1)[:count])
        rows = np.concatenate([nearest, best + self.first])
        scores = np.concatenate([item_vectors[nearest] @ query, own[best]])
        return rows[np.argsort(-scores, kind="stable")[:count]]


def sealed_rows(new: NewRows | None, rows: Rows) -> Rows:
    """Return `[C]` item rows with the padding in the place of new ones: rows that arrays of the bundle have."""
    return rows if new is None else np.where(rows < new.first, rows, 0)


def rows_to_read(new: NewRows | None, history: Rows) -> Rows:
    """Return `[H]` rows of a history with the stand-in in the place of each new item: rows that the models know."""
    if new is None:
        return history
    late = history >= new.first
    read = history.copy()
    read[late] = new.stand_ins[history[late] - new.first]
    return read


def vectors_of(new: NewRows | None, item_vectors: NDArray[np.float32], rows: Rows) -> NDArray[np.float32]:
    """Return the `[C, D]` float32 vectors of `[C]` item rows.

    Args:
        new: the new items; None when there are none.
        item_vectors: `[N + 1, D]` of the bundle.
        rows: of items of either kind.
    """
    found: NDArray[np.float32] = item_vectors[sealed_rows(new, rows)]
    if new is not None:
        late = rows >= new.first
        found[late] = new.vectors[rows[late] - new.first]
    return found


def row_of(new: NewRows | None, items: Vocab, item_id: str) -> int:
    """Return the row of an item, or 0 when neither the bundle nor the new items have it."""
    return items.row(item_id) or (0 if new is None else new.row(item_id))


def rows_of(new: NewRows | None, items: Vocab, item_ids: Iterable[str]) -> Rows:
    """Return the rows of known items in order; unknown ones are dropped."""
    if new is None:
        return items.rows(item_ids).astype(np.int64)
    return np.array([row for item in item_ids if (row := items.row(item) or new.row(item))], dtype=np.int64)


def ids_of(new: NewRows | None, items: Vocab, rows: Iterable[int]) -> list[str]:
    """Return the ids of item rows, in that order; they are not checked."""
    if new is None:
        return items.ids_of(rows)
    return [new.ids[row - new.first] if row >= new.first else items.texts[row - 1] for row in rows]
