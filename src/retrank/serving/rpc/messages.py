"""Protobuf to the contract and back. Names are the same on both sides, so one walk does for all messages.

What a caller left out stays out, so the contract's defaults and bounds apply, and its errors name its fields. Numbers
in open parts (`context`, `filter`, `attributes`) are doubles in protobuf; whole ones become whole numbers, as JSON
would have written them.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel

from retrank.contract.scalars import MAX_WHOLE
from retrank.serving.rpc.v1 import recommender_pb2 as pb

MAX_DEPTH = 16
_Answer = TypeVar("_Answer", bound=Message)


class TooDeep(ValueError):  # noqa: N818  (says what it is)
    """An open part of a request nests deeper than any that is read."""


def fields_of_message(message: Message) -> dict[str, Any]:
    """Return the fields that a message has, as the contract names them.

    Raises:
        TooDeep: an open part nests deeper than `MAX_DEPTH`.
    """
    return {field.name: _plain(value) for field, value in message.ListFields()}


def as_message(kind: type[_Answer], answer: BaseModel) -> _Answer:
    """Return an answer of the contract as a message; what is None is left out."""
    made: _Answer = kind(**answer.model_dump())
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return _read(value)
    if isinstance(value, str | bytes | int | float):
        return value
    return dict(value) if isinstance(value, Mapping) else [_plain(one) for one in value]


def _read(message: Message) -> Any:
    if isinstance(message, Struct):
        return {name: _open(one, 2) for name, one in message.fields.items()}
    if isinstance(message, Timestamp):
        return _moment(message)
    if isinstance(message, pb.Names):
        return list(message.names)
    return fields_of_message(message)


def _open(value: Value, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise TooDeep(f"the message nests deeper than {MAX_DEPTH} levels")
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {name: _open(one, depth + 1) for name, one in value.struct_value.fields.items()}
    if kind == "list_value":
        return _listed(value.list_value, depth)
    if kind == "number_value":
        return _number(value.number_value)
    return None if kind in (None, "null_value") else getattr(value, kind)


def _listed(values: ListValue, depth: int) -> list[Any]:
    return [_open(one, depth + 1) for one in values.values]


def _number(number: float) -> int | float:
    return int(number) if abs(number) <= MAX_WHOLE and number.is_integer() else number


def _moment(moment: Timestamp) -> str:
    """Return a moment as RFC 3339 writes it; one that no calendar has stays a text that the contract refuses."""
    try:
        return str(moment.ToJsonString())
    except ValueError:
        return f"{moment.seconds} s and {moment.nanos} ns"
