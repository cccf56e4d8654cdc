"""Who leads on the test cases, by how much, and what the figures say about why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retrank.metrics.bootstrap import PairedDifference
from retrank.metrics.slices import SLICE_K, Slice, by_history_length, by_target_popularity
from retrank.training.baseline_table import SELECTION_METRIC, BaselineRow
from retrank.training.evaluator import Evaluation

_PLACES = {"history length": "cases with {} events of history", "target popularity": "targets among {} items"}

_DECIMALS = 4
_LATER = "++batches.targets._target_=retrank.data.targets.LaterBaskets"
_POOLED, _HSTU = "PooledHistory", "HSTU"
_TRY = {
    "ease": ("no order", f"what reads none either: model=pooled {_LATER}", _POOLED),
    "item_knn": ("no order", f"what reads none either: model=pooled {_LATER}", _POOLED),
    "markov": ("what came last alone", "what reads order and times: model=hstu", _HSTU),
    "popularity": ("nobody's history", "experiment=auto, which chooses settings from the data", ""),
    "decayed_popularity": ("nobody's history, only what is met now", f"targets that date as fast: {_LATER}", ""),
}
"""What a baseline reads, what to try against it, and the class of the model that this names."""


@dataclass(frozen=True)
class Verdict:
    """The model against the baseline that is strongest on test.

    Attributes:
        leads: the model's mean is above every baseline's, by at least what the four decimals of the text show.
        clear: the 95 % interval of the difference excludes zero.
        rival: name of the strongest baseline on test.
        text: one sentence for people.
        reasons: what points to a cause and what to try, when the model does not lead.
    """

    leads: bool
    clear: bool
    rival: str
    text: str
    reasons: list[str]


def verdict(
    model: str,
    evaluation: Evaluation,
    validation: Mapping[str, float],
    rows: Sequence[BaselineRow],
    differences: Mapping[str, PairedDifference],
) -> Verdict:
    """Judge a model by NDCG@10 on the test cases.

    Args:
        model: its name.
        evaluation: the model on the test cases.
        validation: its metrics on the validation cases; may be empty.
        rows: baselines on the same cases, at least one.
        differences: model - baseline by name of the baseline, paired by user.
    """
    rival = max(rows, key=lambda row: row.metrics[SELECTION_METRIC])
    found = differences[rival.name]
    difference = round(float(found.difference), _DECIMALS) + 0.0  # -0.0 is said as +0.0000
    leads, clear = difference > 0, found.low > 0 or found.high < 0
    interval = f"95 % interval {found.low:+.4f} to {found.high:+.4f}"
    standing = "leads every baseline" if leads else f"does not beat {rival.name}"
    text = (
        f"{model} {standing if difference else f'is level with {rival.name}'}: NDCG@10 {found.second:.4f}, "
        f"{difference:+.{_DECIMALS}f} against {rival.name} on {len(evaluation.ranks):,} cases "
        f"({interval}{'' if clear else ', which includes zero'})."
    )
    if leads or not difference:
        reasons = []
    elif clear:
        reasons = _reasons(model, evaluation, validation, rival) + _to_try(model, rival.name)
    else:  # a cause would be read into noise
        reasons = ["On these cases the two cannot be told apart.", *_to_try(model, rival.name)]
    return Verdict(leads, clear, rival.name, text, reasons)


def _reasons(model: str, evaluation: Evaluation, validation: Mapping[str, float], rival: BaselineRow) -> list[str]:
    lengths = evaluation.history_lengths
    pairs = [
        (by_history_length(evaluation.ranks, lengths), by_history_length(rival.ranks, lengths)),
        (
            by_target_popularity(evaluation.ranks, evaluation.train_counts),
            by_target_popularity(rival.ranks, evaluation.train_counts),
        ),
    ]
    windows = [_windows(model, validation[SELECTION_METRIC], evaluation, rival)] if validation else []
    return windows + [_weakest(own, others, rival.name) for own, others in pairs]


def _to_try(model: str, rival: str) -> list[str]:
    if rival not in _TRY:
        return []
    reads, other, named = _TRY[rival]
    return [f"{rival} reads {reads}; try {f'`retrank sweep`: {model} can read that too' if model == named else other}."]


def _windows(model: str, before: float, evaluation: Evaluation, rival: BaselineRow) -> str:
    after, rival_after = evaluation.metrics[SELECTION_METRIC], rival.metrics[SELECTION_METRIC]
    moves = (
        f"from validation to test {model} goes from {before:.4f} to {after:.4f}, "
        f"{rival.name} from {rival.validation:.4f} to {rival_after:.4f}"
    )
    if before > rival.validation:
        return (
            f"The order turned between the windows: {moves}. What {model} learned dates faster; "
            "end training closer to the test window (split.validation_share) or retrain more often."
        )
    return f"It is behind on validation too: {moves}. This is the model or its settings, not the test window."


def _weakest(own: Sequence[Slice], others: Sequence[Slice], rival: str) -> str:
    """Name the slice that adds most to the deficit: its size times how far the model is behind in it."""
    piece, other = min(zip(own, others, strict=True), key=lambda pair: pair[0].count * (pair[0].ndcg - pair[1].ndcg))
    total = sum(one.count for one in own)
    place = _PLACES[piece.by].format(piece.label)
    return (
        f"By {piece.by} it loses most on {place} ({piece.count:,} of {total:,}): "
        f"NDCG@{SLICE_K} {piece.ndcg:.4f} against {other.ndcg:.4f} of {rival}."
    )
