"""What a bundle says about itself: `manifest.json`, written last and read first."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrank.contract.actions import ActionFacts

FORMAT_VERSION = 5
"""Major version of the bundle layout; a reader refuses every other."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AnyManifest(BaseModel):
    """The one field that the manifest of every format version has."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int


class SealedFile(_Record):
    """Size in bytes and SHA-256 (lower-case hex) of one file of the bundle."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class DataFacts(_Record):
    """What the model was trained on."""

    name: str
    data_hash: str
    num_users: int
    num_items: int
    num_events: int
    first_event_at: datetime | None = None
    last_event_at: datetime | None = None


class EncoderFacts(_Record):
    """How a history becomes a query vector; serving must encode exactly like this."""

    max_length: int = Field(ge=1)
    width: int = Field(ge=1)
    similarity: Literal["dot", "cosine"]
    feature_spec_hash: str
    parity_rows: int
    parity_tolerance: float
    parity_max_difference: float
    parity_top_k: int
    parity_top_k_identical: bool
    parity_near_ties: int = 0
    """Item lists that differ only by the order of items whose scores are equal within float32 noise."""


class IndexFacts(_Record):
    """The FAISS index: how it was chosen and what was measured against exact search."""

    factory: str
    settings: dict[str, int | float | str]
    recall_target: float
    recall_at: int
    measured_recall: float
    num_queries: int
    latency_ms_p50: float
    latency_ms_p99: float
    exact_latency_ms_p50: float


class MetricFacts(_Record):
    """Offline metrics of the model in the bundle, with the protocol that produced them."""

    protocol: str
    values: dict[str, float]
    baselines: dict[str, dict[str, float]] = {}


class RankerFacts(_Record):
    """The second stage: where it comes from, and that its graph answers like the trained model."""

    run_id: str
    heads: list[str]
    values: dict[str, float]
    parity_requests: int
    parity_max_difference: float


class ItemColumn(_Record):
    """A display attribute of the items, and where its values lie; see `contract.attributes`.

    `place` is the row of the array that its kind names; the words of a text are numbered first_word..stop_word - 1.
    """

    name: str
    kind: Literal["text", "truth", "integer", "number"]
    place: int = Field(ge=0)
    first_word: int = Field(default=0, ge=0)
    stop_word: int = Field(default=0, ge=0)


class Manifest(_Record):
    """The whole of `manifest.json`."""

    format_version: int
    package_version: str
    git_commit: str | None
    created_at: datetime
    model: str
    run_id: str
    data: DataFacts
    encoder: EncoderFacts
    index: IndexFacts
    metrics: MetricFacts
    ranker: RankerFacts | None = None
    actions: list[ActionFacts] = []
    item_columns: list[ItemColumn]
    files: dict[str, SealedFile]
    config: dict[str, Any] = {}
