"""What people turn to lately, per placement: counts that fade, shared by all replicas through control documents.

An act (click, cart, purchase, rating) counts 1 when it arrives and fades exponentially, with the window as its mean
lifetime: after one window it counts 0.37. Each replica adds up what it took in and merges that into the shared document
every few seconds; faded sums can be merged in any order. A replica that is killed loses what it had not merged yet:
these are statistics, the event log is the truth.

All of it is bounded and goes on its own. Of every list the strongest items are kept, until they have faded. A document
goes when nobody has counted into it for `KEPT_S`. Which placements a tenant has lists of is noted in the document of
everywhere: a newcomer takes a free place, or that of one that nobody counted for `IDLE_S`; else it has no list.
"""

import logging
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from retrank.contract.api import Window
from retrank.contract.vocab import Vocab
from retrank.serving.kept_fresh import KeptFresh
from retrank.serving.stores.protocol import Control, StoreFull, StoreUnavailable
from retrank.serving.telemetry.facade import Telemetry

ACTS = frozenset({"click", "cart", "purchase", "rating"})
LIFETIMES_S: Mapping[Window, float] = {"24h": 86_400.0, "7d": 7 * 86_400.0}
MAX_ITEMS = 500
MAX_LISTS = 64
"""Lists of a tenant; acts on further placements count for everywhere only."""
IDLE_S = 86_400.0
"""A placement that nobody counted for so long makes room for another one."""
KEPT_S = 5 * max(LIFETIMES_S.values())
"""A document that nobody counted into for so long goes: all of it has faded to less than a hundredth of what it was."""
_FADED = 0.01
EVERYWHERE = "*"
_PLACEMENT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ATTEMPTS = 3
_log = logging.getLogger(__name__)


class Act(NamedTuple):
    """Somebody turned to an item, somewhere."""

    item_id: str
    placement: str | None


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Trend:
    """Faded counts of items, > 0, and `acts`, what all of them add up to; compared by identity."""

    counts: Mapping[str, float] = field(default_factory=dict)
    acts: float = field(init=False)

    def __post_init__(self) -> None:
        """Add up once, as every request asks."""
        object.__setattr__(self, "acts", sum(self.counts.values()))

    def rows(self, items: Vocab) -> "RowTrend":
        """Return the trend in the rows of one bundle."""
        known = {row: count for item, count in self.counts.items() if (row := items.row(item))}
        rows = np.array(sorted(known), dtype=np.int64)
        counts = np.array([known[row] for row in rows.tolist()], dtype=np.float32)
        return RowTrend(rows, counts / counts.max(initial=1e-30))


class RowTrend(NamedTuple):
    """T trending items of a bundle.

    Attributes:
        rows: `[T]` int64 increasing item rows.
        shares: `[T]` float32 share of the strongest item's count, 0..1.
    """

    rows: NDArray[np.int64]
    shares: NDArray[np.float32]

    def best_first(self) -> NDArray[np.int64]:
        """Return the rows, strongest first, ties by row."""
        return self.rows[np.lexsort((self.rows, -self.shares))]

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the shares of `[C]` item rows, 0 for those that do not trend."""
        if len(self.rows) == 0:
            return np.zeros(len(rows), dtype=np.float32)
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[places] == rows, self.shares[places], np.float32(0))


class _Counts(BaseModel):
    """A shared document: counts by window, as of a moment in seconds since the Unix epoch.

    `placements` says which placements have lists and when somebody last counted there; in that of everywhere only.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: float = 0.0
    windows: dict[Window, dict[str, float]] = {}
    placements: dict[str, float] = {}

    def later(self, now: float, new: Mapping[str, float]) -> "_Counts":
        """Return the counts of a later moment with new acts."""
        windows: dict[Window, dict[str, float]] = {}
        for window, lifetime_s in LIFETIMES_S.items():
            fade = math.exp(-max(now - self.at, 0.0) / lifetime_s)
            counts = Counter({item: count * fade for item, count in self.windows.get(window, {}).items()})
            counts.update(new)
            windows[window] = {item: count for item, count in counts.most_common(MAX_ITEMS) if count > _FADED}
        return _Counts(at=max(now, self.at), windows=windows, placements=self.placements)

    def with_placements(self, now: float, counted: Iterable[str]) -> "_Counts":
        """Return the same after acts on placements, of which each has a place, or gets one, or has to do without."""
        places = {name: at for name, at in self.placements.items() if now - at < KEPT_S}
        for name in sorted(counted):
            if name not in places and len(places) >= MAX_LISTS - 1:
                longest = min(places, key=lambda place: (places[place], place))
                if now - places[longest] < IDLE_S:
                    continue
                del places[longest]
            places[name] = now
        return self.model_copy(update={"placements": places})


class Trends:
    """Counts acts, and tells what trends."""

    def __init__(
        self,
        control: Control,
        now: Callable[[], float],
        *,
        clock: Callable[[], float],
        every_s: float,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Start without knowledge.

        Args:
            control: shares the counts.
            now: seconds since the Unix epoch.
            clock: monotonic seconds.
            every_s: how often `poll` is called.
            telemetry: told when acts could not be counted.
        """
        self._control, self._now, self._telemetry = control, now, telemetry or Telemetry()
        self._new: dict[str, dict[str, Counter[str]]] = {}  # tenant -> placement -> item -> acts
        self._lock = threading.Lock()
        self._known = KeptFresh(self._read, Trend(), clock, every_s=every_s, max_keys=4 * MAX_LISTS)

    def count(self, tenant: str, acts: Iterable[Act]) -> None:
        """Add acts to what will be shared; quick, asks no store."""
        with self._lock:
            for act in acts:
                self._list(tenant, EVERYWHERE)[act.item_id] += 1
                if act.placement is not None and _PLACEMENT.fullmatch(act.placement):
                    self._list(tenant, act.placement)[act.item_id] += 1

    def merge(self) -> None:
        """Share what was counted; while the store is away it waits, the strongest items of each list."""
        with self._lock:
            waiting, self._new = self._new, {}
        away = False
        for tenant, lists in waiting.items():
            try:
                if not away:
                    self._merge_tenant(tenant, lists)
            except StoreUnavailable:
                away = True
            with self._lock:
                for placement, counts in lists.items():
                    self._list(tenant, placement).update(dict(counts.most_common(MAX_ITEMS)))

    def trend(self, tenant: str, placement: str | None, window: Window) -> Trend:
        """Return what trends; what was known before while the store is away."""
        return self._known.look((tenant, placement or EVERYWHERE, window))[0]

    def poll(self) -> None:
        """Share what was counted, and look at what others counted."""
        self.merge()
        self._known.poll()

    def _read(self, key: tuple[str, str, Window], before: Trend) -> Trend:
        tenant, placement, window = key
        counts = _counts(self._control.document(_name(tenant, placement)).value).later(self._now(), {})
        found = counts.windows[window]
        return Trend(found) if found or before.counts else before

    def _list(self, tenant: str, placement: str) -> Counter[str]:
        """Return the list of a placement; a thrown-away one when the tenant has too many."""
        lists = self._new.setdefault(tenant, {})
        if placement not in lists and placement != EVERYWHERE and len(lists) >= MAX_LISTS:
            return Counter()
        return lists.setdefault(placement, Counter())

    def _merge_tenant(self, tenant: str, lists: dict[str, Counter[str]]) -> None:
        """Share the lists of a tenant and take out those that were; others may have been faster than the rest."""
        placements = lists.keys() - {EVERYWHERE}
        shared = self._merge_one(tenant, EVERYWHERE, lists.get(EVERYWHERE, {}), placements)
        if shared is None:
            return
        lists.pop(EVERYWHERE, None)
        for placement in sorted(placements):
            without = placement not in shared.placements
            if without or self._merge_one(tenant, placement, lists[placement]) is not None:
                del lists[placement]

    def _merge_one(
        self, tenant: str, placement: str, counts: Mapping[str, int], placements: Iterable[str] = ()
    ) -> _Counts | None:
        """Add to a document and return what it says now; None when others were faster every time."""
        name = _name(tenant, placement)
        for _ in range(_ATTEMPTS):
            now, document = self._now(), self._control.document(name)
            later = _counts(document.value).later(now, counts).with_placements(now, placements)
            try:
                if self._control.write(name, later.model_dump(), document.version, until=now + KEPT_S):
                    return later
            except StoreFull as error:  # ids of hundreds of letters: there is no room for them, now or later
                _log.warning("acts of tenant %s on placement %s are not counted: %s", tenant, placement, error)
                self._telemetry.fallback("trends", "store_full")
                return later
        return None


def _name(tenant: str, placement: str) -> str:
    return f"trends/{tenant}/{placement}"


def _counts(value: object) -> _Counts:
    """Return a document; an empty one when there is none, or another version wrote it."""
    try:
        return _Counts.model_validate(value or {})
    except ValidationError:
        return _Counts()
