"""`retrank export`: a real run of a tiny model becomes a bundle, or says why not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from retrank.config import compose, resolve
from retrank.contract import bundle
from retrank.contract.bundle import VerifiedBundle, verify
from retrank.contract.errors import BundleError, ConfigError, GateError, SourceError, TrainingError
from retrank.contract.vocab import Vocab
from retrank.data import ingest
from retrank.data.store import EventStore
from retrank.export import assemble
from retrank.export.run_folder import read_run
from retrank.metrics.case_ranks import SavedRanks
from retrank.training import fit

NUM_USERS, NUM_ITEMS, LENGTH = 60, 30, 8


def _ingest(folder: Path, step: int) -> Path:
    """Return the root of a store in which every user walks around a ring of items."""
    walks = ([(user + step * at) % NUM_ITEMS for at in range(LENGTH)] for user in range(NUM_USERS))
    lines = [f"u{user} i{item}\n" for user, walk in enumerate(walks) for item in walk]
    (folder / f"ring{step}.txt").write_text("".join(lines))
    data = ["data=sequence_file", f"data.path={folder / f'ring{step}.txt'}", f"data.name=ring{step}"]
    ingest.run(resolve(compose("ingest", [*data, f"out={folder / f'ring{step}'}", "progress=false"])))
    return folder / f"ring{step}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run of one epoch. Never modify it."""
    folder = tmp_path_factory.mktemp("run")
    settings = ["experiment=smoke", "split=leave_last_out", f"store={_ingest(folder, 1)}", f"run_dir={folder / 'run'}"]
    sizes = ["model.max_length=6", "model.width=8", "trainer.max_epochs=1", "trainer.progress=false"]
    fit.run(resolve(compose("train", [*settings, *sizes])))
    return folder / "run"


def _export(run_dir: Path, out: Path, *overrides: str) -> VerifiedBundle:
    settings = [f"run={run_dir}", f"out={out}", "sealing.gates.parity_rows=100", *overrides]
    return assemble.run(resolve(compose("export", settings)))


@pytest.fixture(scope="module")
def sealed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> VerifiedBundle:
    """Return the bundle of the run. Never modify it."""
    return _export(trained, tmp_path_factory.mktemp("bundles"))


def test_a_run_becomes_a_bundle_that_says_where_it_comes_from(trained: Path, sealed: VerifiedBundle) -> None:
    assert verify(sealed.directory.parent) == sealed
    manifest, metrics = sealed.manifest, json.loads((trained / "metrics.json").read_text())
    assert (manifest.model, manifest.run_id, manifest.data.name) == ("SASRec", "smoke/run", "ring1")
    assert manifest.data.data_hash == EventStore.open(trained.parent / "ring1").facts.data_hash
    assert manifest.metrics.values == metrics["test"]
    assert metrics["protocol"] in manifest.metrics.protocol
    assert manifest.config["model"]["width"] == 8


def test_known_users_bring_all_their_events(sealed: VerifiedBundle) -> None:
    offsets = np.load(sealed.path(bundle.HISTORY_OFFSETS))
    assert np.diff(offsets).tolist() == [LENGTH] * NUM_USERS
    assert Vocab.open(sealed.directory, bundle.USER_VOCAB).id(1) == "u0"


def test_the_strongest_successor_is_the_next_item_of_the_ring(sealed: VerifiedBundle) -> None:
    ids = [None, *Vocab.open(sealed.directory, bundle.ITEM_VOCAB).ids]
    successors = np.load(sealed.path(bundle.COVISIT_ITEMS))[:, 0]
    assert {ids[row]: ids[successors[row]] for row in range(1, NUM_ITEMS + 1)} == {
        f"i{item}": f"i{(item + 1) % NUM_ITEMS}" for item in range(NUM_ITEMS)
    }


def test_a_baseline_the_run_did_not_record_is_measured_and_can_refuse(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"ndcg@10 is 0\.\d+, the gate requires more than baseline 'markov' at"):
        _export(trained, tmp_path, "sealing.gates.must_beat=[markov]")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_baseline_lists_the_known_ones(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"\['oracle'\]; known baselines are .*'popularity'"):
        _export(trained, tmp_path, "sealing.gates.must_beat=[oracle]")


def test_another_store_than_the_one_trained_on_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="trained on data"):
        _export(trained, tmp_path / "out", f"store={_ingest(tmp_path, 7)}")


@pytest.mark.parametrize(
    ("name", "content"), [("metrics.json", None), ("metrics.json", "{"), ("run_card.json", None), ("report.html", None)]
)
def test_an_unfinished_run_is_refused_by_file(trained: Path, tmp_path: Path, name: str, content: str | None) -> None:
    run_dir = Path(shutil.copytree(trained, tmp_path / "run"))
    (run_dir / name).unlink()
    if content is not None:
        (run_dir / name).write_text(content)
    with pytest.raises((SourceError, TrainingError), match=name.replace(".", r"\.")):
        _export(run_dir, tmp_path / "out")


def test_the_card_of_a_real_run_has_its_figures(trained: Path, sealed: VerifiedBundle) -> None:
    card, report = sealed.path(bundle.MODEL_CARD).read_text(), json.loads((trained / "report.json").read_text())
    assert f"**{report['metrics']['ndcg@10']:.4f}**" in card
    assert f"{report['num_cases']:,} test cases" in card
    assert "max_length: 6" in card
    assert json.loads((trained / "run_card.json").read_text())["created_at"] in card


def test_ranks_of_other_data_are_refused(trained: Path, tmp_path: Path) -> None:
    spoiled = tmp_path / "run"
    shutil.copytree(trained, spoiled)
    saved = SavedRanks.load(spoiled / "ranks.npz")
    saved.ranks.save(spoiled / "ranks.npz", data_hash="other", protocol=saved.protocol)
    with pytest.raises(SourceError, match="ranks on data other"):
        _export(spoiled, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_that_counting_beats_is_refused_unless_it_is_asked_for(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"baseline 'markov' has .*perhaps the run diverged"):
        _export(trained, tmp_path, "sealing.gates.not_worse_than=[markov]")
    assert list(tmp_path.iterdir()) == []
    assert _export(trained, tmp_path, "sealing.gates.not_worse_than=[]").manifest.run_id == "smoke/run"


def test_a_baseline_that_does_not_exist_cannot_be_compared_with(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not_worse_than: no baseline is called luck"):
        _export(trained, tmp_path, "sealing.gates.not_worse_than=[luck]")


def test_items_that_training_never_met_are_told_from_the_others(tmp_path: Path) -> None:
    walks = {user: [(user + at) % 9 for at in range(4)] for user in range(9)}
    lines = [f"u{user} i{item}\n" for user, walk in walks.items() for item in walk]
    (tmp_path / "ring.txt").write_text("".join([*lines, "u0 late\n"]))  # the test case of u0
    data = ["data=sequence_file", f"data.path={tmp_path / 'ring.txt'}", "data.name=ring", f"out={tmp_path / 'store'}"]
    ingest.run(resolve(compose("ingest", [*data, "progress=false"])))
    small = ["model.width=8", "model.max_length=4", "trainer.max_epochs=1", "trainer.progress=false", "baselines=false"]
    settings = [
        "experiment=smoke",
        "split=leave_last_out",
        f"store={tmp_path / 'store'}",
        f"run_dir={tmp_path / 'run'}",
    ]
    model, store = read_run(fit.run(resolve(compose("train", [*settings, *small]))), None)
    assert model.unlearned is not None
    assert [store.items.id(row) for row in np.flatnonzero(model.unlearned).tolist()] == ["late"]
