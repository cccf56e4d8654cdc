"""Bundles with one thing wrong: every file has its turn, a bit is a bit, and everything is put back."""

import random
from collections import Counter
from pathlib import Path

import pytest
from stress.spoiled import Damage, linked, plan, spoiled


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "whole"
    made.mkdir()
    for name, size in (("manifest.json", 90), ("large.npy", 5_000), ("small.json", 3), ("empty.npy", 0)):
        (made / name).write_bytes(random.Random(name).randbytes(size))
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_file_is_damaged_in_every_way_and_large_ones_most_often(folder: Path) -> None:
    done = plan(folder, each=4, count=400, rng=random.Random(0))
    turned = Counter(one.file for one in done if one.kind == "bit turned")
    assert len(done) == 400
    assert min(turned[name] for name in ("manifest.json", "large.npy", "small.json")) >= 4
    assert turned["large.npy"] > 300
    assert {one.file for one in done if one.kind == "byte added"} == set(contents(folder))
    assert {one.file for one in done if one.kind == "files exchanged"} == {"large.npy", "small.json"}
    assert done == plan(folder, each=4, count=400, rng=random.Random(0))


def test_a_damage_changes_what_it_says_and_is_undone(folder: Path, tmp_path: Path) -> None:
    whole, other = contents(folder), linked(folder, tmp_path / "other")
    for damage in plan(folder, each=2, count=60, rng=random.Random(1)):
        with spoiled(other, damage):
            found = contents(other)
            changed = {name for name in whole if found[name] != whole[name]}
            assert changed == {damage.file, damage.other} - {""}
            assert contents(folder) == whole, "the folder whose files are linked here is not touched"
        assert contents(other) == whole


def test_a_turned_bit_is_one_bit(folder: Path) -> None:
    before = (folder / "large.npy").read_bytes()
    with spoiled(folder, Damage("bit turned", "large.npy", at=77, bit=5)):
        after = (folder / "large.npy").read_bytes()
    assert [(at, old ^ new) for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [
        (77, 32)
    ]
