from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrank.contract.errors import DataError, SourceError
from retrank.metrics.case_ranks import KS, CaseRanks, SavedRanks
from retrank.metrics.ranking import UNRANKED
from retrank.metrics.reference import case_metrics


def case_ranks(ranks: list[list[int]], num_items: int = 1000) -> CaseRanks:
    offsets = np.concatenate([[0], np.cumsum([len(case) for case in ranks])]).astype(np.int64)
    flat = np.array([rank for case in ranks for rank in case], dtype=np.int32)
    targets = np.arange(1, len(flat) + 1, dtype=np.int32)
    return CaseRanks(np.arange(len(ranks), dtype=np.int64), offsets, targets, flat, num_items)


@pytest.mark.parametrize(
    ("ranks", "k", "hr", "recall", "ndcg", "mrr"),
    [
        ([1], 1, 1, 1, 1, 1),
        ([2], 1, 0, 0, 0, 0),
        ([2], 5, 1, 1, 1 / np.log2(3), 1 / 2),
        ([11], 10, 0, 0, 0, 0),
        ([UNRANKED], 200, 0, 0, 0, 0),
        ([1, 2, 3], 2, 1, 1, 1, 1),  # three targets, two places: both taken is perfect
        ([1, 3], 2, 1, 1 / 2, 1 / (1 + 1 / np.log2(3)), 1),
        ([4, 2, UNRANKED], 5, 1, 2 / 3, (1 / np.log2(3) + 1 / np.log2(5)) / (1 + 1 / np.log2(3) + 1 / 2), 1 / 2),
    ],
)
def test_metrics_of_one_case(ranks: list[int], k: int, hr: float, recall: float, ndcg: float, mrr: float) -> None:
    metrics = case_ranks([ranks]).mean((k,))
    assert metrics == pytest.approx({f"hr@{k}": hr, f"recall@{k}": recall, f"ndcg@{k}": ndcg, f"mrr@{k}": mrr})


@given(st.lists(st.sets(st.integers(1, 12), min_size=1, max_size=6), min_size=1, max_size=5), st.integers(1, 12))
def test_the_vectorised_metrics_agree_with_the_loop(cases: list[set[int]], k: int) -> None:
    fast = case_ranks([sorted(case) for case in cases], num_items=12).per_case((k,))
    for index, case in enumerate(cases):
        # item number r is recommended at place r, so that ranks and targets coincide
        slow = case_metrics(range(1, 13), sorted(case), k)
        assert {name: values[index] for name, values in fast.items()} == pytest.approx(slow)


@given(st.lists(st.sets(st.integers(1, 300), min_size=1, max_size=5), min_size=1, max_size=5))
def test_metrics_stay_in_range_and_hits_grow_with_k(cases: list[set[int]]) -> None:
    metrics = case_ranks([sorted(case) for case in cases]).per_case(KS)
    assert all((values >= 0).all() and (values <= 1 + 1e-12).all() for values in metrics.values())
    for family in ("hr", "mrr"):
        assert (np.diff([metrics[f"{family}@{k}"] for k in KS], axis=0) >= 0).all()


def test_with_one_target_hit_rate_is_recall() -> None:
    metrics = case_ranks([[1], [7], [40], [300]]).mean()
    assert all(metrics[f"hr@{k}"] == metrics[f"recall@{k}"] for k in KS)


def test_no_case_is_refused() -> None:
    with pytest.raises(DataError, match="0 cases"):
        case_ranks([]).mean()


def test_a_case_without_target_is_refused() -> None:
    with pytest.raises(DataError, match="at least one case with a target"):
        case_ranks([[1], [], [2]]).mean()


def test_ranks_are_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    ranks = case_ranks([[1, 5], [UNRANKED]])
    ranks.save(tmp_path / "ranks.npz", data_hash="abc", protocol="leave-last-out – é")
    saved = SavedRanks.load(tmp_path / "ranks.npz")
    assert (saved.data_hash, saved.protocol, saved.ranks.num_items) == ("abc", "leave-last-out – é", 1000)
    assert saved.ranks.mean() == ranks.mean()
    assert saved.ranks.targets.tolist() == ranks.targets.tolist()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no zip at all"])
def test_a_damaged_file_of_ranks_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ranks.npz"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"ranks\.npz: not a readable file of ranks"):
        SavedRanks.load(path)


def test_a_missing_file_of_ranks_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"ranks\.npz: no such file"):
        SavedRanks.load(tmp_path / "ranks.npz")
