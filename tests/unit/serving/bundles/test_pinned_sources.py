"""A root that is staged means the bundle it led to then; a root in use moves on."""

import shutil
from pathlib import Path

import pytest
from swap_world import World

from retrank.contract.errors import BundleError
from retrank.contract.files import point_at
from retrank.serving.bundles.desired import Author
from retrank.serving.bundles.library import Library
from retrank.serving.bundles.operator import Operator, Outcome
from retrank.serving.bundles.sources import MAX_SOURCE_LENGTH


@pytest.fixture
def world(three_bundles: Path, tmp_path: Path) -> World:
    """A library that holds the first bundle alone."""
    return _host(three_bundles, tmp_path / "bundles")


@pytest.fixture
def shelf(three_bundles: Path, tmp_path: Path) -> Path:
    """A root elsewhere that holds all three."""
    return Path(shutil.copytree(three_bundles, tmp_path / "shelf"))


def _host(three_bundles: Path, root: Path, **shared: object) -> World:
    world = World(Path(shutil.copytree(three_bundles, root)), **shared)  # type: ignore[arg-type]  # the control store
    for name in world.names[1:]:
        shutil.rmtree(root / name)
    return world


def _stage(world: World, source: str) -> Outcome:
    library = Library(world.root, max_bytes=1 << 30)
    operator = Operator(world.control, library, now=lambda: world.time, new_salt=lambda: "salt")
    return operator.stage(source, Author("somebody"))


@pytest.mark.parametrize("scheme", ["folder", "file"])
def test_every_replica_gets_the_bundle_that_was_staged_though_the_root_moves_on(
    world: World, shelf: Path, three_bundles: Path, tmp_path: Path, scheme: str
) -> None:
    other = _host(three_bundles, tmp_path / "other host", control=world.control)
    here, there = world.replica("here"), other.replica("there")
    wanted, later = world.names[1:]
    point_at(shelf, wanted)
    staged = _stage(world, str(shelf) if scheme == "folder" else shelf.as_uri())
    assert [one.source for one in staged.desired.staged if one.id == wanted] == [str(shelf / wanted)]
    here.stager.step()
    point_at(shelf, later)
    there.stager.step()
    assert (here.stager.troubles, there.stager.troubles) == ({}, {})
    assert here.stager.verified == there.stager.verified == {wanted}
    _stage(world, str(shelf))
    for replica in (here, there):
        replica.stager.step()
    assert here.stager.verified == there.stager.verified == {wanted, later}


def test_a_root_whose_bundle_has_too_long_a_path_is_refused_when_it_is_staged(world: World, shelf: Path) -> None:
    deep = shelf.parent
    while len(str(deep)) < MAX_SOURCE_LENGTH - 120:
        deep /= "x" * 100
    deep /= "y" * (MAX_SOURCE_LENGTH - len(str(deep)) - 5)
    deep.parent.mkdir(parents=True)
    shutil.copytree(shelf, deep)
    with pytest.raises(BundleError, match="at most"):
        _stage(world, str(deep))
