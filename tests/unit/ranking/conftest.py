"""Fixtures of the chain world."""

from pathlib import Path

import pytest
from chain_world import HEADS, make_stores, rank, train


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, impressions, and a run trained on the store."""
    root = tmp_path_factory.mktemp("rank")
    make_stores(root)
    assert train(root, "run") == 0
    return root


@pytest.fixture(scope="session")
def ranked(folder: Path) -> Path:
    """A finished run of `retrank rank` with three heads. Never modify it."""
    assert rank(folder, "ranked", HEADS) == 0
    return folder / "ranked"
