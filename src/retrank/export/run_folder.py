"""Read what an export needs from a training run and its store, and count the fallbacks that need no model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from retrank.config import instantiate
from retrank.contract.errors import BundleError, SourceError
from retrank.contract.item_content import ContentArrays, ItemEncoding
from retrank.contract.manifest import DataFacts, MetricFacts
from retrank.contract.sequences import Sequences
from retrank.data.splits import split_store
from retrank.data.store import EventStore
from retrank.export.evidence import gather
from retrank.export.item_encoder import NewItems
from retrank.export.ranker import TrainedRanker
from retrank.export.sources import Catalogue, Fallbacks, TrainedModel
from retrank.metrics.catalogue import item_counts
from retrank.models.baselines.markov import Markov
from retrank.models.protocols import QueryEncoder, Tabulated
from retrank.models.two_tower import TwoTower
from retrank.training import run_card
from retrank.training.baseline_table import RECIPES
from retrank.training.checkpoint import load_model
from retrank.training.context_side import open_store
from retrank.training.evaluate import baselines_of
from retrank.training.item_side import ITEM_ENCODING
from retrank.training.ranking.load import RANKING, load_ranker

METRICS, REPORT, RANKS = "metrics.json", "report.json", "ranks.npz"


class Popular(Protocol):
    """A baseline with one score per item."""

    item_scores: NDArray[np.float32]

    def fit(self, histories: Sequences, num_items: int) -> None:
        """Count."""
        ...


class _Encoder(QueryEncoder, Protocol):
    """A query encoder that knows what its scores are."""

    similarity: Literal["dot", "cosine"]


def read_run(run_dir: Path, store_path: Path | None) -> tuple[TrainedModel, EventStore]:
    """Open the best weights of a run, its test metrics, and the store it was trained on.

    Args:
        run_dir: folder written by `retrank train`.
        store_path: root of the store; None = the one the run was trained on.

    Raises:
        TrainingError: not a finished run.
        SourceError: there is no store, or the metrics cannot be read.
        BundleError: the store is not the one the model was trained on.
    """
    module, config = load_model(run_dir)
    encoder = cast(_Encoder, module.tabulated() if isinstance(module, Tabulated) else module)
    store = open_store(store_path or Path(config["store"]), config)
    card = run_card.of_finished(run_dir)
    trained_on = card["data"]["data_hash"]
    if trained_on != store.facts.data_hash:
        raise BundleError(
            f"{run_dir}: trained on data {trained_on}, but {store.directory} holds {store.facts.data_hash}; "
            "name the store of the run with store=..., or train again"
        )
    metrics, new_items = _read_json(run_dir / METRICS), _new_items(module, run_dir)
    model = TrainedModel(
        encoder=encoder,
        similarity=encoder.similarity,
        name=type(module).__name__,
        run_id=f"{config['name']}/{run_dir.resolve().name}",
        metrics=MetricFacts(
            protocol=f"{metrics['protocol']}; test", values=metrics["test"], baselines=metrics.get("baselines", {})
        ),
        config=config,
        evidence=gather(card, _read_json(run_dir / REPORT), run_dir / RANKS, store),
        new_items=new_items,
        unlearned=_unlearned(config, store) if new_items is None else None,
    )
    return model, store


def _unlearned(config: Mapping[str, Any], store: EventStore) -> NDArray[np.bool_]:
    """Return `[N + 1]`: the items without an event in the training part of the split."""
    unlearned = item_counts(split_store(config["split"], store).train, store.num_items) == 0
    unlearned[0] = False
    return np.asarray(unlearned)


def _new_items(module: object, run_dir: Path) -> NewItems | None:
    """Return what encodes items from their attributes alone, if the model does that."""
    side = module.content_side() if isinstance(module, TwoTower) else None
    if side is None:
        return None
    tower = cast(TwoTower, module).tower
    codes, tokens, touched = (values.cpu().numpy() for values in (tower.codes, tower.tokens, tower.touched))
    sizes = side.content.codes.num_embeddings - 1, side.content.tokens.num_embeddings - 1
    return NewItems(side, ItemEncoding.load(run_dir / ITEM_ENCODING), ContentArrays(codes, tokens, *sizes, touched))


def read_ranker(run_dir: Path, retriever_run: Path) -> TrainedRanker:
    """Open a run of `retrank rank`.

    Raises:
        TrainingError: not a finished run.
        BundleError: it ranks the candidates of another retriever.
    """
    model, spec, rotation, config = load_ranker(run_dir)
    if Path(config["run"]).resolve() != retriever_run.resolve():
        raise BundleError(f"ranker {run_dir}: ranks the candidates of {config['run']}, not of {retriever_run}")
    metrics = _read_json(run_dir / METRICS)
    return TrainedRanker(
        model=model,
        spec=spec,
        rotation=rotation,
        settings=instantiate(config["sources"]),
        run_id=f"{config['name']}/{run_dir.resolve().name}",
        values=metrics["test"],
        report=_read_json(run_dir / RANKING),
        actions={head["name"]: head.get("actions") for head in config["heads"]},
    )


def with_baselines(
    metrics: MetricFacts, names: Sequence[str], config: Mapping[str, Any], store: EventStore
) -> MetricFacts:
    """Add the test metrics of baselines that the run did not record, chosen and evaluated as `retrank train` does.

    Raises:
        BundleError: a baseline of that name does not exist.
    """
    known = {recipe.name: recipe for recipe in RECIPES}
    unknown = sorted(set(names) - known.keys())
    if unknown:
        raise BundleError(f"sealing.gates.must_beat names {unknown}; known baselines are {sorted(known)}")
    recipes = [known[name] for name in names if name not in metrics.baselines]
    if not recipes:
        return metrics
    split = split_store(config["split"], store)
    measured = {row.name: row.metrics for row in baselines_of(store, split, recipes=recipes).rows}
    return metrics.model_copy(update={"baselines": metrics.baselines | measured})


def read_catalogue(store: EventStore) -> Catalogue:
    """Return everything the store knows of items and users; known users are answered from all of their events."""
    facts = store.facts
    return Catalogue(
        items=store.item_table,
        user_ids=store.users.ids,
        histories=store.sequences,
        actions=facts.actions,
        context=store.context_spec,
        num_visitors=facts.num_visitors,
        facts=DataFacts(
            name=facts.name,
            data_hash=facts.data_hash,
            num_users=store.num_named,
            num_items=facts.num_items,
            num_events=facts.num_events,
            first_event_at=facts.first_event_at,
            last_event_at=facts.last_event_at,
        ),
    )


def count_fallbacks(popular: Popular, covisit: Markov, top_k: int, catalogue: Catalogue) -> Fallbacks:
    """Fit popularity and co-visitation on all histories; keep the `top_k` strongest successors of each item."""
    num_items = len(catalogue.items)
    popular.fit(catalogue.histories, num_items)
    covisit.fit(catalogue.histories, num_items)
    items, weights = covisit.successors(top_k)
    return Fallbacks(popular.item_scores, items, weights)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SourceError(f"{path}: missing; is the run finished? `retrank train` writes it at the end") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: not readable JSON ({error}); evaluate or train the run again") from error
    return content
