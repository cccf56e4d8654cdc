"""One model learns from several: frozen teachers are asked about every batch, and the loss hears what they expect."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from typing_extensions import override

from retrank.config import instantiate
from retrank.contract.encode import InputName
from retrank.contract.errors import ConfigError
from retrank.data.batches import Batch
from retrank.losses.distilled import Distilled, Opinion
from retrank.losses.rescored import Rescored
from retrank.models.protocols import QueryEncoder, Rescoring
from retrank.training.checkpoint import TEACHERS, digest_of
from retrank.training.peers import Peer, open_peer
from retrank.training.retrieval_module import OptimizerRecipe, RetrievalModule


class Teachers:
    """Trained encoders that are asked and never change. No `nn.Module`: a checkpoint of the student is without them.

    Args:
        peers: finished runs with the student's items, at least one.
    """

    def __init__(self, peers: Sequence[Peer]) -> None:
        self._peers = peers
        self._modules = [cast(torch.nn.Module, peer.model).eval().requires_grad_(requires_grad=False) for peer in peers]
        with torch.no_grad():
            self._vectors = [peer.model.item_vectors().float() for peer in peers]

    @property
    def inputs(self) -> tuple[InputName, ...]:
        """Return the names of the arrays that any of them reads."""
        return tuple(dict.fromkeys(name for peer in self._peers for name in peer.model.inputs))

    def opinions(self, batch: Batch) -> list[Opinion]:
        """Ask every teacher about the supervised positions of a batch, on the device of the batch."""
        device = batch.positions.device
        found = []
        with torch.no_grad():
            for at, (peer, module) in enumerate(zip(self._peers, self._modules, strict=True)):
                module.to(device)
                self._vectors[at] = self._vectors[at].to(device)
                states = peer.model.encode_all(**{name: batch.inputs[name] for name in peer.model.inputs})
                queries = states.flatten(0, 1)[batch.positions].float() / peer.temperature  # [T, E]
                found.append(Opinion(queries, self._vectors[at]))
        return found


class DistilledModule(RetrievalModule):
    """A training step whose loss also hears the teachers; everything else is as without them.

    Args:
        model: the student.
        loss: what weighs targets and teachers.
        recipe: optimizer and schedule.
        teachers: of the same items.
    """

    def __init__(self, model: QueryEncoder, loss: Distilled, recipe: OptimizerRecipe, teachers: Teachers) -> None:
        super().__init__(model, loss, recipe)
        self.teachers = teachers

    @property
    @override
    def inputs(self) -> tuple[InputName, ...]:
        return tuple(dict.fromkeys([*self.model.inputs, *self.teachers.inputs]))

    @override
    def loss_of(self, queries: torch.Tensor, batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = self.loss(queries, self.model, batch.target_rows, self.teachers.opinions(batch))
        return loss


def module_of(config: Mapping[str, Any], model: QueryEncoder, identity: Mapping[str, Any]) -> RetrievalModule:
    """Return what trains a model as configured: alone, or with teachers.

    Args:
        config: resolved settings of `retrank train`.
        model: what is to be trained.
        identity: as of `checkpoint.identity_of`; teachers must agree with its data and split.

    Raises:
        ConfigError: teachers without a loss that listens to them, or the other way round, or one that reads less; a
            second similarity without a loss that trains it, or the other way round.
        TrainingError: a teacher is not a run folder.
        DataError: a teacher was trained on other data or another split.
    """
    loss, recipe = instantiate(config["loss"]), instantiate(config["optim"])
    runs = teacher_runs(config)
    if isinstance(loss, Distilled) != bool(runs):
        named = ", ".join(str(run) for run in runs) or "empty"
        raise ConfigError(
            f"teachers is {named} and loss {type(loss).__name__}; give both teachers=[RUN,...] and loss=distilled, or "
            "neither"
        )
    if isinstance(loss, Rescored) != isinstance(model, Rescoring):
        raise ConfigError(
            f"model is {type(model).__name__} and loss {type(loss).__name__}; a model with a second similarity "
            "(model=mixture_of_logits) needs loss=rescored, which trains it, and the other way round"
        )
    if not isinstance(loss, Distilled):
        return RetrievalModule(model, loss, recipe)
    with torch.random.fork_rng(devices=[]):  # building teachers draws weights; the student's dropout must not notice
        peers = [open_peer(run, identity, role="teacher") for run in runs]
    for peer in peers:
        if peer.model.max_length < model.max_length:
            raise ConfigError(
                f"teacher {peer.run_dir} reads {peer.model.max_length} events and the student {model.max_length}; "
                f"lower model.max_length to {peer.model.max_length}, or take a teacher that reads as much"
            )
    return DistilledModule(model, loss, recipe, Teachers(peers))


def teacher_runs(config: Mapping[str, Any]) -> list[Path]:
    """Return the run folders of the teachers; none for a configuration from before there were teachers."""
    return [Path(run) for run in config.get(TEACHERS) or []]


def teacher_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the run card says of the teachers, and nothing without any: each run, and which weights it had.

    Raises:
        TrainingError: a teacher has no best checkpoint.
    """
    runs = teacher_runs(config)
    return {TEACHERS: [{"run": str(run), "weights": digest_of(run)} for run in runs]} if runs else {}
