"""Attributes of items as arrays: what is missing, odd or new later, and that a kept encoding repeats itself."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from retrank.contract.errors import ConfigError, DataError, SourceError
from retrank.contract.item_content import ItemEncoding
from retrank.data.item_content import ItemContent

ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c", "d"],
        "brand": ["red", None, "blue", "red"],
        "price": [1.0, math.nan, 3.0, math.inf],
        "title": ["Red kettle", "", None, "KETTLE, red"],
    }
)
CHOSEN = ItemContent(categories=["brand"], numbers=["price"], texts=["title"], num_bins=2)


def test_equal_content_gives_equal_arrays_and_what_is_missing_has_a_code_of_its_own() -> None:
    arrays = CHOSEN.fit(ITEMS).encode_catalogue(ITEMS)
    assert not arrays.codes[0].any()
    assert not arrays.tokens[0].any()
    brand, price = arrays.codes[1:].T.tolist()
    assert brand == [3, 1, 2, 3]  # missing, blue, red
    assert price == [5, 4, 6, 4]  # missing or not finite, below 3, from 3 on
    assert arrays.num_codes == 6
    words = [set(row[row > 0].tolist()) for row in arrays.tokens]
    assert words[1] == words[4]  # order, case and punctuation say nothing
    assert words[2] == words[3] == {arrays.num_tokens}  # no text at all


def test_an_item_that_comes_later_is_described_like_those_of_training(tmp_path: Path) -> None:
    CHOSEN.fit(ITEMS).save(tmp_path / "encoding.json")
    kept = ItemEncoding.load(tmp_path / "encoding.json")
    later = pa.table({"title": ["red kettle", "x"], "price": [2.9, 99.0], "brand": ["blue", "green"]})
    arrays, known = kept.encode(later), CHOSEN.fit(ITEMS).encode(ITEMS)
    assert arrays.codes.tolist() == [[2, 5], [1, 6]]  # a brand nobody knew counts as missing
    assert set(arrays.tokens[0]) == set(known.tokens[0])


@pytest.mark.parametrize("prices", [[2.0], [2.0, 2.0], [None]])
def test_one_value_or_none_makes_one_bin(prices: list[float | None]) -> None:
    items = pa.table({"price": pa.array(prices, pa.float64())})
    encoding = ItemContent(numbers=["price"]).fit(items)
    assert encoding.numbers["price"] == ()
    assert set(encoding.encode(items).codes.ravel().tolist()) == {1 if prices[0] is None else 2}


@given(st.lists(st.one_of(st.none(), st.text()), min_size=1, max_size=5), st.integers(0, 4), st.integers(1, 9))
def test_any_text_gives_tokens_within_bounds(titles: list[str | None], piece_length: int, max_tokens: int) -> None:
    items = pa.table({"title": pa.array(titles, pa.string())})
    chosen = ItemContent(texts=["title"], num_buckets=7, piece_length=piece_length, max_tokens=max_tokens)
    arrays = chosen.fit(items).encode(items)
    assert arrays.tokens.shape[1] <= max_tokens
    assert arrays.tokens.min() >= 0
    assert arrays.tokens.max() <= arrays.num_tokens == 8
    assert (arrays.tokens > 0).any(axis=1).all()


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40), st.integers(1, 6))
def test_bins_keep_the_order_of_numbers(numbers: list[float], num_bins: int) -> None:
    items = pa.table({"price": numbers})
    codes = ItemContent(numbers=["price"], num_bins=num_bins).fit(items).encode(items).codes[:, 0]
    known = np.isfinite(numbers)
    order = np.argsort(np.asarray(numbers)[known], kind="stable")
    assert (np.diff(codes[known][order]) >= 0).all()
    assert len(set(codes[known].tolist())) <= num_bins
    assert (codes[~known] == 1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "at least one attribute"),
        ({"texts": ["title"], "categories": ["title"]}, "none twice"),
        ({"texts": ["title"], "num_buckets": 0}, "num_buckets is 0"),
        ({"texts": ["title"], "piece_length": -1}, "piece_length is -1"),
    ],
)
def test_a_choice_that_cannot_work_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ItemContent(**settings)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (ItemContent(texts=["name"]), "no attribute 'name', found"),
        (ItemContent(numbers=["title"]), "'title' is not a number"),
    ],
)
def test_an_attribute_that_is_not_there_or_no_number_is_named(chosen: ItemContent, message: str) -> None:
    with pytest.raises(DataError, match=message):
        chosen.fit(ITEMS)


def test_a_damaged_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "encoding.json").write_text("{")
    with pytest.raises(SourceError, match=r"encoding\.json: not a readable encoding"):
        ItemEncoding.load(tmp_path / "encoding.json")


def test_attributes_of_a_request_are_described_as_those_of_a_table() -> None:
    items = pa.table({"brand": ["north", "7", None], "price": [1.0, None, 9.5], "title": ["red coat", None, "blue"]})
    encoding = ItemContent(categories=["brand"], numbers=["price"], texts=["title"], num_buckets=64).fit(items)
    asked: list[dict[str, JsonValue]] = [
        {"brand": "north", "price": "1.0", "title": ["red", "coat"], "colour": "red"},
        {"brand": 7, "title": None},
        {"brand": {"name": "north"}, "price": 9.5, "title": "blue"},
    ]
    seen, expected = encoding.encode_attributes(asked), encoding.encode(items)
    np.testing.assert_array_equal(seen.codes, expected.codes)
    np.testing.assert_array_equal(seen.tokens, expected.tokens)


@pytest.mark.parametrize("price", [None, True, [], "dear", float("nan"), "1e999", {}, 10**400])
def test_a_price_that_is_no_number_counts_as_unknown(price: JsonValue) -> None:
    encoding = ItemContent(numbers=["price"]).fit(pa.table({"price": [1.0, 2.0, 3.0]}))
    assert (
        encoding.encode_attributes([{"price": price}]).codes.tolist() == encoding.encode_attributes([{}]).codes.tolist()
    )
