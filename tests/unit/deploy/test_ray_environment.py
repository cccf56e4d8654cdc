"""The file that `bash -c` reads before KubeRay's own commands, by a real bash."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy_files import ROOT

SCRIPT = ROOT / "serving" / "ray-env.sh"
_VARIABLES = (
    "RAY_SERVE_ENABLE_HA_PROXY",
    "RAY_AUTH_MODE",
    "RETRANK_SERVICE_DIR",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
)
_SHOWN = f'echo "{"|".join(f"${name}" for name in _VARIABLES)}"'


class Container:
    """The environment of a container, in which commands are started like KubeRay starts them."""

    def __init__(self, folder: Path) -> None:
        self.kept = folder / "environment"
        self._variables = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "BASH_ENV": str(SCRIPT),
            "RETRANK_ENV_FILE": str(self.kept),
        }

    def run(self, command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/bash", "-c", "--", command],
            env=self._variables | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    started = Container(tmp_path_factory.mktemp("container"))
    yield started
    if started.kept.exists():
        lines = started.kept.read_text().splitlines()
        given = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        shutil.rmtree(given["RETRANK_SERVICE_DIR"], ignore_errors=True)
        shutil.rmtree(Path(given["RAY_SERVE_HAPROXY_BINARY_PATH"]).parent, ignore_errors=True)


def test_ray_starts_with_haproxy_token_and_a_folder(container: Container) -> None:
    done = container.run(f"ulimit -n 1024; {_SHOWN}")
    assert done.returncode == 0, done.stderr
    proxy, auth, folder, port, alone = done.stdout.strip().split("|")
    assert (proxy, auth, alone) == ("1", "token", "")
    assert Path(folder).is_dir()
    assert port.isdigit()


def test_every_later_shell_gets_the_same(container: Container) -> None:
    first, second = container.run(_SHOWN), container.run(_SHOWN)
    assert first.stdout == second.stdout != ""


def test_a_shell_below_a_service_of_its_own_is_left_alone(container: Container) -> None:
    assert container.run(_SHOWN, RETRANK_SERVICE_DIR="/there").stdout == "||/there||\n"


def test_without_the_environment_nothing_starts(tmp_path: Path) -> None:
    done = Container(tmp_path).run("echo started", PYTHONPATH="/nowhere", PATH="/usr/bin:/bin")
    assert done.returncode != 0
    assert "started" not in done.stdout
    assert "Ray would start without it" in done.stderr
    assert list(tmp_path.iterdir()) == []
