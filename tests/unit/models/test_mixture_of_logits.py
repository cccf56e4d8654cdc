"""The mixture of logits: its definition spelled out, what it can say that a dot product cannot, and its ONNX graph."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch.nn import functional as F

from retrank.contract.errors import ConfigError
from retrank.export.to_onnx import export_graph
from retrank.models.hstu import HSTU
from retrank.models.mixture_of_logits import MixtureOfLogits, WithMixture
from retrank.models.protocols import Rescoring, Tabulated
from retrank.models.sasrec import SASRec

WIDTH = 6


def _head(seed: int = 0, **settings: int) -> MixtureOfLogits:
    torch.manual_seed(seed)
    head = MixtureOfLogits(WIDTH, **({"query_components": 3, "item_components": 2, "component_width": 4} | settings))
    with torch.no_grad():
        for weight in head.parameters():
            weight.normal_()  # first weights are so small that every gate would look open
    return head.eval()


def _vectors(*shape: int, seed: int = 1) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed)), dim=-1)


def _plain(head: MixtureOfLogits, query: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
    """One query and one item, part by part."""
    query_parts = [F.normalize(part, dim=0) for part in head.query_parts(query).split(head.component_width)]
    item_parts = [F.normalize(part, dim=0) for part in head.item_parts(item).split(head.component_width)]
    cosines = torch.stack([one @ other for one in query_parts for other in item_parts] + [query @ item])
    weights = (head.query_gate(query) + head.item_gate(item) + head.cosine_gate(cosines)).softmax(0)
    score: torch.Tensor = weights @ cosines
    return score


def test_scores_are_gated_means_of_cosines_between_parts() -> None:
    head, queries, items = _head(), _vectors(4), _vectors(5, seed=2)
    expected = torch.stack([torch.stack([_plain(head, query, item) for item in items]) for query in queries])
    torch.testing.assert_close(head(queries, items[None]), expected)
    assert (expected.abs() <= 1).all()


def test_items_of_each_query_and_items_shared_by_all_are_scored_alike() -> None:
    head, queries, items = _head(), _vectors(4), _vectors(5, seed=2)
    torch.testing.assert_close(head(queries, items[None]), head(queries, items.expand(4, -1, -1)))
    own = _vectors(4, 3, seed=3)
    alone = torch.cat([head(queries[at : at + 1], own[at : at + 1]) for at in range(4)])
    torch.testing.assert_close(head(queries, own), alone)


def test_training_starts_near_the_order_of_the_dot_product() -> None:
    torch.manual_seed(0)
    head, queries, items = MixtureOfLogits(WIDTH).eval(), _vectors(20), _vectors(50, seed=2)
    before, after = (queries @ items.T).argsort(1).argsort(1), head(queries, items[None]).argsort(1).argsort(1)
    both = torch.stack([before.flatten(), after.flatten()]).float()
    assert torch.corrcoef(both)[0, 1] > 0.9


def _best_fit(score: torch.nn.Module, queries: torch.Tensor, items: torch.Tensor, wanted: torch.Tensor) -> float:
    """Share of signs of the `[B, C]` table that are right after training `score` towards it."""
    optimizer = torch.optim.Adam(score.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        F.soft_margin_loss(score(queries, items[None]) * 5, wanted).backward()  # type: ignore[no-untyped-call]  # torch
        optimizer.step()
    return float((score(queries, items[None]).sign() == wanted).float().mean())


def test_it_learns_a_table_whose_rank_is_above_the_width() -> None:
    """Signs at random: any dot product of vectors of width 6 gets many of them wrong, however the vectors turn."""

    class Turned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.turn = torch.nn.Linear(WIDTH, WIDTH)

        def forward(self, queries: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = (self.turn(queries)[:, None] * items).sum(-1)
            return scores

    queries, items = _vectors(16), _vectors(24, seed=2)
    wanted = torch.randn(16, 24, generator=torch.Generator().manual_seed(3)).sign()
    torch.manual_seed(0)
    assert _best_fit(Turned(), queries, items, wanted) < 0.8
    assert _best_fit(MixtureOfLogits(WIDTH, dropout=0.0), queries, items, wanted) > 0.9


def test_its_onnx_graph_answers_like_torch_whatever_the_number_of_queries_and_candidates(tmp_path: Path) -> None:
    head, path = _head(), tmp_path / "mixture.onnx"
    size, count = torch.export.Dim("batch", min=1), torch.export.Dim("candidates", min=1)
    export_graph(
        head,
        {"queries": _vectors(2), "item_vectors": _vectors(2, 3)},
        path,
        output="score",
        dynamic_sizes={"queries": {0: size}, "item_vectors": {0: size, 1: count}},
    )
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for batch, candidates in ((1, 1), (1, 200), (3, 7)):
        queries, items = _vectors(batch, seed=5), _vectors(batch, candidates, seed=6)
        seen = np.asarray(session.run(["score"], {"queries": queries.numpy(), "item_vectors": items.numpy()})[0])
        with torch.no_grad():
            assert seen == pytest.approx(head(queries, items).numpy(), abs=1e-5)


@pytest.mark.parametrize("encoder", [SASRec, HSTU])
def test_a_bundle_gets_the_sequence_model_alone(encoder: type[SASRec | HSTU]) -> None:
    torch.manual_seed(0)
    model = WithMixture(9, encoder=encoder, head=MixtureOfLogits, max_length=5, width=8).eval()
    assert isinstance(model, Rescoring)
    assert isinstance(model, Tabulated)
    inputs = {name: torch.tensor([[0, 1, 2], [3, 4, 5]]) for name in model.inputs}
    assert type(model.tabulated()) is encoder
    assert torch.equal(model.tabulated()(**inputs), model(**inputs))
    assert torch.equal(model.tabulated().item_vectors(), model.item_vectors())


@pytest.mark.parametrize("setting", ["query_components", "item_components", "component_width", "hidden"])
def test_a_size_of_zero_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} is 0"):
        MixtureOfLogits(WIDTH, **{setting: 0})


def test_a_dropout_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dropout is 1\.0"):
        MixtureOfLogits(WIDTH, dropout=1.0)
