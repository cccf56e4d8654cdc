"""From a trained model to a sealed bundle. Every gate is passed before anything becomes visible."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from retrank import __version__
from retrank.config import instantiate
from retrank.contract import bundle
from retrank.contract.actions import Actions, action_facts, told
from retrank.contract.bundle import MANIFEST, VerifiedBundle, seal, seal_files
from retrank.contract.errors import BundleError, ConfigError, GateError
from retrank.contract.features import FeatureSpec
from retrank.contract.files import POINTER, staging
from retrank.contract.golden import check_golden, read_golden, write_golden
from retrank.contract.manifest import FORMAT_VERSION, EncoderFacts, IndexFacts, Manifest
from retrank.contract.vocab import Vocab
from retrank.export.attributes import attribute_arrays
from retrank.export.gates import Gates
from retrank.export.golden import make_golden
from retrank.export.index import IndexPlan, write_index
from retrank.export.item_encoder import write_item_encoder
from retrank.export.left_out import left_out
from retrank.export.model_card import model_card
from retrank.export.parity import Parity, compare, onnx_queries, torch_queries
from retrank.export.ranker import TrainedRanker, write_ranker
from retrank.export.ranker_card import doubts
from retrank.export.recall import Measured, build_and_measure
from retrank.export.rivals import leads_over
from retrank.export.run_folder import Popular, count_fallbacks, read_catalogue, read_ranker, read_run, with_baselines
from retrank.export.sampling import sample_histories
from retrank.export.sources import Catalogue, Circumstances, Fallbacks, TrainedModel, check_fit
from retrank.export.to_onnx import export_encoder, open_encoder, run_encoder
from retrank.export.write import write_catalogue, write_fallbacks, write_histograms, write_unlearned
from retrank.models.baselines.markov import Markov
from retrank.training.run_card import git_commit

_INDEX_QUERIES = 2_000
_UNIT_TOLERANCE = 1e-3


class _Encoder(NamedTuple):
    """The exported encoder and the vectors it was proven with."""

    session: ort.InferenceSession
    item_vectors: NDArray[np.float32]
    queries: NDArray[np.float32]
    parity: Parity


def run(cfg: Mapping[str, Any]) -> VerifiedBundle:
    """Seal the run `cfg["run"]` as configured; the bundle becomes the current one below `cfg["out"]`.

    Raises:
        ConfigError: `out` is the folder of something else.
        RetrankError: the run or the store cannot be read, or whatever `assemble` raises.
    """
    started = perf_counter()

    def say(line: str) -> None:
        print(f"[{perf_counter() - started:6.1f} s] {line}", flush=True)

    if cfg["out"]:
        check_root(Path(cfg["out"]))
    settings: BundleSettings = instantiate(cfg["sealing"])
    plan: IndexPlan = instantiate(cfg["index"])
    store_path = Path(cfg["store"]) if cfg["store"] else None
    say(f"export: reading {cfg['run']}")
    model, store = read_run(Path(cfg["run"]), store_path)
    ranker = read_ranker(Path(cfg["ranker"]), Path(cfg["run"])) if cfg["ranker"] else None
    ordering = Path(cfg["ranker"] or cfg["run"])
    warnings = settings.gates.check_leads(leads_over(settings.gates.not_worse_than, ordering, model.config, store))
    metrics = with_baselines(model.metrics, settings.gates.must_beat, model.config, store)
    catalogue = replace(read_catalogue(store), action_types=settings.action_types or {})
    say(f"export: counting popularity and successors over {store.facts.num_events:,} events")
    fallbacks = count_fallbacks(settings.popular, settings.covisit, settings.covisit_top_k, catalogue)
    sealed = assemble(
        replace(model, metrics=metrics),
        catalogue,
        fallbacks,
        Path(cfg["out"] or Path(cfg["bundles"]) / model.config["name"]),
        plan=plan,
        gates=settings.gates,
        circumstances=Circumstances(seed=settings.seed, git_commit=git_commit(), say=say),
        ranker=ranker,
    )
    if ranker is not None:
        warnings = [*warnings, *doubts(ranker.run_id, ranker.report)]
    elif forgotten := left_out(Path(cfg["run"]), _roots(cfg)):
        warnings = [*warnings, forgotten]
    for line in warnings:  # last, where it is seen
        say(f"export: {line}")
    return sealed


def check_root(root: Path) -> None:
    """Refuse a folder whose pointer names something else than a bundle: sealing would turn it away from that.

    Raises:
        ConfigError: it does, as that of a store.
    """
    pointer = root / POINTER
    named = root / pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.is_file() else root
    if named != root and named.is_dir() and not (named / MANIFEST).is_file():
        raise ConfigError(
            f"out is {root}, where {POINTER!r} names {named.name}, which is no bundle (no {MANIFEST}); "
            "choose a folder of its own, as bundles/NAME"
        )


def _roots(cfg: Mapping[str, Any]) -> list[Path]:
    """Return where runs lie: beside the one that is exported, and below the folder of all runs."""
    return [Path(cfg["run"]).parent, Path(cfg["paths"]["runs"])]


@dataclass(frozen=True)
class BundleSettings:
    """The configuration group `sealing`.

    Args:
        gates: what must be shown before sealing.
        popular: baseline that orders the popular items; fitted on all events.
        covisit: baseline that knows successors; fitted on all events.
        covisit_top_k: successors kept per item, >= 1.
        seed: seed of the sampled histories.
        action_types: event types of actions whose name does not say it, see `contract.actions`.
    """

    gates: Gates
    popular: Popular
    covisit: Markov
    covisit_top_k: int = 50
    seed: int = 0
    action_types: Mapping[str, str] | None = None


def assemble(
    model: TrainedModel,
    catalogue: Catalogue,
    fallbacks: Fallbacks,
    root: Path,
    *,
    plan: IndexPlan,
    gates: Gates,
    circumstances: Circumstances,
    ranker: TrainedRanker | None = None,
) -> VerifiedBundle:
    """Export, index, prove and seal one bundle, and make it the current one under `root`.

    Equal inputs and circumstances give equal bytes in every file, the manifest included.

    Raises:
        BundleError: the parts do not fit together, or the model cannot be exported.
        GateError: a gate refused; nothing was published.
    """
    say, rng = circumstances.say, np.random.default_rng(circumstances.seed)
    check_fit(model, catalogue, fallbacks)
    gates.check_metrics(model.metrics)
    actions = _actions(catalogue, circumstances)
    spec = _spec(model, catalogue)
    with staging(root) as staged:
        encoder = _export(model, catalogue, gates, circumstances, staged=staged, rng=rng)
        say(f"export: building the index over {model.encoder.num_items:,} items")
        measured = build_and_measure(
            plan, encoder.item_vectors, encoder.queries[:_INDEX_QUERIES], timer=circumstances.timer
        )
        say(
            f"export: index {measured.factory} {measured.settings}: recall@{measured.recall_at} "
            f"{measured.recall:.4f}, p50 {measured.latency.p50_ms:.3f} ms"
        )
        gates.check_index(measured, plan.recall_target)
        write_index(measured.index, str(staged / bundle.INDEX))
        np.save(staged / bundle.ITEM_VECTORS, encoder.item_vectors)
        attributes = attribute_arrays(catalogue.items)
        write_catalogue(catalogue, attributes, staged)
        write_fallbacks(fallbacks, staged)
        write_unlearned(model.unlearned, staged)
        write_histograms(catalogue.histories, encoder.queries, encoder.item_vectors, staged)
        (staged / bundle.FEATURES).write_bytes(spec.canonical())
        _prove_golden(model, catalogue, encoder, gates, staged=staged, rng=rng)
        if model.new_items is not None:
            off = write_item_encoder(model.new_items, encoder.item_vectors, staged, tolerance=gates.parity_tolerance)
            say(f"export: item encoder differs by at most {off:.1e} from torch")
        second = None
        if ranker is not None:
            say(f"export: ranker {ranker.run_id}")
            second = write_ranker(
                ranker, model.encoder, catalogue, fallbacks, staged, tolerance=gates.ranker_tolerance, rng=rng
            )
            say(f"export: ranker differs by at most {second.parity_max_difference:.1e} from torch")
        card = model_card(model, catalogue.facts, encoder.parity, measured, actions=actions, ranker=ranker)
        (staged / bundle.MODEL_CARD).write_text(card, encoding="utf-8")
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            package_version=__version__,
            git_commit=circumstances.git_commit,
            created_at=circumstances.now(),
            model=model.name,
            run_id=model.run_id,
            data=catalogue.facts,
            encoder=_encoder_facts(spec, encoder, gates),
            index=_index_facts(plan, measured),
            metrics=model.metrics,
            ranker=second,
            actions=list(actions.facts),
            item_columns=list(attributes.columns),
            files=seal_files(staged),
            config=model.config,
        )
        sealed = seal(staged, manifest, root)
    say(f"export: sealed {sealed.directory}")
    return sealed


def _spec(model: TrainedModel, catalogue: Catalogue) -> FeatureSpec:
    """Return how serving has to encode a request."""
    return FeatureSpec(
        max_length=model.encoder.max_length,
        similarity=model.similarity,
        inputs=model.encoder.inputs,
        actions=tuple(catalogue.actions),
        context=catalogue.context,
    )


def _actions(catalogue: Catalogue, circumstances: Circumstances) -> Actions:
    """Return what the actions of the data are live, and say it."""
    actions = Actions(action_facts(catalogue.actions, catalogue.histories.actions, catalogue.action_types))
    for line in told(actions):
        circumstances.say(f"export: {line}")
    return actions


def _export(
    model: TrainedModel,
    catalogue: Catalogue,
    gates: Gates,
    circumstances: Circumstances,
    *,
    staged: Path,
    rng: np.random.Generator,
) -> _Encoder:
    """Write the ONNX file and hold it against torch."""
    circumstances.say(f"export: {model.name} to ONNX")
    if catalogue.context is not None:
        told = ", ".join(f"{name} ({size:,} values)" for name, size in catalogue.context.sizes.items())
        circumstances.say(f"export: of the moment of a request it reads {told}")
    num_fields = 0 if catalogue.context is None else len(catalogue.context.fields)
    export_encoder(model.encoder, staged / bundle.QUERY_ENCODER, num_fields=num_fields)
    session = open_encoder(staged / bundle.QUERY_ENCODER)
    vectors = _item_vectors(model)
    sample = sample_histories(catalogue.histories, gates.parity_rows, model.encoder.max_length, rng)
    circumstances.say(f"export: comparing torch and ONNX Runtime on {len(sample):,} histories")
    expected = torch_queries(model.encoder, sample)
    if not np.isfinite(expected).all():
        raise BundleError(f"{model.name}: a query is not finite; the run diverged, train it again")
    seen = onnx_queries(session, sample, model.encoder.inputs, model.encoder.max_length)
    parity = compare(expected, seen, vectors, min(gates.parity_top_k, model.encoder.num_items))
    circumstances.say(
        f"export: largest difference {parity.max_difference:.1e}; top-{parity.top_k} lists: {parity.identical:,} "
        f"identical, {parity.near_ties:,} near-ties, {parity.different:,} different"
    )
    gates.check_parity(parity)
    return _Encoder(session, vectors, seen, parity)


def _item_vectors(model: TrainedModel) -> NDArray[np.float32]:
    """Return `[N + 1, D]` float32 item vectors that are what the model says they are."""
    vectors: NDArray[np.float32] = model.encoder.item_vectors().detach().float().cpu().numpy()
    if not np.isfinite(vectors).all():
        raise BundleError(f"{model.name}: an item vector is not finite; the run diverged, train it again")
    if vectors[0].any():
        raise BundleError(f"{model.name}: the vector of row 0 (padding) is {vectors[0][:3]}..., expected zeros")
    lengths = np.linalg.norm(vectors[1:], axis=1)
    if model.similarity == "cosine" and not np.allclose(lengths, 1, atol=_UNIT_TOLERANCE):
        worst = int(np.argmax(np.abs(lengths - 1)))
        raise BundleError(
            f"{model.name}: similarity is cosine but the vector of item row {worst + 1} has length "
            f"{lengths[worst]:.4f}, expected 1; item_vectors() must normalise, or the similarity is dot"
        )
    return vectors


def _prove_golden(
    model: TrainedModel,
    catalogue: Catalogue,
    encoder: _Encoder,
    gates: Gates,
    *,
    staged: Path,
    rng: np.random.Generator,
) -> None:
    """Write the golden requests and answer them from the staged files, as serving will."""
    cases = make_golden(
        model.encoder,
        encoder.item_vectors,
        Vocab.open(staged, bundle.ITEM_VOCAB),
        catalogue.histories,
        tolerance=gates.golden_tolerance,
        rng=rng,
    )
    write_golden(staged / bundle.GOLDEN, cases)
    spec = FeatureSpec.model_validate_json((staged / bundle.FEATURES).read_bytes())
    try:
        check_golden(
            read_golden(staged / bundle.GOLDEN),
            encode=lambda history: run_encoder(encoder.session, spec.encode(history)),
            item_vectors=np.load(staged / bundle.ITEM_VECTORS, mmap_mode="r"),
            items=Vocab.open(staged, bundle.ITEM_VOCAB),
        )
    except BundleError as error:
        raise GateError(f"golden requests: {error}") from error


def _encoder_facts(spec: FeatureSpec, encoder: _Encoder, gates: Gates) -> EncoderFacts:
    return EncoderFacts(
        max_length=spec.max_length,
        width=encoder.item_vectors.shape[1],
        similarity=spec.similarity,
        feature_spec_hash=spec.hash,
        parity_rows=encoder.parity.rows,
        parity_tolerance=gates.parity_tolerance,
        parity_max_difference=encoder.parity.max_difference,
        parity_top_k=encoder.parity.top_k,
        parity_top_k_identical=encoder.parity.identical == encoder.parity.rows,
        parity_near_ties=encoder.parity.near_ties,
    )


def _index_facts(plan: IndexPlan, measured: Measured) -> IndexFacts:
    return IndexFacts(
        factory=measured.factory,
        settings=dict(measured.settings),
        recall_target=plan.recall_target,
        recall_at=measured.recall_at,
        measured_recall=measured.recall,
        num_queries=measured.num_queries,
        latency_ms_p50=measured.latency.p50_ms,
        latency_ms_p99=measured.latency.p99_ms,
        exact_latency_ms_p50=measured.exact_latency.p50_ms,
    )
