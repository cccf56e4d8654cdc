"""Depth that is trained: eight blocks find what stands far back, and their queries do not become one."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from retrank.models.hstu import HSTU
from retrank.models.sasrec import SASRec

NUM_ITEMS, LENGTH, BLOCKS = 12, 6, 8
SIZES = {"max_length": LENGTH, "width": 16, "num_blocks": BLOCKS, "num_heads": 2, "dropout": 0.0}
Deep = SASRec | HSTU
DEEP: dict[str, Callable[[], Deep]] = {
    "gated sasrec": lambda: SASRec(NUM_ITEMS, flavour="gated", **SIZES),  # type: ignore[arg-type]  # several types
    "hstu": lambda: HSTU(NUM_ITEMS, time_bias=False, **SIZES),  # type: ignore[arg-type]
}


def histories(number: int, random: torch.Generator) -> torch.Tensor:
    return torch.randint(1, NUM_ITEMS + 1, (number, LENGTH), generator=random)


@pytest.mark.slow
@pytest.mark.parametrize("make", DEEP.values(), ids=DEEP.keys())
def test_eight_trained_blocks_know_what_came_first(make: Callable[[], Deep]) -> None:
    """The answer is the oldest item. Nothing else tells it, and no history of the test was seen in training."""
    torch.manual_seed(0)
    model, random = make().train(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(250):
        seen = histories(64, random)
        logits = model(seen) @ model.item_vectors()[1:].T / 0.1
        optimizer.zero_grad()
        F.cross_entropy(logits, seen[:, 0] - 1).backward()  # type: ignore[no-untyped-call]  # torch
        optimizer.step()
    asked = histories(500, random)
    with torch.no_grad():
        queries = F.normalize(model.eval()(asked), dim=-1)
        right = (queries @ model.item_vectors()[1:].T).argmax(-1) + 1 == asked[:, 0]
    assert right.float().mean().item() > 0.95
    others = asked[:, 0, None] != asked[:, 0]
    assert (queries @ queries.T)[others].mean().item() < 0.5
