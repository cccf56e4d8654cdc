"""What `chaos_swap.py` found, and the page that says it.

Swaps and pauses take turns in one run under the same load, and requests are told apart by when they were due. So a
machine that is slower for a minute is slower for both, and what a swap costs is what remains between them.
"""

import argparse
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrank.contract.bundle import describe
from stress import drawing, page, pictures
from stress.swap_load import CONNECTIONS, Tally

SETTLE_S = 1.0
"""Seconds after an order was carried out that still count as part of it: the old bundle is let go of."""


class Order(NamedTuple):
    """An order and how long it took until every replica had carried it out; `at` is in seconds of `perf_counter`."""

    what: str
    at: float
    took_s: float

    @property
    def over(self) -> float:
        return self.at + self.took_s + SETTLE_S


class Findings(NamedTuple):
    """Everything the page says; `tally` is of the whole open loop, `memory_before` and `memory_peak` are bytes."""

    peak_rps: float
    tally: Tally
    orders: list[Order]
    memory_before: int
    memory_peak: int

    def took(self, what: str) -> list[float]:
        return [one.took_s for one in self.orders if one.what == what]

    def within_an_order(self, due_s: list[float]) -> NDArray[np.bool_]:
        """Return which of some moments lie in the window of an order."""
        due, inside = np.asarray(due_s), np.zeros(len(due_s), dtype=np.bool_)
        for one in self.orders:
            inside |= (due >= one.at) & (due < one.over)
        return inside

    def quantile_ms(self, share: float, *, swapping: bool) -> float:
        """Return a quantile of the latencies in the windows of orders, or in the pauses between them."""
        chosen = np.asarray(self.tally.latencies_s)[self.within_an_order(self.tally.due_s) == swapping]
        return float(np.quantile(chosen, share)) * 1e3 if len(chosen) else float("nan")

    def each_to_its_pause(self, share: float) -> list[float]:
        """Return a quantile during every order over the same one of the pause before it."""
        due, took = np.asarray(self.tally.due_s), np.asarray(self.tally.latencies_s)
        ratios, paused_at = [], self.tally.started
        for one in self.orders:
            during, before = took[(due >= one.at) & (due < one.over)], took[(due >= paused_at) & (due < one.at)]
            if len(during) and len(before):
                ratios.append(float(np.quantile(during, share) / np.quantile(before, share)))
            paused_at = one.over
        return ratios


def conditions(found: Findings, names: list[str], asked: argparse.Namespace) -> list[str]:
    """Say how it was measured."""
    _, manifest = describe(asked.bundles / names[0])
    data, encoder = manifest.data, manifest.encoder
    size = sum(sealed.size for sealed in manifest.files.values())
    machine = (
        f"`python scripts/chaos_swap.py --bundles ROOT --swaps {asked.swaps}`, {datetime.now(UTC):%Y-%m-%d}, "
        f"{os.cpu_count()} cores ({platform.machine()}) for load generator, HAProxy, Ray, {asked.replicas} replicas; "
        f"load average {os.getloadavg()[0]:.1f} at the end."
    )
    bundles = (
        f"{len(names)} bundles with disjoint catalogues of {data.num_items:,} items, width {encoder.width}, "
        f"{data.num_users:,} users, {encoder.max_length} events each, {size / 1e6:,.0f} MB on disk, index "
        f"{manifest.index.factory}. Peak {found.peak_rps:.0f} requests/s in a closed loop, {CONNECTIONS} connections; "
        f"then Poisson arrivals at {asked.load:.0%} of that for {found.tally.seconds:.0f} s, without orders for "
        f"{asked.base_s:g} s, then {len(found.took('activate'))} swaps and {len(found.took('rollback'))} rollbacks, "
        f"each after a pause of {asked.pause_s:g} s. An order counts until {SETTLE_S:g} s after the last replica has "
        "carried it out."
    )
    return [machine, "", bundles, ""]


def picture(found: Findings) -> str:
    """Show every request, as SVG."""
    tally = found.tally
    names = {"activate": "swap ordered", "rollback": "rollback ordered"}
    marks = {
        label: [one.at - tally.started for one in found.orders if one.what == what] for what, label in names.items()
    }
    marks["carried out"] = [one.at + one.took_s - tally.started for one in found.orders if one.what == "activate"]
    return pictures.timeline(
        [due - tally.started for due in tally.due_s],
        [second * 1e3 for second in tally.latencies_s],
        marks_s=marks,
        failed_s=[due - tally.started for due in tally.failed_due_s],
    )


def goals(found: Findings) -> list[tuple[str, str, str, str]]:
    """Return the rows of the table."""
    tally, swap_s = found.tally, max(found.took("activate"), default=float("nan"))
    rollback_s = max(found.took("rollback"), default=0.0)
    during, between = found.quantile_ms(0.99, swapping=True), found.quantile_ms(0.99, swapping=False)
    ratio, memory = during / between, found.memory_peak / found.memory_before
    rows = [
        ("failed requests", f"{len(tally.failed)} of {tally.asked:,}", "0", not tally.failed),
        ("of these, after one wait as told by `Retry-After`", f"{tally.remaining}", "", None),
        ("answers with items of another bundle than they name", f"{tally.mixed}", "0", tally.mixed == 0),
        ("p99 during swaps / between", f"{during:.1f} / {between:.1f} ms = {ratio:.2f}x", "<= 1.5x", ratio <= 1.5),
        (
            "peak / steady memory of the replicas (PSS)",
            f"{found.memory_peak / 1e6:,.0f} / {found.memory_before / 1e6:,.0f} MB = {memory:.2f}x",
            "<= 2.1x",
            memory <= 2.1,
        ),
        ("slowest swap, order to every replica", f"{swap_s:.2f} s", "<= 30 s", swap_s <= 30),
        ("slowest rollback", f"{rollback_s:.2f} s", "<= 5 s", rollback_s <= 5),
    ]
    return [(*row[:3], "" if row[3] is None else page.verdict(row[3])) for row in rows]


def report(found: Findings, names: list[str], asked: argparse.Namespace) -> list[str]:
    """Return the page."""
    tally, inside = found.tally, found.within_an_order(found.tally.failed_due_s)
    of_pause = np.array(found.each_to_its_pause(0.99) or [float("nan")])
    low, middle, high = np.quantile(of_pause, (0.25, 0.5, 0.75))
    rollback = np.median(found.took("rollback") or [float("nan")])
    return [
        "# Swapping bundles under load",
        "",
        *conditions(found, names, asked),
        *page.table(("what", "measured", "goal", "reached"), goals(found)),
        "",
        *drawing.beside(asked.out, picture(found), "Every request over time, with the swaps"),
        f"Swaps took {np.median(found.took('activate')):.2f} s (median), rollbacks {rollback:.2f} s. p50 was "
        f"{found.quantile_ms(0.5, swapping=True):.1f} ms during and {found.quantile_ms(0.5, swapping=False):.1f} ms "
        f"between. The p99 of each order over that of the pause before it: median {middle:.2f}, quartiles "
        f"{low:.2f} to {high:.2f}.",
        "",
        f"Of the failed requests {int(inside.sum())} were due during an order, {int((~inside).sum())} in a pause.",
        "",
        *(f"- failed: {count} x {said}" for said, count in tally.reasons()[:10]),
    ]


def publish(found: Findings, names: list[str], asked: argparse.Namespace, out: Path | None) -> None:
    """Print the page, and write it where asked."""
    page.publish(report(found, names, asked), out)
