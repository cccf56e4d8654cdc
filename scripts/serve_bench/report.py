"""The report of the serving benchmark: goals first, then every figure, then the machine."""

import argparse
import json
import os
import platform
import statistics
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from stress import drawing, page, pictures

from retrank.contract.files import current
from serve_bench.cases import BURST, BUSY, CONNECTIONS, Best, Measured, Overload, Share
from serve_bench.load import BACK_OFF_S, Seen
from serve_bench.requests import K

DEFAULTS, FLAGS = "three deployments, defaults", "three deployments, HAProxy and flags"
ONE, TWO = "retrank, 1 replica", "retrank, 2 replicas"
NORMAL = 1.2
"""Times the calm p99 of the same run up to which latency counts as back to normal."""
_MIB = 1 << 20


@dataclass
class Figures:
    """Everything that was measured."""

    busy: list[Share] = field(default_factory=list)
    peak: dict[str, Measured] = field(default_factory=dict)
    best_of_defaults: Best = field(default_factory=lambda: Best(CONNECTIONS, Measured(), {}))
    same_question: dict[str, Measured] = field(default_factory=dict)
    latency: Measured = field(default_factory=Measured)
    latency_rate: float = 0.0
    rate_of_two: float = 0.0
    latency_of_two: Measured = field(default_factory=Measured)
    overload: Overload = field(default_factory=lambda: Overload(Measured(), Seen(), Seen(), 0, 0))
    overload_peak: float = 0.0


def write(arguments: argparse.Namespace, figures: Figures) -> str:
    """Return the report as Markdown."""
    return "\n".join(
        [
            "# Serving: throughput, latency and overload",
            "",
            f"`python scripts/bench_serving.py --bundle {arguments.bundle} --rounds {arguments.rounds} "
            f"--seconds {arguments.seconds:g} --overload-seconds {arguments.overload_seconds:g}`",
            "",
            *_machine(arguments.bundle),
            "",
            *drawing.beside(arguments.out, picture(figures), "Latency by quantile at 60 % of the peak and at twice"),
            "## Goals",
            "",
            "| case | goal | measured | reached |",
            "|---|---|---|---|",
            *_goals(figures),
            "",
            "## Peak, contestants taking turns",
            "",
            f"Closed loop, {CONNECTIONS} connections, each resting {BACK_OFF_S * 1e3:g} ms when it was refused. "
            "retrank is asked for everything (session, placement, context, reasons, diversity, exploration; live "
            "profile, event and decision log on); the peers for a plain slate. All stand on the machine at the same "
            "time; the processes of those that are not asked are stopped. A peer spreads each request over three "
            "processes and may use both cores, as may two replicas; one replica uses one. What is told against HAProxy "
            "and flags is the median over the rounds of the two rates in one round.",
            "",
            *_table(figures.peak),
            "",
            *_best(figures),
            "",
            *_same_question(figures),
            "## Latency and overload",
            "",
            *_under_load(figures),
            "",
        ]
    )


def picture(figures: Figures) -> str:
    """Show latencies by quantile, as SVG."""
    seen = {
        "one replica, 60 % of its peak": figures.latency.seen.latencies_s,
        "two replicas, 60 % of theirs": figures.latency_of_two.seen.latencies_s,
        "one replica, twice its peak": figures.overload.during.seen.latencies_s,
        "a refusal then": figures.overload.during.seen.refused_s,
    }
    shown = {name: [second * 1e3 for second in values] for name, values in seen.items() if values}
    return pictures.quantiles(shown, {"goal of p50": (0.5, 4.0), "goal of p99": (0.99, 15.0)})


def _goals(figures: Figures) -> list[str]:
    one, two = figures.peak[ONE], figures.peak[TWO]
    defaults, flags = figures.peak[DEFAULTS], figures.peak[FLAGS]
    during, after, at_once = figures.overload.during, figures.overload.after, figures.overload.at_once
    best = figures.best_of_defaults
    of_handler = statistics.median(one.replica_ms / one.handler_ms for one in figures.busy)
    of_pipeline = statistics.median(one.replica_ms / one.pipeline_ms for one in figures.busy)
    best_rate = max(defaults.rate, best.measured.rate)
    calm_p99_ms, after_p99_ms = figures.latency.seen.quantile_ms(0.99), after.quantile_ms(0.99)
    overload = figures.overload
    rows = [
        ("two replicas against three deployments on defaults, at their best", ">= 5x", two.rate / best_rate, 5.0, "x"),
        ("two replicas against the same with HAProxy and flags", ">= 1.8x", two.times(flags), 1.8, "x"),
        ("one replica against the same with HAProxy and flags", ">= 1.8x", one.times(flags), 1.8, "x"),
        ("1 -> 2 replicas, CPU-normalised", ">= 1.7x", 2 * one.cpu_ms / two.cpu_ms, 1.7, "x"),
        ("goodput at twice the peak", ">= 90 % of peak", 100 * during.rate / figures.overload_peak, 90.0, " %"),
    ]
    lines = [_row(name, goal, f"{value:.2f}{unit}", value >= floor) for name, goal, value, floor, unit in rows]
    most = [
        ("CPU per request against an in-process call, both busy", "<= 1.35x", of_handler, 1.35, "x"),
        ("the same against the pipeline alone", "<= 1.35x", of_pipeline, 1.35, "x"),
        *_latencies("one replica", figures.latency.seen),
        *_latencies("two replicas", figures.latency_of_two.seen),
        ("p99 of a rejection", "<= 5 ms", during.seen.refused_p99_ms, 5.0, " ms"),
        ("p99 five seconds after the overload", "<= 15 ms", after_p99_ms, 15.0, " ms"),
        ("the same against the calm before, same rate", f"<= {NORMAL:g}x", after_p99_ms / calm_p99_ms, NORMAL, "x"),
        (
            "growth of memory over the overload",
            "<= 1 %",
            100 * overload.growth_bytes / overload.before_bytes,
            1.0,
            " %",
        ),
        (f"{BURST} new connections at once, all answered within", "<= 1 s", at_once.seconds, 1.0, " s"),
    ]
    return lines + [_row(name, goal, f"{value:.2f}{unit}", value <= top) for name, goal, value, top, unit in most]


def _latencies(who: str, seen: Seen) -> list[tuple[str, str, float, float, str]]:
    return [
        (f"p50 at 60 % of peak, open loop, {who}", "<= 4 ms", seen.quantile_ms(0.5), 4.0, " ms"),
        (f"p99 at 60 % of peak, open loop, {who}", "<= 15 ms", seen.quantile_ms(0.99), 15.0, " ms"),
    ]


def _row(name: str, goal: str, measured: str, reached: bool) -> str:
    return f"| {name} | {goal} | {measured} | {page.verdict(reached)} |"


def _table(measured: dict[str, Measured]) -> list[str]:
    lines = [
        "| contestant | requests/s (rounds) | p50 ms | p99 ms | CPU ms/request: replicas | proxy | generator "
        "| other than 200 |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, one in measured.items():
        rounds = ", ".join(f"{rate:.0f}" for rate in one.rates)
        others = sum(count for status, count in one.seen.statuses.items() if status != 200)
        lines.append(
            f"| {name} | {one.rate:.0f} ({rounds}) | {one.seen.quantile_ms(0.5):.1f} "
            f"| {one.seen.quantile_ms(0.99):.1f} | {one.cpu_ms:.2f} | {one.proxy_ms:.2f} | {one.generator_ms:.2f} "
            f"| {others} |"
        )
    return lines


def _same_question(figures: Figures) -> list[str]:
    """Say what is left of the distance when retrank is asked for no more than the peers are."""
    asked = figures.same_question
    if not asked:
        return []
    ours, theirs = asked[TWO], asked[FLAGS]
    return [
        f"Asked for the same plain slate in turns, two replicas answer {ours.rate:.0f} requests/s and three "
        f"deployments with HAProxy and flags {theirs.rate:.0f}: {ours.times(theirs):.2f}x. Live profile, event "
        "log, decision log and token stay on.",
        "",
    ]


def _best(figures: Figures) -> list[str]:
    best = figures.best_of_defaults
    tried = ", ".join(f"{rate:.0f} with {count}" for count, rate in best.by_connections.items())
    rounds = ", ".join(f"{rate:.0f}" for rate in best.measured.rates)
    return [
        f"Three deployments on defaults do better with fewer connections, so their best number was looked for: {tried} "
        f"(requests/s, once each); then {best.connections} in full: **{best.measured.rate:.0f}** ({rounds}), p50 "
        f"{best.measured.seen.quantile_ms(0.5):.1f} ms, p99 {best.measured.seen.quantile_ms(0.99):.1f} ms. The first "
        f"goal is judged by the better of this and their figure with {CONNECTIONS}."
    ]


def _under_load(figures: Figures) -> list[str]:
    overload, latency, of_two = figures.overload, figures.latency.seen, figures.latency_of_two.seen
    during, after, at_once = overload.during.seen, overload.after, overload.at_once
    statuses = ", ".join(f"{count:,} x {status or 'broken'}" for status, count in sorted(during.statuses.items()))
    return [
        f"- {figures.latency_rate:.0f} requests/s (60 % of the peak just before): p50 "
        f"{latency.quantile_ms(0.5):.1f} ms, p95 {latency.quantile_ms(0.95):.1f} ms, "
        f"p99 {latency.quantile_ms(0.99):.1f} ms from the moment a request was due; {latency.degraded:,} of "
        f"{latency.statuses[200]:,} answers degraded. Processor time of the replica per answer, nothing refused: "
        f"{figures.latency.cpu_ms:.2f} ms.",
        f"- Two replicas at 60 % of their peak, {figures.rate_of_two:.0f} requests/s: p50 "
        f"{of_two.quantile_ms(0.5):.1f} ms, p95 {of_two.quantile_ms(0.95):.1f} ms, "
        f"p99 {of_two.quantile_ms(0.99):.1f} ms.",
        f"- Twice the peak for {during.seconds:.0f} s: {statuses}; {during.rate:.0f} good answers/s, "
        f"p99 {during.quantile_ms(0.99):.0f} ms, {during.degraded:,} degraded; a refusal took "
        f"{during.refused_p99_ms:.1f} ms at p99. Processor seconds meanwhile: "
        f"replica {overload.during.replica_cpu_s:.1f}, proxy {overload.during.proxy_cpu_s:.1f}, "
        f"generator {overload.during.generator_cpu_s:.1f}.",
        f"- Five seconds later, at 60 %: p50 {after.quantile_ms(0.5):.1f} ms, p99 {after.quantile_ms(0.99):.1f} ms.",
        f"- {BURST} new connections at once: {at_once.statuses[200]} x 200, {at_once.statuses[429]} x 429, the last "
        f"one answered after {at_once.seconds:.2f} s.",
        f"- Memory of the replica after it all: {overload.growth_bytes / _MIB:+.1f} MiB of "
        f"{overload.before_bytes / _MIB:.0f}.",
        f"- Busy, in turns, medians of {len(figures.busy)} rounds: {_median_ms(figures, 0)} ms of processor time per "
        f"answer of a replica with {BUSY} connections, {_median_ms(figures, 1)} in process on one thread, JSON in and "
        f"out, {_median_ms(figures, 2)} without live profile, token and decision log. One that waits for requests in "
        "between, as at 60 %, finds its caches cold and is woken up for each.",
    ]


def _median_ms(figures: Figures, column: int) -> str:
    return f"{statistics.median(one[column] for one in figures.busy):.2f}"


def _machine(bundle: Path) -> list[str]:
    folder = current(bundle)
    manifest = json.loads((folder / "manifest.json").read_text())
    data, encoder = manifest["data"], manifest["encoder"]
    versions = ", ".join(f"{name} {version(name)}" for name in ("ray", "onnxruntime", "faiss-cpu"))
    return [
        f"- {os.cpu_count()} cores ({platform.machine()}), shared by the generator, HAProxy, Ray and the replicas; "
        f"load average at the end {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, {versions}",
        f"- bundle {folder.name}: {data['num_items']:,} items, {data['num_users']:,} users, width {encoder['width']}, "
        f"up to {encoder['max_length']} events, index {manifest['index']['factory']}, k = {K}, "
        f"{'with' if manifest.get('ranker') else 'without'} a ranker",
    ]
