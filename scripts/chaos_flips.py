"""Turn bits of a bundle and try to activate it: is it ever accepted, and does the old bundle go on answering?

    python scripts/make_big_bundle.py --items 2000 --users 500 --ranker --prefix a --out bundles/flips
    python scripts/make_big_bundle.py --items 2000 --users 500 --ranker --prefix b --seed 1 --out bundles/flips
    python scripts/chaos_flips.py --bundles bundles/flips --out docs/benchmarks/chaos_flips.md

A replica answers from one bundle, from a thread that never stops asking. The other bundle is damaged, staged and
activated through the orders of an operator and the steps of the replica, as in a service: single bits of every file,
manifest and ranker included, files cut short, grown by a byte, exchanged with another. Each damage is done at one of
three moments:

    source      where the bundle is fetched from, before it is fetched
    disk        in the library of the host, before it is checked
    activation  in the library of the host, after it was checked and found whole

What must hold: the bundle is refused, every time; no answer comes from another bundle than the old one, none is missing
a stage. In the end the undamaged bundle is activated by the same steps, or all of this would prove nothing. Staging and
following are called here, one after the other, instead of by threads five times a second; the clock of the replica is
moved on by the ten seconds that it waits after a refusal.
"""

import argparse
import logging
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from stress import drawing, page, pictures
from stress.application import open_settings
from stress.pictures import Flip
from stress.spoiled import Damage, copied, kinds, linked, plan, spoiled

from retrank.contract.api import RecommendRequest
from retrank.contract.errors import RetrankError
from retrank.serving.backing import open_backing
from retrank.serving.bundles.desired import Author
from retrank.serving.bundles.fleet import Fleet
from retrank.serving.bundles.library import Library
from retrank.serving.bundles.operator import Operator
from retrank.serving.bundles.replica import Clocks, Replica, open_replica
from retrank.serving.recommender import Recommender
from retrank.serving.service import Service

MOST = 100_000
MOMENTS = ("source", "disk", "activation")
_WAITED_S = 11.0
_SAY_EVERY = 100


class Tried(NamedTuple):
    """A damage, to a file of so many bytes, when it was done, who refused the bundle ("": nobody), and the words."""

    damage: Damage
    size: int
    moment: str
    refused_by: str
    said: str


@dataclass
class Asked:
    """What the thread that asks saw."""

    answers: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


@dataclass
class Moved:
    """A clock that can be moved on."""

    by_s: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.by_s


class Host(NamedTuple):
    """A replica with its operator and library, the bundle it serves, and the whole one that is to be damaged."""

    replica: Replica
    operator: Operator
    service: Service
    clock: Moved
    library: Path
    old: str
    whole: Path

    @property
    def new(self) -> str:
        return self.whole.name

    @property
    def serving(self) -> str:
        return self.replica.front.bundle.id


@contextmanager
def opened(old: Path, whole: Path, folder: Path) -> Iterator[Host]:
    """Open a replica on a library of its own that holds the old bundle."""
    root = folder / "library"
    settings = open_settings(linked(old, root / old.name), folder / "state")
    backing, clock = open_backing(settings), Moved()
    assert backing.store is not None, "a service without state has no bundles to swap"
    control = Fleet(backing.store, root)
    replica = open_replica(
        "one",
        control,
        settings.bundle,
        opened=lambda bundle, rest: Recommender.over(bundle, settings.pipeline, rest=rest),
        rehearsal=Recommender.quiet,
        settings=settings.bundles,
        clocks=Clocks(monotonic=clock),
    )
    library = Library(root, max_bytes=settings.bundles.max_bytes)
    operator = Operator(control, library, now=time.time, new_salt=lambda: "salt")
    service = Service(replica.front.pick, backing, settings.service, watch=replica.front)
    replica.follow()
    replica.beat()
    try:
        yield Host(replica, operator, service, clock, root, old.name, whole)
    finally:
        replica.close()
        service.close()


@contextmanager
def asked_all_the_time(host: Host) -> Iterator[Asked]:
    """Ask for slates in a thread until the block ends."""
    asked, ended = Asked(), threading.Event()
    users = host.replica.front.runtime.users

    def ask() -> None:
        turn = 0
        while not ended.wait(0.005):
            turn += 1
            try:
                slate = host.service.recommend(RecommendRequest(user_id=users.id(turn % len(users) + 1), k=10))
            except Exception as error:  # noqa: BLE001  (whatever it is, it is the finding)
                asked.errors.append(f"{type(error).__name__}: {error}"[:200])
                continue
            asked.answers[slate.bundle.id] += 1
            asked.degraded.update(reason for reason in slate.degraded.reasons if reason.endswith("_failed"))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield asked
    finally:
        ended.set()
        thread.join(30.0)


def tried(host: Host, damage: Damage, moment: str, number: int) -> Tried:
    """Damage, stage, activate, follow; then put everything back."""
    host.clock.by_s += _WAITED_S
    if moment == "source":
        source = linked(host.whole, host.library.parent / f"source-{number}" / host.new)
        with spoiled(source, damage):
            refused_by, said = order(host, str(source))
    elif moment == "disk":
        with spoiled(host.library / host.new, damage):
            refused_by, said = order(host, host.new)
    else:
        refused_by, said = order(host, host.new, damage)
    forget(host)
    return Tried(damage, (host.whole / damage.file).stat().st_size, moment, refused_by, said)


def order(host: Host, source: str, late: Damage | None = None) -> tuple[str, str]:
    """Stage and activate; return who refused, and what was said. A late damage is done when all was found whole."""
    try:
        name = host.operator.stage(source, Author("chaos")).desired.staged[-1].id
    except RetrankError as error:
        return "the order to stage", str(error)
    host.replica.stager.step()
    host.replica.beat()
    with nullcontext() if late is None else spoiled(host.library / host.new, late):
        try:
            host.operator.activate(name, Author("chaos"))
        except RetrankError as error:
            return "the check of every byte", str(error)
        host.replica.follow()
    if host.serving == host.old:
        return "the last look before it answers", "; ".join(host.replica.status().errors.values())
    return "", f"bundle {host.serving} answers"


def forget(host: Host) -> None:
    """Take the new bundle off the list, where it got that far."""
    with suppress(RetrankError):
        host.operator.unstage(host.new, Author("chaos"))
    host.replica.follow()
    host.replica.stager.step()
    host.replica.beat()


def run(host: Host, damages: list[Damage]) -> list[Tried]:
    """Try every damage, a third at each moment; the sound bundle is put into the library after the first third."""
    done: list[Tried] = []
    for at, moment in enumerate(MOMENTS):
        if moment == "disk":
            left = [path.name for path in host.library.iterdir() if path.is_dir() and path.name != host.old]
            assert left == [], f"refused bundles left {left} behind"
            linked(host.whole, host.library / host.new)
        for damage in damages[at :: len(MOMENTS)]:
            done.append(tried(host, damage, moment, len(done)))
            if not done[-1].refused_by:
                print(f"NOT REFUSED: {done[-1]}", flush=True)
                return done
            if len(done) % _SAY_EVERY == 0:
                print(f"{len(done):,} of {len(damages):,}: all refused", flush=True)
    return done


def picture(done: list[Tried]) -> str:
    """Show every turned bit, as SVG."""
    bits = [one for one in done if one.damage.kind == "bit turned"]
    return pictures.flips([Flip(one.damage.file, one.damage.at / one.size, one.refused_by) for one in bits])


def report(done: list[Tried], asked: Asked, host: Host, sound: str, arguments: argparse.Namespace) -> list[str]:
    """Return the page."""
    accepted, others = [one for one in done if not one.refused_by], asked.answers.copy()
    answers = others.pop(host.old, 0)
    wrong = sum(others.values()) + sum(asked.degraded.values()) + len(asked.errors)
    rows = [
        ("damaged bundles that were activated", f"{len(accepted)} of {len(done):,}", "0", page.verdict(not accepted)),
        (
            "answers meanwhile from another bundle, without a stage, or none",
            f"{wrong} of {answers:,}",
            "0",
            page.verdict(not wrong and answers > 0),
        ),
        ("the undamaged bundle, by the same steps", sound, "activated", page.verdict(sound == "activated")),
    ]
    moments = [
        (kind, *(sum(one.damage.kind == kind and one.moment == moment for one in done) for moment in MOMENTS))
        for kind in kinds([one.damage for one in done])
    ]
    refusals = Counter((one.moment, one.refused_by or "NOBODY") for one in done)
    files, size = Counter(one.damage.file for one in done), sum(path.stat().st_size for path in host.whole.iterdir())
    return [
        "# Turning bits of a bundle",
        "",
        page.conditions("chaos_flips.py", f"--bundles ROOT --count {arguments.count} --seed {arguments.seed}"),
        f"A bundle of {len(files)} files, {size / 1e6:.1f} MB, its second stage included; every file was damaged at "
        f"least {min(files.values())} times. The top of the script says what is done.",
        "",
        *page.table(("what", "measured", "goal", "reached"), rows),
        "",
        *drawing.beside(arguments.out, picture(done), "Every turned bit, by file and place, and who refused it"),
        *page.table(("damage", *(f"at the moment *{moment}*" for moment in MOMENTS)), moments),
        "",
        *page.table(
            ("moment", "refused by", "times"), ((*key, f"{count:,}") for key, count in sorted(refusals.items()))
        ),
        "",
        "A SHA-256 over every byte misses no damage that comes by chance; what is tested here is that no way to the "
        "answers leads around it, and that a refusal disturbs nobody.",
        "",
        *(f"- not refused: {one.moment}, {one.damage}: {one.said}" for one in accepted[:10]),
        *(f"- {said}" for said in sorted(set(asked.errors))[:10]),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, required=True, help="root that holds two bundles")
    parser.add_argument("--count", type=int, default=1_000, help="damages, at most 100,000")
    parser.add_argument("--each", type=int, default=9, help="turned bits in every file, whatever its size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    logging.getLogger("retrank").setLevel(logging.CRITICAL)  # every refusal is logged, thousands are expected
    old, new = sorted(path for path in arguments.bundles.resolve().iterdir() if (path / "manifest.json").is_file())[:2]
    count = min(arguments.count, MOST)
    with tempfile.TemporaryDirectory(prefix="flips-", dir=arguments.bundles) as name:
        whole = copied(new, Path(name) / "whole" / new.name)
        damages = plan(whole, each=arguments.each, count=count, rng=random.Random(arguments.seed))
        with opened(copied(old, Path(name) / "old" / old.name), whole, Path(name)) as host:
            with asked_all_the_time(host) as asked:
                done = run(host, damages)
            host.clock.by_s += _WAITED_S
            refused_by, _ = order(host, host.new)
            sound = f"refused by {refused_by}" if refused_by else "activated"
            page.publish(report(done, asked, host, sound, arguments), arguments.out)
    return 0 if sound == "activated" and all(one.refused_by for one in done) and not asked.errors else 1


if __name__ == "__main__":
    raise SystemExit(main())
