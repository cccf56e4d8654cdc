"""The windows of time a ranker needs, and the two retrievers that have not seen what they propose for.

            train of the past run | what the ranker learns from | validation | test
            train of the run ------------------------------------|

The candidates a ranker learns from must come from a retriever that has not seen the answers. So an earlier version of
the retriever (the past run) proposes for the visits of the window before validation; the run itself proposes for
validation, on which the ranker is selected and calibrated, and for test.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrank.config import instantiate
from retrank.contract.errors import ConfigError
from retrank.data.splits import GlobalTemporal, Split, split_store
from retrank.data.store import EventStore
from retrank.training import fit
from retrank.training.checkpoint import CHECKPOINTS, LAST, load_model
from retrank.training.run_card import FINISHED
from retrank.training.scorer import ModelScorer

FOREVER = 2**62


@dataclass(frozen=True)
class Moments:
    """Where the windows begin, in microseconds as in `Sequences.times`.

    Attributes:
        past_ends_at: what the ranker learns from.
        ends_at: validation.
        test_at: test.

    Raises:
        ConfigError: the past run has seen what the ranker is to learn from.
    """

    past_ends_at: int
    ends_at: int
    test_at: int

    def __post_init__(self) -> None:
        """Refuse a past run that was trained as far as the run."""
        if self.past_ends_at >= self.ends_at:
            raise ConfigError(
                "the past run is trained at least as far as the run itself; expected one that ends earlier: raise "
                "past_share, or name with past one of the same recipe with a larger split.validation_share + test_share"
            )


@dataclass(frozen=True)
class Retriever:
    """A trained retriever and the moments of its split.

    Attributes:
        scorer: the model with its best weights.
        config: resolved configuration of its run.
        split: what it was trained on and selected with.
        ends_at: first microsecond it was not trained on.
        test_at: first microsecond of its test window.
    """

    scorer: ModelScorer
    config: dict[str, Any]
    split: Split
    ends_at: int
    test_at: int


def open_retriever(run_dir: Path, store: EventStore) -> Retriever:
    """Open a run of `retrank train`.

    Raises:
        TrainingError: not a finished run.
        ConfigError: its split knows no moment.
    """
    model, config = load_model(run_dir)
    ends_at, test_at = _rule_of(run_dir, config["split"]).cuts(store.sequences)
    return Retriever(ModelScorer(model), config, split_store(config["split"], store), ends_at, test_at)  # type: ignore[arg-type]  # any module that was trained


def train_ends_at(run_dir: Path, split: Mapping[str, Any], store: EventStore) -> int:
    """Return the first microsecond that a run with such a split is, or will not be, trained on.

    Args:
        run_dir: folder of the run, for the message.
        split: of its configuration.
        store: the data.

    Raises:
        ConfigError: the split knows no moment.
    """
    return _rule_of(run_dir, split).cuts(store.sequences)[0]


def _rule_of(run_dir: Path, split: Mapping[str, Any]) -> GlobalTemporal:
    rule = instantiate(split)
    if not isinstance(rule, GlobalTemporal):
        raise ConfigError(
            f"{run_dir}: trained with {type(rule).__name__}; a ranker needs split=global_temporal, since it learns "
            "from what happened after the retriever was trained"
        )
    return rule


def past_recipe(retriever: Retriever, share: float, run_dir: Path, trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of a run, for the time before the window the ranker learns from.

    Args:
        retriever: the run.
        share: share of all events in that window, 0..1 exclusive.
        run_dir: folder of the new run; one that was interrupted there is continued.
        trainer: settings of the ranker's training, whose `progress` and, in one process, `threads` hold here too. What
            is learned follows the run.

    Raises:
        ConfigError: the window leaves nothing to train on.
    """
    config = copy.deepcopy(retriever.config)
    split = config["split"]
    rule: GlobalTemporal = instantiate(split)
    later = rule.validation_share + rule.test_share
    if not 0 < share < 1 - later:
        raise ConfigError(
            f"past_share is {share}; expected above 0 and below {1 - later:.2f}, where the run's train ends"
        )
    here = ("progress", "threads") if config["trainer"].get("processes", 1) == 1 else ("progress",)
    begun = (run_dir / CHECKPOINTS / LAST).is_file()
    return config | {
        "trainer": config["trainer"] | {name: trainer[name] for name in here},
        "split": split | {"validation_share": share, "test_share": later},
        "name": f"{config['name']}_past",
        "run_dir": str(run_dir),
        "ckpt": str(run_dir) if begun else None,
        "baselines": False,
        "item_content": config.get("item_content"),  # a setting that older runs did not have
    }


def train_past(recipe: Mapping[str, Any]) -> Path:
    """Train what `past_recipe` says, unless that was finished before, and return the run folder."""
    run_dir = Path(recipe["run_dir"])
    if not (run_dir / FINISHED).is_file():
        fit.run(recipe)
    return run_dir


def check_width(past: Retriever, present: Retriever) -> None:
    """Refuse a past run whose vectors are of another size.

    Raises:
        ConfigError: they are.
    """
    if past.scorer.model.width != present.scorer.model.width:
        raise ConfigError(
            f"past: vectors of width {past.scorer.model.width}, those of the run have {present.scorer.model.width}; "
            "both must be trained with one recipe"
        )
