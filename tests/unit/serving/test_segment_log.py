import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from event_worlds import NOON, raw_records

from retrank.contract.errors import ConfigError
from retrank.serving.events.folders import claim, closed_segments, is_abandoned, segments, writers
from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.events.segment import Ending, SegmentReader
from retrank.serving.events.segment_log import SegmentLog, SegmentOptions
from retrank.serving.events.settings import EventSettings, open_log, parse_event_settings

WAIT_S = 20


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Let the kernel refuse what a full disk would refuse."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_segment_is_closed_when_it_is_full(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, SegmentOptions(segment_bytes=200))
    for number in range(10):
        log.append([b"%050d" % number]).result(WAIT_S)
    log.close()
    found = segments(log.folder)
    assert len(found) == 4
    endings = []
    for path in found:
        reader = SegmentReader(path)
        assert len(list(reader)) <= 3
        endings.append(reader.ending)
    assert set(endings) == {Ending.SEALED}
    assert raw_records(tmp_path) == [b"%050d" % number for number in range(10)]


def test_a_segment_is_closed_when_it_is_old_even_if_nothing_follows(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, SegmentOptions(segment_age_s=0.05))
    log.append([b"alone"]).result(WAIT_S)
    path = segments(log.folder)[0]
    deadline = threading.Event()
    for _ in range(200):
        if closed_segments(log.folder) == [path]:
            break
        deadline.wait(0.05)
    assert closed_segments(log.folder) == [path]
    assert not is_abandoned(log.folder)
    log.close()


def test_the_segment_that_is_being_written_is_not_closed(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, SegmentOptions())
    log.append([b"one"]).result(WAIT_S)
    assert closed_segments(log.folder) == []
    log.close()
    assert closed_segments(log.folder) == segments(log.folder)


def test_records_that_wait_share_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, may_end = threading.Event(), threading.Event()
    calls = []
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        calls.append(descriptor)
        running.set()
        may_end.wait(WAIT_S)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    log = SegmentLog(tmp_path, SegmentOptions(linger_s=0.0))
    first = log.append([b"first"])
    running.wait(WAIT_S)
    others = [log.append([b"other"]) for _ in range(50)]
    assert not first.done()
    may_end.set()
    for future in [first, *others]:
        future.result(WAIT_S)
    assert len(calls) == 2
    log.close()


def test_a_full_disk_refuses_loses_nothing_and_is_forgotten_when_there_is_room(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, SegmentOptions(retry_s=0.0))
    kept = [b"kept %d" % number for number in range(5)]
    for record in kept:
        log.append([record]).result(WAIT_S)
    size = segments(log.folder)[0].stat().st_size
    with files_no_longer_than(size + 20):
        for _ in range(3):
            with pytest.raises(LogUnavailable, match=r"not durable .*File too large.*try again shortly"):
                log.append([b"does not fit " * 10]).result(WAIT_S)
    log.append([b"fits again"]).result(WAIT_S)
    log.close()
    assert raw_records(tmp_path) == [*kept, b"fits again"]
    assert segments(log.folder)[0].stat().st_size == size  # the torn end was cut off


FILLER = """
import sys
from pathlib import Path
from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.events.segment_log import SegmentLog, SegmentOptions
disk, elsewhere = Path(sys.argv[1]), Path(sys.argv[2])
log = SegmentLog(disk / "events", SegmentOptions(retry_s=0.0))
kept = 0
try:
    while True:
        log.append([b"%04000d" % kept]).result(20)
        kept += 1
except LogUnavailable as error:
    print(kept, error)
full = log.folder / "000000000001.seg"
elsewhere.write_bytes(full.read_bytes())
full.unlink()
log.append([b"room again"]).result(20)
log.close()
print(*(path.name for path in log.folder.glob("*.seg")))
"""


def test_a_real_full_disk_does_the_same(tmp_path: Path) -> None:
    """On a file system of 64 KiB of its own, where this user may mount one."""
    disk, elsewhere = tmp_path / "disk", tmp_path / "kept.seg"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=64k none "$1" && exec "$0" -c "$3" "$1" "$2"'
    words = [script, sys.executable, str(disk), str(elsewhere), FILLER]
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    said, names = done.stdout.splitlines()
    assert "No space left on device" in said, done.stderr
    assert [int(record) for record in SegmentReader(elsewhere)] == list(range(int(said.split()[0])))
    assert names != "000000000001.seg"


def test_after_a_failure_records_are_refused_at_once_for_a_while(tmp_path: Path) -> None:
    moment = [100.0]
    log = SegmentLog(tmp_path, SegmentOptions(retry_s=5.0), monotonic=lambda: moment[0])
    with files_no_longer_than(10), pytest.raises(LogUnavailable, match="not durable"):
        log.append([b"x"]).result(WAIT_S)
    refused = log.append([b"x"])
    assert refused.done()
    with pytest.raises(LogUnavailable, match="a moment ago"):
        refused.result(0)
    moment[0] = 106.0
    log.append([b"y"]).result(WAIT_S)
    log.close()
    assert raw_records(tmp_path) == [b"y"]


def test_after_a_failed_fsync_the_segment_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentLog(tmp_path, SegmentOptions(retry_s=0.0))
    log.append([b"before"]).result(WAIT_S)
    real = os.fdatasync

    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(LogUnavailable, match="Input/output error"):
        log.append([b"unsure"]).result(WAIT_S)
    monkeypatch.setattr(os, "fdatasync", real)
    log.append([b"after"]).result(WAIT_S)
    log.close()
    assert [list(SegmentReader(path)) for path in segments(log.folder)] == [[b"before"], [b"after"]]


def test_records_in_a_file_that_somebody_removed_are_not_acknowledged(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path / "log", SegmentOptions(retry_s=0.0))
    log.append([b"before"]).result(WAIT_S)
    segments(log.folder)[0].unlink()
    with pytest.raises(LogUnavailable, match="somebody removed the segment"):
        log.append([b"nowhere"]).result(WAIT_S)
    log.append([b"after"]).result(WAIT_S)
    shutil.rmtree(tmp_path / "log")
    for _ in range(2):  # nothing can be begun either where there is no folder
        with pytest.raises(LogUnavailable, match="not durable"):
            log.append([b"nowhere"]).result(WAIT_S)
    log.close()


def test_a_mistake_in_the_writer_leaves_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentLog(tmp_path, SegmentOptions(linger_s=0.0))

    def mistaken() -> None:
        raise KeyError("a mistake")

    monkeypatch.setattr(log, "_rotate_if_due", mistaken)
    log.append([b"one"]).result(WAIT_S)
    with pytest.raises(LogUnavailable, match=r"the log ended|is closed"):
        log.append([b"two"]).result(WAIT_S)
    log.close()


def test_only_so_much_is_kept_of_a_bounded_stream(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, SegmentOptions(segment_bytes=1_000, keep_bytes=4_000))
    for number in range(200):
        log.append([b"%0200d" % number]).result(WAIT_S)
    log.close()
    left = [int(record) for record in raw_records(tmp_path)]
    assert left == list(range(left[0], 200))
    assert sum(path.stat().st_size for path in segments(log.folder)) < 6_000


def test_a_folder_that_cannot_be_made_is_an_unavailable_log(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("a file is in the way")
    with pytest.raises(LogUnavailable, match="cannot be written"):
        SegmentLog(tmp_path / "events")


WRITER = """
import sys
from pathlib import Path
from retrank.serving.events.segment_log import SegmentLog, SegmentOptions
log = SegmentLog(Path(sys.argv[1]), SegmentOptions(segment_bytes=2_000))
for number in range(200):
    log.append([f"{sys.argv[2]}-{number}".encode()]).result(20)
print("written", flush=True)
sys.stdin.readline()
"""


def test_several_processes_write_side_by_side_and_killed_ones_are_told_from_living_ones(tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in "abc"
    ]  # fmt: skip
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
        assert [is_abandoned(folder) for folder in writers(tmp_path)] == [False] * 3
        started[1].kill()
        started[1].wait(WAIT_S)
        assert sorted(is_abandoned(folder) for folder in writers(tmp_path)) == [False, False, True]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert sorted(raw_records(tmp_path)) == sorted(f"{name}-{n}".encode() for name in "abc" for n in range(200))


def test_a_writer_of_the_same_moment_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    (first, one), (second, two) = claim(tmp_path, NOON), claim(tmp_path, NOON)
    assert first != second
    assert not is_abandoned(first)
    os.close(one)
    assert is_abandoned(first)
    os.close(two)


def test_a_log_is_opened_from_settings(tmp_path: Path) -> None:
    log = open_log(parse_event_settings({"directory": tmp_path, "segment_bytes": 8_192}), "decisions")
    log.append([b'{"decision":1}']).result(WAIT_S)
    log.close()
    assert raw_records(tmp_path / "decisions") == [b'{"decision":1}']


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "nowhere to be written; set directory, or kafka_servers"),
        ({"directory": "d", "segment_bites": 1}, "segment_bites"),
        ({"directory": "d", "linger_ms": -1}, "linger_ms"),
    ],
)
def test_wrong_settings_name_the_key(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_event_settings(values)


def test_an_unknown_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown stream 'clicks'; expected one of events"):
        open_log(EventSettings(directory=tmp_path), "clicks")


def test_options_that_librdkafka_refuses_are_named() -> None:
    settings = EventSettings(kafka_servers="127.0.0.1:9", kafka_options={"no.such.option": "1"})
    with pytest.raises(ConfigError, match=r"no\.such\.option"):
        open_log(settings)
