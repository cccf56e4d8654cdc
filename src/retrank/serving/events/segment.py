"""The file format of the event log: one segment, a header and then records, each with its own checksum.

    segment = header record* seal?
    header  = "RTRKLOG1"  version u32  created_us u64  crc32c of the 20 bytes before
    record  = length u32  crc32c of the payload u32  crc32c of the 8 bytes before u32  payload
    seal    = length 0    number of records u32      crc32c of the 8 bytes before u32        (nothing may follow)

All numbers are little-endian. The length has a checksum of its own, so that a damaged length is not mistaken for a
record that runs past the end. With it the two ways a file can be wrong are told apart:

- the file **ends** inside a record, or in zeros: a writer was killed or the power failed. Whatever is incomplete was
  never acknowledged, so the reader stops there cleanly (`Ending.TORN`).
- anything else does not check out: acknowledged data was damaged. The reader raises `CorruptSegment`.

A reader yields the records before the damage and then raises; it never goes on behind it.
"""

import struct
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from google_crc32c import value as crc32c

from retrank.contract.errors import RetrankError

MAGIC = b"RTRKLOG1"
VERSION = 1
MAX_RECORD_BYTES = 1 << 20
SUFFIX = ".seg"
_HEADER = struct.Struct("<8sIQI")
_FRAME = struct.Struct("<III")
_FIRST_TWO = struct.Struct("<II")
HEADER_BYTES = _HEADER.size
FRAME_BYTES = _FRAME.size


class CorruptSegment(RetrankError):  # noqa: N818  (a state of a file)
    """Data that had been acknowledged does not check out; message and `position` say where."""

    def __init__(self, path: Path, position: int, what: str) -> None:
        super().__init__(f"{path}: {what} at byte {position:,}; restore the file from a copy or move it away")
        self.position = position


class Ending(Enum):
    """How a segment ends."""

    SEALED = "sealed"
    OPEN = "open"
    TORN = "torn"


def header(created_us: int) -> bytes:
    """Return the first bytes of a segment; `created_us` in microseconds since the Unix epoch."""
    body = _HEADER.pack(MAGIC, VERSION, created_us, 0)[:-4]
    return body + struct.pack("<I", crc32c(body))


def frames(records: Sequence[bytes]) -> bytes:
    """Return records as they stand in the file.

    Raises:
        ValueError: a record is empty or longer than `MAX_RECORD_BYTES`.
    """
    parts = []
    for record in records:
        if not 0 < len(record) <= MAX_RECORD_BYTES:
            raise ValueError(f"a record has {len(record):,} bytes; expected 1 to {MAX_RECORD_BYTES:,}")
        parts += [_frame_head(len(record), crc32c(record)), record]
    return b"".join(parts)


def seal(num_records: int) -> bytes:
    """Return the last bytes of a segment that is complete."""
    return _frame_head(0, num_records)


def is_sealed(path: Path) -> bool:
    """Tell whether a segment ends in a seal, without reading the rest."""
    size = path.stat().st_size
    if size < HEADER_BYTES + FRAME_BYTES:
        return False
    with path.open("rb") as stream:
        stream.seek(size - FRAME_BYTES)
        head = stream.read(FRAME_BYTES)
    length, _, checksum = _FRAME.unpack(head)
    return length == 0 and bool(crc32c(head[:-4]) == checksum)


def _frame_head(length: int, second: int) -> bytes:
    body = _FIRST_TWO.pack(length, second)
    return body + struct.pack("<I", crc32c(body))


class SegmentReader:
    """Reads one segment from a position on; iterate once, then look at `ending`.

    Attributes:
        position: byte behind the last intact record; a later reader can go on there.
        ending: how the file ended; known when the iteration is over.
    """

    def __init__(self, path: Path, position: int = 0) -> None:
        self._path = path
        self._from_start = position == 0
        self._num_records = 0
        self.position = position
        self.ending = Ending.OPEN

    def __iter__(self) -> Iterator[bytes]:
        """Yield records in order.

        Raises:
            CorruptSegment: acknowledged data is damaged.
        """
        with self._path.open("rb") as stream:
            if self.position == 0 and not self._read_header(stream):
                return
            stream.seek(self.position)
            while (record := self._next(stream)) is not None:
                self._num_records += 1
                yield record

    def _read_header(self, stream: BinaryIO) -> bool:
        raw = stream.read(HEADER_BYTES)
        if len(raw) < HEADER_BYTES or not any(raw):
            self._tear(stream, raw, "a damaged header", short=len(raw) < HEADER_BYTES)
            return False
        magic, version, _, checksum = _HEADER.unpack(raw)
        if magic != MAGIC or crc32c(raw[:-4]) != checksum:
            raise CorruptSegment(self._path, 0, "a damaged header, or not a segment of an event log")
        if version != VERSION:
            raise CorruptSegment(self._path, 0, f"format version {version}, expected {VERSION}")
        self.position = HEADER_BYTES
        return True

    def _next(self, stream: BinaryIO) -> bytes | None:
        head = stream.read(FRAME_BYTES)
        if not head:
            return None
        if len(head) < FRAME_BYTES:
            self._tear(stream, head, "a damaged record", short=True)
            return None
        length, second, checksum = _FRAME.unpack(head)
        if crc32c(head[:-4]) != checksum:
            self._tear(stream, head, "a damaged record header", short=False)
            return None
        if length == 0:
            self._end(stream, second)
            return None
        if length > MAX_RECORD_BYTES:
            raise CorruptSegment(self._path, self.position, f"a record of {length:,} bytes")
        record = stream.read(length)
        if len(record) < length or crc32c(record) != second:
            self._tear(stream, record, "a damaged record", short=len(record) < length)
            return None
        self.position += FRAME_BYTES + length
        return record

    def _tear(self, stream: BinaryIO, raw: bytes, what: str, *, short: bool) -> None:
        """Accept an incomplete end; a power failure may have left zeros where data was to come."""
        if not short and (any(raw) or any(any(block) for block in iter(lambda: stream.read(1 << 16), b""))):
            raise CorruptSegment(self._path, self.position, what)
        self.ending = Ending.TORN

    def _end(self, stream: BinaryIO, num_records: int) -> None:
        if stream.read(1):
            raise CorruptSegment(self._path, self.position, "data behind the seal")
        if self._from_start and num_records != self._num_records:
            raise CorruptSegment(
                self._path, self.position, f"a seal over {num_records:,} records behind {self._num_records:,}"
            )
        self.ending = Ending.SEALED
