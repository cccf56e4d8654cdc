"""Large weights of a graph stay in the graph's own file, mapped, so that all replicas of a host share one copy of them.

ONNX Runtime parses the weights that a file holds into memory of its own, holding up every other thread meanwhile; the
item table alone is as large as the item vectors. Weights that lie outside, in another file, it maps. So the graph is
handed to it without its large weights, which are declared to lie outside: in the very file they come from.

Source: protocol buffers encoding (protobuf.dev), onnx.proto3: ModelProto.graph 7, GraphProto.initializer 5,
TensorProto.dims 1, data_type 2, raw_data 9, external_data 13, data_location 14, StringStringEntryProto.key 1, value 2.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_BYTES = 1 << 18
_GRAPH, _INITIALIZER = 7, 5
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14
_KEY, _VALUE = 1, 2
_EXTERNAL = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
Raw = NDArray[np.uint8]


class _Field(NamedTuple):
    """One field of a message: its number, where it begins, and where the bytes of its value lie."""

    number: int
    begin: int
    start: int
    stop: int


def light_graph(path: Path, min_bytes: int = MIN_BYTES) -> bytes:
    """Return a graph whose weights of at least `min_bytes` of raw data are declared to lie in the file beside.

    It is opened with `session.model_external_initializers_file_folder_path` set to the folder of the file.

    Args:
        path: an ONNX file whose hash was checked; it must not change while a session over it lives.
        min_bytes: smaller weights stay in the graph.
    """
    raw: Raw = np.memmap(path, mode="r").view(np.ndarray)
    model = bytearray()
    for field in _fields(raw, 0, len(raw)):
        if field.number == _GRAPH:
            model += _message(_GRAPH, _light(raw, field, path.name, min_bytes))
        else:
            model += raw[field.begin : field.stop].tobytes()
    return bytes(model)


def _light(raw: Raw, graph: _Field, file: str, min_bytes: int) -> bytes:
    left = bytearray()
    for field in _fields(raw, graph.start, graph.stop):
        if field.number == _INITIALIZER and field.stop - field.start >= min_bytes:
            left += _message(_INITIALIZER, _declaration(raw, field, file, min_bytes))
        else:
            left += raw[field.begin : field.stop].tobytes()
    return bytes(left)


def _declaration(raw: Raw, tensor: _Field, file: str, min_bytes: int) -> bytes:
    """Return the message of a weight with the place of its numbers instead of them."""
    left = bytearray()
    for field in _fields(raw, tensor.start, tensor.stop):
        length = field.stop - field.start
        if field.number != _RAW_DATA or length < min_bytes:
            left += raw[field.begin : field.stop].tobytes()
            continue
        for key, value in (("location", file), ("offset", str(field.start)), ("length", str(length))):
            left += _message(_EXTERNAL_DATA, _message(_KEY, key.encode()) + _message(_VALUE, value.encode()))
        left += bytes([_DATA_LOCATION << 3 | _VARINT, _EXTERNAL])
    return bytes(left)


def _message(number: int, content: bytes) -> bytes:
    """Return a field of bytes with its key and length."""
    return _encoded(number << 3 | _BYTES) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    """Return a varint."""
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _fields(raw: Raw, at: int, stop: int) -> Iterator[_Field]:
    """Yield the fields of the message at `raw[at:stop]`; large values are passed over, not read."""
    while at < stop:
        begin = at
        key, at = _varint(raw, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            start = at
            _, at = _varint(raw, at)
            yield _Field(number, begin, start, at)
        elif wire == _BYTES:
            length, at = _varint(raw, at)
            yield _Field(number, begin, at, at + length)
            at += length
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
            yield _Field(number, begin, at, at + length)
            at += length
        else:
            raise ValueError(f"wire type {wire} at byte {at} is none that ONNX files use")


def _varint(raw: Raw, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = int(raw[at])
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
