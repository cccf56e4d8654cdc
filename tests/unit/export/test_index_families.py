"""Index families: chosen by size, tuned to a target, never returning padding."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from worlds import ticking_timer

from retrank.contract.errors import ConfigError, GateError
from retrank.export.exact import exact_top_k
from retrank.export.index import Design, Family, Flat, Hnsw, IndexPlan, Ivf, IvfPq, apply, build, write_index
from retrank.export.recall import Probe, build_and_measure, latency, one_thread, tune

FAMILIES = [Flat(), Hnsw(16), Ivf(32), IvfPq(32)]


def _world(num_items: int = 2_000, width: int = 16, num_queries: int = 120) -> tuple[NDArray[np.float32], ...]:
    """Clustered unit vectors, row 0 zero, and queries near some of them."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, width))
    vectors = centres[rng.integers(0, 20, num_items + 1)] + 0.7 * rng.normal(size=(num_items + 1, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[rng.integers(1, num_items, num_queries)] + 0.1 * rng.normal(size=(num_queries, width))
    vectors[0] = 0
    return vectors.astype(np.float32), queries.astype(np.float32)


VECTORS, QUERIES = _world()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_every_family_meets_the_target_and_never_returns_padding(family: Family) -> None:
    plan = IndexPlan(recall_target=0.9, recall_at=50, family=family)
    measured = build_and_measure(plan, VECTORS, QUERIES, timer=ticking_timer())
    assert measured.recall >= 0.9
    assert measured.num_queries == 60
    _, rows = measured.index.search(QUERIES, 50)
    assert rows.min() >= 1
    assert rows.max() <= 2_000


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_the_file_answers_like_the_index_it_was_written_from(family: Family, tmp_path: Path) -> None:
    plan = IndexPlan(recall_target=0.9, recall_at=50, family=family)
    measured = build_and_measure(plan, VECTORS, QUERIES, timer=ticking_timer())
    write_index(measured.index, str(tmp_path / "items.faiss"))
    opened = faiss.read_index(str(tmp_path / "items.faiss"))
    assert np.array_equal(opened.search(QUERIES, 50)[1], measured.index.search(QUERIES, 50)[1])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: type(family).__name__)
def test_building_twice_gives_the_same_file(family: Family, tmp_path: Path) -> None:
    factory = family.design(2_000, 16).factory
    for name in ("one", "two"):
        with one_thread():
            write_index(build(factory, VECTORS), str(tmp_path / name))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_exact_scan_is_the_oracle() -> None:
    _, rows = build("Flat", VECTORS).search(QUERIES, 10)
    assert rows.tolist() == exact_top_k(QUERIES, VECTORS, 10)[0].tolist()


@pytest.mark.parametrize(
    ("num_items", "expected"),
    [
        (1, "Flat"),
        (3_416, "Flat"),
        (50_000, "Flat"),
        (50_001, "IVF1024,Flat"),
        (100_000, "IVF1024,Flat"),
        (100_001, "IVF1024,PQ32x4fs,RFlat"),
        (1_000_000, "IVF4096,PQ32x4fs,RFlat"),
    ],
)
def test_the_family_follows_from_the_catalogue_size(num_items: int, expected: str) -> None:
    assert IndexPlan().choose(num_items).design(num_items, 64).factory == expected


def test_a_named_family_overrules_the_size() -> None:
    assert IndexPlan(family=Hnsw(8)).choose(10).design(10, 64).factory == "HNSW8,Flat"


def test_tuning_takes_the_cheapest_setting_that_is_enough() -> None:
    index, probe = build("IVF32,Flat", VECTORS), Probe.of(QUERIES, VECTORS, 50)
    design = Ivf(32).design(2_000, 16)
    chosen = tune(index, design, 0.9, probe)
    place = design.ladder.index(chosen)
    assert 0 < place < len(design.ladder) - 1
    assert probe.recall(index) >= 0.91
    apply(index, design.ladder[place - 1])
    assert probe.recall(index) < 0.91


def test_settings_are_tried_in_growing_steps_up_to_everything() -> None:
    assert [step["nprobe"] for step in Ivf(20).design(2_000, 16).ladder] == [1, 2, 3, 4, 6, 8, 12, 16, 20]


@pytest.mark.parametrize("family", [Ivf(), IvfPq(), Ivf(64)], ids=str)
@pytest.mark.parametrize("num_items", [1, 2, 3, 7])
def test_a_catalogue_of_a_few_items_has_settings_to_try(family: Family, num_items: int) -> None:
    ladder = family.design(num_items, 8).ladder
    assert max(step["nprobe"] for step in ladder) <= num_items


def test_codes_are_refined_more_when_they_cap_the_recall() -> None:
    ladder = IvfPq(32).design(2_000, 16).ladder
    assert ladder[0] == {"nprobe": 4, "k_factor_rf": 4}
    assert ladder[-1] == {"nprobe": 32, "k_factor_rf": 64}
    coarse, probe = build("IVF32,PQ4x4fs,RFlat", VECTORS), Probe.of(QUERIES, VECTORS, 20)
    apply(coarse, {"nprobe": 32, "k_factor_rf": 4})
    assert probe.recall(coarse) < 0.9
    assert tune(coarse, Design("coarse", ladder), 0.95, probe)["k_factor_rf"] > 4


def test_an_unreachable_target_names_what_was_reached() -> None:
    index = build("IVF32,Flat", VECTORS)
    with pytest.raises(GateError, match=r"best recall@50 0\.\d+, tuning needs 0\.9910 for a target of 0\.99"):
        tune(index, Design("IVF32,Flat", [{"nprobe": 1}]), 0.99, Probe.of(QUERIES, VECTORS, 50))


def test_recall_counts_items_of_equal_score() -> None:
    vectors = np.ones((6, 2), np.float32)
    vectors[0] = 0
    assert Probe.of(np.ones((4, 2), np.float32), vectors, 2).recall(build("Flat", vectors)) == 1.0


def test_recall_of_half_the_catalogue_is_about_half() -> None:
    half = faiss.IndexIDMap(faiss.IndexFlatIP(16))
    half.add_with_ids(VECTORS[1::2], np.arange(1, 2_001, 2))
    assert Probe.of(QUERIES, VECTORS, 50).recall(half) == pytest.approx(0.5, abs=0.08)


def test_latency_is_read_off_the_given_clock() -> None:
    measured = latency(build("Flat", VECTORS), QUERIES, 10, ticking_timer(0.002))
    assert measured.p50_ms == pytest.approx(2)
    assert measured.p99_ms == pytest.approx(2)


def test_one_thread_is_given_back() -> None:
    before = faiss.omp_get_max_threads()
    with one_thread():
        assert faiss.omp_get_max_threads() == 1
    assert faiss.omp_get_max_threads() == before


@pytest.mark.parametrize(("target", "at", "name"), [(0, 100, "target"), (1.1, 100, "target"), (0.9, 0, "recall_at")])
def test_a_plan_out_of_range_is_refused(target: float, at: int, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        IndexPlan(recall_target=target, recall_at=at)
