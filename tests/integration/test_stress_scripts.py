"""The stress scripts run as written, with tiny numbers: they exist for the day somebody needs them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(script: str, *arguments: str, within_s: float) -> str:
    command = [sys.executable, str(ROOT / "scripts" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("stress")
    _run("make_big_bundle.py", "--items", "300", "--users", "60", "--flat", "--out", str(folder), within_s=120)
    return str(folder)


@pytest.mark.slow
def test_fuzzed_requests_are_all_answered(bundle: str, tmp_path: Path) -> None:
    page = tmp_path / "fuzz.md"
    _run("fuzz_requests.py", "--bundle", bundle, "--count", "1500", "--within", "30", "--out", str(page), within_s=300)
    assert "| status 5xx that is not documented, broken answers, hangs | 0 | 0 |" in page.read_text()


@pytest.mark.slow
def test_dependencies_can_be_taken_away(bundle: str) -> None:
    shown = _run("chaos_dependencies.py", "--bundle", bundle, "--rate", "20", "--seconds", "2", within_s=300)
    assert "| profile store (Redis) frozen | 40 of 40 |" in shown


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_replica_fails_no_call(bundle: str) -> None:
    arguments = ("--kills", "1", "--rate", "10", "--deadline", "30")
    shown = _run("chaos_replicas.py", "--bundle", bundle, *arguments, within_s=500)
    assert "| calls that failed after the client's retries | 0 of" in shown


@pytest.mark.slow
@pytest.mark.ray
def test_a_short_soak_reports_memory_and_files(bundle: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "soak.py"), "--bundle", bundle, "--count", "200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert "| their file descriptors, then and at the end |" in done.stdout, done.stderr
