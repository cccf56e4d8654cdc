"""The golden requests that export draws: every kind of request, answered by torch and exact search."""

from collections import Counter

import numpy as np
import pytest
from worlds import TinyEncoder, tiny_catalogue

from retrank.contract.errors import BundleError
from retrank.contract.golden import GoldenCase, check_golden
from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab
from retrank.export.exact import exact_top_k
from retrank.export.golden import make_golden
from retrank.export.parity import torch_queries

CATALOGUE = tiny_catalogue()
ITEMS = Vocab(CATALOGUE.item_ids)
MODEL = TinyEncoder()
VECTORS = MODEL.item_vectors().detach().numpy()


def _golden(seed: int = 0) -> list[GoldenCase]:
    rng = np.random.default_rng(seed)
    return make_golden(MODEL, VECTORS, ITEMS, CATALOGUE.histories, tolerance=1e-4, rng=rng)


def test_there_are_at_least_32_and_every_kind_of_request_is_among_them() -> None:
    counts = Counter(case.kind for case in _golden())
    assert counts.total() >= 32
    assert counts == {"user": 12, "session": 10, "single_item": 8, "unknown_items": 5, "nothing": 1}


def test_unknown_items_are_named_but_not_encoded() -> None:
    cases = {kind: [case for case in _golden() if case.kind == kind] for kind in ("unknown_items", "nothing")}
    assert all("no-such-item" in case.item_ids[0] for case in cases["unknown_items"])
    assert [bool(case.item_rows) for case in cases["unknown_items"]] == [True] * 4 + [False]
    assert not cases["nothing"][0].item_ids
    assert not cases["nothing"][0].item_rows


def test_answers_are_those_of_torch_and_exact_search() -> None:
    for case in _golden():
        rows, scores = exact_top_k(torch_queries(MODEL, Sequences.from_lists([case.item_rows])), VECTORS, 10)
        assert case.top_rows == rows[0].tolist()
        assert case.top_scores == pytest.approx(scores[0].tolist(), abs=1e-6)


def test_histories_fit_the_model() -> None:
    assert max(len(case.item_rows) for case in _golden()) == MODEL.max_length


def test_the_same_seed_asks_the_same() -> None:
    assert _golden() == _golden()
    assert _golden() != _golden(1)


def test_another_model_fails_them() -> None:
    other = TinyEncoder(seed=1)

    with pytest.raises(BundleError, match="golden request 1"):
        check_golden(_golden(), encode=lambda history: torch_queries(other, history), item_vectors=VECTORS, items=ITEMS)
