"""Trained runs that answer the same question: same data, same split. Members of an ensemble and teachers are such."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from retrank.contract.encode import CONTEXT_ROWS
from retrank.contract.errors import DataError
from retrank.models.protocols import QueryEncoder
from retrank.training import checkpoint, run_card
from retrank.training.checkpoint import BEST, CHECKPOINTS, IDENTITY_KEY, load_model

_QUESTION = ("data_hash", "num_items", "split")


@dataclass(frozen=True)
class Peer:
    """The best weights of a run that was trained to its end.

    Attributes:
        run_dir: folder of the run.
        model: in eval mode.
        config: resolved settings of the run.
    """

    run_dir: Path
    model: QueryEncoder
    config: dict[str, Any]

    @property
    def temperature(self) -> float:
        """Return by what its loss divided its scores; a loss without a temperature divides by nothing."""
        loss = self.config["loss"]
        return float(loss.get("base", loss).get("temperature", 1.0))  # of the retriever, where its order is rescored


def open_peer(run_dir: Path, question: Mapping[str, Any], *, role: str) -> Peer:
    """Open a run if it was trained on the same data and split.

    A run with another split may have been trained on what this one is to be judged by, and another store has other
    item rows; neither may take part.

    Args:
        run_dir: folder written by `retrank train`.
        question: `data_hash`, `num_items` and `split` of those who ask, and `context` if they read it; a run that does
            must read the same fields.
        role: what the run is to be, for messages: "teacher", "member".

    Raises:
        TrainingError: not a run folder, or training has not come to its end there.
        SourceError: its run card is not JSON.
        DataError: data, catalogue, split or context differ; each is named.
    """
    model, config = load_model(run_dir)
    run_card.of_trained(run_dir)
    saved = checkpoint.read(run_dir / CHECKPOINTS / BEST)[IDENTITY_KEY]
    names = (*_QUESTION, "context") if CONTEXT_ROWS in cast(QueryEncoder, model).inputs else _QUESTION
    theirs, ours = ({name: source.get(name) for name in names} for source in (saved, question))
    if differences := checkpoint.differing(theirs, ours, "there"):
        raise DataError(
            f"{run_dir} cannot be a {role}: {'; '.join(differences)}. Rows would name other items, or it may have "
            "seen what is to be predicted; train it on the same store and split"
        )
    return Peer(run_dir, cast(QueryEncoder, model), config)
