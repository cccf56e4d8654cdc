"""From a run that is about to start to the sizes that decide about its memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from retrank.data.batches import Batches
from retrank.models.protocols import QueryEncoder
from retrank.training.step_memory import StepSize, free_memory, judge, step_bytes


def memory_warning(config: Mapping[str, Any], model: torch.nn.Module, batches: Batches, *, processes: int) -> str:
    """Return a warning where a step may not fit into memory, "" where it should.

    Args:
        config: of the run.
        model: what is trained.
        batches: what it is trained on.
        processes: that share a batch.

    Raises:
        TrainingError: it needs more than twice what is free.
    """
    on_gpu = config["trainer"]["accelerator"] != "cpu" and torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] if on_gpu else free_memory()
    if free is None:
        return ""
    needed = step_bytes(size_of(config, model, batches, processes=processes))
    return judge(needed, free if on_gpu else free // processes, "memory of the GPU" if on_gpu else "memory")


def size_of(config: Mapping[str, Any], model: torch.nn.Module, batches: Batches, *, processes: int) -> StepSize:
    """Return the sizes of a step of one process."""
    encoder, loss = _as_encoder(model), config["loss"]
    lengths = np.minimum(batches.stretches.lengths, batches.max_length)
    num_tokens = int(lengths.sum()) // (batches.num_batches * processes) + 1
    scored, held = scores_of(loss, num_tokens, encoder.num_items)
    blocks = _setting(config["model"], "num_blocks", 0)
    return StepSize(
        num_weights=sum(weights.numel() for weights in model.parameters()),
        num_tokens=num_tokens,
        length=int(lengths.max()),
        width=encoder.width,
        num_blocks=blocks,
        num_heads=_setting(config["model"], "num_heads", 1) if blocks else 0,
        num_scores=held,
        num_items=scored,
    )


def scores_of(loss: Mapping[str, Any], num_queries: int, num_items: int) -> tuple[int, int]:
    """Return how many item vectors a step makes, and how many scores are held at a time."""
    chunk = _setting(loss, "chunk", 0)
    if chunk:
        return num_items, min(chunk, num_queries) * num_items
    negatives = _setting(loss, "num_negatives", 0) + _setting(loss, "num_in_batch", 0)
    if not negatives:  # a loss of somebody's own: nothing is known
        return num_items, 0
    in_chunks = "bf16_products" in loss and not loss.get("symmetric")  # of what stays in cache
    return negatives, 0 if in_chunks else num_queries * negatives


def _setting(node: Any, name: str, default: int) -> int:
    """Return a number of a class, or of a class among its settings: a loss within a loss, an encoder within a model."""
    if not isinstance(node, Mapping):
        return default
    if isinstance(node.get(name), int):
        return int(node[name])
    return next((found for part in node.values() if (found := _setting(part, name, -1)) >= 0), default)


def _as_encoder(model: Any) -> QueryEncoder:
    encoder: QueryEncoder = model
    return encoder
