"""The environment the service is started in."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from retrank.serving import ingress
from retrank.serving.ingress import prepare, prepared


@pytest.fixture(autouse=True)
def _short_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrank.serving.ingress._SHORT_FOLDER", str(tmp_path))


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """A stand-in for HAProxy that prints the configuration it was started with."""
    path = tmp_path / "haproxy"
    path.write_text('#!/bin/sh\ncat "$3"\n')
    path.chmod(0o755)
    return path


def _started(environment: dict[str, str], config: Path) -> str:
    """Start the stand-in as Ray would, and return the configuration it gets to see."""
    command = [environment["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_haproxy_and_throughput_flags_are_on_when_the_binary_is_there(binary: Path) -> None:
    environment = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary)}
    assert prepare(environment) is not None
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert environment["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["RAY_worker_niceness"] == "0"


@pytest.mark.parametrize(
    ("wished", "counted", "quiet"),
    [
        ({}, "0", True),
        ({"RAY_SERVE_HAPROXY_METRICS_ENABLED": "1"}, "1", False),
        ({"RAY_SERVE_HAPROXY_LOG_TARGET": "10.0.0.1:514"}, "0", False),
    ],
)
def test_haproxy_says_nothing_of_good_requests_unless_an_operator_asks(
    binary: Path, tmp_path: Path, wished: dict[str, str], counted: str, quiet: bool
) -> None:
    (config := tmp_path / "haproxy.cfg").write_text("defaults\n    mode http\n")
    environment = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary), **wished}
    prepare(environment)
    assert environment["RAY_SERVE_HAPROXY_METRICS_ENABLED"] == counted
    assert ("option dontlog-normal" in _started(environment, config)) is quiet


def test_the_loop_that_hears_all_connections_comes_with_haproxy_alone(binary: Path) -> None:
    """Without HAProxy Ray's own server answers, which on that loop would send every body 40 ms late."""
    environment = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary)}
    prepare(environment)
    assert environment["RAY_USE_UVLOOP"] == "0"
    without = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary), "RAY_SERVE_ENABLE_HA_PROXY": "0"}
    prepare(without)
    assert "RAY_USE_UVLOOP" not in without


def test_a_second_service_in_one_process_starts_from_a_clean_environment(binary: Path) -> None:
    untouched = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary), "HOME": "/home/me"}
    environment = dict(untouched)
    for _ in range(2):
        with prepared(environment, "127.0.0.1") as folder:
            assert folder is not None
            assert Path(environment["RAY_SERVE_HAPROXY_BINARY_PATH"]).parent == folder
        assert environment == untouched
        assert not folder.exists()


def test_an_operator_can_switch_haproxy_off(binary: Path) -> None:
    environment = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary), "RAY_SERVE_ENABLE_HA_PROXY": "0"}
    assert prepare(environment) is None
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "0"


def test_pages_for_operators_are_narrowed_to_this_machine(binary: Path, tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text("frontend a\n    bind :9101\nlisten b\n  bind *:8404\nfrontend c\n    bind 127.0.0.1:8000\n")
    environment = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary)}
    prepare(environment)
    shown = _started(environment, config)
    assert [line.split()[1] for line in shown.splitlines() if "bind" in line] == [
        "127.0.0.1:9101",
        "127.0.0.1:8404",
        "127.0.0.1:8000",
    ]


def test_a_cluster_may_talk_to_its_other_machines(binary: Path, tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text("frontend a\n    bind :9101\n")
    environment = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary)}
    prepare(environment, alone=False)
    assert "bind :9101" in _started(environment, config)
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in environment


def test_the_front_holds_a_request_back_until_it_is_there(binary: Path, tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text("global\n    daemon\ndefaults\n    mode http\n")
    environment = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary)}
    prepare(environment)
    shown = _started(environment, config)
    *lines, slow, mode = shown.splitlines()[2:]
    options = ["    option dontlog-normal", "    option http-buffer-request"]
    assert lines == ["defaults", *options, "    timeout http-request 10s"]
    assert slow.startswith("    errorfile 408 ")
    assert mode == "    mode http"


def test_a_dead_replica_costs_a_moment_not_the_request(binary: Path, tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text("defaults\n    timeout connect 5s\n    timeout client 3600s\nbackend a\n    timeout connect 5s\n")
    environment = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary)}
    prepare(environment)
    assert environment["RAY_SERVE_HAPROXY_RETRY_ON"] == "conn-failure empty-response"
    waits = [line.split()[1:] for line in _started(environment, config).splitlines() if "timeout c" in line]
    assert waits == [["connect", "100ms"], ["client", "3600s"], ["connect", "100ms"]]


def test_an_open_service_opens_its_front_and_nothing_else(binary: Path, tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text("frontend a\n    bind 127.0.0.1:8000\nlisten b\n  bind *:8404\n")
    environment = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary)}
    prepare(environment, front="0.0.0.0")
    shown = _started(environment, config)
    assert [line.split()[1] for line in shown.splitlines() if "bind" in line] == ["0.0.0.0:8000", "127.0.0.1:8404"]


def test_a_request_id_that_no_log_could_hold_is_taken_out(binary: Path, tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text("frontend http_frontend\n    bind 127.0.0.1:8000\n")
    environment = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(binary)}
    prepare(environment)
    shown = _started(environment, config)
    rule = "http-request del-header x-request-id unless { req.hdr(x-request-id) -m reg ^[!-~]{1,256}$ }"
    assert shown.splitlines()[1].strip() == rule


def test_a_free_port_is_none_that_the_kernel_hands_out_to_whoever_asks_for_any() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [ingress.free_port() for _ in range(50)]
    assert max(ports) < first
    assert len(set(ports)) > 40  # two who look at the same moment do not get the same


def test_a_port_that_somebody_listens_on_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((ingress.LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ingress, "_PORTS", range(port - 5, port + 5))
        assert port not in {ingress.free_port() for _ in range(40)}


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="the tool that ties a process to its parent")
def test_the_front_goes_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    haproxy, config = tmp_path / "haproxy", tmp_path / "haproxy.cfg"
    haproxy.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 60\n"
    )
    haproxy.chmod(0o755)
    config.write_text("")
    environment = {"RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy)}
    prepare(environment)
    script = environment["RAY_SERVE_HAPROXY_BINARY_PATH"]
    starter = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", starter, script, "-db", "-f", str(config)]) as manager:
        pid = _eventually(lambda: (tmp_path / "pid").exists() and int((tmp_path / "pid").read_text()))
        assert Path(f"/proc/{pid}/cmdline").read_bytes()
        manager.kill()
    _eventually(lambda: not Path(f"/proc/{pid}").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())


def _eventually(found: Callable[[], int]) -> int:
    deadline = time.monotonic() + 10.0
    while not (result := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return result
