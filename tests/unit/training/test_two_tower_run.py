"""A run of two towers from store to bundle parts: content travels in the checkpoint, untouched items are candidates."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from ring_world import NEVER_BOUGHT, NUM_ITEMS, TWO_TOWERS, Configure, configuration

from retrank.config import compose, resolve
from retrank.contract.bundle import ITEM_ENCODING, ITEM_VECTORS, verify
from retrank.contract.errors import BundleError, ConfigError, DataError, TrainingError
from retrank.contract.item_content import ItemEncoding
from retrank.data.store import EventStore
from retrank.export import assemble
from retrank.export.parity import compare, onnx_queries, torch_queries
from retrank.export.run_folder import read_run
from retrank.export.to_onnx import export_encoder, open_encoder
from retrank.models.two_tower import TwoTower
from retrank.serving.new_items import open_item_encoder
from retrank.training import fit
from retrank.training.checkpoint import load_model

QUICK_EXPORT = ("sealing.gates.parity_rows=100",)


@pytest.fixture(scope="module")
def towers_run(described_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one run; never modify it."""
    folder = tmp_path_factory.mktemp("towers")
    return fit.run(configuration(described_store, folder, "towers", *TWO_TOWERS, "baselines=true"))


def test_the_checkpoint_alone_is_the_whole_model(towers_run: Path, described_store: Path) -> None:
    module, _ = load_model(towers_run)
    model = cast(TwoTower, module)
    items = EventStore.open(described_store).item_table
    expected = ItemEncoding.load(towers_run / "item_encoding.json").encode_catalogue(items)
    assert np.array_equal(model.tower.codes.numpy(), expected.codes)
    assert np.array_equal(model.tower.tokens.numpy(), expected.tokens)
    assert model.tower.touched.tolist() == [False, *[True] * NUM_ITEMS, False]


def test_items_without_events_are_candidates_and_the_protocol_says_so(towers_run: Path, described_store: Path) -> None:
    store = EventStore.open(described_store)
    assert store.items.ids[-1] == NEVER_BOUGHT
    metrics = json.loads((towers_run / "metrics.json").read_text())
    assert metrics["protocol"] == "leave-last-out (P1), 1 items without events among the candidates"
    assert np.load(towers_run / "ranks.npz")["num_items"] == NUM_ITEMS + 1
    assert len(metrics["baselines"]) >= 3


def test_the_exported_encoder_answers_like_the_towers(towers_run: Path, described_store: Path, tmp_path: Path) -> None:
    trained, store = read_run(towers_run, described_store)
    module, _ = load_model(towers_run)
    towers = cast(TwoTower, module)
    assert trained.name == "TwoTower"
    vectors = trained.encoder.item_vectors().detach().numpy()
    np.testing.assert_allclose(vectors, towers.item_vectors().detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors[1:], axis=1), 1, atol=1e-5)  # the one never bought as well
    export_encoder(trained.encoder, tmp_path / "query.onnx")
    histories = store.sequences
    seen = onnx_queries(open_encoder(tmp_path / "query.onnx"), histories, towers.inputs, towers.max_length)
    parity = compare(torch_queries(towers, histories), seen, vectors, 5)
    assert parity.max_difference < 1e-5
    assert parity.different == 0


def test_a_resumed_run_refuses_other_content(towers_run: Path, described_store: Path, configure: Configure) -> None:
    other = [setting.replace("[title]", "[]") for setting in TWO_TOWERS]
    with pytest.raises(TrainingError, match=r"item_content\.texts is \[\] now and \['title'\] in the checkpoint"):
        fit.run(configure("later", f"store={described_store}", *other, f"ckpt={towers_run}"))


def test_a_model_that_reads_no_content_is_named(described_store: Path, configure: Configure) -> None:
    content_alone = [setting for setting in TWO_TOWERS if "model" not in setting]
    with pytest.raises(ConfigError, match="SASRec reads no item content; use model=two_tower or item_content=null"):
        fit.run(configure("wrong", f"store={described_store}", *content_alone))


def test_an_attribute_that_the_store_lacks_is_named_before_training(ring_store: Path, configure: Configure) -> None:
    with pytest.raises(DataError, match=r"the items have no attribute 'title', found \['item_id'\]"):
        fit.run(configure("lacks", *TWO_TOWERS))


def test_an_untouched_item_has_a_finite_vector(towers_run: Path) -> None:
    module, _ = load_model(towers_run)
    vectors = cast(TwoTower, module).item_vectors()
    assert torch.isfinite(vectors).all()
    assert vectors[-1].any()


def test_the_bundle_encodes_items_that_came_after_it(towers_run: Path, described_store: Path, tmp_path: Path) -> None:
    settings = [f"run={towers_run}", f"store={described_store}", f"out={tmp_path / 'bundles'}"]
    sealed = assemble.run(resolve(compose("export", [*settings, *QUICK_EXPORT])))
    encoder = open_item_encoder(verify(sealed.directory))
    assert encoder is not None
    vectors = np.load(sealed.path(ITEM_VECTORS))
    known, unheard_of = encoder.vectors([{"side": "left", "title": None, "price": None}, {"title": "Thing 2", "x": 1}])
    np.testing.assert_allclose(known, vectors[-1], atol=1e-5)  # what was never bought is known by its content alone
    assert np.linalg.norm(unheard_of) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(known, unheard_of)
    (sealed.directory / ITEM_ENCODING).unlink()
    with pytest.raises(BundleError, match="item_encoding"):
        verify(sealed.directory)
