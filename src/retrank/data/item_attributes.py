"""The tables of items and users of a store: ids in row order and the attributes that the source knows about them."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from retrank.contract.errors import SourceError


class AttributeCollector:
    """First known value per item and attribute, for sources that repeat item attributes on every event."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._values: dict[str, dict[str, object]] = {}
        self._types: dict[str, pa.DataType] = {}

    def add(self, item_ids: pa.Array, attributes: Mapping[str, pa.Array]) -> None:
        """Look at one batch; per attribute only items without a value so far are considered."""
        for name, column in attributes.items():
            pairs = pa.table({"item": item_ids.cast(pa.string()), "value": column}).drop_null()
            firsts = pairs.group_by("item", use_threads=False).aggregate([("value", "first")])
            known = self._values.setdefault(name, {})
            if self._types.setdefault(name, column.type) == pa.null():
                self._types[name] = column.type
            items, values = firsts.column("item").to_pylist(), firsts.column("value_first").to_pylist()
            for item, value in zip(items, values, strict=True):
                known.setdefault(item, value)

    def columns(self, item_ids: list[str]) -> dict[str, pa.Array]:
        """Return one array of N values (null where unknown) per attribute."""
        return {
            name: pa.array([known.get(item) for item in item_ids], self._types[name])
            for name, known in self._values.items()
        }


def item_table(item_ids: list[str], collected: AttributeCollector, separate: pa.Table | None) -> pa.Table:
    """Return N rows: `item_id`, then attributes; those of `separate` win over collected ones of the same name.

    Items of `separate` that are not among `item_ids` are dropped; a repeated id keeps its first row.
    """
    columns: dict[str, pa.Array | pa.ChunkedArray] = {"item_id": pa.array(item_ids, pa.string())}
    columns.update(collected.columns(item_ids))
    return pa.table(columns | _beside(item_ids, separate, "item_id"))


def user_table(user_ids: list[str], visitor_ids: list[str], separate: pa.Table | None) -> pa.Table:
    """Return U rows: `user_id`, then the attributes of `separate`, whose other users are dropped; visitors stand last.

    A visitor has no attributes, whatever `separate` says of a user whose id is spelled the same.
    """
    ids = pa.array([*user_ids, *visitor_ids], pa.string())
    return pa.table({"user_id": ids} | _beside([*user_ids, *[None] * len(visitor_ids)], separate, "user_id"))


def count_met(ids: Sequence[str], separate: pa.Table, id_name: str, source: str) -> int:
    """Return how many of the ids a table of attributes has a row for.

    Args:
        ids: of the events.
        separate: with a column `id_name`, without nulls.
        id_name: `item_id` or `user_id`.
        source: what the table was read from, for the message.

    Raises:
        SourceError: not one, so the two do not speak of the same things.
    """
    told = {str(one) for one in separate.column(id_name).to_pylist()}
    if met := len(told.intersection(ids)):
        return met
    raise SourceError(
        f"{source}: none of its {len(told):,} different {id_name}s, such as {sorted(told)[:2]}, is one of the "
        f"{len(ids):,} of the events, such as {list(ids[:2])}; are they the same ids, in the same spelling?"
    )


def _beside(ids: Sequence[str | None], separate: pa.Table | None, id_name: str) -> dict[str, pa.Array]:
    """Return the columns of a table in the order of ids, null where it has none; a repeated id keeps its first row."""
    if separate is None:
        return {}
    places: dict[str, int] = {}
    for place, one in enumerate(separate.column(id_name).to_pylist()):
        places.setdefault(str(one), place)
    rows = pa.array([None if one is None else places.get(one) for one in ids], pa.int64())
    names = [name for name in separate.column_names if name != id_name]
    return {name: separate.column(name).combine_chunks().take(rows) for name in names}
