"""A second similarity from training to the figures: what is ordered again, what is reported, what a bundle gets."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ring_world import NUM_ITEMS, Configure, configuration

from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences
from retrank.export.run_folder import read_run
from retrank.models.mixture_of_logits import MixtureOfLogits, WithMixture
from retrank.models.sasrec import SASRec
from retrank.training import fit
from retrank.training.checkpoint import load_model
from retrank.training.rescoring import RescoringScorer
from retrank.training.scorer import ModelScorer

MIXTURE = (
    "model=mixture_of_logits", "~model.num_blocks", "model.encoder.num_blocks=1", "loss=rescored",
    "loss.num_negatives=64",
)  # fmt: skip


@pytest.fixture(scope="module")
def mixture_run(ring_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run with a second similarity. Never modify it."""
    return fit.run(configuration(ring_store, tmp_path_factory.mktemp("mixture"), "mixture", *MIXTURE))


def _model() -> WithMixture:
    torch.manual_seed(0)
    model = WithMixture(20, encoder=SASRec, head=MixtureOfLogits, max_length=6, width=8).eval()
    for weight in model.head.parameters():
        torch.nn.init.normal_(weight)
    return model


def test_the_best_items_are_ordered_again_and_the_others_stay_behind_them() -> None:
    model, histories = _model(), Sequences.from_lists([[1, 2], [3, 4, 5]])
    retrieved = ModelScorer(model).score(histories)
    again = RescoringScorer(ModelScorer(model), top=5).score(histories)
    with torch.no_grad():
        queries = torch.from_numpy(ModelScorer(model).queries(histories))
        dear = model.rescore(queries, torch.arange(21)).numpy()
    for case, seen in enumerate([{0, 1, 2}, {0, 3, 4, 5}]):
        unseen = [row for row in retrieved[case].argsort()[::-1].tolist() if row not in seen]
        best = sorted(unseen[:5], key=lambda row: -dear[case, row])
        order = [row for row in again[case].argsort()[::-1].tolist() if row not in seen]
        assert order == best + unseen[5:]
        assert order != unseen


def test_of_a_whole_catalogue_it_is_the_second_similarity() -> None:
    model, histories = _model(), Sequences.from_lists([[1, 2]])
    again = RescoringScorer(ModelScorer(model), top=200).score(histories)[0]
    with torch.no_grad():
        dear = model.rescore(torch.from_numpy(ModelScorer(model).queries(histories)), torch.arange(21)).numpy()[0]
    assert again[3:].argsort().tolist() == dear[3:].argsort().tolist()
    assert again[0] == -np.inf


def test_scoring_leaves_the_training_mode_as_it_was() -> None:
    model = _model().train()
    RescoringScorer(ModelScorer(model), top=5).score(Sequences.from_lists([[1, 2]]))
    assert model.training
    assert model.head.training


def test_a_run_reports_the_retriever_and_beside_it_what_ordering_again_adds(mixture_run: Path) -> None:
    metrics = json.loads((mixture_run / "metrics.json").read_text())
    again = json.loads((mixture_run / "rescored.json").read_text())
    assert again["top"] == 200
    gain = again["gain_ndcg@10"]
    assert gain["first"] == pytest.approx(metrics["test"]["ndcg@10"])
    assert gain["second"] == pytest.approx(again["test"]["ndcg@10"])
    assert again["validation"].keys() == again["test"].keys() == metrics["test"].keys()


def test_its_bundle_retrieves_with_the_sequence_model(mixture_run: Path) -> None:
    model, _ = read_run(mixture_run, None)
    assert type(model.encoder) is SASRec
    trained, _ = load_model(mixture_run)
    assert isinstance(trained, WithMixture)
    assert torch.equal(model.encoder.item_vectors(), trained.item_vectors())
    assert trained.num_items == NUM_ITEMS


def test_the_second_similarity_learns_which_item_is_next(mixture_run: Path, configure: Configure) -> None:
    """By its own scores over the whole catalogue it puts the next item of the ring first."""
    longer = ("trainer.max_epochs=20", "trainer.validate_every=20", "trainer.ema_decay=0.9", "optim.learning_rate=0.01")
    run = fit.learn(configure("longer", *MIXTURE, *longer), say=print)
    histories = Sequences.from_lists([[row, row + 1, row + 2] for row in range(1, NUM_ITEMS - 2)])
    found = []
    for one in (mixture_run, run):
        model, _ = load_model(one)
        assert isinstance(model, WithMixture)
        queries = torch.from_numpy(ModelScorer(model).queries(histories))
        with torch.no_grad():
            best = 1 + model.rescore(queries, torch.arange(1, NUM_ITEMS + 1)).argmax(1)
        found.append(float((best == torch.arange(4, NUM_ITEMS + 1)).float().mean()))
    assert found[1] > 0.9
    assert found[1] > found[0]


@pytest.mark.parametrize("settings", [MIXTURE[:3], ("loss=rescored",)])
def test_a_second_similarity_and_the_loss_that_trains_it_belong_together(
    settings: tuple[str, ...], configure: Configure
) -> None:
    with pytest.raises(ConfigError, match="needs loss=rescored, which trains it, and the other way round"):
        fit.learn(configure("refused", *settings), say=print)
