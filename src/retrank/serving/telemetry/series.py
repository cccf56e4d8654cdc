"""Every time series of the service: its name, labels and meaning, in one place.

Names start with `recsys_`. Counters are summed over replicas, histograms too; what a gauge of several replicas means is
its `multiprocess_mode`, which begins with `live`: a replica that ended counts no more.
"""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from retrank.serving.telemetry.facade import Quality

FAST = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
SLOW = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
PREFIX = "recsys_"
RSS = f"{PREFIX}rss_bytes"
BUNDLE_AGE = f"{PREFIX}bundle_age_seconds"
BUNDLE_CREATED = f"{PREFIX}bundle_created_seconds"
REPLICAS = f"{PREFIX}replicas"


class Series:
    """The time series one replica writes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register all of them."""

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(PREFIX + name, meaning, labels, registry=registry)

        def timing(name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = FAST) -> Histogram:
            return Histogram(PREFIX + name, meaning, labels, buckets=buckets, registry=registry)

        self.requests = counter("requests", "answered requests", "route", "placement", "status", "variant")
        self.request_seconds = timing(
            "request_seconds", "time from the first byte read to the last written", "route", "variant"
        )
        self.stage_seconds = timing("stage_seconds", "time of one step of the pipeline", "stage")
        self.degraded = counter("degraded", "slates that rest on less than they could have", "reason", "variant")
        self.empty = counter("empty", "slates without items", "variant")
        self.batch_requests = counter("batch_requests", "requests within answered batches", "status")
        self.candidates = counter("candidates", "items on slates, by every source that proposed them", "source")
        self.filtered = counter("filtered", "candidates taken out", "rule")
        self.shed = counter("shed", "requests turned away before they were read", "reason")
        self.queue_age = timing("queue_age_seconds", "time a request waited for its slot")
        self.fallbacks = counter("fallback", "calls of a dependency answered without it", "dep", "rung")
        self.events = counter("events", "events received", "type", "result")
        self.dedup = counter("dedup", "events that had been applied before")
        self.event_ack = timing("event_ack_seconds", "time until events were durable")
        self.swaps = counter("bundle_swap", "changes of bundle", "result")
        self.swap_seconds = timing("swap_seconds", "time from the order to a new bundle until it answers", buckets=SLOW)
        self.store_evictions = counter(
            "store_evictions", "entries that had to make room in a replica's memory", "store"
        )
        self.recall_queries = counter("recall_queries", "requests that exact search was done for, to measure recall")
        self._add_gauges(registry)
        self._add_quality(registry)

    def _add_quality(self, registry: CollectorRegistry) -> None:
        """Figures of `serving.drift`; of several replicas the one that is furthest off counts."""

        def worst(name: Quality, meaning: str, mode: Literal["livemax", "livemin"] = "livemax") -> Gauge:
            return Gauge(PREFIX + name, meaning, registry=registry, multiprocess_mode=mode)

        recall = worst("retrieval_recall_sampled", "share of the exact top found for requests of late", "livemin")
        coverage = worst("catalogue_coverage", "share of the catalogue on the newest slates", "livemin")
        for share in (recall, coverage):
            share.set(1.0)  # until it is measured: a replica that answered nothing is not the worst of all
        self.quality: dict[Quality, Gauge] = {
            "retrieval_recall_sampled": recall,
            "score_psi": worst("score_psi", "population stability index of the best scores, newest against first"),
            "unknown_id_ratio": worst("unknown_id_ratio", "share of users and items of requests that no bundle knows"),
            "catalogue_coverage": coverage,
            "feature_age_seconds": worst("feature_age_seconds", "since the newest event that the features know"),
        }

    def _add_gauges(self, registry: CollectorRegistry) -> None:
        def summed(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(PREFIX + name, meaning, labels, registry=registry, multiprocess_mode="livesum")

        def worst(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(PREFIX + name, meaning, labels, registry=registry, multiprocess_mode="livemax")

        self.in_flight = summed("inflight", "requests that are being answered")
        self.circuit = worst("circuit_state", "breaker of a dependency: 0 closed, 1 half-open, 2 open", "dep")
        self.log_lag = worst("event_log_lag_seconds", "age of the oldest event that is not applied yet")
        self.new_items = worst("new_items", "items that the bundle does not know, by what became of them", "state")
        self.store_entries = worst("store_entries", "entries in a replica's memory, where it holds most", "store")
        self.bundle = summed("bundle_info", "replicas that answer from a bundle", "id")
        self.created = Gauge(
            BUNDLE_CREATED,
            "when the oldest bundle that answers was made, Unix time",
            registry=registry,
            multiprocess_mode="livemin",
        )
