"""What a bundle is assembled from, as plain objects: no run folder and no store is needed to make one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrank.contract.context import ContextSpec
from retrank.contract.encode import CONTEXT_ROWS
from retrank.contract.errors import BundleError
from retrank.contract.features import ITEM_COLUMN
from retrank.contract.manifest import DataFacts, MetricFacts
from retrank.contract.sequences import Sequences
from retrank.export.evidence import Evidence
from retrank.export.item_encoder import NewItems
from retrank.models.protocols import QueryEncoder


@dataclass(frozen=True)
class TrainedModel:
    """A model with its best weights and what was measured on it.

    Attributes:
        encoder: the model in eval mode.
        similarity: what its scores are; item vectors and queries are already normalised for "cosine".
        name: kind of model, for people.
        run_id: the training run it comes from.
        metrics: offline metrics and those of the baselines.
        config: the resolved configuration of the run.
        evidence: what the model card reports.
        new_items: what encodes items that training never met, of a model that reads what items are.
        unlearned: `[N + 1]` bool, items that training never met, of a model that goes by ids alone; None = there are
            none, or it is not known.
    """

    encoder: QueryEncoder
    similarity: Literal["dot", "cosine"]
    name: str
    run_id: str
    metrics: MetricFacts
    config: dict[str, Any] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    new_items: NewItems | None = None
    unlearned: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Catalogue:
    """Who and what can be asked about.

    Attributes:
        items: row i describes item row i + 1: `item_id` (string), then display attributes.
        user_ids: id i belongs to user row i + 1.
        histories: everything known of every user, in the order of `user_ids`, then of every visitor.
        facts: where the data came from.
        actions: names of the action rows 1..A in `histories`.
        action_types: event types of actions whose name does not say it, see `contract.actions`.
        context: what the rows of `histories.contexts` mean; None where the model does not read them.
        num_visitors: how many histories are of visitors: counted and proven on, but nobody can ask as one of them, and
            they are not sealed.
    """

    items: pa.Table
    user_ids: Sequence[str]
    histories: Sequences
    facts: DataFacts
    actions: Sequence[str] = ()
    action_types: Mapping[str, str] = field(default_factory=dict)
    context: ContextSpec | None = None
    num_visitors: int = 0

    @property
    def sealed_histories(self) -> Sequences:
        """Histories of those who can ask (views)."""
        known = self.histories
        offsets = known.offsets[: len(self.user_ids) + 1]
        own = slice(0, offsets[-1])
        return Sequences(
            known.item_rows[own],
            offsets,
            None if known.times is None else known.times[own],
            actions=None if known.actions is None else known.actions[own],
            contexts=None if known.contexts is None else known.contexts[own],
        )

    @property
    def item_ids(self) -> list[str]:
        """Raw item ids in row order."""
        ids: list[str] = self.items.column(ITEM_COLUMN).cast(pa.string()).to_pylist()
        return ids


@dataclass(frozen=True)
class Fallbacks:
    """Answers that need no model.

    Attributes:
        popularity: `[N + 1]` float32, higher is more popular; row 0 unused.
        covisit_items: `[N + 1, K]` int32 item rows, strongest successor first, 0 = none.
        covisit_weights: `[N + 1, K]` float32.
    """

    popularity: NDArray[np.float32]
    covisit_items: NDArray[np.int32]
    covisit_weights: NDArray[np.float32]


@dataclass(frozen=True)
class Circumstances:
    """Everything about an export that is not its input: time, randomness, versions, and where progress goes.

    Attributes:
        now: current time (UTC); recorded as `created_at`.
        timer: monotonic seconds, for measured latencies.
        seed: seed of the sampled histories.
        git_commit: commit of the code, where known.
        say: receives one line of progress at a time.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    timer: Callable[[], float] = perf_counter
    seed: int = 0
    git_commit: str | None = None
    say: Callable[[str], None] = print


def check_fit(model: TrainedModel, catalogue: Catalogue, fallbacks: Fallbacks) -> None:
    """Refuse parts that do not belong together.

    Raises:
        BundleError: two parts disagree on the number of items or users.
    """
    num_items = model.encoder.num_items
    if ITEM_COLUMN not in catalogue.items.column_names:
        raise BundleError(f"the item table has no column {ITEM_COLUMN!r}, found {catalogue.items.column_names}")
    ids = catalogue.item_ids
    if len(set(ids)) != len(ids) or None in ids:
        raise BundleError(
            f"{len(ids)} items have {len(set(ids) - {None})} distinct ids; each needs one of its own, ingest again"
        )
    counts = {
        "items in the item table": len(catalogue.items),
        "popularity scores": len(fallbacks.popularity) - 1,
        "rows of covisit_items": len(fallbacks.covisit_items) - 1,
        "rows of covisit_weights": len(fallbacks.covisit_weights) - 1,
    }
    for what, count in counts.items():
        if count != num_items:
            raise BundleError(f"{count} {what}, but the model knows {num_items} items; was it trained on this store?")
    if len(catalogue.user_ids) + catalogue.num_visitors != len(catalogue.histories):
        raise BundleError(
            f"{len(catalogue.user_ids)} user ids but {len(catalogue.histories)} histories, {catalogue.num_visitors} of "
            "them of visitors; one history per user"
        )
    if len(catalogue.histories.item_rows) == 0:
        raise BundleError("the histories hold no event; there is nothing to prove the model on")
    highest = int(catalogue.histories.item_rows.max())
    if highest > num_items:
        raise BundleError(f"a history names item row {highest}, but the model knows {num_items} items")
    done = catalogue.histories.actions
    if done is not None and done.max(initial=0) > len(catalogue.actions):
        raise BundleError(f"a history names action row {done.max()}, but {len(catalogue.actions)} actions have names")
    if (CONTEXT_ROWS in model.encoder.inputs) != (catalogue.context is not None):
        told = "none" if catalogue.context is None else ", ".join(catalogue.context.sizes)
        raise BundleError(
            f"the model reads {', '.join(model.encoder.inputs)} and the fields of the context are {told}; was it "
            "trained on this store?"
        )
