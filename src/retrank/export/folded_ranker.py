"""A trained ranker for serving: the answers of `Ranker.forward` in half the operators.

Of a few hundred candidates an operator of a graph costs microseconds whatever it computes, so the number of operators
and of passes over all candidates is the cost. Three things are done otherwise here, and only here:

- *Products with constants that follow one another are one.* The rotation of the retriever's vectors, the scale of
  directions and the scale of attention are parts of the weights.
- *What depends on the request alone meets the candidates last.* A candidate and its product with the query are
  both linear in the candidate, so per request one `[D, W]` matrix is made for both.
- *Bins of numbers lie side by side.* A feature is repeated along the last axis, and "unknown" is one bin more, so that
  subtracting, scaling and clipping run through whole rows.

What was learned, and what it means, stands in `models.ranker`, which is also the oracle of the tests and of the export.
"""

import math
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from retrank.contract.errors import BundleError
from retrank.models.numeric_encoding import NumericEncoding
from retrank.models.ranker import Ranker

_SHORTEST = 1e-12
"""A shorter vector has no direction, as in `torch.nn.functional.normalize`."""
_TURNED = 1e-3
"""How far a rotation may be from one: float32 leaves 1e-6."""


class FoldedRanker(nn.Module):
    """The ranker that is exported; reads and returns what `Ranker.forward` does, without positions.

    Args:
        ranker: a trained ranker in evaluation mode; its weights are taken as they are now.
        rotation: `[D, D]` float32 from the vectors that come in to those it has learned from; None leaves them.

    Raises:
        BundleError: the matrix is no rotation: directions could not be taken before it is applied.
    """

    bias: torch.Tensor

    def __init__(self, ranker: Ranker, rotation: NDArray[np.float32] | None = None) -> None:
        super().__init__()
        self.ranker = ranker
        self.numerics = _Numerics(ranker.numerics)
        self.register_buffer("bias", self.numerics.bias)
        self.vectors = _Vectors(ranker, _checked(rotation, ranker.vector_width)) if ranker.read_vectors else None

    def forward(
        self,
        features: torch.Tensor,
        candidate_vectors: torch.Tensor,
        query: torch.Tensor,
        history_vectors: torch.Tensor,
        history_ages: torch.Tensor,
        history_actions: torch.Tensor,
    ) -> torch.Tensor:
        """Answer `[B, C, H]` float32 for every candidate and head."""
        state = self.numerics(features)
        if self.vectors is None:
            state = state + self.bias
        else:
            told = self.vectors(candidate_vectors, query, history_vectors, history_ages, history_actions)
            state = state + told.of_candidates + told.attended + (told.of_request + self.bias)
        ranker = self.ranker
        rows = ranker.norm(state).flatten(0, 1)  # [B * C, W]: on two axes a product takes its bias along
        scores: torch.Tensor = ranker.scores(ranker.experts(ranker.cross(rows)))
        return torch.unflatten(scores, 0, features.shape[:2])


class _Numerics(nn.Module):
    """`NumericEncoding` with the bins of all features, and "unknown" as one more, along the last axis."""

    least: torch.Tensor
    most: torch.Tensor
    lower: torch.Tensor
    slope: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    @torch.no_grad()
    def __init__(self, numerics: NumericEncoding) -> None:
        super().__init__()
        self.num_bins, features = numerics.centre.shape
        average = (torch.unflatten(numerics.bins.weight, 1, numerics.centre.shape) * numerics.centre).sum(1)
        nothing, whole = torch.zeros(features), torch.ones(features)  # an unknown value fills its bin, 0..1, at once
        self.register_buffer("least", numerics.lower[0])
        self.register_buffer("most", numerics.upper)
        self.register_buffer("lower", torch.cat([numerics.lower.flatten(), nothing]))
        self.register_buffer("slope", torch.cat([numerics.slope.flatten(), whole]))
        self.register_buffer("weight", torch.cat([numerics.bins.weight, numerics.unknown.weight + average], dim=1).T)
        self.register_buffer("bias", numerics.bins.bias - average.sum(1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map `[B, C, F]` float32 to `[B, C, W]`, without the bias."""
        unknown = features.isnan()
        known = torch.where(unknown, self.least, features)
        known = torch.minimum(torch.maximum(known, self.least), self.most)
        side_by_side = torch.cat([known] * self.num_bins + [unknown.to(features.dtype)], dim=-1)  # [B, C, (T + 1) F]
        filled = ((side_by_side - self.lower) * self.slope).clamp(0.0, 1.0)
        return filled @ self.weight


class _Told(NamedTuple):
    """What vectors add to the state: `[B, C, W]` two times, and `[B, 1, W]` for all candidates of a request."""

    of_candidates: torch.Tensor
    attended: torch.Tensor
    of_request: torch.Tensor


class _Vectors(nn.Module):
    """What candidate, query and history vectors add to the state of a candidate."""

    turn: torch.Tensor
    candidate: torch.Tensor
    product: torch.Tensor
    query: torch.Tensor
    ask: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    age_value: torch.Tensor
    age_bias: torch.Tensor

    @torch.no_grad()
    def __init__(self, ranker: Ranker, rotation: torch.Tensor) -> None:
        super().__init__()
        attention = ranker.attention
        self.attention, self.num_heads = attention, attention.num_heads
        head_width = attention.output.in_features // attention.num_heads
        turn = math.sqrt(len(rotation)) * rotation  # from a vector of length 1 to what the ranker has learned from
        self.register_buffer("turn", turn)
        self.register_buffer("candidate", turn @ ranker.candidate.weight.T)
        self.register_buffer("product", ranker.product.weight.T.contiguous())
        self.register_buffer("query", ranker.query.weight.T.contiguous())
        self.register_buffer("ask", turn @ attention.ask.weight.T / math.sqrt(head_width))
        self.register_buffer("key", turn @ attention.key.weight.T)
        self.register_buffer("value", turn @ attention.value.weight.T)
        told = bool(attention.num_actions)  # otherwise every event is of kind 0, which goes with every age
        self.register_buffer(
            "age_value", attention.age_value + attention.value.bias + (0 if told else attention.action_value[0])
        )
        self.register_buffer("age_bias", attention.age_bias + (0 if told else attention.action_bias[0]))

    def forward(
        self,
        candidates: torch.Tensor,
        query: torch.Tensor,
        events: torch.Tensor,
        ages: torch.Tensor,
        actions: torch.Tensor,
    ) -> _Told:
        """Return what `[B, C, D]` candidates, `[B, D]` query and `[B, L, D]` events say."""
        candidates, turned = _unit(candidates), _unit(query)[:, None] @ self.turn  # [B, C, D], [B, 1, D]
        of_request = self.candidate + (self.turn * turned) @ self.product  # [B, D, W]
        attended = self._attended(candidates, _unit(events), ages, actions)
        return _Told(candidates @ of_request, attended, turned @ self.query)

    def _attended(
        self, candidates: torch.Tensor, events: torch.Tensor, ages: torch.Tensor, actions: torch.Tensor
    ) -> torch.Tensor:
        """Do as `TargetAttention`; the bias is the same for all candidates, and stays `[B, H, 1, L + 1]`."""
        attention = self.attention
        buckets = attention.age_buckets(ages)
        bias = F.embedding(buckets, self.age_bias)  # [B, L, H]
        value = events @ self.value + F.embedding(buckets, self.age_value)  # [B, L, W]
        if attention.num_actions:
            bias = bias + F.embedding(actions, attention.action_bias)
            value = value + F.embedding(actions, attention.action_value)
        bias = bias.masked_fill((ages < 0)[..., None], -torch.inf).transpose(1, 2)[:, :, None]
        key = self._heads(events @ self.key).permute(0, 2, 3, 1)  # [B, H, W / H, L]
        value = self._heads(value).transpose(1, 2)  # [B, H, L, W / H]
        # The null event comes first: key, value and bias are zero.
        key, bias, value = F.pad(key, (1, 0)), F.pad(bias, (1, 0)), F.pad(value, (0, 0, 1, 0))
        ask = self._heads(candidates @ self.ask).transpose(1, 2)  # [B, H, C, W / H]
        mixed = ((ask @ key) + bias).softmax(-1) @ value
        return cast(torch.Tensor, attention.output(mixed.transpose(1, 2).flatten(2)))

    def _heads(self, values: torch.Tensor) -> torch.Tensor:
        """Split `[B, L, W]` into `[B, L, H, W / H]`."""
        return torch.unflatten(values, -1, (self.num_heads, -1))


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """Scale vectors to length 1; zero stays zero."""
    lengths: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp(min=_SHORTEST)


def _checked(rotation: NDArray[np.float32] | None, width: int) -> torch.Tensor:
    """Return the rotation, or the one that leaves everything as it is."""
    if rotation is None:
        return torch.eye(width)
    off = float(np.abs(rotation @ rotation.T - np.eye(width)).max())
    if not off <= _TURNED:
        raise BundleError(
            f"the rotation of the ranker's vectors changes lengths: its product with its transpose is {off:.1e} away "
            f"from 1, at most {_TURNED:g} is allowed; train the ranker again"
        )
    return torch.from_numpy(rotation)
