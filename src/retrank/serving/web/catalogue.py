"""Reading the bundle as a person would: find an item, pick an example user, see a history."""

from itertools import islice

import numpy as np

from retrank.contract.api import CatalogueItem, CatalogueItems, KnownUser, KnownUsers, Session, UserHistory
from retrank.serving.live_history import live_history
from retrank.serving.new_rows import NewRows
from retrank.serving.runtime import Runtime
from retrank.serving.stores.protocol import NOBODY, Profile

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

    def history(self, user_id: str, limit: int, profile: Profile = NOBODY) -> UserHistory:
        """Return the newest `limit` events of a user, newest first; none for an unknown user.

        Args:
            user_id: raw id.
            limit: how many, >= 1.
            profile: what is known of the user since the bundle was made.
        """
        row = self._runtime.users.row(user_id)
        sealed = self._runtime.histories.of(row - 1) if row else np.empty(0, dtype=np.int32)
        live = live_history(profile, Session(), after_us=self._sealed_until_us(row)).item_ids[::-1]
        shown = [self._item(item_id) for item_id in live[:limit]]
        newest = sealed[::-1][: limit - len(shown)]
        total = len(live) + len(sealed)
        return UserHistory(user_id=user_id, num_events=total, num_live=len(live), items=[*shown, *self._items(newest)])

    def _sealed_until_us(self, user_row: int) -> int:
        """Return the microsecond up to which the bundle has the events of a user, as a slate takes it (`Hydrate`)."""
        histories = self._runtime.histories
        if not user_row:
            return -1
        events = slice(histories.offsets[user_row - 1], histories.offsets[user_row])
        if histories.times is None or events.start == events.stop:
            return int(self._runtime.manifest.created_at.timestamp() * 1e6)
        return int(histories.times[events.stop - 1])

    def _item(self, item_id: str) -> CatalogueItem:
        """Return an item by its id; one that the bundle does not know has no attributes."""
        row = self._runtime.items.row(item_id)
        return self._items(np.array([row], dtype=np.int32))[0] if row else CatalogueItem(item_id=item_id)

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
