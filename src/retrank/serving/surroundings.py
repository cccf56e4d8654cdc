"""What is known around a request beyond the bundle that answers it, read once when the request begins."""

import math
from typing import NamedTuple

from retrank.contract.api import DegradedReason
from retrank.serving.changes import NO_CHANGES, Changes
from retrank.serving.live_rules import Rules
from retrank.serving.stores.protocol import NOBODY, Profile
from retrank.serving.trends import Trend


class Surroundings(NamedTuple):
    """Facts of one moment; a recommender reads them and never asks a store itself.

    Attributes:
        profile: what the state store knows of the person.
        changes: the tenant's catalogue since the bundle was sealed.
        trend: what is popular now where the slate is shown; None where nobody counted, or too little was counted.
        rules: of operators, that hold where and when the slate is shown.
        budget_s: seconds the recommender may take.
        seed: of what is left to chance.
        lacking: what could not be read.
        skipped: what was not read for want of time.
    """

    profile: Profile = NOBODY
    changes: Changes = NO_CHANGES
    trend: Trend | None = None
    rules: Rules = ()
    budget_s: float = math.inf
    seed: int = 0
    lacking: tuple[DegradedReason, ...] = ()
    skipped: tuple[str, ...] = ()


NOTHING_AROUND = Surroundings()
