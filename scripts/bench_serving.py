"""Measure `POST /v1/recommend` beside the straightforward Ray Serve application, on one bundle, in one run.

    python scripts/make_big_bundle.py --items 1000000 --transformer --ranker --out bundles/big
    python scripts/bench_serving.py --bundle bundles/big --out docs/benchmarks/serving.md

Every service runs as a process of its own, as does this generator. Contestants take turns, so that all see the same
machine minute by minute, and each has it to itself meanwhile: the processes of the others are stopped. Goals compare
medians. Everything stays on the loopback interface, bounded in count and time.
"""

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from serve_bench import cases, requests
from serve_bench.here import in_process
from serve_bench.report import DEFAULTS, FLAGS, ONE, TWO, Figures, write
from serve_bench.services import Turns, retrank, three_deployments
from stress import page

MOST_SECONDS = 60.0


def main() -> None:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nobody stays stopped
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as folder:
        figures = _measure(arguments, Path(folder))
    page.publish([write(arguments, figures)], arguments.out)


def _measure(arguments: argparse.Namespace, folder: Path) -> Figures:
    bundle, rounds, seconds = arguments.bundle, arguments.rounds, arguments.seconds
    plain, full = requests.plain(bundle), requests.full(bundle)
    figures = Figures()
    with ExitStack() as stack:
        ours = [
            stack.enter_context(retrank(bundle, folder / f"ours-{count}", replicas=count, name=name))
            for count, name in ((1, ONE), (2, TWO))
        ]
        peers = [
            stack.enter_context(three_deployments(bundle, folder / f"peer-{throughput}", throughput=throughput))
            for throughput in (False, True)
        ]
        bodies = {each.name: full for each in ours} | {peer.name: plain for peer in peers}
        standing = [*ours, *peers]
        same, question = [each for each in standing if each.name in (TWO, FLAGS)], {TWO: plain, FLAGS: plain}
        with Turns(standing) as turns:
            figures.peak = cases.peak(standing, bodies, rounds=rounds, seconds=seconds, turns=turns)
            defaults = next(peer for peer in peers if peer.name == DEFAULTS)
            with turns.of(defaults):
                figures.best_of_defaults = cases.best(defaults, plain, rounds=rounds, seconds=seconds)
            figures.same_question = cases.peak(same, question, rounds=rounds, seconds=seconds, turns=turns)
    with retrank(bundle, folder / "alone", name=ONE) as one:
        alone = cases.peak([one], {one.name: full}, rounds=1, seconds=seconds)[one.name]
        with in_process(bundle, folder / "here") as here:
            figures.busy = cases.beside(one, full, here, rounds=arguments.busy_rounds, seconds=seconds)
        figures.latency_rate = 0.6 * alone.rate
        figures.latency = cases.latency(one, full, rate=figures.latency_rate, rounds=rounds, seconds=2 * seconds)
        figures.overload = cases.overload(one, full, peak_rate=alone.rate, seconds=arguments.overload_seconds)
        again = cases.peak([one], {one.name: full}, rounds=1, seconds=seconds)[one.name]
        figures.overload_peak = (alone.rate + again.rate) / 2  # before and after
    with retrank(bundle, folder / "two", replicas=2, name=TWO) as two:
        figures.rate_of_two = 0.6 * cases.peak([two], {two.name: full}, rounds=1, seconds=seconds)[two.name].rate
        figures.latency_of_two = cases.latency(two, full, rate=figures.rate_of_two, rounds=rounds, seconds=2 * seconds)
    return figures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3, help="per contestant, in turns")
    parser.add_argument("--seconds", type=float, default=10.0, help="per round, at most 60")
    parser.add_argument("--overload-seconds", type=float, default=60.0, help="at twice the peak, at most 60")
    parser.add_argument("--busy-rounds", type=int, default=5, help="in turns with the same requests in process")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    arguments.seconds = min(arguments.seconds, MOST_SECONDS)
    arguments.overload_seconds = min(arguments.overload_seconds, MOST_SECONDS)
    return arguments


if __name__ == "__main__":
    main()
