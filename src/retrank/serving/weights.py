"""Weights of a graph, mapped from the graph's own file, so that all replicas of a host share one copy of them.

ONNX Runtime copies every weight into its own memory; the item table alone is as large as the item vectors. It also
takes weights from the caller, and uses their memory as it is. So the large ones are found in the file and handed over
as views of a read-only mapping. Only the few fields on the way to them are read; the runtime parses the file itself.

Source: protocol buffers encoding (protobuf.dev), onnx.proto3: ModelProto.graph 7, GraphProto.initializer 5,
TensorProto.dims 1, data_type 2, name 8, raw_data 9.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_BYTES = 1 << 18
_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_FLOAT32 = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
Raw = NDArray[np.uint8]


class _Field(NamedTuple):
    """One field of a message: its number, and its value or where its bytes lie."""

    number: int
    value: int
    start: int
    stop: int


def mapped_weights(path: Path, min_bytes: int = MIN_BYTES) -> dict[str, NDArray[np.float32]]:
    """Return the float32 weights of at least `min_bytes` that lie in a graph's file as raw data, by name.

    Args:
        path: an ONNX file whose hash was checked; it must not change while the views live.
        min_bytes: smaller ones are left to the runtime.
    """
    raw: Raw = np.memmap(path, mode="r").view(np.ndarray)
    found: dict[str, NDArray[np.float32]] = {}
    for graph in _fields(raw, 0, len(raw)):
        if graph.number != _GRAPH:
            continue
        for field in _fields(raw, graph.start, graph.stop):
            if field.number == _INITIALIZER and field.stop - field.start >= min_bytes:
                found |= _tensor(raw, field)
    return found


def _tensor(raw: Raw, tensor: _Field) -> dict[str, NDArray[np.float32]]:
    shape: list[int] = []
    name, kind, data = "", 0, raw[:0]
    for field in _fields(raw, tensor.start, tensor.stop):
        if field.number == _DIMS and field.start == field.stop:
            shape.append(field.value)
        elif field.number == _DIMS:  # packed
            at = field.start
            while at < field.stop:
                size, at = _varint(raw, at)
                shape.append(size)
        elif field.number == _DATA_TYPE:
            kind = field.value
        elif field.number == _NAME:
            name = raw[field.start : field.stop].tobytes().decode()
        elif field.number == _RAW_DATA:
            data = raw[field.start : field.stop]
    if kind != _FLOAT32 or len(data) != 4 * int(np.prod(shape)):
        return {}
    return {name: data.view(np.float32).reshape(shape)}


def _fields(raw: Raw, at: int, stop: int) -> Iterator[_Field]:
    """Yield the fields of the message at `raw[at:stop]`; large values are passed over, not read."""
    while at < stop:
        key, at = _varint(raw, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(raw, at)
            yield _Field(number, value, at, at)
        elif wire == _BYTES:
            length, at = _varint(raw, at)
            yield _Field(number, 0, at, at + length)
            at += length
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
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
