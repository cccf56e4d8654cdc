from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrank.serving.events.segment import (
    FRAME_BYTES,
    HEADER_BYTES,
    MAX_RECORD_BYTES,
    CorruptSegment,
    Ending,
    SegmentReader,
    frames,
    header,
    is_sealed,
    seal,
)

RECORDS = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6)
several = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def content_of(records: list[bytes], *, sealed: bool) -> bytes:
    return header(17) + frames(records) + (seal(len(records)) if sealed else b"")


def read(path: Path) -> tuple[list[bytes], Ending]:
    reader = SegmentReader(path)
    return list(reader), reader.ending


@several
@given(records=RECORDS, sealed=st.booleans())
def test_what_is_written_is_read(tmp_path: Path, records: list[bytes], sealed: bool) -> None:
    path = written(tmp_path / "a.seg", content_of(records, sealed=sealed))
    assert read(path) == (records, Ending.SEALED if sealed else Ending.OPEN)
    assert is_sealed(path) == sealed


@several
@given(records=RECORDS, sealed=st.booleans(), data=st.data())
def test_a_file_cut_anywhere_gives_a_prefix(
    tmp_path: Path, records: list[bytes], sealed: bool, data: st.DataObject
) -> None:
    content = content_of(records, sealed=sealed)
    cut = data.draw(st.integers(0, len(content) - 1))
    found, ending = read(written(tmp_path / "a.seg", content[:cut]))
    whole = [end for end in range(len(records) + 1) if HEADER_BYTES + len(frames(records[:end])) <= cut]
    assert found == records[: max(whole, default=0)]
    assert ending is not Ending.SEALED


@several
@given(records=RECORDS, zeros=st.integers(1, 100), has_head=st.booleans(), data=st.data())
def test_zeros_where_a_record_was_to_come_are_a_torn_end(
    tmp_path: Path, records: list[bytes], zeros: int, has_head: bool, data: st.DataObject
) -> None:
    end = data.draw(st.integers(0, len(records)))
    head = frames([b"next"])[:FRAME_BYTES] if has_head else b""
    path = written(tmp_path / "a.seg", header(17) + frames(records[:end]) + head + bytes(zeros))
    assert read(path) == (records[:end], Ending.TORN)


@several
@given(records=RECORDS, sealed=st.booleans(), data=st.data(), flip=st.integers(1, 255))
def test_any_changed_byte_is_detected(
    tmp_path: Path, records: list[bytes], sealed: bool, data: st.DataObject, flip: int
) -> None:
    content = bytearray(content_of(records, sealed=sealed))
    content[data.draw(st.integers(0, len(content) - 1))] ^= flip
    written(tmp_path / "a.seg", bytes(content))
    intact: list[bytes] = []
    with pytest.raises(CorruptSegment, match=r"a\.seg: .* at byte"):
        intact.extend(SegmentReader(tmp_path / "a.seg"))
    assert intact == records[: len(intact)]


def test_every_single_byte_of_a_segment_is_watched(tmp_path: Path) -> None:
    content = content_of([b'{"n":0}', b'{"n":1}'], sealed=True)
    for position in range(len(content)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[position] ^= flip
            with pytest.raises(CorruptSegment):
                read(written(tmp_path / "a.seg", bytes(damaged)))


def test_a_reader_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    path = written(tmp_path / "a.seg", content_of([b"one", b"two"], sealed=False))
    reader = SegmentReader(path)
    assert list(reader) == [b"one", b"two"]
    with path.open("ab") as stream:
        stream.write(frames([b"three"]) + seal(3))
    again = SegmentReader(path, reader.position)
    assert list(again) == [b"three"]
    assert again.ending is Ending.SEALED


def test_data_behind_a_seal_is_damage(tmp_path: Path) -> None:
    path = written(tmp_path / "a.seg", content_of([b"one"], sealed=True) + frames([b"two"]))
    with pytest.raises(CorruptSegment, match="data behind the seal"):
        read(path)


def test_a_seal_over_another_number_of_records_is_damage(tmp_path: Path) -> None:
    path = written(tmp_path / "a.seg", header(1) + frames([b"one"]) + seal(2))
    with pytest.raises(CorruptSegment, match="a seal over 2 records behind 1"):
        read(path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptSegment, match="not a segment of an event log"):
        read(written(tmp_path / "a.seg", b"PAR1" * 20))


@pytest.mark.parametrize("size", [0, MAX_RECORD_BYTES + 1])
def test_a_record_of_the_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to 1,048,576"):
        frames([b"x" * size])
