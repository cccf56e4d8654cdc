"""Worlds whose law is known, and a plain loop that lets a ranker learn them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from retrank.losses.multitask import MultitaskLoss
from retrank.models.ranker import Head, Ranker, RankerInputs

CLICK = Head("click", "binary")
PURCHASE = Head("purchase", "binary", given="click")
VALUE = Head("value", "value", given="purchase")
DAY = 86_400


def make_inputs(
    num_requests: int, num_candidates: int, *, num_features: int = 2, width: int = 4, length: int = 3, seed: int = 0
) -> RankerInputs:
    """Return requests with features, vectors and ages drawn at random and one kind of action."""
    random = torch.Generator().manual_seed(seed)
    return RankerInputs(
        features=torch.randn(num_requests, num_candidates, num_features, generator=random),
        candidate_vectors=F.normalize(torch.randn(num_requests, num_candidates, width, generator=random), dim=-1),
        query=F.normalize(torch.randn(num_requests, width, generator=random), dim=-1),
        history_vectors=F.normalize(torch.randn(num_requests, length, width, generator=random), dim=-1),
        history_ages=torch.randint(0, 300 * DAY, (num_requests, length), generator=random),
        history_actions=torch.ones(num_requests, length, dtype=torch.int64),
    )


def make_ranker(inputs: RankerInputs, heads: Sequence[Head] = (CLICK,), **changes: object) -> Ranker:
    """Return a small ranker that fits the inputs, with the bins of their features."""
    torch.manual_seed(0)
    settings: dict[str, object] = {"num_actions": 1, "width": 16, "cross_rank": 8, "dropout": 0.0} | changes
    width = inputs.candidate_vectors.shape[-1]
    ranker = Ranker(inputs.features.shape[-1], width, heads, **settings)  # type: ignore[arg-type]  # of several types
    ranker.fit_numerics(inputs.features.flatten(0, 1))
    return ranker


def train(
    ranker: Ranker,
    inputs: RankerInputs,
    labels: torch.Tensor,
    *,
    loss: MultitaskLoss | None = None,
    positions: torch.Tensor | None = None,
    num_steps: int = 150,
    batch: int = 64,
) -> Ranker:
    """Take some steps of AdamW over random requests and return the ranker in evaluation mode."""
    loss = loss or MultitaskLoss(ranker.heads, listwise=0.0)
    random = torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW([*ranker.parameters(), *loss.parameters()], lr=1e-2, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=num_steps, pct_start=0.1)
    ranker.train()
    for _ in range(num_steps):
        rows = torch.randint(len(labels), (batch,), generator=random)
        step = RankerInputs(*(part[rows] for part in inputs))
        raw = ranker.raw(step, None if positions is None else positions[rows])
        optimiser.zero_grad()
        loss(raw, labels[rows], torch.ones(labels[rows].shape[:2], dtype=torch.bool)).backward()
        optimiser.step()
        schedule.step()
    return ranker.eval()


def draw(probabilities: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Return 0 or 1 for each probability; never from the numbers that made the inputs of the same seed."""
    return torch.bernoulli(probabilities, generator=torch.Generator().manual_seed(1000 + seed))


@torch.inference_mode()
def scores(ranker: Ranker, inputs: RankerInputs) -> torch.Tensor:
    """Return `[B, C, H]` answers."""
    answers: torch.Tensor = ranker(*inputs)
    return answers


def flat(values: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return a tensor as one float64 list."""
    return values.double().flatten().numpy()
