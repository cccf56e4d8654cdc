"""The files of a ranker's run, and how to open them. Lightning stays out of here, as in `training.checkpoint`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from retrank.config import instantiate, values_of
from retrank.contract.errors import TrainingError
from retrank.contract.ranker_spec import HeadSpec, RankerSpec
from retrank.models.ranker import Ranker
from retrank.training import checkpoint
from retrank.training.ranking.heads import HeadSettings
from retrank.training.ranking.sources import SourceSettings

SPEC, ROTATION, RANKING = "ranker.json", "rotation.npy", "ranking.json"


def load_ranker(run_dir: Path) -> tuple[Ranker, RankerSpec, NDArray[np.float32], dict[str, Any]]:
    """Open a finished run: the ranker in eval mode, its spec, the rotation of vectors, and its configuration.

    Raises:
        TrainingError: not a run of `retrank rank`, or not a finished one.
    """
    if not (run_dir / SPEC).is_file():
        raise TrainingError(f"{run_dir}: no {SPEC}; expected the folder of a finished run of `retrank rank`")
    found = checkpoint.read(run_dir / checkpoint.CHECKPOINTS / checkpoint.BEST)
    config = yaml.safe_load((run_dir / checkpoint.CONFIG).read_text(encoding="utf-8"))
    identity = found[checkpoint.IDENTITY_KEY]
    heads = [HeadSettings(**head) for head in config["heads"]]
    model = build(config, (identity["num_features"], identity["vector_width"]), heads)
    model.load_state_dict(checkpoint.averaged_state(found))
    spec = RankerSpec.model_validate_json((run_dir / SPEC).read_text(encoding="utf-8"))
    return model.eval(), spec, np.load(run_dir / ROTATION, allow_pickle=False), config


def build(config: Mapping[str, Any], shape: tuple[int, int], heads: list[HeadSettings]) -> Ranker:
    """Return an untrained ranker."""
    with values_of("ranker.model"):
        model: Ranker = instantiate(config["ranker"]["model"])(*shape, [head.head for head in heads])
    return model


def spec_of(config: Mapping[str, Any], heads: list[HeadSettings], settings: SourceSettings) -> RankerSpec:
    """Return how a ranker is asked, not calibrated yet."""
    return RankerSpec(
        limits=dict(settings.limits),  # type: ignore[arg-type]  # names were checked
        covisit_window=settings.covisit_window,
        fresh_days=settings.fresh_days,
        history_length=config["history_length"],
        numbers=tuple(settings.numbers),
        heads=tuple(HeadSpec(**vars(head.head), weight=head.weight) for head in heads),
    )
