"""Telemetry as Prometheus series. One object per replica process; several replicas of a host share a folder."""

from collections.abc import Mapping, MutableMapping
from datetime import datetime
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram

from retrank.serving.telemetry.capped import Capped
from retrank.serving.telemetry.facade import NONE, Answered, CircuitState, Quality, SwapResult, Telemetry, variant_of
from retrank.serving.telemetry.series import Series

_CIRCUIT: Mapping[CircuitState, int] = {"closed": 0, "half_open": 1, "open": 2}
_MS = 1e-3


class PrometheusTelemetry(Telemetry):
    """Counts into series; every label that a caller can influence is bounded."""

    def __init__(self) -> None:
        """Register the series in a registry of their own."""
        self.registry = CollectorRegistry()
        self._series = Series(self.registry)
        self._placement, self._variant, self._reason, self._name = (Capped(), Capped(), Capped(), Capped())
        self._timings: dict[
            tuple[Histogram, tuple[str, ...]], Histogram
        ] = {}  # asking a series for labels takes a microsecond
        self._counts: dict[tuple[Counter, tuple[str, ...]], Counter] = {}
        self._bundle: str | None = None
        for result in get_args(SwapResult):  # an increase from nothing to one is none
            self._series.swaps.labels(result=result)

    def observe_answer(self, scope: MutableMapping[str, Any], response: Answered, *, placement: str = NONE) -> None:
        """Count one answer."""
        super().observe_answer(scope, response, placement=placement)
        for stage, took_ms in response.took_ms.items():
            if stage != "total":  # that is their sum
                self._timing(self._series.stage_seconds, self._name(stage)).observe(took_ms * _MS)
        shown = self._variant(variant_of(response))
        for reason in response.degraded.reasons:
            self._count(self._series.degraded, self._reason(reason), shown).inc()
        if not response.items:
            self._count(self._series.empty, shown).inc()

    def request(self, route: str, status: int, seconds: float, *, placement: str, variant: str) -> None:
        """Count one answered request."""
        shown = self._variant(variant)
        self._count(self._series.requests, route, self._placement(placement), str(status), shown).inc()
        self._timing(self._series.request_seconds, route, shown).observe(seconds)

    def batched(self, status: int, count: int) -> None:
        """Count requests within a batch."""
        self._count(self._series.batch_requests, str(status)).inc(count)

    def pipeline(self, candidates: Mapping[str, int], removed: Mapping[str, int]) -> None:
        """Count candidates and removals."""
        for source, count in candidates.items():
            self._count(self._series.candidates, self._name(source)).inc(count)
        for rule, count in removed.items():
            if count:
                self._count(self._series.filtered, self._name(rule)).inc(count)

    def in_flight(self, delta: int) -> None:
        """Note requests that started or ended."""
        self._series.in_flight.inc(delta)

    def queued(self, seconds: float) -> None:
        """Note how long a request waited."""
        self._series.queue_age.observe(seconds)

    def shed(self, reason: str) -> None:
        """Count a request that was turned away."""
        self._count(self._series.shed, self._reason(reason)).inc()

    def circuit(self, dependency: str, state: CircuitState) -> None:
        """Note the state of a breaker."""
        self._series.circuit.labels(dep=self._name(dependency)).set(_CIRCUIT[state])

    def fallback(self, dependency: str, rung: str) -> None:
        """Count a call answered by a fallback."""
        self._count(self._series.fallbacks, self._name(dependency), self._name(rung)).inc()

    def events(self, kind: str, result: str, count: int = 1) -> None:
        """Count events."""
        self._count(self._series.events, self._name(kind), self._reason(result)).inc(count)
        if result == "duplicate":
            self._series.dedup.inc(count)

    def event_ack(self, seconds: float) -> None:
        """Note how long an acknowledgement took."""
        self._series.event_ack.observe(seconds)

    def event_log_lag(self, seconds: float) -> None:
        """Note how far the log is behind."""
        self._series.log_lag.set(seconds)

    def quality(self, name: Quality, value: float) -> None:
        """Note one figure."""
        self._series.quality[name].set(value)

    def recall_queries(self, count: int) -> None:
        """Count requests that exact search was done for."""
        self._series.recall_queries.inc(count)

    def new_items(self, counts: Mapping[str, int]) -> None:
        """Note what became of items that the bundle does not know."""
        for state, count in counts.items():
            self._series.new_items.labels(state=self._reason(state)).set(count)

    def store(self, name: str, entries: int, evicted: int = 0) -> None:
        """Note how much a store in memory holds."""
        self._series.store_entries.labels(store=self._name(name)).set(entries)
        self._count(self._series.store_evictions, self._name(name)).inc(evicted)

    def bundle(self, bundle_id: str, created_at: datetime) -> None:
        """Note which bundle answers; the one before answers no more."""
        if self._bundle is not None:
            self._series.bundle.labels(id=self._bundle).set(0)
        self._bundle = bundle_id
        self._series.bundle.labels(id=bundle_id).set(1)
        self._series.created.set(created_at.timestamp())

    def swap(self, result: SwapResult, seconds: float) -> None:
        """Count a change of bundle, and note how long it took when it came to its end."""
        self._series.swaps.labels(result=result).inc()
        if result == "activated":
            self._series.swap_seconds.observe(seconds)

    def _timing(self, series: Histogram, *labels: str) -> Histogram:
        found = self._timings.get((series, labels))
        return self._timings.setdefault((series, labels), series.labels(*labels)) if found is None else found

    def _count(self, series: Counter, *labels: str) -> Counter:
        found = self._counts.get((series, labels))
        return self._counts.setdefault((series, labels), series.labels(*labels)) if found is None else found
