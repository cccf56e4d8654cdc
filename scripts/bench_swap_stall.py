"""How long others wait while a bundle is loaded: the gaps of a thread that wakes up every millisecond.

    python scripts/make_big_bundle.py --items 1000000 --users 100000 --transformer --ranker --out bundles/million
    python scripts/bench_swap_stall.py --bundle bundles/million

One process opens the bundle and keeps it, as a replica that answers. Then it loads the bundle again beside it, as a
swap does, and lets the first one go. What else runs on the machine only adds to a gap, so of several runs the least of
the longest gaps counts. CPU seconds are those of the whole process.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retrank.serving.bundles.recall import sampled_recall
from retrank.serving.recommender import Recommender

_TICK_S = 0.001
SWITCH_S = 0.0005  # as a replica sets it while it loads
_RECALL_QUERIES = 64


class Seen(NamedTuple):
    """One run of one step: CPU seconds of the process, and the longest gap of the ticking thread in seconds."""

    cpu_s: float
    gap_s: float


class Ticker(threading.Thread):
    """Wakes up every millisecond and notes how late it was."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended = False
        self.longest = 0.0

    def run(self) -> None:
        last = time.perf_counter()
        while not self._ended:
            time.sleep(_TICK_S)
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now

    def end(self) -> float:
        self._ended = True
        self.join()
        return self.longest


@contextmanager
def watched(into: list[Seen]) -> Iterator[None]:
    """Note CPU time and the longest gap of what is done inside."""
    ticker, started = Ticker(), time.process_time()
    ticker.start()
    yield
    into.append(Seen(time.process_time() - started, ticker.end()))


def measure(opened: Callable[[], Recommender], runs: int) -> dict[str, list[Seen]]:
    """Load a bundle beside an open one several times; return what was seen of each step."""
    found: dict[str, list[Seen]] = {"nothing, for half a second": [], "verify and open": [], "recall": [], "let go": []}
    active = opened()
    sys.setswitchinterval(SWITCH_S)
    for _ in range(runs):
        with watched(found["nothing, for half a second"]):
            time.sleep(0.5)
        with watched(found["verify and open"]):
            ready = opened()
        with watched(found["recall"]):
            sampled_recall(ready.runtime, _RECALL_QUERIES, np.random.default_rng(0))
        with watched(found["let go"]):
            active = ready
            del ready
    del active
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    print("| step | CPU s | longest gap, ms |\n|---|--:|--:|")
    for step, seen in measure(lambda: Recommender.open(asked.bundle), asked.runs).items():
        print(f"| {step} | {min(one.cpu_s for one in seen):.2f} | {min(one.gap_s for one in seen) * 1e3:.1f} |")


if __name__ == "__main__":
    main()
