"""From records to calls of the profile store."""

from collections.abc import Sequence
from itertools import groupby

from retrank.serving.events.records import Change
from retrank.serving.stores.protocol import Profiles


def apply_changes(profiles: Profiles, changes: Sequence[Change], now: float) -> int:
    """Apply changes in order, in as few calls as that allows; returns how many were new.

    Raises:
        StoreUnavailable: some may have been applied; all may be applied again.
    """
    new = 0
    for (tenant, erasing), group in groupby(changes, key=lambda change: (change.tenant, change.event is None)):
        if erasing:
            for change in group:
                profiles.erase(tenant, change.erase or "")
        else:
            new += sum(profiles.apply(tenant, [change.event for change in group if change.event is not None], now))
    return new
