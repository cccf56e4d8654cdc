"""How processes share the work of a step: each takes some histories of the same batch, and counts for its targets."""

from collections.abc import Iterator

import pytorch_lightning as pl
import torch

from retrank.data.batches import Batch, Batches
from retrank.training.launch.place import Place
from retrank.training.touched_rows import a_touch


class Shards:
    """The part of every batch that falls to one process.

    All processes cut the same batches, a function of (seed, epoch), and keep every world_size-th history: together they
    see each history once in an epoch, in equally many steps, with the batches of a run in one process. Cutting a whole
    batch is cheap beside a step.

    Args:
        batches: of one epoch, the same in every process.
        place: which part to keep.
    """

    def __init__(self, batches: Batches, place: Place) -> None:
        self.batches, self.place = batches, place

    def __len__(self) -> int:
        """Return the number of steps, the same in every process."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the parts; one may hold no history when a batch has fewer than there are processes."""
        return (shard(batch, self.place) for batch in self.batches)


def shard(batch: Batch, place: Place) -> Batch:
    """Return every world_size-th history of a batch, starting at `rank`, with what is to be predicted in it."""
    length = batch.item_rows.shape[1]
    owners = batch.positions // length
    own = owners % place.world_size == place.rank
    rows = owners[own] // place.world_size
    return Batch(
        inputs={name: values[place.rank :: place.world_size] for name, values in batch.inputs.items()},
        positions=rows * length + batch.positions[own] % length,
        target_rows=batch.target_rows[own],
    )


def share_of_step(num_positions: int, module: pl.LightningModule) -> float:
    """Return by how much to multiply a process's mean loss, so that averaged gradients are those of the whole batch.

    DDP averages over processes as if each had equally many targets; weighting by the real number makes up for it.
    """
    if module.trainer.world_size == 1:
        return 1.0
    total = torch.tensor(float(num_positions), device=module.device)
    total = module.trainer.strategy.reduce(total, reduce_op="sum")
    return num_positions * module.trainer.world_size / max(1.0, float(total))


def idle_loss(module: torch.nn.Module) -> torch.Tensor:
    """Return a loss of zero that touches every weight: a process without targets must still take part in the step."""
    return torch.stack(a_touch(module)).sum() * 0.0
