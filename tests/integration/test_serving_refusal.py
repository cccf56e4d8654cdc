"""A service that cannot start says why in one message and exits with a failure; nearly always before Ray is started."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from serving_process import command

from retrank.contract.bundle import FILES
from retrank.contract.files import current
from retrank.serving.ingress import free_port


def _refusal(*overrides: str) -> str:
    done = subprocess.run(
        command(f"serving.port={free_port()}", *overrides), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stdout + done.stderr
    *warned, message = done.stderr.strip().splitlines()
    assert message.startswith("retrank serve: ")
    assert warned == []
    return message


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    source = current(tiny_bundle)
    return Path(shutil.copytree(source, tmp_path / source.name))


@pytest.mark.parametrize("name", ["query_encoder.onnx", "items.faiss", "golden.jsonl"])
def test_a_flipped_byte(copied: Path, name: str) -> None:
    assert name in FILES
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    assert name in _refusal(f"bundle={copied}")


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere" in _refusal(f"bundle={tmp_path / 'nowhere'}")


def test_a_port_in_use(tiny_bundle: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in _refusal(f"bundle={tiny_bundle}", f"serving.port={port}")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1"])
def test_listening_beyond_this_machine_without_keys(tiny_bundle: Path, host: str) -> None:
    assert "retrank keys create" in _refusal(f"bundle={tiny_bundle}", f"serving.host='{host}'")


def test_a_key_file_that_others_can_read(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{}")
    named = f"serving.guard.auth.key_file={tmp_path / 'keys.json'}"
    assert "chmod 600" in _refusal(f"bundle={tiny_bundle}", named)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("serving.events.directory=/proc/x", "serving.events.directory: cannot write to /proc/x"),
        ("serving.state.url=sqlite:/nowhere/state.sqlite", "serving.state.url: cannot write to /nowhere"),
    ],
)
def test_a_place_that_nothing_can_be_written_to(tiny_bundle: Path, setting: str, named: str) -> None:
    assert named in _refusal(f"bundle={tiny_bundle}", setting)


@pytest.mark.ray
@pytest.mark.slow
def test_what_only_a_replica_finds_out_is_said_in_its_own_words(tiny_bundle: Path, tmp_path: Path) -> None:
    broker = ("serving.events.kafka_servers=127.0.0.1:1", "+serving.events.kafka_options={no.such.option: x}")
    own = (f"serving.service.folder={tmp_path}", f"serving.admin.port={free_port()}")
    said = _refusal(f"bundle={tiny_bundle}", *broker, *own)
    assert said.startswith("retrank serve: the service did not start: kafka_options: librdkafka refuses them")
    assert "no.such.option" in said


def test_an_unknown_setting(tiny_bundle: Path) -> None:
    assert "replica" in _refusal(f"bundle={tiny_bundle}", "+serving.replica=2")
