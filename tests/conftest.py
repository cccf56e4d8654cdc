"""Fixtures and settings that more than one folder of tests needs."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from redis_processes import RedisProcess, running_cluster, running_redis
from state_backends import Backend

# The same examples every time, and no deadline: machines that run tests are shared.
settings.register_profile("retrank", derandomize=True, deadline=None)
settings.load_profile("retrank")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, for its fixtures, and all that start Ray in one, for the machine."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ray" if item.get_closest_marker("ray") else item.path.name))


@pytest.fixture(autouse=True)
def threads_as_allowed() -> Iterator[None]:
    """Give torch back the threads that `make test` allows: a training run sets its own number, for the whole process.

    Where several test processes share the cores, threads that wait for one another turn a second into minutes.
    """
    yield
    torch, allowed = sys.modules.get("torch"), os.environ.get("OMP_NUM_THREADS")  # torch: only where a test needs it
    if torch is not None and allowed is not None:
        torch.set_num_threads(int(allowed))


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


@pytest.fixture(scope="session")
def content_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a bundle whose model reads what items are, and has an item encoder. Never modify it."""
    from content_world import content_world  # noqa: PLC0415  (torch is loaded only for tests that need a bundle)

    root = tmp_path_factory.mktemp("content") / "bundles"
    content_world().assemble(root)
    return root


@pytest.fixture(scope="session")
def ranked_content_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a bundle like `content_bundle` with a second stage of random weights. Never modify it."""
    from content_world import content_world  # noqa: PLC0415  (torch is loaded only for tests that need a bundle)

    root = tmp_path_factory.mktemp("ranked_content") / "bundles"
    content_world(ranked=True).assemble(root)
    return root


@pytest.fixture(scope="session")
def three_bundles(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of three tiny bundles with items a1.., b1.. and c1..; see `swap_world.names_of`. Never modify it."""
    from swap_world import seal_bundles  # noqa: PLC0415  (only some tests need a library)

    root = tmp_path_factory.mktemp("three") / "bundles"
    names = seal_bundles(tiny_bundle, root, "abc")
    (root / "names").write_text("\n".join(names))
    return root


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A running redis-server; whoever uses it may flush it, and must leave it running."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisProcess]]:
    """A running Redis Cluster of three nodes; whoever uses it may flush it, and must leave it running."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """An empty place for state, of every kind there is."""
    found = Backend(f"sqlite:{tmp_path / 'state.sqlite'}")
    if request.param == "redis":
        found = Backend.of_redis([request.getfixturevalue("redis_server")])
    elif request.param == "cluster":
        found = Backend.of_redis(request.getfixturevalue("redis_cluster"))
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _series_stay_in_their_test() -> Iterator[None]:
    """Undo what `telemetry.exposition.share` decides for a whole process: where series that are made later live."""
    yield
    if os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None) is not None:
        from prometheus_client import values  # noqa: PLC0415  (only tests that shared series pay for it)

        values.ValueClass = values.MutexValue
