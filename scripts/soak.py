"""Send mixed traffic for a long time and see that memory and file descriptors stay where they are after warm-up.

    python scripts/make_big_bundle.py --items 20000 --flat --out bundles/chaos20k
    python scripts/soak.py --bundle bundles/chaos20k --count 500000 --out docs/benchmarks/soak.md

Starts `retrank serve` on the loopback interface and keeps a few connections busy: recommendations for known, unknown
and anonymous people, similar and popular items, events, changes of items. Memory is what the replicas have resident;
the rest of the service (HAProxy, Ray) is shown beside it. Bounded in count, and by `--most-s` in time.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from serve_bench import family
from serve_bench.load import LOOPBACK, Seen, Target, closed_loop
from serve_bench.services import retrank
from stress import drawing, page, pictures

from retrank.contract.bundle import ITEM_VOCAB, USER_VOCAB
from retrank.contract.files import current
from retrank.contract.vocab import Vocab
from retrank.serving.ingress import free_port

CONNECTIONS = 4
PEOPLE = 1_000
_DISTINCT = 20_000
_SLICE_S = 10.0
_WARM_SHARE = 0.25
_MIB = 1 << 20


class Held(NamedTuple):
    """What the service holds after some requests; bytes and file descriptors."""

    requests: int
    replicas: int
    others: int
    replica_files: int
    other_files: int


@dataclass
class Soak:
    """What was seen."""

    held: list[Held] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)

    @property
    def warm(self) -> Held:
        """The first look after the warm-up."""
        wanted = _WARM_SHARE * self.held[-1].requests
        return next(one for one in self.held if one.requests >= wanted)


def mixed(bundle: Path, port: int, rng: random.Random) -> Target:
    """Return requests of all kinds, ready to be written to a socket."""
    items, users = (Vocab.open(current(bundle), files) for files in (ITEM_VOCAB, USER_VOCAB))
    known = [users.id(row) for row in range(1, min(len(users), PEOPLE) + 1)]
    return Target(port, [_request(port, *_one(number, items, known, rng)) for number in range(_DISTINCT)])


def _one(number: int, items: Vocab, known: list[str], rng: random.Random) -> tuple[str, str, object]:
    item, kind = items.id(rng.randrange(1, len(items) + 1)), rng.random()
    newcomer = rng.randrange(PEOPLE)
    who = rng.choice(({"user_id": rng.choice(known)}, {"anonymous_id": f"a{newcomer}"}, {"user_id": f"new{newcomer}"}))
    if kind < 0.6:
        return "POST", "/v1/recommend", {**who, "k": 20, "session": {"recent": [item]}, "placement": "home"}
    if kind < 0.75:
        return "POST", "/v1/similar", {"item_id": item, "k": 20}
    if kind < 0.8:
        return "GET", "/v1/popular?k=20", None
    if kind < 0.95:
        return "POST", "/v1/events", {"events": [{"event_id": f"e{number}", "type": "click", "item_id": item, **who}]}
    changed = items.id(rng.randrange(1, 201))
    return "PUT", f"/v1/items/{changed}/availability", {"available": rng.random() < 0.9}


def _request(port: int, method: str, path: str, body: object) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def look(root_pid: int, requests: int) -> Held:
    """Add up what the processes of a service hold."""
    replicas = family.replicas(root_pid)
    others = [pid for pid in family.descendants(root_pid) if pid not in replicas]
    sums = [_sum(of, pids) for of in (family.resident_bytes, family.open_files) for pids in (replicas, others)]
    return Held(requests, sums[0], sums[1], sums[2], sums[3])


def _sum(of: Callable[[int], int], pids: Iterable[int]) -> int:
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # ended since it was listed
            total += of(pid)
    return total


def run(asked: argparse.Namespace) -> Soak:
    """Send until the count is reached."""
    soak, ends = Soak(), time.monotonic() + asked.most_s
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        own = [f"serving.admin.port={free_port()}", f"serving.service.folder={folder / 'state'}"]
        with retrank(asked.bundle, folder, replicas=asked.replicas, overrides=own) as service:
            target = mixed(asked.bundle, service.port, random.Random(asked.seed))
            while sum(soak.seen.statuses.values()) < asked.count and time.monotonic() < ends:
                soak.seen.add(closed_loop(target, connections=CONNECTIONS, seconds=_SLICE_S))
                soak.held.append(look(service.root_pid, sum(soak.seen.statuses.values())))
                print(soak.held[-1], flush=True)
    return soak


def picture(soak: Soak) -> str:
    """Show memory and files of the replicas over the requests, as SVG."""
    held = {
        "memory of the replicas": [one.replicas for one in soak.held],
        "their open files": [one.replica_files for one in soak.held],
    }
    return pictures.growth(
        [one.requests for one in soak.held], held, soak.warm.requests, "of what it was after the warm-up"
    )


def report(soak: Soak, asked: argparse.Namespace) -> list[str]:
    warm, end = soak.warm, soak.held[-1]
    growth = end.replicas / warm.replicas - 1
    bad = {status: count for status, count in soak.seen.statuses.items() if status not in (200, 202)}
    answers = page.counted(soak.seen.statuses)
    rows = [
        ("requests", f"{end.requests:,}", "500,000"),
        ("answers other than 200 and 202", sum(bad.values()), "0"),
        (
            "memory of the replicas, after the warm-up and at the end",
            f"{warm.replicas / _MIB:.1f} / {end.replicas / _MIB:.1f} MiB = {growth:+.2%}",
            "< +1 %",
        ),
        ("their file descriptors, then and at the end", f"{warm.replica_files}, {end.replica_files}", "flat"),
        ("memory of HAProxy and Ray", f"{warm.others / _MIB:.0f} / {end.others / _MIB:.0f} MiB", ""),
        ("their file descriptors", f"{warm.other_files}, {end.other_files}", ""),
    ]
    step = max(1, len(soak.held) // 12)
    shown = (
        (
            f"{one.requests:,}",
            f"{one.replicas / _MIB:.1f}",
            one.replica_files,
            f"{one.others / _MIB:.0f}",
            one.other_files,
        )
        for one in [*soak.held[:-1:step], end]
    )
    return [
        "# Soak",
        "",
        page.conditions("soak.py", f"--bundle BUNDLE --count {asked.count} --replicas {asked.replicas}"),
        f"{CONNECTIONS} connections kept busy, {soak.seen.rate:.0f} good slates a second. The warm-up is the first "
        f"{_WARM_SHARE:.0%} of the requests: caches of profiles, of SQLite and of the allocator fill in it.",
        "",
        *page.table(("what", "measured", "goal"), rows),
        "",
        *drawing.beside(asked.out, picture(soak), "Memory and open files over the requests answered"),
        f"Answers: {answers}.",
        "",
        *page.table(("requests", "replicas MiB", "their files", "others MiB", "their files"), shown),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500_000)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--most-s", type=float, default=7_200.0, help="seconds after which it ends in any case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    asked = parser.parse_args()
    soak = run(asked)
    page.publish(report(soak, asked), asked.out)
    return 0 if set(soak.seen.statuses) <= {200, 202} else 1


if __name__ == "__main__":
    raise SystemExit(main())
