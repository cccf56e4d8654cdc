"""What a step needs: kernels are kept in bounds, and when memory runs out the settings that decide are named."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from retrank.contract.errors import TrainingError

_KNOBS = {
    "batches.batch_size": "a step grows with it",
    "batches.max_candidates": "candidates of a request in a step",
    "model.max_length": "attention grows with its square",
    "loss.chunk": "scores held at a time",
    "loss.num_negatives": "items scored per step",
    "loss.max_queries": "positions scored twice",
    "model.width": "tables and states grow with it",
    "ranker.model.width": "states grow with it",
    "history_length": "events read per request",
    "past_share": "requests that are held to learn from",
    "sources.limits": "candidates that are held per request",
}
_KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_KEPT_KERNELS = 64
_CPU_ALLOCATOR = "can't allocate memory"


def bound_kernels() -> None:
    """Let oneDNN keep 64 compiled kernels and not 1,024, unless the environment says otherwise.

    It compiles one for each shape, and hardly two batches of histories have one shape: in 240 small bf16 steps the
    process grew by 0.9 GB, with 64 kernels by 0.5 GB and then no more. No step took longer, which it does without any.
    Must be called before the first multiplication.
    """
    os.environ.setdefault(_KERNELS, str(_KEPT_KERNELS))


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
    found = {name: _at(config, name) for name in _KNOBS}
    known = [f"{name} (now {value}; {_KNOBS[name]})" for name, value in found.items() if value is not None]
    dense = "loss" in config and found["loss.chunk"] is None
    scores = ", or take a sampled loss such as loss=sampled_softmax" if dense else ""
    return TrainingError(
        f"out of memory ({str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}); "
        f"lower one of {'; '.join(known)}{scores}. Checkpoints written so far are whole"
    )


def _at(config: Mapping[str, Any], name: str) -> Any:
    """Return the value of a dotted setting; None where there is none."""
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
