"""A library of tiny bundles with disjoint catalogues, and replicas over it."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reference_store import ReferenceStore

from retrank.contract.bundle import GOLDEN, ITEM_VOCAB, VerifiedBundle, seal, seal_files, verify
from retrank.contract.files import staging
from retrank.contract.golden import read_golden, write_golden
from retrank.contract.rest import Rest
from retrank.contract.vocab import Vocab
from retrank.serving.bundles import desired as state
from retrank.serving.bundles.desired import Change
from retrank.serving.bundles.pace import Pace
from retrank.serving.bundles.replica import Clocks, Replica, open_replica
from retrank.serving.recommender import Recommender
from retrank.serving.stores.settings import StateSettings
from retrank.serving.swap_settings import BundlesSettings


def seal_bundles(origin: Path, root: Path, letters: Sequence[str]) -> list[str]:
    """Seal one bundle per letter: the tiny bundle with its items called by that letter. The last one is current."""
    return [_seal(verify(origin), root, letter) for letter in letters]


def _seal(origin: VerifiedBundle, root: Path, letter: str) -> str:
    def renamed(ids: Sequence[str]) -> list[str]:
        return [raw.replace("i", letter, 1) for raw in ids]

    with staging(root) as staged:
        for name in origin.manifest.files:
            shutil.copyfile(origin.path(name), staged / name)
        Vocab(renamed(Vocab.open(origin.directory, ITEM_VOCAB).ids)).write(staged, ITEM_VOCAB)
        cases = read_golden(staged / GOLDEN)
        update = [
            case.model_copy(update={"item_ids": renamed(case.item_ids), "top_item_ids": renamed(case.top_item_ids)})
            for case in cases
        ]
        write_golden(staged / GOLDEN, update)
        manifest = origin.manifest.model_copy(update={"run_id": f"tiny/{letter}", "files": seal_files(staged)})
        return seal(staged, manifest, root).bundle_id


QUICK = BundlesSettings(poll_s=0.01, beat_s=0.02)


def names_of(root: Path) -> list[str]:
    """Return the names of the bundles that the fixture `three_bundles` sealed, in the order of their letters."""
    return (root / "names").read_text().split()


@dataclass
class World:
    """A library that may be spoiled, a control store and a clock that only tests move."""

    root: Path
    control: ReferenceStore = field(default_factory=lambda: ReferenceStore(StateSettings()))
    time: float = 1_000.0
    opened: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None
    """What happens while a load rests."""

    @property
    def names(self) -> list[str]:
        return names_of(self.root)

    def replica(self, name: str = "one", configured: int | None = 0, lock: Path | None = None) -> Replica:
        """Open one; without a bundle it is given the root, and without a lock it waits for no turn."""
        clock = lambda: self.time  # noqa: E731
        return open_replica(
            name,
            self.control,
            self.root if configured is None else self.root / self.names[configured],
            opened=self._open,
            rehearsal=Recommender.quiet,
            settings=QUICK,
            clocks=Clocks(clock, clock, Pace(self._sleep)),
            lock=lock,
        )

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.meanwhile()

    def _open(self, bundle: VerifiedBundle, rest: Rest) -> Recommender:
        self.opened.append(bundle.bundle_id)
        return Recommender.over(bundle, rest=rest)

    def activate(self, number: int) -> str:
        name = self.names[number]
        state.edit(self.control, state.activate(name, self.line(name)))
        return name

    def line(self, name: str) -> Change:
        return Change(at=self.time, by="test", action="activate", id=name)

    def desired(self) -> state.Desired:
        found = state.read(self.control)
        assert found is not None
        return found
