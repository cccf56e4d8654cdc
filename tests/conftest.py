"""Fixtures that more than one folder of tests needs."""

from pathlib import Path

import pytest
from worlds import TinyWorld


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a real bundle: random-weight encoder, 50 items with titles and prices, 20 users. Never modify it."""
    root = tmp_path_factory.mktemp("tiny") / "bundles"
    TinyWorld().assemble(root)
    return root
