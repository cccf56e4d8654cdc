"""The programs in the documentation that call the service, run as they stand against a served bundle."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from living_service import living_service
from rpc_world import Served, served

from retrank.contract.events import person_key
from retrank.serving.recommender import Recommender
from retrank.serving.service import Service
from retrank.serving.stores.protocol import DEFAULT_TENANT

ROOT = Path(__file__).parents[2]
LIMIT_S = 120
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
Living = tuple[Service, Served]


@pytest.fixture(scope="module")
def living(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    folder = tmp_path_factory.mktemp("living")
    with living_service(Recommender.open(tiny_bundle), folder) as service, served(service) as where:
        yield service, where


def test_the_page_about_the_client_prints_a_slate_and_its_click_arrives(living: Living) -> None:
    service, where = living
    said = _run(
        "docs/client.md", "retrank.client", {"http://127.0.0.1:8000": where.url, "deadline_s=2.0": "deadline_s=60"}
    )
    first = re.fullmatch(r"1 (\S+) \S+ \[.*\]", said[0])
    assert first is not None
    assert len(said) == 5
    assert service.backing.store is not None
    profile = service.backing.store.profile(DEFAULT_TENANT, person_key("17850", None, None), None, time.time())
    assert [event.item_id for event in profile.events] == [first[1]]


def test_the_grpc_section_prints_a_slate(living: Living) -> None:
    _, where = living
    said = _run("serving/README.md", "import grpc", {"127.0.0.1:8002": where.rpc, "timeout=1.0": "timeout=60"})
    assert len(said) == 5
    assert all(re.fullmatch(rf"{rank} \S+ \S+", line) for rank, line in enumerate(said, start=1))


def _run(page: str, about: str, changes: dict[str, str]) -> list[str]:
    """Run the block of a page that is about something, with addresses and patience for this machine."""
    (program,) = (block for block in _BLOCK.findall((ROOT / page).read_text()) if about in block)
    for written, here in changes.items():
        assert written in program
        program = program.replace(written, here)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
