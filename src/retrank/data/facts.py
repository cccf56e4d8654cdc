"""What is known of training histories before a model is chosen: a few numbers, none from a window that is tested on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError
from retrank.contract.moments import DAY_US
from retrank.contract.sequences import Sequences

_LONG = 80
_PROBE = 0.1
_UNIFORM = 0.1
_USUAL = 0.01
HALF_LIVES_DAYS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


@dataclass(frozen=True)
class Facts:
    """Numbers about histories, all of them on events; users and items without events are not counted.

    Attributes:
        num_events: events, >= 1.
        num_users: users with events.
        num_items: items with events.
        long_history: 80th percentile of the events of a user.
        repeat_share: share of events whose item the user had before in the same way, 0..1; a purchase of what was only
            viewed repeats nothing.
        basket_share: share of successive events of a user that carry the same time, 0..1; None without times.
        half_life_days: see `popularity_half_life`; None without times.
        num_actions: kinds of events that the store tells apart; 0 without actions.
        usual_actions: those of them that make up at least a hundredth of the events.
        order_gain: what reading the order of events gains on the validation cases, see `training.order_probe`; None
            where it was not asked.
    """

    num_events: int
    num_users: int
    num_items: int
    long_history: int
    repeat_share: float
    basket_share: float | None
    half_life_days: float | None
    num_actions: int = 0
    usual_actions: int = 0
    order_gain: float | None = None


def facts_of(histories: Sequences, *, num_actions: int = 0) -> Facts:
    """Count.

    Args:
        histories: training histories.
        num_actions: kinds of events in the store, whether or not they occur in training.

    Raises:
        DataError: there are no events.
    """
    if not len(histories.item_rows):
        raise DataError("the training histories hold no event, nothing can be chosen from them; choose another split")
    lengths = histories.lengths
    owners = np.repeat(np.arange(len(histories)), lengths)
    pairs = owners * (int(histories.item_rows.max()) + 1) + histories.item_rows
    return Facts(
        num_events=len(owners),
        num_users=int(np.count_nonzero(lengths)),
        num_items=len(np.unique(histories.item_rows)),
        long_history=int(np.percentile(lengths[lengths > 0], _LONG)),
        repeat_share=_repeat_share(pairs, histories.actions),
        basket_share=None if histories.times is None else round(_basket_share(owners, histories.times), 3),
        half_life_days=None if histories.times is None else popularity_half_life(histories),
        num_actions=num_actions,
        usual_actions=0 if histories.actions is None else _usual(histories.actions),
    )


def _repeat_share(pairs: NDArray[np.int64], actions: NDArray[np.int16] | None) -> float:
    """Return the share of events that repeat a (user, item) pair with the same action, where actions are known."""
    kinds = np.zeros(len(pairs), dtype=np.int64) if actions is None else actions.astype(np.int64)
    told_apart = pairs * (int(kinds.max()) + 1) + kinds
    return round(1 - len(np.unique(told_apart)) / len(told_apart), 3)


def _usual(actions: NDArray[np.int16]) -> int:
    """Count the known actions with at least `_USUAL` of the events."""
    return int(np.count_nonzero(np.bincount(actions)[1:] >= _USUAL * len(actions)))


def popularity_half_life(histories: Sequences) -> float:
    """Return how fast popularity dates: the half-life, of `HALF_LIVES_DAYS`, that foresees the newest events best.

    The newest tenth of the events is predicted from the counts of all older ones, each weighted by
    `0.5 ** (age / half_life)`; the half-life with the highest mean log-likelihood is returned, the longest of equals.
    A tenth of the probability is spread evenly, so that unknown items cost the same with every half-life.
    """
    assert histories.times is not None, "half-lives need times"
    order = np.argsort(histories.times, kind="stable")
    cut = int(len(order) * (1 - _PROBE))
    known, probe = order[:cut], order[cut:]
    if not len(known):
        return HALF_LIVES_DAYS[-1]
    ages = (int(histories.times[order[cut]]) - np.asarray(histories.times[known])) / DAY_US
    items, asked = np.asarray(histories.item_rows[known]), np.asarray(histories.item_rows[probe])
    likelihoods = [_log_likelihood(items, 0.5 ** (ages / half_life), asked) for half_life in HALF_LIVES_DAYS]
    return max(zip(likelihoods, HALF_LIVES_DAYS, strict=True))[1]


def _log_likelihood(items: NDArray[np.int32], weights: NDArray[np.float64], asked: NDArray[np.int32]) -> float:
    """Mean log-probability of `asked` when items are drawn as often as `weights` say."""
    size = max(int(items.max()), int(asked.max())) + 1
    counts = np.bincount(items, weights, size)
    share = counts / counts.sum() if counts.sum() > 0 else np.zeros(size)
    return float(np.log((1 - _UNIFORM) * share[asked] + _UNIFORM / size).mean())


def _basket_share(owners: NDArray[np.int64], times: NDArray[np.int64]) -> float:
    successive = owners[1:] == owners[:-1]
    tied = successive & (times[1:] == times[:-1])
    return float(tied.sum()) / max(1, int(successive.sum()))
