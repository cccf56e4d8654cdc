"""Candidates of many requests as flat arrays, and the padded batches a ranker learns from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from retrank.contract.candidate_features import candidate_features
from retrank.contract.sequences import Sequences
from retrank.data.progress import hidden
from retrank.data.visits import Visits
from retrank.training.ranking.shown import NOT_SHOWN
from retrank.training.ranking.sources import Sources

PlaceOf = Callable[[int, NDArray[np.int64]], NDArray[np.int64]]
"""Where the candidates `[C]` of a visit, named by its number, were shown: `[C]` places 1.. or `NOT_SHOWN`."""


class RankingBatch(NamedTuple):
    """B requests, C candidates each; what `Ranker` reads, then what it is to learn.

    Attributes:
        features: `[B, C, F]` float32, NaN = unknown.
        candidate_vectors: `[B, C, D]` float32.
        query: `[B, D]` float32.
        history_vectors: `[B, L, D]` float32, left-padded with zeros.
        history_ages: `[B, L]` int64 seconds; -1 = padding.
        history_actions: `[B, L]` int64; 0 = padding or unknown.
        labels: `[B, C, H]` float32.
        real: `[B, C]` bool; False = padding.
        weights: `[B, C]` float32, how many candidates each stands for; 0 = padding.
        positions: `[B, C]` int64, the place 1.. where a candidate was shown, `NOT_SHOWN` = it was not; 0 = padding, or
            places are not known.
    """

    features: torch.Tensor
    candidate_vectors: torch.Tensor
    query: torch.Tensor
    history_vectors: torch.Tensor
    history_ages: torch.Tensor
    history_actions: torch.Tensor
    labels: torch.Tensor
    real: torch.Tensor
    weights: torch.Tensor
    positions: torch.Tensor


@dataclass(frozen=True)
class RankingTable:
    """V requests with M candidates in all.

    Attributes:
        offsets: `[V + 1]` int64; request v owns candidates `offsets[v]:offsets[v + 1]`.
        rows: `[M]` int64 item rows.
        proposed: `[M, S]` bool, which sources proposed a candidate.
        features: `[M, F]` float32.
        labels: `[M, H]` float32; zero for a candidate nobody acted upon.
        queries: `[V, D]` float32.
        history_rows: `[V, L]` int64 newest item rows, left-padded with 0.
        history_ages: `[V, L]` int64 seconds; -1 = padding.
        history_actions: `[V, L]` int64 action rows; 0 = padding or unknown.
        item_vectors: `[N + 1, D]` float32.
        recall: share of all targets that are among the candidates, 0..1.
        places: `[M]` int64 1.. where a candidate was shown, `NOT_SHOWN` = it was not; None = not known of any.
    """

    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    proposed: NDArray[np.bool_]
    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    queries: NDArray[np.float32]
    history_rows: NDArray[np.int64]
    history_ages: NDArray[np.int64]
    history_actions: NDArray[np.int64]
    item_vectors: NDArray[np.float32]
    recall: float
    places: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return the number of requests V."""
        return len(self.offsets) - 1

    def rotated(self, rotation: NDArray[np.float32]) -> "RankingTable":
        """Return the table with queries and item vectors turned by `[D, D]`; features do not change by that."""
        return replace(self, queries=self.queries @ rotation, item_vectors=self.item_vectors @ rotation)

    def with_features(self, features: NDArray[np.float32]) -> "RankingTable":
        """Return the table with other features `[M, F]`."""
        return replace(self, features=features)

    def batch(
        self, requests: NDArray[np.integer], *, max_candidates: int, random: np.random.Generator | None
    ) -> RankingBatch:
        """Gather requests; longer lists keep what was acted upon or shown, and a random part of the others.

        A kept other then weighs as many candidates as it stands for, so that probabilities stay what they are.

        Args:
            requests: `[B]` request positions.
            max_candidates: longest list when `random` is given, >= 1; lists with more that must be kept are longer.
            random: chooses among the others; None keeps all.
        """
        chosen = [self._choose(int(request), max_candidates, random) for request in requests]
        width = max(len(candidates) for candidates, _ in chosen)
        place = np.zeros((len(requests), width), dtype=np.int64)
        weights = np.zeros((len(requests), width), dtype=np.float32)
        for row, (candidates, weight) in enumerate(chosen):
            place[row, : len(candidates)], weights[row, : len(candidates)] = candidates, weight
        real = weights > 0
        histories = self.history_rows[requests]
        places = np.zeros_like(place) if self.places is None else self.places[place]
        arrays = (
            np.where(real[..., None], self.features[place], np.float32(0)),
            self.item_vectors[np.where(real, self.rows[place], 0)],
            self.queries[requests],
            self.item_vectors[histories],
            self.history_ages[requests],
            self.history_actions[requests],
            np.where(real[..., None], self.labels[place], np.float32(0)),
            real,
            weights,
            np.where(real, places, 0),
        )
        return RankingBatch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))

    def _choose(
        self, request: int, max_candidates: int, random: np.random.Generator | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        candidates = np.arange(self.offsets[request], self.offsets[request + 1])
        weights = np.ones(len(candidates), dtype=np.float32)
        if random is None or len(candidates) <= max_candidates:
            return candidates, weights
        telling = self.labels[candidates].any(axis=1)
        if self.places is not None:
            telling |= self.places[candidates] < NOT_SHOWN
        others = candidates[~telling]
        kept = random.choice(others, min(len(others), max(1, max_candidates - int(telling.sum()))), replace=False)
        weights = np.full(len(kept), len(others) / max(len(kept), 1), dtype=np.float32)
        known = candidates[telling]
        return np.concatenate([known, kept]), np.concatenate([np.ones(len(known), dtype=np.float32), weights])


def ranking_table(
    sources: Sources,
    visits: Visits,
    *,
    history_length: int,
    progress: bool,
    place_of: PlaceOf | None = None,
) -> RankingTable:
    """Let the sources propose for every visit, and label what they proposed.

    Args:
        sources: fitted on events before the visits.
        visits: V >= 1 visits and what happened in them.
        history_length: L, newest events the ranker reads, >= 1.
        progress: show a progress bar.
        place_of: where the candidates of a visit were shown; None = not known.
    """
    cases, names = visits.cases, tuple(sources.settings.limits)
    rows, proposed, features, labels, places, found = [], [], [], [], [], 0
    limits = np.array([sources.settings.limits[name] for name in names])
    asked = tqdm(
        sources.requests(cases.inputs),
        "candidates",
        len(cases),
        unit="request",
        leave=False,
        disable=hidden(progress),
    )
    queries = []
    for position, (asker, merged, facts) in enumerate(asked):
        part = slice(cases.targets.offsets[position], cases.targets.offsets[position + 1])
        label = np.zeros((len(merged.rows), visits.marks.shape[1]), dtype=np.float32)
        known, place, target = np.intersect1d(merged.rows, cases.targets.item_rows[part], return_indices=True)
        label[place] = visits.marks[part][target]
        found += len(known)
        rows.append(merged.rows)
        proposed.append(merged.ranks <= limits)
        features.append(candidate_features(merged, names, asker, facts, sources.item_vectors))
        labels.append(label)
        if place_of is not None:
            places.append(place_of(position, merged.rows))
        queries.append(asker.query)
    history_rows, history_ages, history_actions = newest_events(cases.inputs, history_length)
    return RankingTable(
        offsets=np.concatenate([[0], np.cumsum([len(part) for part in rows])]).astype(np.int64),
        rows=np.concatenate(rows),
        proposed=np.concatenate(proposed),
        features=np.concatenate(features),
        labels=np.concatenate(labels),
        queries=np.stack(queries),
        history_rows=history_rows,
        history_ages=history_ages,
        history_actions=history_actions,
        item_vectors=sources.item_vectors,
        recall=found / max(len(cases.targets.item_rows), 1),
        places=None if place_of is None else np.concatenate(places),
    )


def newest_events(inputs: Sequences, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return `[V, length]` item rows (0 = padding), ages in seconds (-1 = padding) and action rows, newest last."""
    assert inputs.times is not None
    assert inputs.asked_at is not None
    rows, actions = (np.zeros((len(inputs), length), dtype=np.int64) for _ in range(2))
    ages = np.full((len(inputs), length), -1, dtype=np.int64)
    places = inputs.offsets[1:, None] - length + np.arange(length)
    real = places >= inputs.offsets[:-1, None]
    rows[real] = inputs.item_rows[places[real]]
    asked = np.broadcast_to(inputs.asked_at[:, None], places.shape)[real]
    ages[real] = np.maximum(asked - inputs.times[places[real]], 0) // 1_000_000
    if inputs.actions is not None:
        actions[real] = inputs.actions[places[real]]
    return rows, ages, actions
