"""Runs that learn from runs: what a student takes over, what resuming needs, and which teachers are refused."""

import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import yaml
from ring_world import Configure, configuration

from retrank.contract.encode import AGES, ITEM_ROWS, InputName
from retrank.contract.errors import ConfigError, DataError, TrainingError
from retrank.data.batches import Batch
from retrank.data.splits import split_store
from retrank.data.store import EventStore
from retrank.export.parity import compare, onnx_queries, torch_queries
from retrank.export.run_folder import read_run
from retrank.export.to_onnx import export_encoder, open_encoder
from retrank.losses.distilled import Distilled
from retrank.models.hstu import HSTU
from retrank.models.protocols import QueryEncoder
from retrank.training import fit, run_card
from retrank.training.checkpoint import BEST, CHECKPOINTS, LAST, load_model
from retrank.training.distil import Teachers
from retrank.training.peers import Peer
from retrank.training.scorer import ModelScorer

TAUGHT = ("loss=distilled", "loss.alpha=0.9")
GOOD = ("trainer.max_epochs=40", "trainer.validate_every=40", "trainer.ema_decay=0.9", "optim.learning_rate=0.01")
SHORT = (
    "model.width=8",
    "trainer.validate_every=60",
    "trainer.max_epochs=60",
    "trainer.ema_decay=0.9",
    "optim.learning_rate=0.01",
)


@pytest.fixture(scope="module")
def teacher(ring_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that knows the ring. Never modify it."""
    config = configuration(ring_store, tmp_path_factory.mktemp("teacher"), "teacher", *GOOD)
    return fit.learn(config, say=print)


@pytest.fixture(scope="module")
def second_teacher(ring_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of another architecture and width. Never modify it."""
    other = ("model=hstu", "model.width=8", "model.num_blocks=1", "model.time_bias=false", *GOOD, "seed=7")
    config = configuration(ring_store, tmp_path_factory.mktemp("second"), "teacher", *other)
    return fit.learn(config, say=print)


def _scores(run_dir: Path, store: Path) -> np.ndarray:
    model, config = load_model(run_dir)
    split = split_store(config["split"], EventStore.open(store))
    return ModelScorer(cast(QueryEncoder, model)).score(split.test.inputs)[:, 1:]


def _agreement(run_dir: Path, teacher: Path, store: Path) -> float:
    """Mean rank correlation between the orders in which two runs put the catalogue."""
    ours, theirs = (_scores(one, store).argsort(1).argsort(1) for one in (run_dir, teacher))
    return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(ours, theirs, strict=True)]))


def test_a_student_takes_over_the_whole_order_of_its_teacher(
    teacher: Path, ring_store: Path, configure: Configure
) -> None:
    """Both find the next item; how the teacher orders all the others only the taught one can know."""
    alone = fit.learn(configure("alone", *SHORT), say=print)
    taught = fit.learn(configure("taught", *SHORT, *TAUGHT, "loss.softening=5", f"teachers=[{teacher}]"), say=print)
    agreement = {run.name: _agreement(run, teacher, ring_store) for run in (alone, taught)}
    assert agreement["taught"] > 0.85
    assert agreement["taught"] > agreement["alone"] + 0.2


def test_teachers_without_a_share_change_nothing(teacher: Path, configure: Configure) -> None:
    alone = fit.learn(configure("alone"), say=print)
    taught = fit.learn(configure("taught", "loss=distilled", "loss.alpha=0", f"teachers=[{teacher}]"), say=print)
    first, second = (torch.load(run / CHECKPOINTS / LAST, weights_only=True)["state_dict"] for run in (alone, taught))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_student_of_two_unlike_teachers_is_an_ordinary_run(
    teacher: Path, second_teacher: Path, configure: Configure, tmp_path: Path
) -> None:
    run = fit.run(configure("student", *TAUGHT, "trainer.max_epochs=1", f"teachers=[{teacher},{second_teacher}]"))
    shutil.move(teacher, tmp_path / "elsewhere")  # a finished student needs no teacher
    try:
        model, _ = read_run(run, None)
        export_encoder(model.encoder, tmp_path / "encoder.onnx")
    finally:
        shutil.move(tmp_path / "elsewhere", teacher)
    encoder, histories = model.encoder, EventStore.open(yaml.safe_load((run / "config.yaml").read_text())["store"])
    expected = torch_queries(encoder, histories.sequences)
    session = open_encoder(tmp_path / "encoder.onnx")
    seen = onnx_queries(session, histories.sequences, encoder.inputs, encoder.max_length)
    with torch.no_grad():
        assert compare(expected, seen, encoder.item_vectors().numpy(), top_k=5).different == 0
    assert [fact["run"] for fact in run_card.read(run)["teachers"]] == [str(teacher), str(second_teacher)]
    assert len({fact["weights"] for fact in run_card.read(run)["teachers"]}) == 2


def test_a_teacher_may_read_what_the_student_does_not() -> None:
    torch.manual_seed(0)
    timed = HSTU(9, max_length=4, width=8, num_blocks=1)
    teachers = Teachers([Peer(Path("timed"), timed, {"loss": {"temperature": 0.5}})])
    assert teachers.inputs == (ITEM_ROWS, AGES)
    inputs: dict[InputName, torch.Tensor] = {
        ITEM_ROWS: torch.tensor([[0, 1, 2], [3, 4, 5]]),
        AGES: torch.tensor([[0, 50, 7], [90, 8, 1]]),
    }
    batch = Batch(inputs, positions=torch.tensor([2, 4]), target_rows=torch.tensor([[3], [5]]))
    (opinion,) = teachers.opinions(batch)
    with torch.no_grad():
        states = timed.encode_all(inputs[ITEM_ROWS], inputs[AGES])
    torch.testing.assert_close(opinion.queries, torch.stack([states[0, 2], states[1, 1]]) / 0.5)
    torch.testing.assert_close(opinion.item_vectors, timed.item_vectors().detach())
    assert not timed.training
    assert not any(weight.requires_grad for weight in timed.parameters())


class Interrupted(Distilled):
    """A loss whose power is cut at a given call."""

    calls, cut_at = 0, -1

    def forward(self, *arguments: object) -> torch.Tensor:
        Interrupted.calls += 1
        if Interrupted.calls == Interrupted.cut_at:
            raise RuntimeError("power cut")
        return super().forward(*arguments)  # type: ignore[arg-type]


def test_a_distilled_run_resumes_bit_by_bit_and_only_with_its_teachers(
    teacher: Path, finished_run: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*TAUGHT, "loss._target_=test_distil.Interrupted")
    straight = fit.learn(configure("straight", *settings, f"teachers=[{teacher}]"), say=print)
    steps = Interrupted.calls // 4
    monkeypatch.setattr(Interrupted, "calls", 0)
    monkeypatch.setattr(Interrupted, "cut_at", 2 * steps + 2)  # in the third of four epochs
    moved = straight.parent / "moved"
    shutil.copytree(teacher, moved)
    broken = configure("broken", *settings, f"teachers=[{moved}]")
    with pytest.raises(RuntimeError, match="power cut"):
        fit.learn(broken, say=print)
    folder = broken["run_dir"]
    shutil.rmtree(moved)
    with pytest.raises(TrainingError, match=r"moved: no checkpoints/best.ckpt"):
        fit.learn(configure("again", *settings, f"teachers=[{moved}]", f"ckpt={folder}"), say=print)
    with pytest.raises(TrainingError, match=r"cannot resume from it: teachers is .* now and .* in the checkpoint"):
        fit.learn(configure("again", *settings, f"teachers=[{finished_run}]", f"ckpt={folder}"), say=print)
    resumed = fit.learn(configure("again", *settings, f"teachers=[{teacher}]", f"ckpt={folder}"), say=print)
    first, second = (torch.load(run / CHECKPOINTS / LAST, weights_only=True) for run in (straight, resumed))
    for part in ("state_dict", "ema"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])


def test_a_teacher_of_another_split_may_have_seen_the_answers(
    teacher: Path, configure: Configure, tmp_path: Path
) -> None:
    early = tmp_path / "early"
    shutil.copytree(teacher, early)
    path = early / CHECKPOINTS / BEST
    saved = torch.load(path, weights_only=True)
    saved["identity"]["split"] = {"_target_": "retrank.data.splits.GlobalTemporal", "test_share": 0.1}
    torch.save(saved, path)
    with pytest.raises(DataError, match=r"early cannot be a teacher: split\..*may have seen what is to be predicted"):
        fit.learn(configure("other", *TAUGHT, f"teachers=[{early}]"), say=print)


def test_a_teacher_of_other_items_is_refused(described_store: Path, teacher: Path, configure: Configure) -> None:
    config = configure("other", f"store={described_store}", *TAUGHT, f"teachers=[{teacher}]")
    with pytest.raises(DataError, match=r"cannot be a teacher: data_hash is .*; num_items is 13 now and 12 there"):
        fit.learn(config, say=print)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("loss=distilled",), r"teachers is empty and loss Distilled; give both"),
        (("teachers=[{teacher}]",), r"loss FullSoftmax; give both teachers=\[RUN,...\] and loss=distilled"),
        ((*TAUGHT, "teachers=[{teacher}]", "model.max_length=9"), r"reads 8 events and the student 9; lower"),
        ((*TAUGHT, "teachers=[nowhere]"), r"nowhere: no checkpoints/best.ckpt"),
    ],
)
def test_teachers_that_do_not_fit_are_refused_in_words(
    settings: tuple[str, ...], said: str, teacher: Path, configure: Configure
) -> None:
    config = configure("refused", *(setting.format(teacher=teacher) for setting in settings))
    with pytest.raises((ConfigError, TrainingError), match=said):
        fit.learn(config, say=print)
