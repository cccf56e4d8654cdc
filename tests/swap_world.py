"""A library of tiny bundles with disjoint catalogues."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from retrank.contract.bundle import GOLDEN, ITEM_VOCAB, VerifiedBundle, seal, seal_files, verify
from retrank.contract.files import staging
from retrank.contract.golden import read_golden, write_golden
from retrank.contract.vocab import Vocab
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
