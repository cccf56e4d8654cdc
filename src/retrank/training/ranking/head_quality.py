"""How far each head of a ranker can be trusted, on labelled candidates."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrank.contract.ranker_spec import HeadSpec, RankerSpec
from retrank.metrics import amounts, calibration
from retrank.training.ranking.table import RankingTable

_BINS, _VALUE_BINS = 15, 10
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Mean of what was said and mean of what happened, `[bins]` each, lowest first."""


@dataclass(frozen=True)
class HeadQuality:
    """How far one binary head can be trusted.

    Attributes:
        rate: share of candidates acted upon, 0..1.
        ece, raw_ece: expected calibration error with and without the fitted curve, 0..1.
        log_loss: nats.
        normalised_entropy: log-loss against always saying the rate; below 1 is better.
        auc, grouped_auc: over all candidates; inside each request.
    """

    rate: float
    ece: float
    raw_ece: float
    log_loss: float
    normalised_entropy: float
    auc: float
    grouped_auc: float


@dataclass(frozen=True)
class ValueQuality:
    """How far one value head can be trusted, where there was an amount.

    Attributes:
        count: candidates with an amount.
        mean, expected: mean amount, and mean of what was expected.
        error, usual_error: mean absolute error as a share of the mean amount: of the head, and of always saying the
            mean of what the ranker learned from.
        calibration_error: share of the amounts said of the wrong tenth of the expectations, see
            `relative_calibration_error`.
        correlation: Spearman's, of expectation and amount.
    """

    count: int
    mean: float
    expected: float
    error: float
    usual_error: float
    calibration_error: float
    correlation: float


def head_quality(outputs: NDArray[np.float32], table: RankingTable, spec: RankerSpec) -> dict[str, HeadQuality]:
    """Measure every binary head on `[M, H]` outputs; heads without both labels are left out."""
    answers, found = spec.answers(outputs), {}
    owners = np.repeat(np.arange(len(table)), np.diff(table.offsets))
    for at, head in enumerate(spec.heads):
        happened = (table.labels[:, at] > 0).astype(np.float64)
        if head.kind != "binary" or happened.min() == happened.max():
            continue
        said, raw = answers[:, at], 1 / (1 + np.exp(-outputs[:, at].astype(np.float64)))
        found[head.name] = HeadQuality(
            rate=float(happened.mean()),
            ece=calibration.expected_calibration_error(said, happened),
            raw_ece=calibration.expected_calibration_error(raw, happened),
            log_loss=calibration.log_loss(said, happened),
            normalised_entropy=calibration.normalised_entropy(said, happened),
            auc=calibration.auc(said, happened),
            grouped_auc=calibration.grouped_auc(said, happened, owners),
        )
    return found


def value_quality(
    outputs: NDArray[np.float32], table: RankingTable, spec: RankerSpec, learned_from: RankingTable
) -> dict[str, ValueQuality]:
    """Measure every value head on `[M, H]` outputs; heads without an amount here or in training are left out."""
    found = {}
    for name, (said, paid) in _amounts(outputs, table, spec).items():
        at = [head.name for head in spec.heads].index(name)
        known = learned_from.labels[:, at][_has_amount(learned_from, spec, spec.heads[at])].astype(np.float64)
        if len(paid) == 0 or len(known) == 0:
            continue
        found[name] = ValueQuality(
            count=len(paid),
            mean=float(paid.mean()),
            expected=float(said.mean()),
            error=amounts.relative_error(said, paid),
            usual_error=amounts.relative_error(np.full(len(paid), known.mean()), paid),
            calibration_error=amounts.relative_calibration_error(said, paid, num_bins=_VALUE_BINS),
            correlation=amounts.rank_correlation(said, paid),
        )
    return found


def probability_curves(outputs: NDArray[np.float32], table: RankingTable, spec: RankerSpec) -> dict[str, Curve]:
    """Return what each binary head said and what happened, in 15 bins of equal size."""
    answers = spec.answers(outputs)
    return {
        head.name: _binned(answers[:, at], (table.labels[:, at] > 0).astype(np.float64), _BINS)
        for at, head in enumerate(spec.heads)
        if head.kind == "binary" and len(np.unique(table.labels[:, at] > 0)) > 1
    }


def amount_curves(outputs: NDArray[np.float32], table: RankingTable, spec: RankerSpec) -> dict[str, Curve]:
    """Return what each value head expected and what was paid, in 10 bins of equal size."""
    pairs: Mapping[str, Curve] = _amounts(outputs, table, spec)
    return {name: _binned(said, paid, _VALUE_BINS) for name, (said, paid) in pairs.items() if len(paid)}


def _amounts(outputs: NDArray[np.float32], table: RankingTable, spec: RankerSpec) -> dict[str, Curve]:
    """Return `[P]` expectations and amounts of each value head, where there was an amount."""
    answers, found = spec.answers(outputs), {}
    for at, head in enumerate(spec.heads):
        if head.kind == "value":
            paid = _has_amount(table, spec, head)
            found[head.name] = (answers[paid, at], table.labels[paid, at].astype(np.float64))
    return found


def _has_amount(table: RankingTable, spec: RankerSpec, head: HeadSpec) -> NDArray[np.bool_]:
    """Tell which of `[M]` candidates have an amount: above 0, and what the head is given happened."""
    names = [known.name for known in spec.heads]
    own = table.labels[:, names.index(head.name)] > 0
    return own if head.given is None else own & (table.labels[:, names.index(head.given)] > 0)


def _binned(said: NDArray[np.float64], happened: NDArray[np.float64], num_bins: int) -> Curve:
    """Return the means of bins of equal size, lowest first."""
    parts = np.array_split(np.argsort(said, kind="stable"), min(num_bins, len(said)))
    return np.array([said[part].mean() for part in parts]), np.array([happened[part].mean() for part in parts])
