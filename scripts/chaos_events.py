"""Kill the writer of events at random moments, a thousand times: is an acknowledged event ever lost, or applied twice?

    python scripts/chaos_events.py --trials 1000 --seed 1 --report docs/benchmarks/chaos_events.md

One trial. A process opens an `Intake` on a real folder and a real SQLite profile store and takes batches of 1 to 20
events, eight at a time. Whenever it holds a receipt it writes the ids of the batch to a pipe; that is what a caller
would have seen. It is killed (SIGKILL) at a random moment: while it starts, recovers, writes, rotates or applies. What
it had not acknowledged, the next process sends again, as a client would, and mixes copies of other events in.

In about two of five trials a second process then recovers, compacts and compares, and it is killed at random too, up
to twice, before it may come to its end; in the others the next writer has to recover while it takes new load.

Compared are, for everything acknowledged so far: the profiles in SQLite, the Parquet partitions, and a list of effects:
the ids that the store reported as new. Lost: acknowledged, but not in both. Twice: more than once in the partitions, in
a profile or in the list. Profiles and partitions must also agree on what was never acknowledged.

Every `--round` trials begin in an empty folder. All choices follow from the seed; what the scheduler does, does not.
"""

import argparse
import os
import platform
import random
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from stress import drawing, page, pictures

from retrank.contract.events import EventBatch, EventReceipt
from retrank.serving.events.applier import ApplierOptions
from retrank.serving.events.compact import compact
from retrank.serving.events.intake import Intake, Logs
from retrank.serving.events.recovery import recover
from retrank.serving.events.segment_log import SegmentLog, SegmentOptions
from retrank.serving.events.tables import ROOT_NAME, published_files, read_columns
from retrank.serving.stores.open_store import open_store
from retrank.serving.stores.protocol import PersonEvent, StateStore
from retrank.serving.stores.settings import StateSettings

PERSONS = 8
UNDER_WAY = 8
MAX_BATCH = 20
SETTLED = 0.4
TENANT = "default"
SEGMENTS = SegmentOptions(segment_bytes=20_000, linger_s=0.0002)
LOOKING_AFTER = ApplierOptions(retry_s=0.02, checkpoint_s=0.01, recover_s=0.01, idle_s=0.005)
PATIENCE_S = 120


class Listed:
    """A profile store that lists what it applied as new; a kill may cut the list short, never add to it."""

    def __init__(self, store: StateStore, path: Path) -> None:
        self._store = store
        self._list = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o640)
        self.known = store.known
        self.erase = store.erase
        self.erased_since = store.erased_since
        self.profile = store.profile
        self.export = store.export

    def apply(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        fresh = self._store.apply(tenant, events, now)
        new = [e.event.event_id for e, is_new in zip(events, fresh, strict=True) if is_new]
        os.write(self._list, "".join(f"{event_id}\n" for event_id in new).encode())
        return fresh


@dataclass
class Round:
    """A folder and what callers know about it."""

    folder: Path
    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    again: list[list[str]] = field(default_factory=list)


@dataclass
class Totals:
    trials: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    unanswered: int = 0
    again: int = 0
    comparisons: int = 0
    lost: int = 0
    twice: int = 0
    disagree: int = 0
    unacknowledged_kept: int = 0

    @property
    def clean(self) -> bool:
        return self.lost == self.twice == self.disagree == 0


def person_of(event_id: str) -> str:
    """Return whose event it is; it follows from the id, so that a copy is a copy."""
    trial, number = event_id.removeprefix("t").split("-")
    return f"{trial}-{int(number) % PERSONS}"


def batch_of(ids: Sequence[str]) -> EventBatch:
    return EventBatch(
        events=[{"event_id": i, "type": "click", "item_id": f"i{i[-1]}", "user_id": person_of(i)} for i in ids]
    )


def open_profiles(folder: Path) -> Listed:
    settings = StateSettings.model_validate({"url": f"sqlite:{folder / 'state.sqlite'}", "timeout_s": 10})
    return Listed(open_store(settings), folder / "effects")


def write_load(current: Round, trial: int, choose: random.Random, pipe: int) -> None:
    """Take batches until killed; every line on the pipe is a batch sent or acknowledged."""
    log = SegmentLog(current.folder / "log" / "events", SEGMENTS)
    intake = Intake(Logs(log), open_profiles(current.folder), folder=log.folder, options=LOOKING_AFTER)
    slots = threading.Semaphore(UNDER_WAY)

    def answered(ids: Sequence[str], future: Future[EventReceipt]) -> None:
        receipt = future.result()
        if receipt.accepted + receipt.duplicates == len(ids):
            try:
                os.write(pipe, f"+{','.join(ids)}\n".encode())
            except BrokenPipeError:  # nobody listens any more: the script was stopped
                os._exit(1)
        slots.release()

    waiting = list(current.again)
    number = 0
    recent: list[str] = []
    while True:
        if waiting:
            ids = waiting.pop()
        else:
            ids = [f"t{trial}-{number + offset}" for offset in range(choose.randint(1, MAX_BATCH))]
            number += len(ids)
            recent = [*recent, *ids][-200:]
            if choose.random() < 0.3:
                ids = [*ids, *choose.sample(recent, 1)]
        slots.acquire()
        os.write(pipe, f"-{','.join(ids)}\n".encode())
        intake.begin(batch_of(ids)).add_done_callback(partial(answered, ids))


def bring_home(current: Round) -> None:
    """Apply what is left, and publish everything."""
    recover(current.folder / "log", open_profiles(current.folder), time.time)
    compact(current.folder / "log", now=time.time)


def forked(work: Callable[[int], None]) -> tuple[int, int]:
    """Run work in a process of its own; returns its id and the end of its pipe."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        try:
            work(writing)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001  (whatever it is, the parent must hear of it)
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    os.close(writing)
    return process, reading


def kill_at(process: int, reading: int, *, wait_first: bool, delay_s: float) -> tuple[bytes, bool]:
    """Kill a process some time after its start, or after its first answer.

    Returns:
        What it had said, and whether it was still running.
    """
    said = b""
    deadline = time.monotonic() + (PATIENCE_S if wait_first else delay_s)
    while time.monotonic() < deadline:
        if not select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        block = os.read(reading, 1 << 16)
        if not block:
            break
        said += block
        if wait_first and b"\n+" in said:
            wait_first, deadline = False, time.monotonic() + delay_s
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    while block := os.read(reading, 1 << 16):
        said += block
    os.close(reading)
    return said, os.WIFSIGNALED(status)


def hear(current: Round, said: bytes, totals: Totals) -> None:
    """Note what the writer said before it died; a cut last line says nothing."""
    before = len(current.acknowledged)
    lines = said.decode().split("\n")[:-1]
    sent = [line[1:].split(",") for line in lines if line.startswith("-")]
    answered = {line[1:] for line in lines if line.startswith("+")}
    current.sent |= {event_id for ids in sent for event_id in ids}
    current.acknowledged |= {event_id for line in answered for event_id in line.split(",")}
    current.again = [ids for ids in sent if ",".join(ids) not in answered]
    totals.acknowledged += len(current.acknowledged) - before
    totals.unanswered += len(current.again)


def compare(current: Round, totals: Totals) -> None:
    """Compare profiles, partitions and effects with what was acknowledged."""
    settings = StateSettings.model_validate({"url": f"sqlite:{current.folder / 'state.sqlite'}", "timeout_s": 10})
    store = open_store(settings)
    persons = {person_of(event_id) for event_id in current.sent}
    profiles = Counter(
        event.event_id for person in persons for event in store.profile(TENANT, f"u:{person}", None, time.time()).events
    )
    store.close()
    published: Counter[str] = Counter()
    for path in published_files(current.folder / "log" / ROOT_NAME):
        published.update(read_columns(path, ["event_id"])["event_id"].to_pylist())
    effects = Counter((current.folder / "effects").read_text().split()) if (current.folder / "effects").exists() else {}
    totals.comparisons += 1
    totals.lost += sum(1 for i in current.acknowledged if i not in profiles or i not in published)
    totals.twice += sum(1 for found in (profiles, published, effects) for n in found.values() if n > 1)
    totals.disagree += len(set(profiles) ^ set(published)) + len(set(published) - current.sent)
    totals.unacknowledged_kept = len(set(published) - current.acknowledged)


def whole(process: int, reading: int) -> None:
    """Let a process come to its end."""
    while os.read(reading, 1 << 16):
        pass
    os.close(reading)
    _, status = os.waitpid(process, 0)
    if status:
        raise SystemExit(f"recovering or compacting ended with status {status}; see above")


def settle(current: Round, choose: random.Random, totals: Totals, *, kills: bool) -> None:
    """Recover, compact and compare; maybe killed on the way, up to twice."""
    for _ in range(choose.randint(0, 2) if kills else 0):
        process, reading = forked(lambda _: bring_home(current))
        _, was_running = kill_at(process, reading, wait_first=False, delay_s=choose.uniform(0.0, 0.06))
        totals.kills["recovering, compacting"] += was_running
    whole(*forked(lambda _: bring_home(current)))
    process, reading = forked(lambda pipe: _say(pipe, _compared(current)))
    said = b""
    while block := os.read(reading, 1 << 16):
        said += block
    os.close(reading)
    os.waitpid(process, 0)
    comparisons, lost, twice, disagree, kept = (int(part) for part in said.split())
    totals.comparisons += comparisons
    totals.lost, totals.twice = totals.lost + lost, totals.twice + twice
    totals.disagree, totals.unacknowledged_kept = totals.disagree + disagree, kept


def _say(pipe: int, what: str) -> None:
    os.write(pipe, what.encode())


def _compared(current: Round) -> str:
    """Compare in a process of its own, so that the parent never opens SQLite and can go on forking."""
    found = Totals()
    compare(current, found)
    return f"{found.comparisons} {found.lost} {found.twice} {found.disagree} {found.unacknowledged_kept}"


def trial(current: Round, number: int, choose: random.Random, totals: Totals) -> None:
    totals.again += sum(len(ids) for ids in current.again)
    seed = choose.randrange(1 << 60)
    process, reading = forked(lambda pipe: write_load(current, number, random.Random(seed), pipe))
    early = choose.random() < 0.1
    delay_s = choose.uniform(0.0, 0.02 if early else 0.06)
    said, was_running = kill_at(process, reading, wait_first=not early, delay_s=delay_s)
    if not was_running:
        raise SystemExit("the writer ended by itself; see above")
    totals.kills["starting, recovering" if b"+" not in said else "writing, applying"] += 1
    hear(current, said, totals)
    totals.trials += 1


def run(*, trials: int, seed: int, round_size: int, parent: Path | None = None) -> Totals:
    """Run trials; see the top of this file."""
    choose = random.Random(seed)
    totals = Totals()
    with tempfile.TemporaryDirectory(dir=parent) as name:
        for first in range(0, trials, round_size):
            current = Round(Path(name) / f"round-{first}")
            (current.folder / "log").mkdir(parents=True)
            for number in range(first, min(trials, first + round_size)):
                trial(current, number, choose, totals)
                if choose.random() < SETTLED:
                    settle(current, choose, totals, kills=True)
            settle(current, choose, totals, kills=False)
            shutil.rmtree(current.folder)
            print(f"{totals.trials} trials, {totals.acknowledged:,} acknowledged, {totals.lost} lost, "
                  f"{totals.twice} twice, {totals.disagree} disagree", flush=True)  # fmt: skip
    return totals


def picture(totals: Totals) -> str:
    """Show the kills and what became of the events, as SVG."""
    events = {
        "acknowledged before a kill": totals.acknowledged,
        "sent again afterwards": totals.again,
        "acknowledged and lost": totals.lost,
        "applied or published twice": totals.twice,
    }
    return pictures.kills(dict(sorted(totals.kills.items())), events)


def report(totals: Totals, options: argparse.Namespace, taken_s: float) -> str:
    kills = "\n".join(f"| killed while {what} | {count:,} |" for what, count in sorted(totals.kills.items()))
    return f"""# Killing the writer of events

`python scripts/chaos_events.py --trials {options.trials} --seed {options.seed} --round {options.round}`

{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {taken_s:,.0f} seconds.
Load average at the end {os.getloadavg()[2]:.1f} (15 minutes), this script included. What one trial is and what is
compared is said at the top of the script.

{chr(10).join(drawing.beside(options.report, picture(totals), "What was killed, and what became of the events"))}
| what | number |
|---|---|
| trials | {totals.trials:,} |
{kills}
| events acknowledged before a kill | {totals.acknowledged:,} |
| batches unanswered at a kill | {totals.unanswered:,} |
| events sent again by the next process | {totals.again:,} |
| comparisons of everything acknowledged so far in a folder | {totals.comparisons:,} |
| **acknowledged events lost** | **{totals.lost:,}** |
| **events applied or published twice** | **{totals.twice:,}** |
| events on which profiles and partitions disagree | {totals.disagree:,} |

What this proves is about killed processes: the kernel lives on and writes what it was given. A power failure is another
matter; there everything rests on `fdatasync` and on a disk that tells the truth, which no kill can test.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int, default=25, help="trials in one folder")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to use; default: a temporary one")
    parser.add_argument("--report", type=Path, default=None)
    options = parser.parse_args()
    begun = time.monotonic()
    totals = run(trials=options.trials, seed=options.seed, round_size=options.round, parent=options.folder)
    page.publish([report(totals, options, time.monotonic() - begun)], options.report)
    return 0 if totals.clean else 1


if __name__ == "__main__":
    sys.exit(main())
