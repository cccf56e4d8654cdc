"""Gradients that name the rows a step touched, so that its cost does not follow the size of a table.

torch calls them sparse: the rows and their values, nothing for the others. Which tables have them is decided here once;
the optimizer (`row_adamw`), clipping (here) and averaging (`row_clock`) then follow the gradients they meet.
"""

from collections.abc import Iterable

import torch
from torch import nn


def mark_tables(model: nn.Module, touched_rows_from: int) -> None:
    """Give every `nn.Embedding` of at least so many rows gradients of its touched rows; 0 leaves all dense.

    A step that reads the whole table, as the full softmax does, names all of its rows: a table that is marked in vain
    costs time, never correctness. Processes rely on it, as they exchange gradients of the kind that the mark says.
    """
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = 0 < touched_rows_from <= module.num_embeddings


def a_touch(model: nn.Module) -> list[torch.Tensor]:
    """Return one scalar per parameter that gives it a gradient: dense, or of no row where the table is marked."""
    marked = {id(module.weight): module for module in model.modules() if isinstance(module, nn.Embedding)}
    return [
        marked[id(parameter)](torch.zeros(1, dtype=torch.int64, device=parameter.device)).sum()
        if id(parameter) in marked and marked[id(parameter)].sparse
        else parameter.sum()
        for parameter in model.parameters()
    ]


def marked_tables(model: nn.Module) -> list[str]:
    """Return the names of the parameters that are marked tables."""
    marked = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding) and module.sparse}
    return [name for name, parameter in model.named_parameters() if id(parameter) in marked]


def coalesce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up what several look-ups of a step said about the same row, so that each touched row is named once."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """Scale all gradients in place so that their common norm is at most `max_norm`; return the norm before.

    Exact for sparse gradients, which must be coalesced: rows that are not named have none. Otherwise the formula of
    `torch.nn.utils.clip_grad_norm_`, which cannot scale them.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    values = [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]
    norm = torch.nn.utils.get_total_norm(values)
    torch._foreach_mul_(values, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
