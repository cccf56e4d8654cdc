"""The second stage: how likely each candidate of a request is to be clicked, bought, and for how much."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from retrank.contract.errors import ConfigError, DataError
from retrank.contract.heads import Head, check_heads
from retrank.models.blocks import Dropout
from retrank.models.experts import Experts
from retrank.models.feature_cross import FeatureCross
from retrank.models.numeric_encoding import NumericEncoding
from retrank.models.position_bias import PositionBias
from retrank.models.target_attention import TargetAttention

__all__ = ["Head", "Ranker", "RankerInputs"]

_SMALLEST_SPREAD = 0.05
_LARGEST_EXPONENT = 30.0
"""An expected amount is at most e^30: finite, and beyond any currency."""


class RankerInputs(NamedTuple):
    """What the ranker reads of B requests with C candidates each and L events of history.

    Attributes:
        features: `[B, C, F]` float32, as they are (not scaled); NaN = unknown.
        candidate_vectors: `[B, C, D]` float32, item vectors of the retriever.
        query: `[B, D]` float32, query of the retriever; zero when there is no history.
        history_vectors: `[B, L, D]` float32, newest last, left-padded with zeros.
        history_ages: `[B, L]` int64 seconds since the event; -1 = padding.
        history_actions: `[B, L]` int64 action index + 1; 0 = padding or unknown action.
    """

    features: torch.Tensor
    candidate_vectors: torch.Tensor
    query: torch.Tensor
    history_vectors: torch.Tensor
    history_ages: torch.Tensor
    history_actions: torch.Tensor


class Ranker(nn.Module):
    """Multi-task ranker; every candidate is scored on its own, whatever the others are.

    Features, candidate, query, their product and what the history says about the candidate are summed into one state;
    cross network and gated net look for interactions; experts and a small net per head answer. The retriever's vectors
    are inputs: it stays frozen, and only their direction is read.

    Args:
        num_features: F.
        vector_width: size D of the retriever's vectors.
        heads: what to predict, in order of the output; see `Head`.
        num_actions: kinds of events in a history, 0 = not told apart.
        width: size of the state, a multiple of 4.
        num_cross: cross layers.
        cross_rank: rank of a cross layer.
        num_experts: experts, see `Experts`.
        sharing: "mmoe" or "ple", see `Experts`.
        dropout: rate, 0 <= rate < 1.
        num_bins: bins per feature.
        read_vectors: read the retriever's vectors; without them features alone speak, their cosines with the history
            among them. Thousands of requests are too few to learn directions; then validation is better without.
        num_positions: places of a slate whose bias is told apart; later ones count as the last.

    Raises:
        ConfigError: a size, choice or head is out of range.

    Sources: named by each part; heads follow Ma et al. 2018, ESMM (arXiv 1804.07931), and Wang et al. 2019, ZILN (arXiv
    1912.07753).
    """

    def __init__(  # noqa: PLR0913  (each is a choice of its own, and named where it is used)
        self,
        num_features: int,
        vector_width: int,
        heads: Sequence[Head],
        *,
        num_actions: int = 0,
        width: int = 64,
        num_cross: int = 2,
        cross_rank: int = 32,
        num_experts: int = 4,
        sharing: Literal["mmoe", "ple"] = "mmoe",
        dropout: float = 0.1,
        num_bins: int = 8,
        read_vectors: bool = True,
        num_positions: int = 100,
    ) -> None:
        super().__init__()
        check_heads(heads)
        if vector_width < 1 or not 0 <= dropout < 1:
            raise ConfigError(f"vector_width is {vector_width}, dropout {dropout}; expected >= 1 and 0 <= dropout < 1")
        self.heads = tuple(heads)
        self.numerics = NumericEncoding(num_features, width, num_bins=num_bins)
        self.read_vectors, self.vector_width = read_vectors, vector_width
        self.attention = TargetAttention(vector_width, width, num_actions=num_actions)
        self.candidate = nn.Linear(vector_width, width, bias=False)
        self.product = nn.Linear(vector_width, width, bias=False)
        self.query = nn.Linear(vector_width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.cross = FeatureCross(width, num_cross=num_cross, cross_rank=cross_rank, dropout=dropout)
        self.dropout = Dropout(dropout)
        self.experts = Experts(2 * width, width, num_tasks=len(heads), num_experts=num_experts, sharing=sharing)
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width // 2), nn.SiLU(), nn.Linear(width // 2, 2)) for _ in heads
        )
        self.position_bias = PositionBias(num_positions)
        self._first_binary = next(head.name for head in heads if head.kind == "binary")

    def fit_numerics(self, features: NDArray[np.floating] | torch.Tensor) -> None:
        """Take the bins of the features from `[M, F]` training features, NaN = unknown; once, before training.

        Raises:
            DataError: the shape is wrong, or there is no row.
        """
        self.numerics.fit(features)

    @torch.no_grad()
    def fit_rates(self, labels: NDArray[np.floating] | torch.Tensor) -> None:
        """Let every head start at the rate or mean amount of `[M, H]` training labels; optional, before training.

        Spares rare heads the steps it takes to learn how rare they are.

        Raises:
            DataError: the shape is wrong.
        """
        table = torch.as_tensor(labels).double()
        if table.ndim != 2 or table.shape[1] != len(self.heads):
            raise DataError(f"training labels have shape {tuple(table.shape)}, expected (M, {len(self.heads)})")
        columns = dict(zip((head.name for head in self.heads), table.T, strict=True))
        for head, tower in zip(self.heads, self.towers, strict=True):
            last = cast(nn.Linear, cast(nn.Sequential, tower)[-1])
            within = columns[head.name] if head.given is None else columns[head.name][columns[head.given] > 0]
            if head.kind == "binary":
                rate = ((within > 0).sum() + 1) / (len(within) + 2)  # never 0 or 1
                last.bias[0] = rate.logit()
            elif (amounts := within[within > 0].log()).numel() > 1:
                spread = amounts.std().clamp(min=2 * _SMALLEST_SPREAD) - _SMALLEST_SPREAD
                last.bias[0], last.bias[1] = amounts.mean(), spread.expm1().log()

    def forward(
        self,
        features: torch.Tensor,
        candidate_vectors: torch.Tensor,
        query: torch.Tensor,
        history_vectors: torch.Tensor,
        history_ages: torch.Tensor,
        history_actions: torch.Tensor,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Answer for every candidate and head.

        Args:
            features, candidate_vectors, query, history_vectors, history_ages, history_actions: see `RankerInputs`.
            positions: `[B, C]` int64, the place 1.. at which a candidate was shown, 0 = unknown; training only.

        Returns:
            `[B, C, H]` float32. A binary head: the logit of its probability; with `given`, of the product of both
            probabilities. A value head: the expected amount where the head it is given is positive, at most e^30.
        """
        inputs = RankerInputs(features, candidate_vectors, query, history_vectors, history_ages, history_actions)
        return self.scores(self._states(inputs), positions)

    def scores(self, states: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """Return `[..., H]` float32 as `forward` does, for `[..., H, W]` states: what the experts tell each head."""
        answers = self._answers(states, positions)
        scores = [
            first if spread is None else (first + spread.square() / 2).clamp(max=_LARGEST_EXPONENT).exp()
            for first, spread in answers
        ]
        return torch.stack(scores, dim=-1)

    def raw(self, inputs: RankerInputs, positions: torch.Tensor | None = None) -> torch.Tensor:
        """Return `[B, C, H, 2]` float32 for the loss.

        A binary head: its logit as `forward` has it, and 0. A value head: mean and standard deviation of the logarithm
        of the amount.
        """
        answers = self._answers(self._states(inputs), positions)
        pairs = [(first, torch.zeros_like(first) if spread is None else spread) for first, spread in answers]
        return torch.stack([torch.stack(pair, dim=-1) for pair in pairs], dim=-2)

    def _states(self, inputs: RankerInputs) -> torch.Tensor:
        """Return `[B, C, H, W]`: what the experts tell each head."""
        if not self.read_vectors:
            return cast(torch.Tensor, self.dropout(self.experts(self.cross(self.norm(self.numerics(inputs.features))))))
        candidates, query, events = (
            _direction(part) for part in (inputs.candidate_vectors, inputs.query, inputs.history_vectors)
        )
        query = query[:, None]  # [B, 1, D]
        attended = self.attention(candidates, events, inputs.history_ages, inputs.history_actions)
        state = self.numerics(inputs.features) + self.candidate(candidates) + self.product(candidates * query)
        state = self.norm(state + self.query(query) + attended)  # [B, C, W]
        return cast(torch.Tensor, self.dropout(self.experts(self.cross(state))))

    def _answers(
        self, states: torch.Tensor, positions: torch.Tensor | None
    ) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """Return `[...]` logits, or means and deviations, one pair per head."""
        answers: list[tuple[torch.Tensor, torch.Tensor | None]] = []
        logits: dict[str, torch.Tensor] = {}
        for index, (head, tower) in enumerate(zip(self.heads, self.towers, strict=True)):
            first, second = tower(states[..., index, :]).unbind(-1)
            if head.kind == "value":
                answers.append((first, F.softplus(second) + _SMALLEST_SPREAD))
                continue
            if positions is not None and head.name == self._first_binary:
                first = first + self.position_bias(positions)
            logits[head.name] = first if head.given is None else both(logits[head.given], first)
            answers.append((logits[head.name], None))
        return answers


def both(logit: torch.Tensor, conditional: torch.Tensor) -> torch.Tensor:
    """Return the logit of the product of two probabilities given as logits, exact however small the product is.

    (1 - pq) / pq = e^-a + e^-b + e^-(a+b) for p = sigmoid(a), q = sigmoid(b).
    """
    return -torch.logaddexp(torch.logaddexp(-logit, -conditional), -logit - conditional)


def _direction(vectors: torch.Tensor) -> torch.Tensor:
    """Scale vectors to components of size 1, which nets start well with; zero stays zero."""
    unit: torch.Tensor = F.normalize(vectors, dim=-1)
    return unit * math.sqrt(vectors.shape[-1])
