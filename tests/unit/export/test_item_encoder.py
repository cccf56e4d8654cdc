"""The exported item encoder: any items, any content, the vectors of the trained model."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from retrank.contract.bundle import ITEM_ENCODER, ITEM_ENCODING
from retrank.contract.errors import GateError
from retrank.contract.item_content import VECTORS, ItemEncoding, graph_inputs
from retrank.data.item_content import ItemContent
from retrank.export.item_encoder import NewItems, write_item_encoder
from retrank.export.to_onnx import open_encoder
from retrank.models.sasrec import SASRec
from retrank.models.two_tower import TwoTower

ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c", "d"],
        "brand": ["north", "south", None, "north"],
        "price": [1.0, 2.5, float("nan"), 40.0],
        "title": ["red warm coat", "blue coat", "", "a very long title of many words indeed"],
    }
)
CHOICES = {
    "all": ItemContent(categories=["brand"], numbers=["price"], texts=["title"], num_buckets=64),
    "text alone": ItemContent(texts=["title"], num_buckets=64),
    "number alone": ItemContent(numbers=["price"]),
}


def new_items(choice: ItemContent, *, similarity: str = "cosine") -> tuple[NewItems, TwoTower]:
    """A model with weights of a trained size that never met the last item."""
    torch.manual_seed(0)
    encoding = choice.fit(ITEMS)
    content = encoding.encode_catalogue(ITEMS)._replace(touched=np.array([False, True, True, True, False]))

    def history(num_items: int, **settings: object) -> SASRec:
        return SASRec(num_items, **settings, num_blocks=1, num_heads=1)  # type: ignore[arg-type]

    model = TwoTower(4, history=history, content=content, width=8, similarity=similarity).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight.mul_(50)
    side = model.content_side()
    assert side is not None
    return NewItems(side, encoding, content), model


def vectors_of(model: TwoTower) -> np.ndarray:
    vectors: np.ndarray = model.item_vectors().detach().numpy()
    return vectors


@pytest.mark.parametrize(("chosen", "similarity"), [("all", "dot"), *((name, "cosine") for name in CHOICES)])
def test_an_item_that_came_later_gets_the_vector_of_an_untouched_one(
    chosen: str, similarity: str, tmp_path: Path
) -> None:
    parts, model = new_items(CHOICES[chosen], similarity=similarity)
    assert write_item_encoder(parts, vectors_of(model), tmp_path, tolerance=1e-5) <= 1e-5
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([ITEM_ENCODER, ITEM_ENCODING])
    encoding = ItemEncoding.load(tmp_path / ITEM_ENCODING)
    session = open_encoder(tmp_path / ITEM_ENCODER)
    for rows in ([3], [3, 3], [0, 3, 1]):
        content = encoding.encode(ITEMS.take(rows))
        (seen,) = session.run([VECTORS], graph_inputs(content))
        np.testing.assert_allclose(seen[rows.index(3)], vectors_of(model)[4], atol=1e-5, rtol=1e-4)


def test_a_graph_that_is_not_the_model_is_refused(tmp_path: Path) -> None:
    parts, model = new_items(CHOICES["all"])
    with pytest.raises(GateError, match=r"the item encoder in ONNX differs by .* untouched ones"):
        write_item_encoder(parts, vectors_of(model) + np.float32(0.01), tmp_path, tolerance=1e-4)
    assert not (tmp_path / ITEM_ENCODING).exists()


def test_a_model_of_ids_alone_has_nothing_to_export() -> None:
    assert TwoTower(4, history=SASRec, width=8).content_side() is None
