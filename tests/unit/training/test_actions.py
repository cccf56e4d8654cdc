"""Training on what was done: from a table with an action column to a run that reads it, and to its bundle."""

from pathlib import Path

import numpy as np
import pytest
from ring_world import SMALL

from retrank.cli import main
from retrank.config import compose, resolve
from retrank.contract.bundle import verify
from retrank.contract.encode import ACTIONS
from retrank.contract.errors import ConfigError
from retrank.contract.features import read_features
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.store import EventStore
from retrank.training import fit
from retrank.training.action_side import num_actions_of
from retrank.training.checkpoint import load_model
from retrank.training.run_card import read
from retrank.training.scorer import ModelScorer

NUM_ITEMS, NUM_USERS = 20, 100


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People walk on a ring of items: after a view to the next item, after a purchase seven items on."""
    random, lines = np.random.default_rng(0), ["user,item,time,action"]
    for user in range(NUM_USERS):
        item = int(random.integers(NUM_ITEMS))
        for step in range(7):
            action = str(random.choice(["view", "buy"]))
            lines.append(f"u{user},i{item},{1_000 * step + user},{action}")
            item = (item + (1 if action == "view" else 7)) % NUM_ITEMS
    folder = tmp_path_factory.mktemp("acting")
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    columns = Columns("user", "item", time="time", action="action")
    ingest(Delimited(str(folder / "events.csv"), columns, "acting_ring"), folder / "store")
    return folder / "store"


def _configured(store: Path, root: Path, *overrides: str) -> list[str]:
    fixed = (f"store={store}", f"run_dir={root / 'run'}", f"paths.root={root}", "batches.batch_size=16")
    return [*SMALL, *fixed, *overrides]


def test_a_model_that_reads_actions_knows_which_way_people_go_and_another_must_guess(
    store: Path, tmp_path: Path
) -> None:
    """Who does not know what was done has two items to choose from, which gives an NDCG of about 0.8."""
    best = {}
    for num_actions in (0, 2):
        learned = (
            f"run_dir={tmp_path / str(num_actions)}", f"model.num_actions={num_actions}", "trainer.max_epochs=15",
            "optim.learning_rate=0.02", "model.dropout=0", "trainer.ema_decay=0.5", "trainer.patience=15",
        )  # fmt: skip
        run = fit.learn(resolve(compose("train", _configured(store, tmp_path, *learned))), say=lambda _: None)
        best[num_actions] = max(epoch["ndcg@10"] for epoch in read(run)["training"]["validation"])
    assert best[2] > 0.95
    assert best[0] < 0.92


def test_a_run_goes_into_a_bundle_that_names_its_actions(store: Path, tmp_path: Path) -> None:
    told = ("model.num_actions=from_data", "trainer.max_epochs=1", "baselines=false")
    assert main(["train", *_configured(store, tmp_path, *told)]) == 0
    quick = ("sealing.gates.parity_rows=50", f"out={tmp_path / 'bundles'}", f"paths.root={tmp_path}")
    assert main(["export", f"run={tmp_path / 'run'}", *quick]) == 0
    bundle = verify(tmp_path / "bundles")
    spec = read_features(bundle)
    assert (set(spec.actions), spec.inputs[-1]) == ({"view", "buy"}, ACTIONS)
    assert bundle.manifest.encoder.parity_max_difference < 1e-4


def test_evaluation_reads_the_actions_of_a_history(store: Path, tmp_path: Path) -> None:
    told = ("model.num_actions=2", "trainer.max_epochs=1")
    run = fit.learn(resolve(compose("train", _configured(store, tmp_path, *told))), say=lambda _: None)
    model, _ = load_model(run)
    histories = EventStore.open(store).sequences.take(np.arange(5))
    queries = ModelScorer(model).queries(histories)  # type: ignore[arg-type]  # any module that was trained
    forgotten = type(histories)(
        histories.item_rows, histories.offsets, histories.times, actions=np.zeros_like(histories.actions)
    )
    assert not np.allclose(ModelScorer(model).queries(forgotten), queries, atol=1e-4)  # type: ignore[arg-type]


def test_a_number_that_is_not_that_of_the_store_is_refused(store: Path, ring_store: Path) -> None:
    opened = EventStore.open(store)
    assert [num_actions_of(opened, given, "model.num_actions") for given in (0, 2, "from_data")] == [0, 2, 2]
    with pytest.raises(
        ConfigError, match=r"model\.num_actions is 3 and the store has 2 actions \((view, buy|buy, view)\)"
    ):
        num_actions_of(opened, 3, "model.num_actions")
    with pytest.raises(ConfigError, match="is 2 and the store has none"):
        num_actions_of(EventStore.open(ring_store), 2, "model.num_actions")
