"""Reading the bundle as a person would: find an item, pick an example user, see a history."""

import numpy as np

from retrank.contract.api import CatalogueItem, CatalogueItems, KnownUser, KnownUsers, UserHistory
from retrank.serving.runtime import Runtime

MAX_LISTED = 200
MAX_QUERY_LENGTH = 100
_MIN_EVENTS = 3


class Catalogue:
    """Read-only views of one bundle."""

    def __init__(self, runtime: Runtime) -> None:
        """Look at an open bundle."""
        self._runtime = runtime

    def search(self, query: str, limit: int) -> CatalogueItems:
        """Return up to `limit` items whose id or title contains the text, most popular first; "" matches all."""
        popular = self._runtime.popular_items
        if query:
            popular = popular[self._runtime.attributes.matching(query)[popular - 1]]
        return CatalogueItems(items=self._items(popular[:limit]))

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
