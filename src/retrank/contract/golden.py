"""Golden requests: histories with the answers they must get, re-run by export before sealing and by serving at load.

The answer is the encoder's query against exact search over `item_vectors.npy`, so that the check needs no index and no
serving pipeline. It is compared by score, not by position: items whose scores are equal within the tolerance may stand
in any order.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrank.contract.encode import asked_now
from retrank.contract.errors import BundleError, FormatError, said_of
from retrank.contract.rest import Rest, no_rest
from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab

_ROWS_AT_ONCE = 1 << 12
Encoder = Callable[[Sequences], NDArray[np.float32]]
"""B histories -> `[B, D]` float32 queries."""


class GoldenCase(BaseModel):
    """One request and its answer.

    Attributes:
        kind: what sort of request it is.
        item_ids: raw ids of the history, oldest first, unknown ones included.
        item_rows: rows of the known ones among them; what the encoder is given.
        ages: whole seconds from each of these events to the request, >= 0; what the encoder is given, if it reads them.
        actions: action row of each of these events, 0 = unknown; what the encoder is given, if it reads them.
        context: rows of the fields of the moment, 0 = unknown; what the encoder is given, if it reads them.
        top_rows: rows of the K best items, best first, ties by row.
        top_item_ids: their raw ids.
        top_scores: their scores, non-increasing.
        tolerance: allowed difference of a score, relative to max(1, |score|).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["user", "session", "single_item", "unknown_items", "nothing"]
    item_ids: list[str]
    item_rows: list[int]
    ages: list[int]
    actions: list[int]
    context: list[int] = []
    top_rows: list[int]
    top_item_ids: list[str]
    top_scores: list[float]
    tolerance: float = Field(gt=0)

    def history(self) -> Sequences:
        """Return the history that the encoder is given."""
        ages, actions = np.array(self.ages, dtype=np.int64), np.array(self.actions, dtype=np.int16)
        context = np.array(self.context, dtype=np.int32)
        return asked_now(np.array(self.item_rows, dtype=np.int32), ages, actions, context)


def write_golden(path: Path, cases: Iterable[GoldenCase]) -> None:
    """Write one JSON object per line; a context that nobody reads is left out."""
    path.write_text("".join(case.model_dump_json(exclude_defaults=True) + "\n" for case in cases), encoding="utf-8")


def read_golden(path: Path) -> list[GoldenCase]:
    """Read golden requests.

    Raises:
        FormatError: a line is not a golden request.
    """
    cases = []
    # Not splitlines: it would also cut at separators such as U+2028, which may stand inside an item id.
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), start=1):
        try:
            cases.append(GoldenCase.model_validate_json(line))
        except ValidationError as error:
            raise FormatError(f"{path}:{number}: not a golden request ({said_of(error.errors()[0]['msg'])})") from error
    return cases


def check_golden(
    cases: Sequence[GoldenCase],
    *,
    encode: Encoder,
    item_vectors: NDArray[np.float32],
    items: Vocab,
    rest: Rest = no_rest,
) -> float:
    """Answer every golden request again and return the largest score difference seen.

    Args:
        cases: the golden requests, at least one.
        encode: the query encoder under test.
        item_vectors: `[N + 1, D]` float32, row 0 unused.
        items: the item vocab under test.
        rest: called between pieces of work.

    Raises:
        BundleError: there is no case, or one got another answer.
    """
    if not cases:
        raise BundleError("no golden requests; a bundle without them cannot be proven, export it again")
    wheres = [
        f"golden request {number} ({case.kind}, history {case.item_ids[-3:]})" for number, case in enumerate(cases, 1)
    ]
    queries = np.empty((len(cases), item_vectors.shape[1]), dtype=np.float32)  # [G, D]
    for number, (case, where) in enumerate(zip(cases, wheres, strict=True)):
        _check_rows(case, items, where)
        queries[number] = encode(case.history())[0]
        rest()
    best = best_scores(queries, item_vectors, max(len(case.top_rows) for case in cases), rest)
    worst = 0.0
    for case, where, query, scores in zip(cases, wheres, queries, best, strict=True):
        of_expected = item_vectors[np.array(case.top_rows)] @ query
        worst = max(worst, _check_scores(case, of_expected, scores[: len(case.top_scores)], where))
    return worst


def best_scores(
    queries: NDArray[np.float32], item_vectors: NDArray[np.float32], top: int, rest: Rest = no_rest
) -> NDArray[np.float32]:
    """Return the best scores `[B, top]` of exact search, best first, NaN before all; -inf where there are fewer items.

    Reads the vectors once, in blocks, and holds up no other thread.

    Args:
        queries: `[B, D]` float32.
        item_vectors: `[N + 1, D]` float32, row 0 unused.
        top: scores per query, >= 1.
        rest: called after every block.
    """
    best = np.full((len(queries), top), -np.inf, dtype=np.float32)
    for start in range(1, len(item_vectors), _ROWS_AT_ONCE):
        scores = queries @ item_vectors[start : start + _ROWS_AT_ONCE].T  # [B, block]
        better = np.flatnonzero((~(scores <= best.min(axis=1, keepdims=True))).any(axis=0))  # NaN counts as better
        joined = np.concatenate([best, scores[:, better]], axis=1)
        best = np.partition(joined, -top, axis=1)[:, -top:]
        rest()
    ordered: NDArray[np.float32] = np.sort(best, axis=1)[:, ::-1]
    return ordered


def _check_rows(case: GoldenCase, items: Vocab, where: str) -> None:
    if items.rows(case.item_ids).tolist() != case.item_rows:
        raise BundleError(
            f"{where}: its item ids are rows {items.rows(case.item_ids).tolist()} of the vocab, sealed as "
            f"{case.item_rows}; items and encoder do not belong together, export again"
        )
    if [items.id(row) for row in case.top_rows] != case.top_item_ids:
        raise BundleError(f"{where}: the expected rows {case.top_rows} are not {case.top_item_ids}; export again")


def _check_scores(case: GoldenCase, of_expected: NDArray[np.float32], best: NDArray[np.float32], where: str) -> float:
    """Compare the scores of the expected items, and the best scores of all: together they prove the list up to ties."""
    expected = np.array(case.top_scores)
    allowed = case.tolerance * np.maximum(1.0, np.abs(expected))
    seen = np.maximum(np.abs(best - expected), np.abs(of_expected - expected))
    if not (seen <= allowed).all():  # also true for NaN
        place = int(np.argmax(~(seen <= allowed)))
        raise BundleError(
            f"{where}: score {of_expected[place]:.6f} for {case.top_item_ids[place]!r} and {best[place]:.6f} at rank "
            f"{place + 1}, expected {expected[place]:.6f} within {allowed[place]:.1e}; the encoder answers "
            "differently here, export again with the versions used here"
        )
    return float(seen.max())
