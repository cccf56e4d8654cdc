"""Fixtures of the ring world."""

from functools import partial
from pathlib import Path

import pytest
from ring_world import Configure, configuration, make_described_store, make_store

from retrank.training import fit


@pytest.fixture(scope="session")
def ring_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of the store of the ring."""
    return make_store(tmp_path_factory.mktemp("ring"))


@pytest.fixture(scope="session")
def described_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of the store of the ring whose items have attributes."""
    return make_described_store(tmp_path_factory.mktemp("described"))


@pytest.fixture
def configure(ring_store: Path, tmp_path: Path) -> Configure:
    """Make the resolved configuration of a small run in a folder of its own."""
    return partial(configuration, ring_store, tmp_path)


@pytest.fixture(scope="session")
def finished_run(ring_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one run with every file. Never modify it."""
    return fit.run(configuration(ring_store, tmp_path_factory.mktemp("finished"), "whole"))
