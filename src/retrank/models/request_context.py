"""What is known of the moment of a request, added to the query: late, gated by the history, nothing where unknown."""

from collections.abc import Mapping

import torch
from torch import nn

from retrank.models.action_types import forget_some

UNTOLD_SHARE = 0.1


class RequestContext(nn.Module):
    """Shift of a query q by the fields of its moment: `c * (1 + G q)`, c the sum of one vector per field.

    The gate G lets the same weekday mean another thing to another history; the 1 lets it mean something to everybody.
    All vectors start at zero, so a model starts as the one without context, and a value that training never met stays
    what unknown is: no shift at all. In training each field is forgotten in a tenth of the places, and all of them in
    another tenth, since requests may tell some or nothing.

    Args:
        sizes: number of values V of each of F fields, in the order of the rows; 0 = unknown.
        width: size D of queries.

    Source: a gate as in FiLM (Perez et al. 2018, arXiv 1709.07871), turned round: the history scales what the moment
    adds.
    """

    before: torch.Tensor

    def __init__(self, sizes: Mapping[str, int], width: int) -> None:
        super().__init__()
        before = torch.tensor([0, *sizes.values()]).cumsum(0)
        self.register_buffer("before", before[:-1], persistent=False)
        self.table = nn.Parameter(torch.zeros(int(before[-1]) + 1, width))
        self.gate = nn.Linear(width, width, bias=False)

    def forward(self, queries: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Return the shift `[..., D]` of queries `[..., D]` in contexts `[..., F]` int64."""
        if self.training:
            told = torch.rand(context.shape[:-1], device=context.device) >= UNTOLD_SHARE
            context = forget_some(context) * told[..., None]
        known = (context > 0)[..., None]
        vectors = nn.functional.embedding(context + self.before * (context > 0), self.table)  # [..., F, D]
        told_of = (vectors * known).sum(-2) * self.table.shape[1] ** 0.5
        shift: torch.Tensor = told_of * (1 + self.gate(queries))
        return shift
