"""Bundles with one thing wrong: a bit turned, an end cut off or grown, two files exchanged."""

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["bit turned", "end cut off", "byte added", "files exchanged"]
OTHERS: tuple[Kind, ...] = ("end cut off", "byte added", "files exchanged")
_MANIFEST = "manifest.json"


class Damage(NamedTuple):
    """What is wrong with a bundle.

    Attributes:
        kind: what was done.
        file: to which file.
        at: the byte, or for a cut the length that is left.
        bit: 0..7, of that byte.
        other: the file it was exchanged with.
    """

    kind: Kind
    file: str
    at: int = 0
    bit: int = 0
    other: str = ""


def plan(sealed: Path, *, each: int, count: int, rng: random.Random) -> list[Damage]:
    """Return at least `count` damages: `each` turned bits in every file, its end cut, grown, and exchanged; then bits
    anywhere, every byte of the bundle as likely as any other.
    """
    sizes = {path.name: path.stat().st_size for path in sorted(sealed.iterdir())}
    named = [name for name, size in sizes.items() if size]
    done = [_turned(name, sizes[name], rng) for name in named for _ in range(each)]
    done += [Damage("end cut off", name, at=rng.randrange(sizes[name])) for name in named]
    done += [Damage("byte added", name, at=rng.randrange(256)) for name in sizes]
    apart = [name for name in named if name != _MANIFEST]
    done += [
        Damage("files exchanged", name, other=other)
        for name, other in zip(apart, apart[1:] + apart[:1], strict=True)
        if (sealed / name).read_bytes() != (sealed / other).read_bytes()
    ]
    while len(done) < count:
        done.append(_turned(*rng.choices(list(sizes.items()), weights=list(sizes.values()))[0], rng))
    rng.shuffle(done)
    return done


def _turned(name: str, size: int, rng: random.Random) -> Damage:
    return Damage("bit turned", name, at=rng.randrange(size), bit=rng.randrange(8))


@contextmanager
def spoiled(folder: Path, damage: Damage) -> Iterator[None]:
    """Do a damage to the bundle in a folder, and undo it. Files are replaced, never written to: links stay whole."""
    touched = [damage.file, *([damage.other] if damage.other else [])]
    whole = {name: (folder / name).read_bytes() for name in touched}
    for name, content in _damaged(whole, damage).items():
        _replace(folder / name, content)
    try:
        yield
    finally:
        for name, content in whole.items():
            _replace(folder / name, content)


def _damaged(whole: dict[str, bytes], damage: Damage) -> dict[str, bytes]:
    content = whole[damage.file]
    if damage.kind == "bit turned":
        turned = content[damage.at] ^ (1 << damage.bit)
        return {damage.file: content[: damage.at] + bytes([turned]) + content[damage.at + 1 :]}
    if damage.kind == "end cut off":
        return {damage.file: content[: damage.at]}
    if damage.kind == "byte added":
        return {damage.file: content + bytes([damage.at])}
    return {damage.file: whole[damage.other], damage.other: content}


def _replace(path: Path, content: bytes) -> None:
    written = path.with_name(f".{path.name}.written")
    written.write_bytes(content)
    written.replace(path)


def linked(folder: Path, target: Path) -> Path:
    """Return a second folder with the same files, without copying a byte."""
    target.mkdir(parents=True)
    for path in folder.iterdir():
        os.link(path, target / path.name)
    return target


def copied(folder: Path, target: Path) -> Path:
    """Return a copy of a folder."""
    shutil.copytree(folder, target)
    return target


def kinds(done: Sequence[Damage]) -> dict[Kind, int]:
    """Return how many damages there are of each kind."""
    return {kind: sum(one.kind == kind for one in done) for kind in ("bit turned", *OTHERS)}
