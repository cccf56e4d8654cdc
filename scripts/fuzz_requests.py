"""Send requests that no sane caller sends, from four engines, and see that the service keeps its word.

    python scripts/make_big_bundle.py --items 2000 --users 500 --ranker --out bundles/fuzz
    python scripts/fuzz_requests.py --bundle bundles/fuzz --out docs/benchmarks/fuzz.md

Our own generator sends valid requests of every public route with up to three things wrong, broken and random JSON,
random bytes, strange headers, methods and paths, bodies that are too large or never end; Hypothesis and Schemathesis
send what fits the committed OpenAPI document and what nearly does; atheris looks for bytes that reach new code. All of
them call the real application in this process: gate, metrics, SQLite state, event and decision logs. A share of our own
(`socket`) goes to `retrank serve` through a real one, HAProxy and Ray included.

What must hold for each request: it is answered within `--within` seconds, with a status below 500 (or a documented 503
or 507), and every error is a problem document. What must hold for all together: the memory of the service levels off.
Equal seeds draw equal requests; `--only SEED/NUMBER` sends one of our own alone.
"""

import argparse
import gc
import os
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import SecretStr
from serve_bench import family
from serve_bench.services import retrank
from stress import drawing, engines, page, pictures
from stress.application import application, open_settings
from stress.fuzz_cases import World, draw
from stress.judged import Found, Judge, OverSocket, can_say, in_process

from retrank.contract.bundle import ITEM_VOCAB, USER_VOCAB
from retrank.contract.files import current
from retrank.contract.vocab import Vocab
from retrank.serving.guard.settings import GuardSettings, LaneSettings
from retrank.serving.settings import ServiceSettings, Settings
from retrank.serving.stores.settings import StateSettings

MOST = 10_000_000
SHARES = {"own": 0.45, "socket": 0.1, "hypothesis": 0.15, "schemathesis": 0.05, "atheris": 0.25}
"""Of `--count`; 200,000 are 90,000, 20,000, 30,000, 10,000 and 50,000."""
SETTLED, LEVEL = 0.5, 0.03
"""Memory may grow by this share in the last half of the requests of one engine."""
_LOOKS = 40
_MIB = 1 << 20
Engine = Callable[[Judge, World, int, int, engines.Look], None]
IN_PROCESS: dict[str, Engine] = {
    "own": engines.own,
    "hypothesis": engines.hypothesis,
    "schemathesis": engines.with_schemathesis,
}


def world_of(bundle: Path) -> World:
    """Return a few ids of a bundle."""
    items, users = (Vocab.open(current(bundle), files) for files in (ITEM_VOCAB, USER_VOCAB))
    return World(
        [items.id(row) for row in range(1, min(len(items), 500) + 1)],
        [users.id(row) for row in range(1, min(len(users), 200) + 1)],
    )


def patient(bundle: Path, folder: Path) -> Settings:
    """Return settings that refuse nothing for being late: what is looked for is not speed."""
    lane = LaneSettings(max_age_s=10)
    return open_settings(
        bundle,
        folder,
        service=ServiceSettings(folder=folder, deadline_ms=1_000),
        state=StateSettings(url=SecretStr(f"sqlite:{folder / 'state.sqlite'}"), max_changed_items=2_000),
        guard=GuardSettings(answers=lane, writes=lane),
    )


def run(asked: argparse.Namespace, counts: dict[str, int]) -> dict[str, Found]:
    """Let one engine after the other send its share."""
    world, found = world_of(asked.bundle), {}
    for name, count in counts.items():
        print(f"{name}: {count:,} requests", flush=True)
        if name == "atheris":
            found[name] = engines.guided(asked.bundle, count, asked.seed, within_s=asked.within, most_s=asked.most_s)
        elif name in IN_PROCESS:
            found[name] = here(asked, IN_PROCESS[name], world, count)
        else:
            found[name] = through_a_socket(asked, world, count)
        print(f"{name}: {page.counted(found[name].statuses)}; {found[name].num_faults} faults", flush=True)
    return found


def here(asked: argparse.Namespace, engine: Engine, world: World, count: int) -> Found:
    """Send to an application in this process, opened for this engine alone."""
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        application(patient(asked.bundle, Path(folder))) as (app, _),
        in_process(app, asked.within) as target,
    ):
        judge = Judge(target, most_s=asked.most_s)
        engine(judge, world, count, asked.seed, partial(look, judge, count, [os.getpid()]))
    return judge.found


def through_a_socket(asked: argparse.Namespace, world: World, count: int) -> Found:
    """Send to `retrank serve` on the loopback interface; memory is that of its replica."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, retrank(asked.bundle, Path(name)) as service:
        judge = Judge(OverSocket(service.port, asked.within), most_s=asked.most_s)
        pids, number = family.replicas(service.root_pid), 0
        while judge.found.sent < count and not judge.is_over:
            number += 1
            case = draw(world, random.Random(f"{asked.seed}/socket/{number}"))
            if can_say(case):
                judge.send(case, f"{asked.seed}/socket/{number}")
                look(judge, count, pids)
        missing = set(pids) - set(family.replicas(service.root_pid))
        if missing:
            judge.found.faults["a replica ended"] = [str(pid) for pid in missing]
    return judge.found


def look(judge: Judge, count: int, pids: list[int]) -> None:
    """Note what is held, forty times over a run."""
    sent = judge.found.sent
    if sent % max(1, count // _LOOKS) == 0:
        gc.collect()
        judge.found.held.append((sent, sum(map(family.resident_bytes, pids))))


def growth(found: Found) -> tuple[int, int]:
    """Return the bytes held half way through, and in the end."""
    settled = next(held for sent, held in found.held if sent >= SETTLED * found.held[-1][0])
    return settled, found.held[-1][1]


_KINDS = {2: "2xx", 3: "2xx", 4: "4xx", 5: "documented 5xx"}


def parts(found: Found) -> dict[str, int]:
    """Return the answers by what they were."""
    counted = {"fault": found.num_faults}
    for status, count in found.statuses.items():
        kind = _KINDS.get(status // 100, "hung up")
        counted[kind] = counted.get(kind, 0) + count
    return counted


def report(found: dict[str, Found], asked: argparse.Namespace, skipped: list[str]) -> list[str]:
    """Return the page."""
    sent, faults = sum(one.sent for one in found.values()), sum(one.num_faults for one in found.values())
    slowest = max(one.slowest_s for one in found.values())
    rows: list[tuple[object, ...]] = [
        ("requests", f"{sent:,}", f"{asked.count:,}", page.verdict(sent >= asked.count)),
        ("status 5xx that is not documented, broken answers, hangs", faults, "0", page.verdict(faults == 0)),
        ("slowest request", f"{slowest * 1e3:,.0f} ms", f"{asked.within:g} s", page.verdict(slowest <= asked.within)),
    ]
    for name, one in found.items():
        if name in ("own", "socket") and len(one.held) > 2:
            settled, end = growth(one)
            said = f"{settled / _MIB:.1f} / {end / _MIB:.1f} MiB = {end / settled - 1:+.1%}"
            reached = end <= settled * (1 + LEVEL)
            rows.append((f"memory half way and in the end, {name}", said, f"<= +{LEVEL:.0%}", page.verdict(reached)))
    each = (
        (name, f"{one.sent:,}", page.counted(one.statuses), f"{one.slowest_s * 1e3:,.0f}", one.num_faults,
         f"{one.sent / max(one.seconds, 1e-9):,.0f}")
        for name, one in found.items()
    )  # fmt: skip
    curves = {
        name: ([sent for sent, _ in one.held], [held / _MIB for _, held in one.held])
        for name, one in found.items()
        if one.held
    }
    memory_at = None if asked.out is None else asked.out.with_name(f"{asked.out.stem}_memory.md")
    return [
        "# Fuzzing the routes",
        "",
        page.conditions("fuzz_requests.py", f"--bundle BUNDLE --count {asked.count} --seed {asked.seed}"),
        "What is sent and what must hold is said at the top of the script.",
        "",
        *page.table(("what", "measured", "goal", "reached"), rows),
        "",
        *drawing.beside(
            asked.out, pictures.fuzz({name: parts(one) for name, one in found.items()}), "Answers by engine"
        ),
        *page.table(("engine", "requests", "answers", "slowest ms", "faults", "a second"), each),
        "",
        *drawing.beside(memory_at, pictures.memory(curves), "Memory over the requests of each engine"),
        "Memory in this process holds the generator besides the service; that of the share through a socket is the "
        "replica's alone.",
        "",
        *(
            f"- {name}: {len(numbers)} x {wrong} (first: `{numbers[0][:200]}`)"
            for name, one in found.items()
            for wrong, numbers in one.faults.items()
        ),
        *(f"- skipped: {what}" for what in skipped),
    ]


def send_again(asked: argparse.Namespace) -> int:
    """Send one request of our own generator alone, and show it."""
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        application(patient(asked.bundle, Path(folder))) as (app, _),
        in_process(app, asked.within) as target,
    ):
        judge, case = Judge(target, most_s=asked.most_s), draw(world_of(asked.bundle), random.Random(asked.only))
        print(case)
        judge.send(case, asked.only)
        print(judge.found)
    return 1 if judge.found.faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200_000, help="of all engines together")
    parser.add_argument("--engines", nargs="+", choices=list(SHARES), default=list(SHARES), metavar="ENGINE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--within", type=float, default=5.0, help="seconds one request may take")
    parser.add_argument("--most-s", type=float, default=7_200.0, help="seconds after which an engine ends in any case")
    parser.add_argument("--only", help="send just this request, SEED/NUMBER, and show it")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    asked = parser.parse_args()
    if asked.only is not None:
        return send_again(asked)
    asked.count = min(asked.count, MOST)
    skipped, chosen = [], list(asked.engines)
    if "atheris" in chosen and not engines.can_be_guided():
        chosen.remove("atheris")
        skipped.append("atheris, which is not installed; it is in the extra `fuzz`")
    whole = sum(SHARES[name] for name in chosen)
    found = run(asked, {name: round(asked.count * SHARES[name] / whole) for name in chosen})
    page.publish(report(found, asked, skipped), asked.out)
    return 1 if any(one.faults for one in found.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
