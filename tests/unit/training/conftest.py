"""A tiny world in which the next item is predictable: users walk around a ring of items."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retrank.config import compose, resolve
from retrank.data.ingest import ingest
from retrank.data.readers.sequences import SequenceFile

Configure = Callable[..., dict[str, Any]]
NUM_ITEMS, NUM_USERS = 12, 30
SMALL = (
    "experiment=smoke", "split=leave_last_out", "trainer.progress=false", "trainer.threads=1", "trainer.accelerator=cpu",
    "trainer.max_epochs=4", "model.max_length=8", "model.dropout=0.2", "batches.batch_size=8", "optim.warmup_steps=2",
)  # fmt: skip


@pytest.fixture(scope="session")
def ring_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ring")
    lines = [
        f"user{user} item{(user + step) % NUM_ITEMS}" for user in range(NUM_USERS) for step in range(5 + user % 6)
    ]
    (folder / "ring.txt").write_text("\n".join(lines) + "\n")
    ingest(SequenceFile(str(folder / "ring.txt"), name="ring"), folder / "store")
    return folder / "store"


@pytest.fixture
def configure(ring_store: Path, tmp_path: Path) -> Configure:
    """Make the resolved configuration of a small run in a folder of its own."""

    def make(name: str, *overrides: str) -> dict[str, Any]:
        fixed = (f"store={ring_store}", f"run_dir={tmp_path / 'runs' / name}", f"paths.root={tmp_path}")
        return resolve(compose("train", [*SMALL, *fixed, *overrides]))

    return make
