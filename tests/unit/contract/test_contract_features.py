"""The encoding sealed with a model, and the refusal of any other."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from retrank.contract.bundle import FEATURES, VerifiedBundle
from retrank.contract.errors import FormatError
from retrank.contract.features import FeatureSpec, read_features
from retrank.contract.manifest import DataFacts, EncoderFacts, IndexFacts, Manifest, MetricFacts
from retrank.contract.sequences import Sequences

SPEC = FeatureSpec(max_length=50, similarity="cosine")


def _bundle(folder: Path, written: dict[str, Any], sealed: FeatureSpec = SPEC) -> VerifiedBundle:
    (folder / FEATURES).write_text(json.dumps(written))
    encoder = EncoderFacts(
        max_length=50,
        width=8,
        similarity="cosine",
        feature_spec_hash=sealed.hash,
        parity_rows=3,
        parity_tolerance=1e-4,
        parity_max_difference=0.0,
        parity_top_k=20,
        parity_top_k_identical=True,
    )
    index = IndexFacts(
        factory="Flat",
        settings={},
        recall_target=0.95,
        recall_at=100,
        measured_recall=1.0,
        num_queries=1,
        latency_ms_p50=0.1,
        latency_ms_p99=0.1,
        exact_latency_ms_p50=0.1,
    )
    manifest = Manifest(
        format_version=1,
        package_version="0",
        git_commit=None,
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
        model="m",
        run_id="r",
        data=DataFacts(name="d", data_hash="h", num_users=1, num_items=1, num_events=1),
        encoder=encoder,
        index=index,
        metrics=MetricFacts(protocol="p", values={}),
        item_columns=[],
        files={},
    )
    return VerifiedBundle("0" * 16, folder, manifest)


def test_the_canonical_form_does_not_depend_on_the_order_of_keys() -> None:
    shuffled = FeatureSpec.model_validate(dict(reversed(SPEC.model_dump().items())))
    assert shuffled.canonical() == SPEC.canonical()
    # SHA-256 of the canonical JSON, computed once; if it moves, bundles made before cannot be opened any more.
    assert SPEC.hash == "2d55756c37307216951219adddcd493d44353632c0331772cdff3313f55bc4e0"


def test_the_hash_moves_with_the_encoding() -> None:
    assert SPEC.hash != FeatureSpec(max_length=51, similarity="cosine").hash
    assert SPEC.hash != FeatureSpec(max_length=50, similarity="dot").hash


def test_a_sealed_spec_reads_back_and_encodes(tmp_path: Path) -> None:
    spec = read_features(_bundle(tmp_path, SPEC.model_dump()))
    assert spec == SPEC
    assert spec.encode(Sequences.from_lists([[1, 2], [3]]))["item_rows"].tolist() == [[1, 2], [0, 3]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoding": "inputs/2"}, "encoding"),
        ({"padding_side": "right"}, "padding_side"),
        ({"padding_row": 1}, "padding_row"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": "50"}, "max_length"),
        ({"buckets": [1, 2]}, "buckets"),
        ({"max_length": 51}, "feature-spec hash"),
    ],
)
def test_a_foreign_encoding_is_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_features(_bundle(tmp_path, SPEC.model_dump() | change))


def test_a_spec_that_contradicts_the_manifest_is_refused(tmp_path: Path) -> None:
    other = FeatureSpec(max_length=99, similarity="cosine")
    with pytest.raises(FormatError, match="the manifest says 50"):
        read_features(_bundle(tmp_path, other.model_dump(), sealed=other))
