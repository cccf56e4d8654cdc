"""What two towers add to a sequence model: items by content, ids left out, and a plain table for serving."""

import io
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from retrank.contract.errors import ConfigError
from retrank.contract.item_content import ContentArrays
from retrank.data.item_content import ItemContent
from retrank.losses.softmax import FullSoftmax
from retrank.models.pooling import PooledHistory
from retrank.models.sasrec import SASRec
from retrank.models.two_tower import TwoTower

NUM_ITEMS, UNTOUCHED = 24, (23, 24)
COLOURS = ["red", "blue"]


def content_of(num_items: int = NUM_ITEMS, untouched: tuple[int, ...] = UNTOUCHED) -> ContentArrays:
    """Items are red and blue in turn; odd rows are red."""
    items = pa.table({"colour": [COLOURS[row % 2] for row in range(num_items)]})
    touched = np.ones(num_items + 1, dtype=bool)
    touched[[0, *untouched]] = False
    return ItemContent(categories=["colour"]).fit(items).encode_catalogue(items)._replace(touched=touched)


def two_tower(content: ContentArrays | None = None, num_items: int = NUM_ITEMS, **settings: object) -> TwoTower:
    torch.manual_seed(0)
    common = {"max_length": 8, "width": 16, "dropout": 0.0, "id_dropout": 0.5, "history": PooledHistory}
    return TwoTower(num_items, content=content, **(common | settings))  # type: ignore[arg-type]


def learn_that_people_stay_with_a_colour(model: TwoTower) -> None:
    """Histories of touched items of one colour, the next item of the same colour."""
    generator = torch.Generator().manual_seed(0)
    loss, optimizer = FullSoftmax(temperature=0.1), torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        rows = 2 * torch.randint(0, 11, (32, 5), generator=generator) + torch.arange(32)[:, None] % 2 + 1
        value = loss(model(rows[:, :-1]), model, rows[:, -1])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    model.eval()


def ranks_of_the_untouched(model: TwoTower, history: list[int]) -> list[int]:
    """Places of the untouched red and blue item among all items not in the history, 1 = best."""
    scores = model(torch.tensor([history])) @ model.item_vectors().T
    scores[0, [0, *history]] = -torch.inf
    order = scores[0].argsort(descending=True).tolist()
    return [order.index(row) + 1 for row in UNTOUCHED]


def test_an_item_nobody_touched_is_retrieved_by_its_content() -> None:
    model = two_tower(content_of())
    learn_that_people_stay_with_a_colour(model)
    red, blue = ranks_of_the_untouched(model, [1, 3, 5, 7])
    assert red <= 8  # there are 12 red items, four are in the history
    assert blue > 8
    red, blue = ranks_of_the_untouched(model, [2, 4, 6, 8])
    assert blue <= 8
    assert red > 8


def test_without_content_an_untouched_item_is_not_retrieved() -> None:
    model = two_tower(None)
    learn_that_people_stay_with_a_colour(model)
    assert min(ranks_of_the_untouched(model, [1, 3, 5, 7])) > 8


def test_the_id_of_an_untouched_item_says_nothing() -> None:
    model = two_tower(content_of()).eval()
    before = model.item_vectors()
    with torch.no_grad():
        model.tower.ids.weight.normal_()
    after = model.item_vectors()
    assert torch.equal(after[23], before[23])
    assert torch.equal(after[24], before[24])
    assert (after[1:23] != before[1:23]).any(1).all()
    assert not after[0].any()


def test_ids_are_left_out_at_random_in_training_only() -> None:
    model = two_tower(content_of(), similarity="dot")
    content_alone = two_tower(content_of(untouched=tuple(range(1, 25))), similarity="dot").eval().item_vectors()
    vectors = model.train().item_vectors()
    left_out = (vectors[1:23] == content_alone[1:23]).all(1)
    assert 0 < left_out.sum() < 22
    assert not vectors[[23, 24]].any()  # as negatives they teach nothing
    assert torch.equal(model.eval().item_vectors(), model.item_vectors())


def test_a_negative_that_nobody_could_touch_teaches_nothing() -> None:
    words = pa.table({"title": [f"thing{row}" for row in range(NUM_ITEMS)]})
    touched = np.arange(NUM_ITEMS + 1) % 25 < 23
    touched[0] = False
    content = ItemContent(texts=["title"], piece_length=0).fit(words).encode_catalogue(words)._replace(touched=touched)
    model = two_tower(content)
    FullSoftmax(temperature=0.1)(model(torch.tensor([[1, 2]])), model, torch.tensor([3])).backward()
    assert model.tower.content is not None
    gradient = model.tower.content.tokens.weight.grad
    assert gradient is not None
    own = content.tokens[:, 0]
    assert not gradient[own[23]].any()
    assert gradient[own[5]].any()


def test_a_saved_state_alone_brings_its_content_along() -> None:
    model, stream = two_tower(content_of()).eval(), io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    fresh = two_tower(None)
    fresh.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(fresh.eval().item_vectors(), model.item_vectors())
    assert torch.equal(fresh(torch.tensor([[3, 24]])), model(torch.tensor([[3, 24]])))


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("history", [PooledHistory, partial(SASRec, num_blocks=1)])
def test_the_table_for_serving_answers_like_the_towers(history: type[PooledHistory], similarity: str) -> None:
    model = two_tower(content_of(), history=history, similarity=similarity)
    table = model.train().tabulated()
    rows = torch.tensor([[0, 0, 3, 24], [5, 6, 23, 1]])
    assert model.training
    assert model.tower.content is not None
    model.eval()
    table.eval()
    torch.testing.assert_close(table.item_vectors(), model.item_vectors())
    torch.testing.assert_close(table(rows), model(rows))
    if similarity == "cosine":
        torch.testing.assert_close(table.item_vectors()[1:].norm(dim=1), torch.ones(NUM_ITEMS))


def test_one_item_of_one_category_works() -> None:
    model = two_tower(content_of(1, untouched=()), num_items=1)
    loss = FullSoftmax(temperature=0.1)(model(torch.tensor([[1]])), model, torch.tensor([1]))
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(model.eval().item_vectors()).all()


def test_a_warm_start_fills_the_ids() -> None:
    model = two_tower(content_of()).eval()
    start = torch.randn(NUM_ITEMS + 1, 16)
    model.start_from(start)
    assert not model.tower.ids.weight[0].any()
    angles = F.cosine_similarity(model.tower.ids.weight[1:], start[1:])
    torch.testing.assert_close(angles, torch.ones(NUM_ITEMS))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"id_dropout": 1.0}, "id_dropout is 1.0"),
        ({"num_items": 5, "content": content_of()}, "content describes 24 items and the model has 5"),
        ({"history": partial(PooledHistory, pooling="max")}, "pooling is 'max'"),  # type: ignore[arg-type]  # on purpose
        ({"width": 0}, "width is 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        two_tower(**settings)  # type: ignore[arg-type]  # on purpose
