"""New items get the vectors of training, so many at a time, and no more of them than allowed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
from content_world import NUM_ITEMS, UNTOUCHED, content_catalogue, content_side, content_world, described
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrank.contract import bundle as layout
from retrank.contract.bundle import verify
from retrank.contract.vocab import Vocab
from retrank.serving import newcomers as module
from retrank.serving.changes import NO_CHANGES, Changes
from retrank.serving.new_items import Described, NewItemEncoder, open_item_encoder
from retrank.serving.new_rows import NewRows, ids_of, rows_of, sealed_rows, vectors_of
from retrank.serving.newcomers import Newcomers, NewItemCounts
from retrank.serving.stores.protocol import ItemChange

ITEMS = Vocab([f"i{row}" for row in range(1, NUM_ITEMS + 1)])


@pytest.fixture(scope="module")
def encoder(content_bundle: Path) -> NewItemEncoder:
    found = open_item_encoder(verify(content_bundle))
    assert found is not None
    return found


def first_item(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Let one item stand in for all, where it does not matter which."""
    return np.ones(len(vectors), dtype=np.int64)


def _upsert(item: str, version: int, **attributes: Any) -> ItemChange:
    return ItemChange(item, version, deleted=False, available=True, attributes=attributes or described(len(item)))


def _prepared(newcomers: Newcomers, changes: Changes) -> list[str]:
    while newcomers.prepare(changes):
        pass
    found = newcomers.of(changes)
    return [] if found is None else list(found.ids)


def test_a_new_item_gets_the_vector_that_torch_gives_an_untouched_item_of_the_same_content(
    encoder: NewItemEncoder, content_bundle: Path
) -> None:
    newcomers = Newcomers(encoder, ITEMS, 100, first_item)
    changes = NO_CHANGES.with_more([_upsert(f"n{row}", row, **described(row)) for row in UNTOUCHED])
    assert _prepared(newcomers, changes) == [f"n{row}" for row in UNTOUCHED]
    found = newcomers.of(changes)
    assert found is not None
    sealed = np.load(verify(content_bundle).path(layout.ITEM_VECTORS))
    np.testing.assert_allclose(found.vectors, sealed[list(UNTOUCHED)], atol=1e-5)
    np.testing.assert_allclose(
        found.vectors, content_world().model.encoder.item_vectors().detach().numpy()[list(UNTOUCHED)], atol=1e-5
    )


def test_rows_stand_behind_those_of_the_bundle_in_the_order_of_the_changes(encoder: NewItemEncoder) -> None:
    newcomers = Newcomers(encoder, ITEMS, 100, first_item)
    changes = NO_CHANGES.with_more([_upsert("late", 9), _upsert("early", 3), _upsert("i7", 5)])
    assert _prepared(newcomers, changes) == ["early", "late"]
    new = newcomers.of(changes)
    assert new is not None
    assert new.rows.tolist() == [51, 52]
    assert rows_of(new, ITEMS, ["late", "i7", "nobody", "early"]).tolist() == [52, 7, 51]
    assert ids_of(new, ITEMS, [52, 7, 51]) == ["late", "i7", "early"]
    assert sealed_rows(new, np.array([50, 51, 3])).tolist() == [50, 0, 3]


def test_what_is_deleted_or_withdrawn_goes_and_comes_back(encoder: NewItemEncoder) -> None:
    newcomers = Newcomers(encoder, ITEMS, 100, first_item)
    first = NO_CHANGES.with_more([_upsert("a", 1), _upsert("b", 2)])
    assert _prepared(newcomers, first) == ["a", "b"]
    gone = first.with_more([_upsert("a", 3)._replace(deleted=True), _upsert("b", 4)._replace(available=False)])
    assert _prepared(newcomers, gone) == []
    back = gone.with_more([_upsert("a", 5)])
    assert _prepared(newcomers, back) == ["a"]
    assert _prepared(newcomers, first) == ["a", "b"], "a state never changes for those who still see it"


def test_an_item_that_says_nothing_to_the_model_is_counted_and_not_offered(encoder: NewItemEncoder) -> None:
    newcomers = Newcomers(encoder, ITEMS, 100, first_item)
    silent: list[dict[str, Any]] = [
        {"colour": "red"},
        {"category": "never heard of"},
        {"price": None, "title": " ... "},
    ]
    changes = NO_CHANGES.with_more([_upsert(f"s{at}", at, **one) for at, one in enumerate(silent, 1)])
    assert _prepared(newcomers, changes) == []
    assert newcomers.counts() == NewItemCounts(unreadable=3)
    empty = NO_CHANGES.with_more([ItemChange("e", 1, deleted=False, available=True, attributes=None)])
    assert _prepared(newcomers, empty) == []


def test_of_more_than_are_allowed_those_that_changed_last_are_offered(encoder: NewItemEncoder) -> None:
    newcomers = Newcomers(encoder, ITEMS, 3, first_item)
    changes = NO_CHANGES.with_more([_upsert(f"n{at}", at) for at in range(1, 6)])
    assert _prepared(newcomers, changes) == ["n3", "n4", "n5"]
    assert newcomers.counts() == NewItemCounts(offered=3, beyond=2)
    later = changes.with_more([_upsert("n1", 6), _upsert("n4", 7)._replace(deleted=True)])
    assert _prepared(newcomers, later) == ["n3", "n5", "n1"]


def test_many_are_encoded_bit_by_bit_the_newest_first(encoder: NewItemEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    newcomers = Newcomers(encoder, ITEMS, 100, first_item)
    changes = NO_CHANGES.with_more([_upsert(f"n{at}", at) for at in range(1, 6)])
    seen = []
    while newcomers.prepare(changes):
        found = newcomers.of(changes)
        assert found is not None
        seen.append((found.ids, newcomers.counts()))
    assert seen == [
        (("n4", "n5"), NewItemCounts(offered=2, waiting=3)),
        (("n2", "n3", "n4", "n5"), NewItemCounts(offered=4, waiting=1)),
    ]
    assert newcomers.counts() == NewItemCounts(offered=5)


class Choosy:
    """Fails on some items, and has no finite vector for others; counts what it is asked to encode."""

    def __init__(self) -> None:
        self.asked = 0

    def described(self, items: Sequence[Mapping[str, Any]]) -> Described:
        self.asked += len(items)
        if any(one["title"] == "poison" for one in items):
            raise RuntimeError("the graph gave up")
        vectors = [[np.nan if one["title"] == "endless" else 1.0] * 8 for one in items]
        return Described(np.array(vectors, dtype=np.float32), np.ones(len(items), dtype=bool))


def test_an_item_that_cannot_be_encoded_spoils_no_other_and_is_tried_again_when_it_changes() -> None:
    choosy = Choosy()
    newcomers = Newcomers(choosy, ITEMS, 100, first_item)  # type: ignore[arg-type]  # has the one method that is called
    titles = ["fine", "poison", "endless", "fine", "fine"]
    changes = NO_CHANGES.with_more([_upsert(f"n{at}", at, title=title) for at, title in enumerate(titles)])
    assert _prepared(newcomers, changes) == ["n0", "n3", "n4"]
    assert newcomers.counts() == NewItemCounts(offered=3, failed=2)
    asked = choosy.asked
    later = changes.with_more([_upsert("n1", 9, title="cured")])
    assert _prepared(newcomers, later) == ["n0", "n3", "n4", "n1"]
    assert choosy.asked == asked + 1, "the others were not encoded again"


def test_an_item_without_a_stand_in_is_not_offered_and_spoils_no_other(encoder: NewItemEncoder) -> None:
    def broken(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        if (vectors.argmax(axis=1) == 2).any():  # category c2
            raise OSError("device gone")
        return first_item(vectors)

    newcomers = Newcomers(encoder, ITEMS, 100, broken)
    changes = NO_CHANGES.with_more([_upsert(f"n{row}", row, **described(row)) for row in UNTOUCHED])
    assert _prepared(newcomers, changes) == ["n47", "n48", "n49"]
    assert newcomers.counts() == NewItemCounts(offered=3, failed=1)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "i1"]), st.sampled_from(["up", "off", "gone"])), max_size=12))
def test_step_by_step_the_new_items_are_those_of_the_last_state_alone(steps: list[tuple[str, str]]) -> None:
    newcomers, changes, held = Newcomers(Choosy(), ITEMS, 2, first_item), NO_CHANGES, []  # type: ignore[arg-type]
    for version, (item, act) in enumerate(steps, 1):
        change = ItemChange(item, version, act == "gone", act != "off", {"title": "fine"})
        changes = changes.with_more([change])
        held.append(changes)  # a request still sees it
        newcomers.prepare(changes)
    shown = [one for one in changes.items.values() if one.available and not one.deleted and one.item_id != "i1"]
    expected = [one.item_id for one in sorted(shown, key=lambda one: one.version)[-2:]]
    new = newcomers.of(changes)
    assert expected == ([] if new is None else list(new.ids))


def test_what_was_encoded_is_kept_when_changes_are_forgotten_or_read_again_unless_the_item_is_another() -> None:
    choosy = Choosy()
    newcomers = Newcomers(choosy, ITEMS, 100, first_item)  # type: ignore[arg-type]
    known = NO_CHANGES.with_more([_upsert(f"n{at}", at, title="fine") for at in range(1, 6)])
    assert _prepared(newcomers, known) == ["n1", "n2", "n3", "n4", "n5"]
    later = replace(known.with_more([_upsert("n6", 6, title="fine")]).without(2), akin=ref(known))
    assert not newcomers.prepare(later)
    found = newcomers.of(later)
    assert (None if found is None else found.ids, choosy.asked) == (("n3", "n4", "n5", "n6"), 6)
    again = NO_CHANGES.with_more([_upsert("n4", 4, title="fine"), _upsert("n5", 5, title="another")])
    assert _prepared(newcomers, replace(again, akin=ref(later))) == ["n4", "n5"]
    assert choosy.asked == 7, "n5 has its old version, and is another item: the store came back from a backup"


def test_what_the_encoder_made_is_held_once() -> None:
    class Watched(Choosy):
        def __init__(self) -> None:
            super().__init__()
            self.made: list[ref[Any]] = []

        def described(self, items: Sequence[Mapping[str, Any]]) -> Described:
            found = super().described(items)
            self.made.append(ref(found.vectors))
            return found

    watched = Watched()
    newcomers = Newcomers(watched, ITEMS, 100, first_item)  # type: ignore[arg-type]
    changes = NO_CHANGES.with_more([_upsert(f"n{at}", at, title="fine") for at in range(9)])
    _prepared(newcomers, changes)
    assert [one() for one in watched.made] == [None]
    new = newcomers.of(changes)
    assert new is not None
    assert new.vectors.base is None, "nor is it a part of something larger"


def test_the_choice_is_made_once_for_all_steps_of_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    newcomers, compared = Newcomers(Choosy(), ITEMS, 9, first_item), list[str]()  # type: ignore[arg-type]

    def recency(change: ItemChange) -> tuple[int, str]:
        compared.append(change.item_id)
        return change.version, change.item_id

    monkeypatch.setattr(module, "_recency", recency)
    changes = NO_CHANGES.with_more([_upsert(f"n{at}", at, title="fine") for at in range(9)])
    assert len(_prepared(newcomers, changes)) == 9
    assert len(compared) == 9


def test_vectors_of_old_and_new_rows_come_from_where_they_are(encoder: NewItemEncoder) -> None:
    newcomers = Newcomers(encoder, ITEMS, 100, first_item)
    changes = NO_CHANGES.with_more([_upsert("a", 1), _upsert("b", 2)])
    _prepared(newcomers, changes)
    new, sealed = newcomers.of(changes), np.arange(51 * 8, dtype=np.float32).reshape(51, 8)
    assert new is not None
    found = vectors_of(new, sealed, np.array([52, 3, 51, 50]))
    np.testing.assert_array_equal(found, [new.vectors[1], sealed[3], new.vectors[0], sealed[50]])
    assert vectors_of(None, sealed, np.array([3])).tolist() == [sealed[3].tolist()]


@given(seed=st.integers(0, 1_000), count=st.integers(1, 40))
def test_joining_is_exact_search_over_old_and_new(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    sealed, query = rng.normal(size=(31, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    sealed[0] = 0
    vectors = rng.normal(size=(8, 4)).astype(np.float32)
    new = NewRows(31, tuple("abcdefgh"), ({},) * 8, vectors, first_item(vectors))
    every = np.concatenate([sealed, new.vectors]) @ query
    nearest = 1 + np.argsort(-every[1:31], kind="stable")[:count]
    expected = 1 + np.argsort(-every[1:], kind="stable")[:count]
    assert new.joined(nearest, query, sealed, count).tolist() == expected.tolist()


def test_content_is_read_as_training_read_it() -> None:
    """The one thing that both sides must agree on: attributes in a request are the row of the item table."""
    parts = content_side(content_catalogue().items)
    content = parts.encoding.encode_attributes([described(row) for row in range(1, NUM_ITEMS + 1)])
    np.testing.assert_array_equal(content.codes, parts.content.codes[1:])
    np.testing.assert_array_equal(content.tokens, parts.content.tokens[1:])
