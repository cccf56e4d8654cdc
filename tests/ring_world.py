"""A tiny world in which the next item is predictable: users walk around a ring of items."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrank.config import compose, resolve
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.readers.items_file import ItemsFile
from retrank.data.readers.sequences import SequenceFile

Configure = Callable[..., dict[str, Any]]
NUM_ITEMS, NUM_USERS = 12, 30
SMALL = (
    "experiment=smoke", "split=leave_last_out", "trainer.progress=false", "trainer.threads=1",
    "trainer.accelerator=cpu", "trainer.max_epochs=4", "model.max_length=8", "model.dropout=0.2",
    "batches.batch_size=8", "optim.warmup_steps=2",
)  # fmt: skip


def make_store(folder: Path) -> Path:
    """Ingest the ring and return the root of its store."""
    lines = [f"user{user} item{(user + step) % NUM_ITEMS}" for user in range(NUM_USERS) for step in range(5 + user % 6)]
    (folder / "ring.txt").write_text("\n".join(lines) + "\n")
    ingest(SequenceFile(str(folder / "ring.txt"), name="ring"), folder / "store")
    return folder / "store"


TWO_TOWERS = (
    "model=two_tower", "~model.num_blocks", "model.dropout=0.1",
    "+item_content._target_=retrank.data.item_content.ItemContent",
    "+item_content.categories=[side]", "+item_content.texts=[title]", "+item_content.numbers=[price]",
)  # fmt: skip
NEVER_BOUGHT = "item99"


def make_described_store(folder: Path) -> Path:
    """Ingest the ring with a file of its items, one of which nobody ever met; return the root of the store."""
    events = [
        f"user{user},item{(user + step) % NUM_ITEMS}" for user in range(NUM_USERS) for step in range(5 + user % 6)
    ]
    items = [
        f"item{row},{'left' if row < NUM_ITEMS / 2 else 'right'},Thing {row % 3},{row}" for row in range(NUM_ITEMS)
    ]
    (folder / "events.csv").write_text("\n".join(["user,item", *events]) + "\n")
    (folder / "items.csv").write_text("\n".join(["item,side,title,price", *items, f"{NEVER_BOUGHT},left,,"]) + "\n")
    attributes = {name: name for name in ("side", "title", "price")}
    described = ItemsFile(str(folder / "items.csv"), "item", attributes, numbers=["price"])
    reader = Delimited(str(folder / "events.csv"), Columns("user", "item"), "described_ring", items=described)
    ingest(reader, folder / "described")
    return folder / "described"


def configuration(store: Path, root: Path, name: str, *overrides: str) -> dict[str, Any]:
    """Return the resolved configuration of a small run in `root/runs/name`."""
    fixed = (f"store={store}", f"run_dir={root / 'runs' / name}", f"paths.root={root}")
    return resolve(compose("train", [*SMALL, *fixed, *overrides]))
