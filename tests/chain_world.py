"""Eighty people who buy along a chain of forty items, and runs of `retrank train` and `retrank rank` on them."""

from pathlib import Path

import numpy as np

from retrank.cli import main
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited

SMALL = (
    "trainer.progress=false", "trainer.threads=1", "trainer.accelerator=cpu", "baselines=false",
)  # fmt: skip
TRAINED = ("experiment=smoke", "trainer.max_epochs=3", "batches.batch_size=16", "optim.warmup_steps=2")


def write_events(path: Path) -> None:
    """One visit every few days, for two months; items have a title and a price."""
    random = np.random.default_rng(0)
    lines = ["user,item,time,price,action,title"]
    for user in range(80):
        item, day = int(random.integers(40)), float(random.uniform(0, 10))
        while day < 60:
            said = f"{1 + item % 7},{'buy' if item % 3 else 'view'},Thing {item % 5}"
            lines.append(f"u{user},i{item},{int(day * 86_400)},{said}")
            item = (item + int(random.choice([1, 1, 1, 5]))) % 40
            day += float(random.choice([0.01, 4.0]))
    path.write_text("\n".join(lines) + "\n")


def write_impressions(path: Path, events: Path) -> None:
    """Whoever bought an item had been shown it a minute before, among four others that were not bought."""
    random = np.random.default_rng(1)
    lines = ["user,item,time,place"]
    for line in events.read_text().splitlines()[1:]:
        user, item, time, *_ = line.split(",")
        slate = [f"i{row}" for row in random.choice(40, 4, replace=False)]
        slate.insert(int(random.integers(5)), item)
        lines += [f"{user},{shown},{int(time) - 60},{place + 1}" for place, shown in enumerate(slate)]
    path.write_text("\n".join(lines) + "\n")


def make_stores(root: Path) -> None:
    """Ingest the events into `root/store` and what was shown into `root/shown`."""
    write_events(root / "events.csv")
    write_impressions(root / "shown.csv", root / "events.csv")
    columns = Columns(
        user="user",
        item="item",
        time="time",
        time_unit="seconds",
        value="price",
        action="action",
        attributes={"title": "title", "list_price": "price"},
        numbers=["list_price"],
    )
    ingest(Delimited(path=str(root / "events.csv"), name="chain", columns=columns), root / "store")
    placed = Columns(user="user", item="item", time="time", context={"position": "place"}, numbers=["position"])
    ingest(Delimited(path=str(root / "shown.csv"), name="slates", columns=placed), root / "shown")


def train(root: Path, name: str, *overrides: str) -> int:
    """Run `retrank train` into `root/name`; return its exit status."""
    fixed = (f"store={root / 'store'}", f"run_dir={root / name}", f"paths.root={root}", "model.max_length=16")
    return main(["train", *TRAINED, *fixed, *SMALL, *overrides])


def rank(root: Path, name: str, *overrides: str) -> int:
    """Run `retrank rank` on `root/run` into `root/name`; return its exit status."""
    fixed = (f"run={root / 'run'}", f"run_dir={root / name}", f"paths.root={root}", "trainer.max_epochs=2")
    return main(["rank", *fixed, *SMALL, *overrides])


HEADS = (
    "heads=[{name: any, kind: binary, given: null, actions: null, weight: 0.0},"
    "{name: bought, kind: binary, given: any, actions: [buy], weight: 1.0},"
    "{name: spent, kind: value, given: bought, actions: [buy], weight: 0.0}]"
)
