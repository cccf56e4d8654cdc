"""`experiment=auto`: the rule that chooses settings from the training data, one function per setting.

Rules are asked in the order of `RULES`; later ones see what earlier ones chose, or what was given instead. Thresholds
are round on purpose: they tell few from many. docs/auto.md explains them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from retrank.contract.errors import DataError
from retrank.contract.moments import DAY_US
from retrank.contract.sequences import Sequences
from retrank.data.facts import Facts, popularity_half_life
from retrank.data.splits import GlobalTemporal

FEW_EVENTS = 500_000
FULL_SOFTMAX_ITEMS = 10_000
VALIDATION_EVENTS = 10_000
VALIDATION_CASES = 100
BASKETS = 0.5
REPEATS = 0.2
ORDER = 1.1
_SMALLEST_WIDTH = 16
_MOST_VALIDATION = 0.1
Known = Mapping[str, Any]
"""The settings of `retrank train`, nested as in the configuration, with what was given or chosen so far."""


class Choice(NamedTuple):
    """A value, and why. A class is chosen as a mapping with `_target_`; what was given beside it stays."""

    value: Any
    reason: str


def split(sequences: Sequences) -> Choice:
    """Choose the protocol; nothing is read of events in or after the test window but their number."""
    if sequences.times is None:
        return _last_out("without times only the order of events is known")
    try:
        share, why = _validation_share(sequences)
        num_cases = len(GlobalTemporal(validation_share=share)(sequences).validation)
    except DataError as error:
        return _last_out(str(error).partition(";")[0])
    if num_cases < VALIDATION_CASES:
        return _last_out(f"a common validation window has {num_cases} users, too few to choose by")
    return Choice({"_target_": "retrank.data.splits.GlobalTemporal", "validation_share": share}, why)


def _last_out(why: str) -> Choice:
    rule = {"_target_": "retrank.data.splits.LeaveLastOut"}
    return Choice(rule, f"{why}; no ranker can follow, it learns from what happened after a moment (global_temporal)")


def _validation_share(sequences: Sequences) -> tuple[float, str]:
    """Return the share of events in the validation window, 0.02..0.1, and why."""
    usual = GlobalTemporal()
    half_life = popularity_half_life(usual(sequences).train)
    times = np.sort(np.asarray(sequences.times))
    test_at = times[int(len(times) * (1 - usual.test_share))]
    within = np.searchsorted(times, [test_at - round(half_life * DAY_US), test_at])
    enough, fresh = VALIDATION_EVENTS / len(times), float(within[1] - within[0]) / len(times)
    share = round(min(_MOST_VALIDATION, max(0.02, min(enough, fresh))), 3)
    if min(enough, fresh) > _MOST_VALIDATION:
        return share, f"the data is small: at most {_MOST_VALIDATION:.0%} of its events are set aside to choose by"
    why = (
        f"{VALIDATION_EVENTS:,} events are enough to choose by; popularity dates with a half-life of {half_life:g} days"
    )
    return share, f"{why}, and training should end no longer before the test window"


def model(facts: Facts, known: Known) -> Choice:  # noqa: ARG001  (the same arguments for every rule)
    """Choose the encoder."""
    if facts.basket_share is None:
        return Choice(
            {"_target_": "retrank.models.sasrec.SASRec", "flavour": "gated"}, "events have an order and no times"
        )
    if why := _little_order(facts):
        value = {"_target_": "retrank.models.pooling.PooledHistory", "pooling": "attention"}
        return Choice(value, f"{why}: there is little order to read")
    return Choice({"_target_": "retrank.models.hstu.HSTU", "time_bias": True}, "how long ago events were is known")


def max_length(facts: Facts, known: Known) -> Choice:  # noqa: ARG001
    """Choose how many events are read; longer histories give random windows."""
    value = min(200, max(50, -(-facts.long_history // 10) * 10))
    return Choice(value, f"four of five users have at most {facts.long_history} events; 50 to 200 are read")


def window(facts: Facts, known: Known) -> Choice:  # noqa: ARG001
    """Choose the length of training windows."""
    return Choice(known["model"]["max_length"], "what the model reads")


def warm_start(facts: Facts, known: Known) -> Choice:
    """Choose whether item vectors start from co-occurrence."""
    if facts.num_events >= FEW_EVENTS:
        return Choice(None, f"{facts.num_events:,} events are enough to find co-occurrence anew")
    given = known["model"]["width"]
    if min(facts.num_users, facts.num_items) <= (given if isinstance(given, int) else _SMALLEST_WIDTH):
        return Choice(None, f"{facts.num_users} users and {facts.num_items} items are too few to factorise")
    value = {"_target_": "retrank.data.item_factors.ItemFactors", "popularity_power": 0.5}
    return Choice(value, f"{facts.num_events:,} events are too few to find co-occurrence anew")


def width(facts: Facts, known: Known) -> Choice:
    """Choose the size of vectors, below the number of users and items where they start from co-occurrence."""
    if known["warm_start"] is None and facts.num_events < 20 * FEW_EVENTS:
        value = 64 if facts.num_events < FEW_EVENTS else 96
        return Choice(value, f"vectors are learned from {facts.num_events:,} events alone")
    widest = min(facts.num_users, facts.num_items) - 1
    value = 128 if widest >= 128 else 1 << (widest.bit_length() - 1)
    why = "vectors start from co-occurrence" if known["warm_start"] else f"{facts.num_events:,} events carry it"
    return Choice(value, why)


def num_blocks(facts: Facts, known: Known) -> Choice:  # noqa: ARG001
    """Choose the depth."""
    value = 1 if facts.num_events < FEW_EVENTS else 4
    return Choice(value, f"{facts.num_events:,} events, four blocks from {FEW_EVENTS:,}")


def dropout(facts: Facts, known: Known) -> Choice:  # noqa: ARG001
    """Choose the share of states that training hides."""
    value = 0.3 if facts.num_events < FEW_EVENTS else 0.25
    return Choice(value, f"{facts.num_events:,} events, less from {FEW_EVENTS:,}")


def similarity(facts: Facts, known: Known) -> Choice:  # noqa: ARG001
    """Choose what a score is."""
    if _ordered(known):
        return Choice("cosine", "the next event hangs on what came before, and directions are learned fastest")
    return Choice("dot", "what is popular now matters, and the length of a vector can say so")


def num_actions(facts: Facts, known: Known) -> Choice:  # noqa: ARG001
    """Choose whether the model reads what was done."""
    if facts.usual_actions < 2:
        return Choice(0, f"{facts.usual_actions} kinds of events are usual, there is nothing to tell apart")
    return Choice(facts.num_actions, f"{facts.usual_actions} kinds of events are usual and may mean different things")


def loss(facts: Facts, known: Known) -> Choice:  # noqa: ARG001
    """Choose whether all items are compared with at every step."""
    if facts.num_items <= FULL_SOFTMAX_ITEMS:
        return Choice({"_target_": "retrank.losses.softmax.FullSoftmax"}, f"{facts.num_items:,} items fit every step")
    value = {"_target_": "retrank.losses.sampled_softmax.SampledSoftmax", "num_negatives": 1024}
    return Choice(value, f"{facts.num_items:,} items, all of them at every step up to {FULL_SOFTMAX_ITEMS:,}")


def temperature(facts: Facts, known: Known) -> Choice:  # noqa: ARG001
    """Choose the scale of the scores."""
    if _cosine(known):
        return Choice(0.05, "cosines are at most 1")
    return Choice(1.0, "dot products find their own scale")


def targets(facts: Facts, known: Known) -> Choice:  # noqa: ARG001
    """Choose what is predicted."""
    if facts.half_life_days is None:
        return Choice({"_target_": "retrank.data.targets.NextEvent"}, "events have an order and no times")
    repeats = f"{facts.repeat_share:.0%} repeat an item"
    why = _little_order(facts) or (repeats if facts.repeat_share >= REPEATS else None)
    if why is None:
        why = f"{facts.basket_share:.0%} of events share their moment, {repeats}, and order says more than items"
        return Choice({"_target_": "retrank.data.targets.NextEvent"}, f"the next event says most: {why}")
    value = {"_target_": "retrank.data.targets.LaterBaskets", "half_life_days": facts.half_life_days, "floor": 0.05}
    return Choice(value, f"{why}; popularity dates with a half-life of about {facts.half_life_days:g} days")


def event_dropout(facts: Facts, known: Known) -> Choice:
    """Choose the share of input events that training hides."""
    if facts.num_events >= FEW_EVENTS:
        return Choice(0.0, f"{facts.num_events:,} events are seen too seldom to be learned by heart")
    if _ordered(known):
        return Choice(0.2, f"{facts.num_events:,} events would be learned by heart; the newest matter")
    return Choice(0.5, f"{facts.num_events:,} events would be learned by heart; no single one matters")


def batch_size(facts: Facts, known: Known) -> Choice:
    """Choose histories per step so that an epoch has about a hundred steps, of 1,024 to 16,384 events each."""
    events = min(16_384, max(1_024, facts.num_events // 100))
    read = min(facts.num_events / facts.num_users, known["model"]["max_length"])
    return Choice(max(8, round(events / read)), f"about {events:,} events per step, a hundred steps per epoch")


def learning_rate(facts: Facts, known: Known) -> Choice:  # noqa: ARG001
    """Choose the peak rate."""
    if _cosine(known):
        return Choice(1e-3, "steps change directions only")
    return Choice(5e-4, "steps change lengths too, and with them the scale of all scores")


def max_epochs(facts: Facts, known: Known) -> Choice:
    """Choose the length of training in passes over the data."""
    if known["warm_start"]:
        return Choice(20, "vectors from co-occurrence need few passes")
    value = min(60, max(4, round(60_000_000 / facts.num_events)))
    return Choice(value, f"{facts.num_events:,} events, about 60 million are seen, 60 times each at most")


def ema_decay(facts: Facts, known: Known) -> Choice:
    """Choose how long weights are averaged, in steps."""
    steps = facts.num_events * known["trainer"]["max_epochs"] / 10_000
    return Choice(0.99 if steps < 5_000 else 0.999, "weights are averaged over a small part of all steps")


def _little_order(facts: Facts) -> str | None:
    """Return why events with times are better read as a set; None where they are not, or have no times."""
    if facts.basket_share is None:
        return None
    if facts.basket_share >= BASKETS:
        return f"{facts.basket_share:.0%} of events share their moment"
    if facts.order_gain is not None and facts.order_gain < ORDER:
        return f"a chain that reads order reaches {facts.order_gain:.0%} of what item neighbours reach without it"
    return None


def _cosine(known: Known) -> bool:
    return bool(known["model"].get("similarity", "cosine") == "cosine")  # a model without the setting has no other


def _ordered(known: Known) -> bool:
    return str(known["batches"]["targets"]["_target_"]).endswith("NextEvent")


RULES: Mapping[str, Callable[[Facts, Known], Choice]] = {
    "model": model,
    "model.max_length": max_length,
    "batches.max_length": window,
    "batches.targets": targets,
    "warm_start": warm_start,
    "model.width": width,
    "model.num_blocks": num_blocks,
    "model.dropout": dropout,
    "model.similarity": similarity,
    "model.num_actions": num_actions,
    "loss": loss,
    "loss.temperature": temperature,
    "batches.event_dropout": event_dropout,
    "batches.batch_size": batch_size,
    "optim.learning_rate": learning_rate,
    "trainer.max_epochs": max_epochs,
    "trainer.ema_decay": ema_decay,
}
