"""Reading the bundle as a person would: find an item, pick an example user, see a history."""

from itertools import islice

import numpy as np

from retrank.contract.api import CatalogueItem, CatalogueItems, KnownUser, KnownUsers, UserHistory
from retrank.serving.new_rows import NewRows
from retrank.serving.runtime import Runtime

MAX_LISTED = 200
MAX_QUERY_LENGTH = 100
_MIN_EVENTS = 3
_TITLE = "title"


class Catalogue:
    """Read-only views of one bundle."""

    def __init__(self, runtime: Runtime) -> None:
        """Look at an open bundle."""
        self._runtime = runtime

    def search(self, query: str, limit: int, new: NewRows | None = None) -> CatalogueItems:
        """Return up to `limit` items whose id or title contains the text, most popular first; "" matches all.

        Args:
            query: the text, whatever its case.
            limit: how many, >= 1.
            new: items the bundle does not know and that are offered; they stand last, the newest of them first.
        """
        popular = self._runtime.popular_items
        if query:
            popular = popular[self._runtime.attributes.matching(query)[popular - 1]]
        found = self._items(popular[:limit])
        return CatalogueItems(items=[*found, *_new_ones(new, query.casefold(), limit - len(found))])

    def example_users(self, limit: int) -> KnownUsers:
        """Return up to `limit` users with a few events at least, spread evenly over the bundle."""
        lengths = self._runtime.histories.lengths
        eligible = np.flatnonzero(lengths >= min(_MIN_EVENTS, int(lengths.max(initial=0))))
        chosen = eligible[np.linspace(0, len(eligible) - 1, min(limit, len(eligible))).astype(np.int64)]
        users = self._runtime.users
        return KnownUsers(
            users=[KnownUser(user_id=users.id(int(user) + 1), num_events=int(lengths[user])) for user in chosen]
        )

    def history(self, user_id: str, limit: int) -> UserHistory:
        """Return the newest `limit` events of a user, newest first; none for an unknown user."""
        row = self._runtime.users.row(user_id)
        events = self._runtime.histories.of(row - 1) if row else np.empty(0, dtype=np.int32)
        newest = events[::-1][:limit]
        return UserHistory(user_id=user_id, num_events=len(events), items=self._items(newest))

    def _items(self, rows: np.ndarray[tuple[int], np.dtype[np.int32]]) -> list[CatalogueItem]:
        attributes = self._runtime.attributes.of(rows)
        items = self._runtime.items
        return [
            CatalogueItem(item_id=items.id(int(row)), attributes=shown)
            for row, shown in zip(rows, attributes, strict=True)
        ]


def _new_ones(new: NewRows | None, query: str, limit: int) -> list[CatalogueItem]:
    """Return up to `limit` new items whose id or title contains a text in lower case, the newest first."""
    if new is None:
        return []
    found = (place for place in range(len(new) - 1, -1, -1) if _contains(new, place, query))
    return [CatalogueItem(item_id=new.ids[place], attributes=new.shown(place)) for place in islice(found, limit)]


def _contains(new: NewRows, place: int, query: str) -> bool:
    title = new.value(place, _TITLE)
    return query in new.ids[place].casefold() or (isinstance(title, str) and query in title.casefold())
