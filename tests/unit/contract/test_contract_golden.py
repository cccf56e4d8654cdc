"""Golden requests: the same answer passes, any other is refused with the request named."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrank.contract import golden
from retrank.contract.errors import BundleError, FormatError
from retrank.contract.golden import Encoder, GoldenCase, check_golden, read_golden, write_golden
from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab

ITEMS = Vocab(["a", "b", "c"])
VECTORS = np.array([[0, 0], [1, 0], [0, 1], [0.6, 0.8]], np.float32)
CASE = GoldenCase(
    kind="session",
    item_ids=["b", "unheard-of"],
    item_rows=[2],
    ages=[60],
    actions=[0],
    top_rows=[2, 3],
    top_item_ids=["b", "c"],
    top_scores=[1.0, 0.8],
    tolerance=1e-4,
)


def newest(histories: Sequences) -> NDArray[np.float32]:
    """Encode a history as the vector of its newest item."""
    return VECTORS[[rows[-1] for rows in histories]]


def _check(case: GoldenCase, encode: Encoder = newest, items: Vocab = ITEMS) -> float:
    return check_golden([case], encode=encode, item_vectors=VECTORS, items=items)


def test_the_right_answer_passes_and_reports_the_largest_difference() -> None:
    assert _check(CASE) < 1e-6
    assert _check(CASE, encode=lambda rows: newest(rows) * np.float32(1.00005)) == pytest.approx(5e-5, rel=0.01)


def test_equal_scores_may_stand_in_any_order() -> None:
    tied = VECTORS.copy()
    tied[3] = [0, 1]
    swapped = CASE.model_copy(update={"top_rows": [3, 2], "top_item_ids": ["c", "b"], "top_scores": [1.0, 1.0]})
    assert check_golden([swapped], encode=newest, item_vectors=tied, items=ITEMS) == 0


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda rows: -newest(rows), r"golden request 1 \(session, history \['b', 'unheard-of'\]\)"),
        (lambda rows: newest(rows) * np.float32(1.001), "expected 1.000000 within 1.0e-04"),
        (lambda rows: newest(rows) * np.nan, "nan"),
        (lambda rows: VECTORS[[1]], "answers differently here"),
    ],
)
def test_another_answer_is_refused(encode: Encoder, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        _check(CASE, encode=encode)


def test_a_better_item_that_was_not_expected_is_noticed() -> None:
    forgotten = CASE.model_copy(update={"top_rows": [2], "top_item_ids": ["b"], "top_scores": [1.0]})
    vectors = np.concatenate([VECTORS, np.array([[0, 2]], np.float32)])
    with pytest.raises(BundleError, match=r"2\.000000 at rank 1, expected 1\.000000"):
        check_golden([forgotten], encode=newest, item_vectors=vectors, items=ITEMS)


@pytest.mark.parametrize("ids", [["b", "a", "c"], ["a", "c", "b"], ["a", "b", "x"]])
def test_a_foreign_item_table_is_refused(ids: list[str]) -> None:
    with pytest.raises(BundleError, match="export again"):
        _check(CASE, items=Vocab(ids))


def test_no_golden_request_proves_nothing() -> None:
    with pytest.raises(BundleError, match="no golden requests"):
        check_golden([], encode=newest, item_vectors=VECTORS, items=ITEMS)


def test_requests_survive_the_file(tmp_path: Path) -> None:
    strange = CASE.model_copy(update={"item_ids": ['é\u2028\n"', "日本"]})
    write_golden(tmp_path / "golden.jsonl", [CASE, strange])
    assert read_golden(tmp_path / "golden.jsonl") == [CASE, strange]


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    write_golden(tmp_path / "golden.jsonl", [CASE])
    with (tmp_path / "golden.jsonl").open("a") as stream:
        stream.write('{"kind": "gossip"}\n')
    with pytest.raises(FormatError, match=r"golden\.jsonl:2: not a golden request"):
        read_golden(tmp_path / "golden.jsonl")


@pytest.mark.parametrize("top", [1, 7, 40])
@pytest.mark.parametrize("block", [1, 8, 1_000])
def test_the_best_scores_are_those_of_all_scores_sorted(monkeypatch: pytest.MonkeyPatch, block: int, top: int) -> None:
    monkeypatch.setattr(golden, "_ROWS_AT_ONCE", block)
    rng = np.random.default_rng(0)
    queries, vectors = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(31, 4)).astype(np.float32)
    vectors[9], vectors[20] = vectors[8], np.nan
    expected = np.sort(queries @ vectors[1:].T, axis=1)[:, ::-1][:, :top]
    found = golden.best_scores(queries, vectors, top)
    np.testing.assert_allclose(found[:, : min(top, 30)], expected, atol=1e-6)
    assert (found[:, 30:] == -np.inf).all()
