"""Replace every setting that reads `from_data` by what the rule of `training.auto` chooses; given values stay."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from retrank.config import accepts, instantiate
from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences
from retrank.data import targets
from retrank.data.facts import facts_of
from retrank.data.splits import Split
from retrank.training import auto
from retrank.training.auto import RULES, Choice
from retrank.training.order_probe import order_gain

FROM_DATA = "from_data"
CHOSEN = "auto"
_TARGET = "_target_"


def settle(config: Mapping[str, Any], sequences: Sequences) -> dict[str, Any]:
    """Return the configuration with nothing left to choose, and with facts and reasons under the key `auto`.

    The protocol is chosen by what came before the test window, everything else by the training part of the split. A
    configuration without `from_data` comes back as it is, and a setting that its class lacks is left out.

    Args:
        config: resolved settings of `retrank train`.
        sequences: all histories of the store.

    Raises:
        ConfigError: a setting reads `from_data` and there is no rule for it, or its value is refused by its class; or
            `batches.targets` is a word.
        DataError: the data cannot be split.
    """
    settled = copy.deepcopy(dict(config))
    if not any(_undecided(settled)):
        return settled
    _check_targets(settled["batches"].get("targets", {}))
    reasons: dict[str, str] = {}
    if _asks(settled["split"]):
        _apply(settled, "split", auto.split(sequences), reasons)
    parted: Split = instantiate(settled["split"])(sequences)
    num_actions = 0 if sequences.actions is None else int(sequences.actions.max(initial=0))
    facts = replace(facts_of(parted.train, num_actions=num_actions), order_gain=order_gain(parted))
    for name, rule in RULES.items():
        holder, key = _place(settled, name)
        if not _asks(holder.get(key)):
            continue
        if _TARGET in holder and not accepts(holder[_TARGET], key):
            del holder[key]
            reasons[name] = f"left out, {holder[_TARGET].rpartition('.')[2]} has no such setting"
        else:
            _apply(settled, name, rule(facts, settled), reasons)
    if left := sorted(_undecided(settled)):
        raise ConfigError(f"{', '.join(left)}: {FROM_DATA}, but no rule chooses it; rules exist for {', '.join(RULES)}")
    return settled | {CHOSEN: {"facts": asdict(facts), "reasons": reasons}}


def _check_targets(node: Any) -> None:
    if node is None or (isinstance(node, str) and node != FROM_DATA):
        raise ConfigError(
            f"batches.targets is {node!r}; expected a class: batches.targets._target_={_of_targets(str(node))}"
        )


def _of_targets(word: str) -> str:
    return f"{targets.__name__}.{word if hasattr(targets, word) else targets.NextEvent.__name__}"


def _asks(node: Any) -> bool:
    """Tell whether a setting, or the class of a group of settings, is to be chosen."""
    return node == FROM_DATA or (isinstance(node, dict) and node.get(_TARGET) == FROM_DATA)


def _undecided(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _undecided(value, f"{prefix}{key}.")
        elif value == FROM_DATA:
            yield f"{prefix}{key}"


def _place(settings: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    *path, key = name.split(".")
    for part in path:
        settings = settings[part]
    return settings, key


def _apply(settings: dict[str, Any], name: str, choice: Choice, reasons: dict[str, str]) -> None:
    """Write a choice into the settings; what was given beside a class is kept and wins over what came with it."""
    holder, key = _place(settings, name)
    given = holder[key]
    beside = {name: value for name, value in given.items() if name != _TARGET} if isinstance(given, dict) else {}
    holder[key] = choice.value | beside if isinstance(choice.value, dict) else choice.value
    reasons[name] = choice.reason
