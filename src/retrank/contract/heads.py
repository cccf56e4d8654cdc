"""What a ranker predicts for a candidate: one head per behaviour, and which head another one depends on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from retrank.contract.errors import ConfigError


@dataclass(frozen=True)
class Head:
    """One prediction of a ranker.

    Attributes:
        name: such as "click", "purchase" or "value".
        kind: "binary" is something that happens or not, "value" an amount above 0.
        given: an earlier binary head without which this one does not happen. A binary head then learns its probability
            given that head, and answers with the product; a value head learns the amount given that head.
    """

    name: str
    kind: Literal["binary", "value"]
    given: str | None = None


def check_heads(heads: Sequence[Head]) -> None:
    """Refuse heads that do not form an order in which each one can be computed.

    Raises:
        ConfigError: there is none, a name or kind is wrong, or `given` is no earlier binary head.
    """
    if not heads:
        raise ConfigError("no heads; a ranker needs at least one, such as a binary head 'click'")
    binary: list[str] = []
    names = [head.name for head in heads]
    for head in heads:
        if not head.name or names.count(head.name) > 1:
            raise ConfigError(f"head name {head.name!r} is empty or used twice; name each head once")
        if head.kind not in ("binary", "value"):
            raise ConfigError(f"head {head.name!r}: kind is {head.kind!r}; expected binary or value")
        if head.kind == "value" and head.given is None:
            raise ConfigError(
                f"value head {head.name!r} names no head in `given`; an amount needs something that has it"
            )
        if head.given is not None and head.given not in binary:
            raise ConfigError(
                f"head {head.name!r} is given {head.given!r}; expected a binary head listed before it, of {binary}"
            )
        if head.kind == "binary":
            binary.append(head.name)
