"""From what the state store knows of a person to what a history takes from it. Pure functions on ids."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from retrank.contract.api import Session
from retrank.contract.moments import DAY_US
from retrank.contract.slate_options import HISTORY_TYPES, NOT_HISTORY, SeenPolicy
from retrank.serving.stores.protocol import Profile

_NAMED = frozenset({*HISTORY_TYPES, *NOT_HISTORY}) - {"custom"}


class LiveHistory(NamedTuple):
    """What follows the sealed history.

    Attributes:
        item_ids: items of live events, oldest first.
        times_us: when each happened, in microseconds.
        kinds: what each was.
        recent: items of the session that were not posted as events, oldest first.
    """

    item_ids: Sequence[str]
    times_us: Sequence[int]
    kinds: Sequence[str]
    recent: Sequence[str]


def live_history(profile: Profile, session: Session, *, after_us: int) -> LiveHistory:
    """Take live events newer than the sealed ones, then what only the session tells; each event counts once.

    An item of `session.recent` that was also posted as an event (of that session, if it has an id) is that event.
    """
    if not profile.events:
        return LiveHistory((), (), (), session.recent)
    acts = [event for event in profile.events if event.kind not in NOT_HISTORY]
    newer = [event for event in acts if event.time_us > after_us]
    posted = Counter(event.item_id for event in acts if session.id is None or event.session_id == session.id)
    told = []
    for item in reversed(session.recent):  # the newest mention of an item is the one that was posted
        if posted[item] > 0:
            posted[item] -= 1
        else:
            told.append(item)
    return LiveHistory(
        item_ids=[event.item_id for event in newer],
        times_us=[event.time_us for event in newer],
        kinds=[event.kind for event in newer],
        recent=told[::-1],
    )


def remembered(profile: Profile, policy: SeenPolicy | None, now: float) -> list[str]:
    """Return the items that count as seen.

    Args:
        profile: with its seen memory.
        policy: which events count and for how long; None is every act, for as long as it is remembered.
        now: seconds since the Unix epoch.
    """
    wanted = frozenset(HISTORY_TYPES if policy is None else policy.types)
    since_us = 0 if policy is None or policy.days is None else int(now * 1e6) - policy.days * DAY_US
    return [
        item
        for item, kinds in profile.seen.items()
        if any(_type(kind) in wanted and time_us >= since_us for kind, time_us in kinds.items())
    ]


def _type(kind: str) -> str:
    """Return the type of a kind: the name of a custom event is its kind."""
    return kind if kind in _NAMED else "custom"
