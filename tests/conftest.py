"""Fixtures and settings that more than one folder of tests needs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from state_backends import Backend

# The same examples every time, and no deadline: machines that run tests are shared.
settings.register_profile("retrank", derandomize=True, deadline=None)
settings.load_profile("retrank")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a real bundle: random-weight encoder, 50 items with titles and prices, 20 users. Never modify it."""
    from worlds import TinyWorld  # noqa: PLC0415  (torch is loaded only for tests that need a bundle)

    root = tmp_path_factory.mktemp("tiny") / "bundles"
    TinyWorld().assemble(root)
    return root


@pytest.fixture(scope="session")
def ranked_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a bundle with a second stage of random weights, else like `tiny_bundle`. Never modify it."""
    from ranked_world import ranked_world  # noqa: PLC0415  (torch is loaded only for tests that need a bundle)

    root = tmp_path_factory.mktemp("ranked") / "bundles"
    ranked_world().assemble(root)
    return root


@pytest.fixture(params=["sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An empty place for state, of every kind there is."""
    found = Backend(f"sqlite:{tmp_path / 'state.sqlite'}")
    yield found
    found.close()
