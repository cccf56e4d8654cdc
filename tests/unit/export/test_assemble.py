"""Assembling a bundle: complete, repeatable, and refused as a whole when anything about it is wrong."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pytest
import torch
from ranked_world import ACTIONS_KNOWN, ranked_world, timed_catalogue
from worlds import CREATED_AT, TinyEncoder, TinyWorld, tiny_model

from retrank.contract import bundle
from retrank.contract.bundle import verify
from retrank.contract.errors import BundleError, ConfigError, GateError
from retrank.contract.features import read_features
from retrank.contract.files import POINTER, current
from retrank.contract.golden import check_golden, read_golden
from retrank.contract.vocab import Vocab
from retrank.export.assemble import check_root
from retrank.export.gates import Gates
from retrank.export.to_onnx import open_encoder, run_encoder

WORLD = TinyWorld()


def test_the_manifest_tells_what_was_measured_and_from_what(tiny_bundle: Path) -> None:
    manifest = verify(tiny_bundle).manifest
    assert manifest.created_at == CREATED_AT
    assert (manifest.model, manifest.run_id) == ("tiny encoder", "tiny/0")
    assert manifest.data == WORLD.catalogue.facts
    assert (manifest.encoder.max_length, manifest.encoder.width, manifest.encoder.similarity) == (10, 8, "cosine")
    assert manifest.encoder.parity_rows == 200
    assert manifest.encoder.parity_max_difference <= 1e-5
    assert manifest.encoder.parity_top_k_identical
    assert (manifest.index.factory, manifest.index.measured_recall, manifest.index.recall_at) == ("Flat", 1.0, 50)
    assert manifest.index.latency_ms_p50 == pytest.approx(1)
    assert manifest.metrics == WORLD.model.metrics
    assert [(column.name, column.kind) for column in manifest.item_columns] == [("title", "text"), ("price", "number")]


def test_the_files_hold_what_the_layout_promises(tiny_bundle: Path) -> None:
    opened = verify(tiny_bundle)

    def load(name: str) -> np.ndarray:
        array: np.ndarray = np.load(opened.path(name), allow_pickle=False)
        return array

    arrays = {
        bundle.ITEM_VECTORS: ((51, 8), "float32"),
        bundle.HISTORY_ITEMS: ((162,), "int32"),
        bundle.HISTORY_OFFSETS: ((21,), "int64"),
        bundle.POPULAR_ITEMS: ((50,), "int32"),
        bundle.POPULARITY: ((51,), "float32"),
        bundle.COVISIT_ITEMS: ((51, 5), "int32"),
        bundle.COVISIT_WEIGHTS: ((51, 5), "float32"),
    }
    assert {name: (load(name).shape, str(load(name).dtype)) for name in arrays} == arrays
    assert not load(bundle.ITEM_VECTORS)[0].any()
    ordered = load(bundle.POPULARITY)[load(bundle.POPULAR_ITEMS)]
    assert (np.diff(ordered) <= 0).all()
    assert (ordered[0], ordered.min() >= 0, load(bundle.POPULARITY)[0]) == (1, True, 0)
    assert sorted(load(bundle.POPULAR_ITEMS).tolist()) == list(range(1, 51))
    assert Vocab.open(opened.directory, bundle.ITEM_VOCAB).ids == WORLD.catalogue.item_ids
    assert Vocab.open(opened.directory, bundle.USER_VOCAB).ids == WORLD.catalogue.user_ids
    assert np.array_equal(load(bundle.HISTORY_ITEMS), WORLD.catalogue.histories.item_rows)


def test_without_actions_the_bundle_names_none_and_holds_none(tiny_bundle: Path) -> None:
    opened = verify(tiny_bundle)
    assert read_features(opened).actions == ()
    assert np.load(opened.path(bundle.HISTORY_ACTIONS)).shape == (0,)


def test_actions_go_into_the_bundle_with_their_names(ranked_bundle: Path) -> None:
    opened, catalogue = verify(ranked_bundle), timed_catalogue()
    assert catalogue.histories.actions is not None
    spec, stored = read_features(opened), np.load(opened.path(bundle.HISTORY_ACTIONS))
    assert (spec.actions, spec.inputs) == (ACTIONS_KNOWN, ("item_rows", "actions"))
    assert (stored.dtype, stored.tolist()) == (np.int16, catalogue.histories.actions.tolist())
    golden = read_golden(opened.path(bundle.GOLDEN))
    assert {action for case in golden for action in case.actions} == {0, 1, 2}
    assert all(len(case.actions) == len(case.item_rows) for case in golden)


def test_every_action_is_sealed_with_its_event_type_and_told(tmp_path: Path) -> None:
    world = ranked_world()
    named = replace(world.catalogue, actions=("gift", "share"), action_types={"gift": "purchase"})
    manifest = replace(world, catalogue=named).assemble(tmp_path).manifest
    assert [(one.name, one.event_type) for one in manifest.actions] == [("gift", "purchase"), ("share", "custom")]
    done = timed_catalogue().histories.actions
    assert done is not None
    assert sum(one.num_events for one in manifest.actions) == np.count_nonzero(done)
    told = "\n".join(world.lines)
    assert f"action gift -> purchase, {manifest.actions[0].num_events} events" in told
    assert "WARNING: action share" in told
    assert "no action of this data is of type click, cart, rating: a live event of such a type tells" in told


def test_an_action_without_a_name_is_refused(tmp_path: Path) -> None:
    world = ranked_world()
    with pytest.raises(BundleError, match="a history names action row 2, but 1 actions have names"):
        replace(world, catalogue=replace(world.catalogue, actions=("view",))).assemble(tmp_path)


def test_the_index_returns_item_rows_and_agrees_with_the_vectors(tiny_bundle: Path) -> None:
    opened = verify(tiny_bundle)
    index, vectors = faiss.read_index(str(opened.path(bundle.INDEX))), np.load(opened.path(bundle.ITEM_VECTORS))
    _, rows = index.search(vectors[1:], 1)
    assert rows.ravel().tolist() == list(range(1, 51))


def test_a_sealed_bundle_answers_its_golden_requests_from_its_files(tiny_bundle: Path) -> None:
    opened = verify(tiny_bundle)
    session = open_encoder(opened.path(bundle.QUERY_ENCODER))
    worst = check_golden(
        read_golden(opened.path(bundle.GOLDEN)),
        encode=lambda history: run_encoder(session, read_features(opened).encode(history)),
        item_vectors=np.load(opened.path(bundle.ITEM_VECTORS)),
        items=Vocab.open(opened.directory, bundle.ITEM_VOCAB),
    )
    assert worst <= 1e-5


def test_reference_histograms_count_every_user_and_every_score(tiny_bundle: Path) -> None:
    with np.load(verify(tiny_bundle).path(bundle.REFERENCE_HISTOGRAMS)) as histograms:
        assert histograms["length_counts"].sum() == 20
        assert histograms["score_counts"].sum() == 200 * 10
        assert len(histograms["score_edges"]) == len(histograms["score_counts"]) + 1


def test_the_folder_of_a_store_is_no_place_for_bundles(tiny_bundle: Path, tmp_path: Path) -> None:
    """Its pointer would be turned away from the store."""
    (tmp_path / "version").mkdir()
    (tmp_path / POINTER).write_text("version\n")
    with pytest.raises(ConfigError, match=r"names version, which is no bundle .*choose a folder of its own"):
        check_root(tmp_path)
    for root in (tiny_bundle, tiny_bundle.parent, tmp_path / "new"):
        check_root(root)


def test_equal_inputs_give_the_same_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    assert WORLD.assemble(tmp_path).bundle_id == verify(tiny_bundle).bundle_id


def test_progress_is_told_step_by_step(tmp_path: Path) -> None:
    world = TinyWorld()
    world.assemble(tmp_path)
    told = "\n".join(world.lines)
    for word in ("ONNX", "200 histories", "index", "recall@50", "sealed"):
        assert word in told


@dataclass
class Refusal:
    """A world with one fault and what is said about it."""

    world: TinyWorld
    error: type[BundleError]
    message: str


def _one_item_short(catalogue: Any) -> Any:
    return replace(catalogue, items=catalogue.items.slice(1))


def _with_item(row: int, value: float) -> TinyEncoder:
    model = TinyEncoder()
    with torch.no_grad():
        model.item[row, 0] = value
    return model


class Unscaled(TinyEncoder):
    """Says cosine but does not normalise its items."""

    def item_vectors(self, item_rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return the raw table or rows of it."""
        return self.item if item_rows is None else self.item[item_rows]


class Deceiving(TinyEncoder):
    """Answers differently while it is being traced, as a model with a forgotten mode switch might."""

    def forward(self, item_rows: torch.Tensor) -> torch.Tensor:
        """Turn the query around in the exported graph only."""
        return -super().forward(item_rows) if torch.compiler.is_exporting() else super().forward(item_rows)


REFUSALS = {
    "metric floor": Refusal(
        replace(WORLD, gates=Gates(parity_rows=50, min_metrics={"ndcg@10": 0.5})), GateError, r"0\.2000.*at least 0\.5"
    ),
    "baseline": Refusal(
        replace(WORLD, gates=Gates(parity_rows=50, must_beat=["popularity"], beat_on=["mrr@10"])), GateError, "mrr@10"
    ),
    "parity": Refusal(replace(WORLD, model=tiny_model(Deceiving())), GateError, "ONNX and torch queries differ by"),
    "not finite": Refusal(replace(WORLD, model=tiny_model(_with_item(7, torch.nan))), BundleError, "not finite"),
    "padding": Refusal(replace(WORLD, model=tiny_model(_with_item(0, 2.0))), BundleError, r"row 0 \(padding\) is"),
    "not unit": Refusal(replace(WORLD, model=tiny_model(Unscaled())), BundleError, "similarity is cosine but"),
    "twins": Refusal(
        replace(
            WORLD,
            catalogue=replace(WORLD.catalogue, items=pa.table({"item_id": [f"i{row // 2}" for row in range(50)]})),
        ),
        BundleError,
        "50 items have 25 distinct ids",
    ),
    "items": Refusal(replace(WORLD, catalogue=_one_item_short(WORLD.catalogue)), BundleError, "49 items in the item"),
    "users": Refusal(
        replace(WORLD, catalogue=replace(WORLD.catalogue, user_ids=["u1"])),
        BundleError,
        "1 user ids but 20 histories, 0 of them of visitors",
    ),
    "fallbacks": Refusal(
        replace(WORLD, fallbacks=replace(WORLD.fallbacks, popularity=np.zeros(9, np.float32))),
        BundleError,
        "8 popularity scores, but the model knows 50 items",
    ),
    "columns": Refusal(
        replace(WORLD, catalogue=replace(WORLD.catalogue, items=pa.table({"title": ["x"] * 50}))),
        BundleError,
        "no column 'item_id'",
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_bundle_leaves_the_old_one_current_and_nothing_else(
    refusal: Refusal, tiny_bundle: Path, tmp_path: Path
) -> None:
    old = verify(tiny_bundle)
    (tmp_path / POINTER).write_text(old.bundle_id + "\n")
    (tmp_path / old.bundle_id).mkdir()
    with pytest.raises(refusal.error, match=refusal.message):
        refusal.world.assemble(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([POINTER, old.bundle_id])
    assert current(tmp_path).name == old.bundle_id


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from retrank.export import assemble
from worlds import TinyWorld
assemble.seal = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
TinyWorld().assemble(Path({root!r}))
"""


@pytest.mark.slow
def test_a_killed_export_leaves_the_old_bundle_current_and_whole(tmp_path: Path) -> None:
    old = WORLD.assemble(tmp_path)
    tests = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(tests=tests, root=str(tmp_path))],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert verify(tmp_path).bundle_id == old.bundle_id
    assert replace(WORLD, seed=1).assemble(tmp_path).directory == current(tmp_path)
