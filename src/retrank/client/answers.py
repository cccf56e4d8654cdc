"""Answers as the client reads them: tolerant, so that a newer service may add fields and codes.

The contract models of the service are strict; a caller that is a release behind must not break on what it does not
know.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

LOCAL_FALLBACK = "local_fallback"
"""Degraded reason of an answer that the client gave itself."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SlateReason(_Answer):
    """Why an item is on the slate."""

    code: str
    item_id: str | None = None
    weight: float = 0.0


class SlateEntry(_Answer):
    """One recommended item; rank starts at 1, a higher score is better."""

    item_id: str
    rank: int
    score: float
    sources: list[str] = []
    reasons: list[SlateReason] = []
    propensity: float | None = None
    attributes: dict[str, Any] = {}


class SlateBundle(_Answer):
    """Which bundle answered."""

    id: str
    created_at: datetime | None = None
    model: str = ""


class SlateDegraded(_Answer):
    """Whether the answer rests on less than it could have, and why."""

    is_degraded: bool = False
    reasons: list[str] = []


class Slate(_Answer):
    """The answer to recommend, similar and popular.

    `recommendation_id` is a signed token: put it into the events about these items as `recommendation_token`. It is
    None when the client answered itself (`degraded.reasons` then holds `local_fallback`).
    """

    request_id: str = ""
    recommendation_id: str | None = None
    items: list[SlateEntry]
    bundle: SlateBundle | None = None
    degraded: SlateDegraded = SlateDegraded()
    took_ms: dict[str, float] = {}

    def as_fallback(self, k: int, excluded: frozenset[str] = frozenset()) -> Self:
        """Return the first k items but the excluded ones, ranked anew, as an answer of the client's own."""
        kept = [entry for entry in self.items if entry.item_id not in excluded][:k]
        items = [entry.model_copy(update={"rank": rank}) for rank, entry in enumerate(kept, start=1)]
        reasons = [*self.degraded.reasons, *([] if self.is_local else [LOCAL_FALLBACK])]
        degraded = SlateDegraded(is_degraded=True, reasons=reasons)
        return self.model_copy(update={"items": items, "degraded": degraded, "recommendation_id": None})

    @property
    def is_local(self) -> bool:
        """Tell whether the client answered itself."""
        return LOCAL_FALLBACK in self.degraded.reasons


class RankedEntry(_Answer):
    """One candidate of the caller; `score` is None for an item that the service does not know, or did not score."""

    item_id: str
    rank: int
    score: float | None = None


class Ranking(_Answer):
    """The answer to rank: every candidate once, best first; in the caller's order when the client answered itself."""

    request_id: str = ""
    items: list[RankedEntry]
    bundle: SlateBundle | None = None
    degraded: SlateDegraded = SlateDegraded()
    took_ms: dict[str, float] = {}

    @classmethod
    def as_given(cls, items: Sequence[str]) -> Self:
        """Return the candidates in the order in which they were given."""
        entries = [RankedEntry(item_id=item, rank=rank) for rank, item in enumerate(dict.fromkeys(items), start=1)]
        return cls(items=entries, degraded=SlateDegraded(is_degraded=True, reasons=[LOCAL_FALLBACK]))


class BatchEntry(_Answer):
    """The answer to one request of a batch: `slate` when `status` is 200, else `problem`.

    422: the request does not fit. 500: the service failed at this one. 504: there was no time left for it. The other
    requests of the batch have their slates all the same.
    """

    status: int
    slate: Slate | None = None
    problem: "Refusal | None" = None


class Batch(_Answer):
    """Answers in the order of the requests."""

    request_id: str = ""
    answers: list[BatchEntry]


class Receipt(_Answer):
    """What became of a batch of events; everything in `accepted` is durable."""

    accepted: int
    duplicates: int = 0
    rejected: list[dict[str, Any]] = []


class Refusal(_Answer):
    """A problem document (RFC 9457); with the receipt, when it is about events of which not one was taken."""

    title: str = ""
    detail: str = ""
    code: str = ""
    instance: str = ""
    errors: list[dict[str, Any]] = []
    receipt: Receipt | None = None

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Read a problem document; something else becomes its first 200 characters."""
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            return cls(detail=body[:200].decode("utf-8", "replace"))
