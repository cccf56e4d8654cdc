"""One way to compute full-softmax cross-entropy, forward and backward, in a fresh process: seconds and peak memory.

Arguments: folder (unused), variant, tokens, items, width, repeats, threads.
"""

import resource
import sys
import time
from collections.abc import Callable

import torch
from channel import say
from torch.nn import functional as F

from retrank.losses.items import ItemTable
from retrank.losses.softmax import FullSoftmax

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def retrank(queries: torch.Tensor, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor = FullSoftmax()(queries, ItemTable(items), targets + 1)
    return loss


def naive(queries: torch.Tensor, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(queries @ items[1:].T, targets)


def torch_chunked(queries: torch.Tensor, items: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.linear_cross_entropy(queries, items[1:], targets, options=torch.nn.LinearCrossEntropyOptions())


VARIANTS: dict[str, Loss] = {"retrank": retrank, "naive": naive, "torch_chunked": torch_chunked}


def main() -> None:
    variant = VARIANTS[sys.argv[2]]
    tokens, num_items, width, repeats, threads = map(int, sys.argv[3:])
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(tokens, width, generator=generator).requires_grad_()
    items = torch.randn(num_items + 1, width, generator=generator).mul_(0.1).requires_grad_()
    targets = torch.randint(0, num_items, (tokens,), generator=generator)
    variant(queries[:8], items[:33], targets[:8] % 32).backward()  # type: ignore[no-untyped-call]  # loads what is loaded lazily
    queries.grad = items.grad = None
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(repeats):
        queries.grad = items.grad = None
        started = time.perf_counter()
        loss = variant(queries, items, targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert queries.grad is not None
    say(seconds=seconds, bytes=1024 * (peak - before), loss=loss.item())


if __name__ == "__main__":
    main()
