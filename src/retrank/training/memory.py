"""Out of memory: say which settings decide how much a step needs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from retrank.contract.errors import TrainingError

_KNOBS = {
    ("batches", "batch_size"): "a step grows with it",
    ("model", "max_length"): "attention grows with its square",
    ("loss", "chunk"): "scores held at a time",
    ("loss", "num_negatives"): "items scored per step",
    ("loss", "max_queries"): "positions scored twice",
    ("model", "width"): "tables and states grow with it",
}
_CPU_ALLOCATOR = "can't allocate memory"


@contextmanager
def told_by_settings(config: Mapping[str, Any]) -> Iterator[None]:
    """Turn an allocation that failed into a message that names the settings to lower and their values.

    Raises:
        TrainingError: memory ran out.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _error(config, error) from error
    except RuntimeError as error:
        if _CPU_ALLOCATOR not in str(error):
            raise
        raise _error(config, error) from error


def _error(config: Mapping[str, Any], error: Exception) -> TrainingError:
    known = [
        f"{group}.{name} (now {config[group][name]}; {why})"
        for (group, name), why in _KNOBS.items()
        if config.get(group, {}).get(name) is not None
    ]
    scores = "" if "chunk" in config.get("loss", {}) else ", or take a sampled loss such as loss=sampled_softmax"
    return TrainingError(
        f"out of memory ({str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}); "
        f"lower one of {'; '.join(known)}{scores}. Checkpoints written so far are whole"
    )
