"""Compiled filters against the readable definition, over columns, changes of items, and whole slates."""

import itertools
import math
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import JsonValue

from retrank.contract.api import RecommendRequest, Session
from retrank.contract.attributes import AttributeArrays
from retrank.contract.bundle import verify
from retrank.contract.filters import Filter, Term, satisfies
from retrank.contract.vocab import Vocab
from retrank.export.attributes import attribute_arrays
from retrank.serving.changes import Changes
from retrank.serving.item_columns import Column, ItemColumns, Mask, Rows
from retrank.serving.new_rows import NewRows
from retrank.serving.recommender import Recommender
from retrank.serving.row_changes import UNCHANGED, RowChanges
from retrank.serving.runtime import open_runtime
from retrank.serving.settings import PipelineSettings
from retrank.serving.sieve import mistyped_attributes, sieve, unknown_attributes
from retrank.serving.stages import filter as stage
from retrank.serving.stores.protocol import ItemChange
from retrank.serving.surroundings import Surroundings

TABLE = pa.table(
    {
        "item_id": [f"i{row}" for row in range(1, 9)],
        "brand": ["acme", "zenith", None, "acme", "", "zenith", "ACME", None],
        "price": pa.array([1, 2, 3, None, 5, 6, 2, 1], type=pa.int64()),
        "weight": [0.5, float("nan"), 1.0, 2.0, None, float("inf"), 1.0, 3.0],
        "sale": [True, False, None, True, False, True, None, False],
    }
)
ARRAYS = attribute_arrays(TABLE)
IDS = Vocab(TABLE.column("item_id").to_pylist())
SEALED = [
    {
        name: value
        for name, value in record.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
    for record in TABLE.to_pylist()
]
VALUES = st.sampled_from(["acme", "zenith", "", "red", 1, 2, 2.0, 0.5, 3, True, False])
NAMES = st.sampled_from(["brand", "price", "weight", "sale", "colour", "nothing"])
NUMBERS = st.none() | st.sampled_from([0, 1, 1.5, 2, 3])


def _range(name: str, bounds: tuple[Any, Any, Any, Any]) -> dict[str, Any]:
    """Return a range with some bounds; upper ones that leave nothing between are left out, as they are refused."""
    lower, upper = ([bound for bound in side if bound is not None] for side in (bounds[:2], bounds[2:]))
    if lower and upper and max(lower) >= min(upper):
        bounds = (*bounds[:2], None, None)
    given_bounds = {
        key: value for key, value in zip(("gt", "gte", "lt", "lte"), bounds, strict=True) if value is not None
    }
    return {"range": {"attribute": name, **(given_bounds or {"gte": 1})}}


TERMS = st.one_of(
    st.builds(lambda name, value: {"eq": {"attribute": name, "value": value}}, NAMES, VALUES),
    st.builds(
        lambda name, values: {"in": {"attribute": name, "values": values}},
        NAMES,
        st.lists(VALUES, min_size=1, max_size=4),
    ),
    st.builds(_range, NAMES, st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)),
    st.builds(lambda name: {"exists": {"attribute": name}}, NAMES),
)
EXPRESSIONS = st.recursive(
    TERMS,
    lambda inner: (
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda part: {"not": part}, inner)
    ),
    max_leaves=6,
).filter(lambda expression: _depth(expression) <= 5)
ATTRIBUTES = st.dictionaries(st.sampled_from(["brand", "price", "sale", "colour"]), st.none() | VALUES, max_size=3)
CHANGES = st.dictionaries(st.sampled_from([*IDS.ids, "stranger"]), ATTRIBUTES, max_size=4)


def _depth(expression: Mapping[str, Any]) -> int:
    (inner,) = expression.values()
    parts = inner if isinstance(inner, list) else [inner] if "not" in expression else []
    return 1 + max((_depth(part) for part in parts), default=0)


def _changes(changed: Mapping[str, Mapping[str, Any]]) -> RowChanges:
    items = [ItemChange(item, 1, False, True, attributes) for item, attributes in changed.items()]
    return RowChanges.of(Changes().with_more(items), IDS)


@settings(max_examples=300)
@given(expression=EXPRESSIONS, changed=CHANGES)
def test_a_compiled_filter_agrees_with_its_definition_item_by_item(
    expression: dict[str, Any], changed: dict[str, dict[str, Any]]
) -> None:
    wanted = Filter.model_validate(expression)
    rows = np.array([8, 1, 3, 2, 5, 4, 7, 6, 1])
    passed = sieve(wanted, ItemColumns(ARRAYS), _changes(changed))(rows)
    now = [{**SEALED[row - 1], **changed.get(IDS.id(int(row)), {})} for row in rows]
    assert passed.tolist() == [satisfies(item, wanted) for item in now]


WORDS = st.builds(
    lambda item, deleted, available, attributes: ItemChange(item, 1, deleted, available, attributes),
    st.sampled_from([*IDS.ids, "stranger"]), st.booleans(), st.booleans(), st.none() | ATTRIBUTES,
)  # fmt: skip


@settings(max_examples=100)
@given(batches=st.lists(st.lists(WORDS, max_size=5), max_size=5), expression=EXPRESSIONS)
def test_changes_taken_in_bit_by_bit_are_those_taken_in_at_once(
    batches: list[list[ItemChange]], expression: dict[str, Any]
) -> None:
    changes, rows = Changes(), RowChanges()
    for batch in batches:
        before, changes = changes, changes.with_more(batch)
        rows = rows.later(before.items, {one.item_id: one for one in batch}.values(), IDS)
    at_once, every = RowChanges.of(changes, IDS), np.arange(1, 9)
    assert (rows.hidden is None) == (at_once.hidden is None)
    assert rows.hidden is None or at_once.hidden is None or rows.hidden.tolist() == at_once.hidden.tolist()
    assert rows.attributes == at_once.attributes
    wanted, columns = Filter.model_validate(expression), ItemColumns(ARRAYS)
    assert sieve(wanted, columns, rows)(every).tolist() == sieve(wanted, columns, at_once)(every).tolist()


class CountingVocab(Vocab):
    """Counts how often it is asked."""

    asked = 0

    def row(self, raw_id: str) -> int:
        self.asked += 1
        return super().row(raw_id)


def test_a_recommender_puts_only_what_is_new_into_rows_and_does_so_before_a_request(tiny_bundle: Path) -> None:
    runtime = open_runtime(verify(tiny_bundle))
    vocab = CountingVocab(runtime.items.ids)
    recommender = Recommender(replace(runtime, items=vocab), PipelineSettings())
    first = Changes().with_more([ItemChange(f"i{row}", row, row % 2 == 0, True, {"price": 1}) for row in range(1, 40)])
    recommender.prepare(first)
    second = first.with_more([ItemChange("i2", 41, False, True, {"price": 5})])
    vocab.asked = 0
    recommender.prepare(second)
    assert vocab.asked == 1
    wanted = Filter.model_validate({"eq": {"attribute": "price", "value": 5}})
    vocab.asked = 0
    slate = recommender.recommend(RecommendRequest(filter=wanted, k=1), Surroundings(changes=second))
    assert ([item.item_id for item in slate.items], vocab.asked) == (["i2"], 0)


def test_an_attribute_that_no_item_has_is_noticed_unless_a_change_brings_it() -> None:
    wanted = Filter.model_validate({"exists": {"attribute": "colour"}})
    columns = ItemColumns(ARRAYS)
    assert unknown_attributes(wanted, columns, UNCHANGED)
    assert not unknown_attributes(wanted, columns, _changes({"i2": {"colour": "red"}}))


@pytest.fixture(scope="module")
def recommender(tiny_bundle: Path) -> Recommender:
    return Recommender.open(tiny_bundle)


def _price(item_id: str) -> float:
    return round(1.5 + int(item_id[1:]) / 4, 2)


@settings(max_examples=60)
@given(
    lowest=st.floats(0, 15),
    recent=st.lists(st.sampled_from([f"i{row}" for row in range(1, 51)]), max_size=4),
    hidden=st.sets(st.integers(1, 50), max_size=45),
    k=st.integers(1, 60),
)
def test_a_slate_holds_whatever_the_catalogue_has_of_what_is_wanted_and_nothing_else(
    recommender: Recommender, lowest: float, recent: list[str], hidden: set[int], k: int
) -> None:
    gone = [ItemChange(f"i{row}", 1, row % 2 == 0, row % 2 == 0, None) for row in hidden]
    wanted = Filter.model_validate({"range": {"attribute": "price", "gte": lowest}})
    slate = recommender.recommend(
        RecommendRequest(session=Session(recent=recent), k=k, filter=wanted),
        Surroundings(changes=Changes().with_more(gone)),
    )
    allowed = {f"i{row}" for row in range(1, 51) if row not in hidden and _price(f"i{row}") >= lowest} - set(recent)
    ids = [item.item_id for item in slate.items]
    assert len(ids) == len(set(ids)) == min(k, len(allowed))
    assert set(ids) <= allowed
    assert ("catalogue_exhausted" in slate.degraded.reasons) == (len(allowed) < k)


def test_a_change_shows_on_the_slate_and_only_the_fields_asked_for_come_back(recommender: Recommender) -> None:
    priced = ItemChange("i7", 1, False, True, {"price": 99.0, "title": None, "colour": "red"})
    wanted = Filter.model_validate({"eq": {"attribute": "price", "value": 99}})
    around = Surroundings(changes=Changes().with_more([priced]))
    (item,) = recommender.recommend(RecommendRequest(filter=wanted), around).items
    assert (item.item_id, item.attributes) == ("i7", {"price": 99.0, "colour": "red"})
    few = RecommendRequest(filter=wanted, fields=["colour", "size"])
    assert recommender.recommend(few, around).items[0].attributes == {"colour": "red"}


def test_a_filter_on_an_unknown_attribute_says_so(recommender: Recommender) -> None:
    wanted = Filter.model_validate({"exists": {"attribute": "colour"}})
    slate = recommender.recommend(RecommendRequest(filter=wanted))
    assert slate.items == []
    assert slate.degraded.reasons == ["unknown_attribute", "catalogue_exhausted"]


@pytest.mark.parametrize(
    ("term", "fits"),
    [
        ({"eq": {"attribute": "price", "value": "cheap"}}, False),
        ({"eq": {"attribute": "price", "value": True}}, False),
        ({"eq": {"attribute": "price", "value": 2.0}}, True),
        ({"eq": {"attribute": "brand", "value": 7}}, False),
        ({"eq": {"attribute": "sale", "value": 1}}, False),
        ({"eq": {"attribute": "sale", "value": "yes"}}, False),
        ({"in": {"attribute": "weight", "values": [1, "2"]}}, False),
        ({"in": {"attribute": "brand", "values": ["acme", "other"]}}, True),
        ({"range": {"attribute": "brand", "gte": 1}}, False),
        ({"range": {"attribute": "sale", "gte": 0}}, False),
        ({"range": {"attribute": "weight", "gte": 1}}, True),
        ({"exists": {"attribute": "brand"}}, True),
        ({"not": {"eq": {"attribute": "price", "value": "cheap"}}}, False),
        ({"eq": {"attribute": "colour", "value": 1}}, True),  # nobody knows of which type it would be
    ],
)
def test_a_value_of_another_type_than_the_attribute_has_is_noticed(term: dict[str, Any], fits: bool) -> None:
    wanted = Filter.model_validate(term)
    columns = ItemColumns(ARRAYS)
    assert mistyped_attributes(wanted, columns) == (not fits)
    if not fits and "in" not in term and "not" not in term:
        assert not sieve(wanted, columns, UNCHANGED)(np.arange(1, 9)).any()


def test_a_filter_that_compares_with_another_type_says_so(recommender: Recommender) -> None:
    wanted = Filter.model_validate({"eq": {"attribute": "price", "value": "cheap"}})
    slate = recommender.recommend(RecommendRequest(filter=wanted))
    assert (slate.items, slate.degraded.reasons) == ([], ["mistyped_attribute", "catalogue_exhausted"])
    text = ItemChange("i7", 1, False, True, {"price": "cheap"})
    changed = recommender.recommend(
        RecommendRequest(filter=wanted, k=1), Surroundings(changes=Changes().with_more([text]))
    )
    assert ([item.item_id for item in changed.items], changed.degraded.reasons) == (["i7"], ["mistyped_attribute"])


def test_many_wanted_values_cost_no_memory_of_their_own_per_item() -> None:
    count, values = 100_000, 256
    table = pa.table(
        {"price": np.arange(count, dtype=np.float64), "brand": [f"b{row % 1_000}" for row in range(count)]}
    )
    rows = np.arange(1, count + 1)
    for name, wanted in (("price", list(range(0, 4 * values, 4))), ("brand", [f"b{one}" for one in range(values)])):
        term = Filter.model_validate({"in": {"attribute": name, "values": wanted}})
        passes = sieve(term, ItemColumns(attribute_arrays(table)), UNCHANGED)
        tracemalloc.start()
        passed = passes(rows)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert passed.sum() == (values if name == "price" else values * count // 1_000)
        assert peak < 40 * count


class CountingColumns(ItemColumns):
    """Remembers how many rows each term was asked about."""

    def __init__(self, arrays: AttributeArrays) -> None:
        super().__init__(arrays)
        self.asked: list[int] = []

    def column(self, name: str) -> Column | None:
        column = super().column(name)
        return None if column is None else CountingColumn(column, self.asked)


class CountingColumn:
    """A column that notes how many rows it is asked about."""

    def __init__(self, column: Column, asked: list[int]) -> None:
        self._column, self._asked = column, asked

    def test(self, term: Term) -> Mask:
        passes = self._column.test(term)

        def test(rows: Rows) -> NDArray[np.bool_]:
            self._asked.append(len(rows))
            return passes(rows)

        return test

    def values(self, rows: Rows) -> list[JsonValue]:
        return self._column.values(rows)

    def fits(self, term: Term) -> bool:
        return self._column.fits(term)


@pytest.mark.parametrize(("operator", "asked"), [("all", [8, 2, 1]), ("any", [8, 6, 5])])
def test_a_later_term_looks_only_at_items_that_earlier_ones_left_open(operator: str, asked: list[int]) -> None:
    terms = [
        {"eq": {"attribute": "brand", "value": "acme"}},
        {"eq": {"attribute": "price", "value": 1}} if operator == "all" else {"eq": {"attribute": "price", "value": 5}},
        {"exists": {"attribute": "sale"}},
    ]
    columns = CountingColumns(ARRAYS)
    sieve(Filter.model_validate({operator: terms}), columns, UNCHANGED)(np.arange(1, 9))
    assert columns.asked == asked


def test_the_search_for_more_ends_at_the_deadline_and_says_so(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_BLOCK", 20)
    ticks = itertools.count()
    recommender = Recommender(open_runtime(verify(tiny_bundle)), PipelineSettings(), clock=lambda: float(next(ticks)))
    wanted = RecommendRequest(filter=Filter.model_validate({"range": {"attribute": "price", "gte": 13.9}}))
    late = recommender.recommend(wanted, Surroundings(budget_s=0.5)).degraded
    assert (late.reasons, "widening" in late.stages_skipped) == (["deadline"], True)
    assert recommender.recommend(wanted).degraded.reasons == ["catalogue_exhausted"]


def test_new_items_are_looked_through_in_blocks_until_the_deadline(
    content_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_NEW_BLOCK", 4)
    ticks = itertools.count()
    recommender = Recommender(
        open_runtime(verify(content_bundle)), PipelineSettings(), clock=lambda: float(next(ticks))
    )
    changes = Changes().with_more(
        [ItemChange(f"n{at}", at, False, True, {"category": "c1", "lit": at >= 36}) for at in range(1, 41)]
    )
    recommender.prepare(changes)
    lit = RecommendRequest(k=3, filter=Filter.model_validate({"eq": {"attribute": "lit", "value": True}}))
    looked = []
    among = NewRows.among

    def noted(new: NewRows, rows: Rows) -> list[tuple[int, int]]:
        found = among(new, rows)
        looked.append(len(found))
        return found

    monkeypatch.setattr(NewRows, "among", noted)
    late = recommender.recommend(lit, Surroundings(changes=changes, budget_s=0.5))
    assert (late.items, "widening" in late.degraded.stages_skipped, max(looked)) == ([], True, 0)
    found = recommender.recommend(lit, Surroundings(changes=changes))
    assert ([item.item_id for item in found.items], max(looked)) == (["n36", "n37", "n38"], 4)


def test_however_little_time_there_is_the_most_popular_items_are_looked_through(recommender: Recommender) -> None:
    gone = [ItemChange(f"i{row}", row, True, False, None) for row in range(1, 31)]
    around = Surroundings(changes=Changes().with_more(gone), budget_s=0.0)
    assert len(recommender.recommend(RecommendRequest(k=20), around).items) == 20


class CountedText(str):
    """Counts comparisons."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedText.compared += 1
        return str(self) == str(other)

    __hash__ = str.__hash__


def test_a_changed_value_is_looked_up_among_many_wanted_ones_not_compared_with_each() -> None:
    changed = {f"i{row}": {"brand": CountedText(f"new {row}")} for row in range(1, 9)}
    wanted = Filter.model_validate(
        {"in": {"attribute": "brand", "values": [f"b{one}" for one in range(255)] + ["new 3"]}}
    )
    changes = _changes(changed)
    CountedText.compared = 0
    assert np.flatnonzero(sieve(wanted, ItemColumns(ARRAYS), changes)(np.arange(1, 9))).tolist() == [2]
    assert CountedText.compared < 9
