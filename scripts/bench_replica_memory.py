"""Measure what more replicas on one host cost: proportional memory of 1 and of 4 recommender processes.

    python scripts/make_big_bundle.py --items 1000000 --users 200000 --out bundles/million
    python scripts/bench_replica_memory.py --bundle bundles/million --out docs/benchmarks/replica_memory.md

Each process opens the bundle as a replica does and answers requests of known users; then the kernel is asked
(smaps_rollup: a page that n processes map counts 1/n for each). Nothing listens anywhere.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from process_memory import anonymous_bytes, proportional_bytes
from stress import drawing, page, pictures

from retrank.contract.bundle import describe, locate

GOAL = 1.3
_PROGRAM = """
import sys
from retrank.contract.api import RecommendRequest
from retrank.serving.recommender import Recommender
empty = sys.argv[1] == "-"
if not empty:
    recommender = Recommender.open(sys.argv[1])
    users = recommender.runtime.users
    for turn in range(int(sys.argv[2])):
        recommender.recommend(RecommendRequest(user_id=users.id(turn * 7919 % len(users) + 1), k=20))
print("ready", flush=True)
sys.stdin.read()
"""


class Row(NamedTuple):
    """Processes, their proportional memory, and the part that no file backs."""

    processes: int
    proportional: int
    anonymous: int

    def markdown(self, one: "Row") -> str:
        share = self.proportional / one.proportional
        return f"| {self.processes} | {self.proportional / 1e6:,.0f} | {self.anonymous / 1e6:,.0f} | {share:.2f}x |"


def measure(bundle: str, processes: int, requests: int) -> Row:
    """Start processes that open the bundle ("-": none) and add up their memory."""
    with ExitStack() as stack:
        command = [sys.executable, "-c", _PROGRAM, bundle, str(requests)]
        started = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(processes)
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "a process did not open the bundle"
        pids = [process.pid for process in started]
        found = Row(processes, proportional_bytes(pids), anonymous_bytes(pids))
        for process in started:
            process.communicate()
        return found


def picture(rows: Sequence[Row]) -> str:
    """Show what is shared and what is not, as SVG; the first row is of one process."""
    shown = {
        f"{row.processes} process{'es' if row.processes > 1 else ''}": (
            (row.proportional - row.anonymous) / 1e6,
            row.anonymous / 1e6,
        )
        for row in rows
    }
    return pictures.replica_memory(shown, dict.fromkeys(list(shown)[1:], GOAL * rows[0].proportional / 1000000.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--requests", type=int, default=2_000, help="of each process; they touch what is mapped")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    asked = parser.parse_args()
    directory = locate(asked.bundle)
    _, manifest = describe(directory)
    size = sum(sealed.size for sealed in manifest.files.values())
    nothing, one = measure("-", 1, 0), measure(str(directory), 1, asked.requests)
    many = measure(str(directory), asked.processes, asked.requests)
    page.publish(
        [
            "# Memory of replicas on one host",
            "",
            f"`python scripts/bench_replica_memory.py --bundle BUNDLE`, {datetime.now(UTC):%Y-%m-%d}, "
            f"{os.cpu_count()} cores; memory does not depend on the load.",
            "",
            f"Bundle of {manifest.data.num_items:,} items and {manifest.data.num_users:,} users, {size / 1e6:,.0f} MB, "
            f"index {manifest.index.factory}; {asked.requests:,} requests of known users per process. A process "
            f"that only imports the code and opens nothing has {nothing.proportional / 1e6:,.0f} MB.",
            "",
            *drawing.beside(asked.out, picture([one, many]), "Memory of one process and of several"),
            f"| processes | proportional MB | of which no file backs | against one (goal <= {GOAL}x) |",
            "|--:|--:|--:|--:|",
            one.markdown(one),
            many.markdown(one),
        ],
        asked.out,
    )


if __name__ == "__main__":
    main()
