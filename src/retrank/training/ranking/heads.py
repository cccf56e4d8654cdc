"""What a ranker is to predict, in the words of a store: which events count for which head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import ConfigError
from retrank.contract.heads import Head
from retrank.data.store import EventStore
from retrank.data.visits import event_marks


@dataclass(frozen=True)
class HeadSettings:
    """One head and its events.

    Attributes:
        name, kind, given: see `Head`.
        weight: exponent of the answer in the score, >= 0.
        actions: names of the events that count; None = all of them.
    """

    name: str
    kind: Literal["binary", "value"] = "binary"
    given: str | None = None
    weight: float = 1.0
    actions: Sequence[str] | None = None

    @property
    def head(self) -> Head:
        """The head as the model knows it."""
        return Head(self.name, self.kind, self.given)


def marks_of(store: EventStore, heads: Sequence[HeadSettings]) -> NDArray[np.float32]:
    """Return `[E, H]` float32: for a binary head 1 where an event counts, for a value head its value where it counts.

    Raises:
        ConfigError: an action the store does not know, or a value head without values.
    """
    names = store.facts.actions
    for head in heads:
        unknown = sorted(set(head.actions or ()) - set(names))
        if unknown:
            raise ConfigError(f"head {head.name!r}: actions {unknown} are not in the store, which has {sorted(names)}")
        if head.kind == "value" and store.values is None:
            raise ConfigError(f"head {head.name!r}: the store has no values; name a value column when ingesting")
    chosen = [None if head.actions is None else store.actions.rows(head.actions).tolist() for head in heads]
    marks = event_marks(len(store.sequences.item_rows), actions=store.sequences.actions, chosen=chosen)
    for column, head in enumerate(heads):
        if head.kind == "value" and store.values is not None:
            marks[:, column] *= np.maximum(np.nan_to_num(store.values), 0)
    return marks
