"""Write the log of a shop that does not exist: views, carts and purchases by people with tastes, in sessions.

    python scripts/made_up_shop.py --chain 0.4 --out shop.csv
    retrank ingest data=csv data.path=shop.csv data.name=shop data.columns.user=customer data.columns.item=sku \
        data.columns.time=time data.columns.time_unit=iso data.columns.action=action

Every item belongs to a category and has one successor in it. A view follows the successor of the view before it with
probability `--chain`; else it is drawn from a favourite category of its person by popularity, which rises and falls
over the weeks. With 0 order says nothing that the items do not; with 0.8 it says nearly everything. A view becomes a
cart with probability 0.3, and a cart a purchase with 0.5.
"""

import argparse
import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

START = datetime(2025, 1, 6, tzinfo=UTC)
DAYS = 150
CATEGORIES = 12
FAVOURITE = (0.6, 0.25)
"""Probability of the two favourite categories; the rest is any category."""
COLUMNS = ("customer", "sku", "time", "action")
Row = tuple[str, str, str, str]


class Catalogue:
    """Items with a category, a successor in it, and a popularity that has its season."""

    def __init__(self, num_items: int, rng: np.random.Generator) -> None:
        category = rng.integers(0, CATEGORIES, num_items)
        self.members = [np.flatnonzero(category == one) for one in range(CATEGORIES)]
        self.successor = np.zeros(num_items, dtype=np.int64)
        for items in self.members:
            order = rng.permutation(items)
            self.successor[order] = np.roll(order, -1)
        self._weight = rng.zipf(1.6, num_items).clip(max=60) ** 0.7
        self._phase = rng.uniform(0, 2 * np.pi, num_items)

    def draw(self, category: int, day: float, rng: np.random.Generator) -> int:
        """Draw an item of a category by its popularity on a day."""
        items = self.members[category]
        weights = self._weight[items] * np.exp(1.2 * np.sin(2 * np.pi * day / 56 + self._phase[items]))
        return int(rng.choice(items, p=weights / weights.sum()))


def person(name: str, catalogue: Catalogue, chain: float, rng: np.random.Generator) -> list[tuple[datetime, Row]]:
    """Return the events of one person, oldest first within each session."""
    favourites, events = rng.choice(CATEGORIES, 2, replace=False), []
    for _ in range(1 + rng.poisson(3)):
        day = float(rng.uniform(0, DAYS))
        at, last = START + timedelta(days=day), -1
        for _ in range(1 + rng.poisson(4)):
            if last >= 0 and rng.random() < chain:
                last = int(catalogue.successor[last])
            else:
                which = rng.choice(3, p=[*FAVOURITE, 1 - sum(FAVOURITE)])
                last = catalogue.draw(int(favourites[which] if which < 2 else rng.integers(CATEGORIES)), day, rng)
            for action, follows in (("view", 1.0), ("cart", 0.3), ("purchase", 0.5)):
                if rng.random() >= follows:
                    break
                at += timedelta(seconds=int(rng.integers(5, 200)))
                events.append((at, (name, f"SKU-{last:05d}", at.isoformat(timespec="seconds"), action)))
    return events


def main() -> None:
    """Write the log in the order of time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chain", type=float, default=0.4, help="share of views that follow the view before, 0..1")
    parser.add_argument("--users", type=int, default=3000)
    parser.add_argument("--items", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    catalogue = Catalogue(asked.items, rng)
    events = [event for user in range(asked.users) for event in person(f"c{user}", catalogue, asked.chain, rng)]
    with asked.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(row for _, row in sorted(events))
    print(f"{asked.out}: {len(events):,} events")


if __name__ == "__main__":
    main()
