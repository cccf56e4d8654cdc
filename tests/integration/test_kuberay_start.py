"""A Ray head started as KubeRay starts it, with the environment of the manifests, and the hook of a pod that leaves."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy_files import ROOT, pod_templates

from retrank.serving.ingress import free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]
_STARTED_S = 120.0
_TOKEN = secrets.token_hex(32)


class Pod:
    """One container: its folder stands for /tmp and for the home directory."""

    def __init__(self, folder: Path) -> None:
        self.port, self.log = free_port(), folder / "log"
        self._environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BASH_ENV": str(ROOT / "serving" / "ray-env.sh"),
            "RETRANK_ENV_FILE": str(folder / "environment"),
            "RAY_TMPDIR": str(folder),
            "HOME": str(folder),
            "RAY_AUTH_TOKEN": _TOKEN,
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # of this test alone: nothing listens beyond this machine
        }

    def start(self) -> subprocess.Popen[bytes]:
        flags = f"--port={self.port} --num-cpus=1 --object-store-memory=104857600 --include-dashboard=false --block"
        command = f"ulimit -n 4096; ray start --head {flags}"
        with self.log.open("wb") as log:
            return subprocess.Popen(
                ["/bin/bash", "-c", "--", command],
                env=self._environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def run(self, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        where = {"RAY_ADDRESS": f"127.0.0.1:{self.port}"}
        return subprocess.run(
            command, env=self._environment | where | more, capture_output=True, text=True, check=False, timeout=120
        )


@pytest.fixture(scope="module")
def pod() -> Iterator[Pod]:
    with tempfile.TemporaryDirectory(prefix="pod-", dir="/tmp", ignore_cleanup_errors=True) as name:  # sockets: short
        started = Pod(Path(name))
        process = started.start()
        try:
            deadline = time.monotonic() + _STARTED_S
            while b"Ray runtime started" not in started.log.read_bytes():
                assert process.poll() is None, started.log.read_text()
                assert time.monotonic() < deadline, started.log.read_text()
                time.sleep(0.2)
            yield started
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
            kept = (Path(name) / "environment").read_text().splitlines()
            given = dict(line.removeprefix("export ").split("=", 1) for line in kept)
            shutil.rmtree(given["RETRANK_SERVICE_DIR"], ignore_errors=True)
            shutil.rmtree(Path(given["RAY_SERVE_HAPROXY_BINARY_PATH"]).parent, ignore_errors=True)


def _hook() -> list[str]:
    """Return the hook of the workers, without the wait at its end."""
    [container] = pod_templates()["RayService/retrank/replicas"]["spec"]["containers"]
    *shell, script = container["lifecycle"]["preStop"]["exec"]["command"]
    return [*shell, str(script).partition("; sleep")[0]]


def test_the_processes_of_ray_have_the_environment_of_the_ingress(pod: Pod) -> None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and _is_raylet(entry, str(pod.port)):
            environment = (entry / "environ").read_bytes().split(b"\0")
            assert b"RAY_SERVE_ENABLE_HA_PROXY=1" in environment
            assert b"RAY_AUTH_MODE=token" in environment
            return
    pytest.fail("no raylet of this pod")


def _is_raylet(entry: Path, port: str) -> bool:
    try:
        line = (entry / "cmdline").read_bytes()
    except OSError:
        return False
    return b"/raylet" in line and port.encode() in line


def test_a_stranger_without_the_token_drains_nothing(pod: Pod) -> None:
    assert pod.run(_hook(), RAY_AUTH_TOKEN=secrets.token_hex(32)).returncode != 0


def test_the_hook_of_a_pod_that_leaves_is_accepted(pod: Pod) -> None:
    done = pod.run(_hook())
    assert done.returncode == 0, done.stderr[-2_000:]
