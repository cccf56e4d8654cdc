"""What is known of a model besides its weights, for the model card: gathered from the run folder and the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from retrank.contract.errors import SourceError
from retrank.data.licences import UNKNOWN, licence_of
from retrank.data.store import EventStore
from retrank.metrics.bootstrap import paired_bootstrap
from retrank.metrics.case_ranks import SavedRanks

METRICS = ("ndcg@10", "hr@10", "mrr@10")


@dataclass(frozen=True)
class Interval:
    """A mean over cases with its 95 % interval (bootstrap over users)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Evidence:
    """What a model card reports; everything may be missing, and the card then says so.

    Attributes:
        card: the run card.
        report: `report.json` of the run.
        quality: the model's metrics on the test cases, by name.
        left_out: rows that did not become events, by rule or reason.
        licence: of the data.
    """

    card: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    quality: Mapping[str, Interval] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    licence: str = UNKNOWN


def gather(card: Mapping[str, Any], report: Mapping[str, Any], ranks: Path, store: EventStore) -> Evidence:
    """Return what the files of a run and its store say.

    Args:
        card: content of `run_card.json`.
        report: content of `report.json`.
        ranks: `ranks.npz` of the run.
        store: that the run was trained on.

    Raises:
        SourceError: the ranks are missing or not those of this store.
    """
    saved = SavedRanks.load(ranks)
    if saved.data_hash != store.facts.data_hash:
        raise SourceError(
            f"{ranks}: ranks on data {saved.data_hash}, the store holds {store.facts.data_hash}; evaluate the run again"
        )
    values = saved.ranks.per_case((10,))
    counted = store.facts.report
    return Evidence(
        card=card,
        report=report,
        quality={name: _interval(values[name], saved.ranks.users) for name in METRICS},
        left_out={**counted.get("filtered", {}), **counted.get("bad", {})},
        licence=licence_of(store.facts.name),
    )


def weakest(slices: Sequence[Mapping[str, Any]], least: int = 30) -> Mapping[str, Any] | None:
    """Return the slice with the lowest NDCG among those with at least `least` cases or targets."""
    return min((piece for piece in slices if piece["count"] >= least), key=lambda piece: piece["ndcg"], default=None)


def _interval(values: np.ndarray[Any, np.dtype[np.float64]], users: np.ndarray[Any, np.dtype[np.int64]]) -> Interval:
    """Bootstrap the mean: the paired difference to zero."""
    found = paired_bootstrap(np.zeros_like(values), values, users)
    return Interval(found.second, found.low, found.high)
