"""Metrics: what one answer leaves behind, bounds on labels, and several processes that count into one folder."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from retrank.contract.api import BundleInfo, Degraded, ExperimentInfo, Problem, SlateItem, SlateResponse
from retrank.contract.ranking import BatchItem, BatchResponse, RankResponse
from retrank.serving.telemetry.capped import OTHER, Capped
from retrank.serving.telemetry.exposition import Exposition
from retrank.serving.telemetry.facade import Telemetry, answer_of, labels_of
from retrank.serving.telemetry.prometheus import PrometheusTelemetry

MADE = datetime(2026, 1, 1, tzinfo=UTC)
ITEM = SlateItem(item_id="i1", rank=1, score=1.0, sources=["popular"])
_REPLICA = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from retrank.serving.telemetry.exposition import Exposition, share
share(Path(sys.argv[1]))
from retrank.serving.telemetry.prometheus import PrometheusTelemetry
telemetry = PrometheusTelemetry()
for _ in range(int(sys.argv[2])):
    telemetry.request("/v1/recommend", 200, 0.004, placement="home", variant="none")
telemetry.in_flight(int(sys.argv[2]))
for name in ("catalogue_coverage", "retrieval_recall_sampled", "score_psi", "unknown_id_ratio"):
    telemetry.quality(name, int(sys.argv[2]) / 10)
telemetry.bundle(sys.argv[3], datetime(2026, 1, int(sys.argv[2]), tzinfo=UTC))
print("counted", flush=True)
for line in sys.stdin:
    print(Exposition(telemetry.registry, Path(sys.argv[1]), now=lambda: 1767225600.0 + 864000).text().decode())
    print("end", flush=True)
"""


def _slate(*items: SlateItem, degraded: bool = False, variant: str | None = None) -> SlateResponse:
    return SlateResponse(
        experiment=None if variant is None else ExperimentInfo(id="exp", variant=variant),
        request_id="r",
        items=list(items),
        bundle=BundleInfo(id="b1", created_at=MADE, model="m"),
        degraded=Degraded(is_degraded=degraded, reasons=["unknown_user"] if degraded else []),
        took_ms={"retrieve": 2.0, "total": 3.0},
    )


def _values(text: str) -> dict[str, float]:
    found = re.findall(r"^(recsys_\S+(?:{.*})?) (\S+)$", text, flags=re.MULTILINE)
    return {name: float(value) for name, value in found}


@pytest.fixture
def telemetry() -> PrometheusTelemetry:
    return PrometheusTelemetry()


@pytest.fixture
def shown(telemetry: PrometheusTelemetry) -> Callable[[], dict[str, float]]:
    exposition = Exposition(telemetry.registry, None, now=lambda: MADE.timestamp() + 60.0)
    return lambda: _values(exposition.text().decode())


def test_one_answer_counts_its_stages_and_what_it_lacks(
    telemetry: PrometheusTelemetry, shown: Callable[[], dict[str, float]]
) -> None:
    scope: dict[str, object] = {}
    telemetry.observe_answer(scope, _slate(ITEM, degraded=True, variant="b"), placement="home")
    telemetry.observe_answer({}, _slate())
    values = shown()
    assert labels_of(scope) == ("home", "exp/b")
    assert values['recsys_stage_seconds_count{stage="retrieve"}'] == 2
    assert values['recsys_stage_seconds_sum{stage="retrieve"}'] == pytest.approx(0.004)
    assert not any('stage="total"' in name for name in values)
    assert values['recsys_degraded_total{reason="unknown_user",variant="exp/b"}'] == 1
    assert values['recsys_empty_total{variant="none"}'] == 1


def test_a_ranking_counts_like_a_slate_and_a_batch_like_all_of_its_slates(
    telemetry: PrometheusTelemetry, shown: Callable[[], dict[str, float]]
) -> None:
    slate = _slate(ITEM, degraded=True, variant="b")
    problem = Problem(type="t", title="t", status=422, detail="d", instance="i", code="internal")
    answers = [
        BatchItem(status=200, slate=slate),
        BatchItem(status=422, problem=problem),
        BatchItem(status=500, problem=problem),
        BatchItem(status=200, slate=slate),
    ]
    telemetry.observe_batch(BatchResponse(request_id="b", answers=answers))
    assert shown()['recsys_degraded_total{reason="unknown_user",variant="exp/b"}'] == 2
    assert shown()['recsys_batch_requests_total{status="500"}'] == 1
    scope: dict[str, object] = {}
    ranking = RankResponse(
        request_id="r", items=[], bundle=slate.bundle, degraded=slate.degraded, took_ms={"score": 1.0}
    )
    telemetry.observe_answer(scope, ranking, placement="cart")
    values = shown()
    assert labels_of(scope) == ("cart", "none")
    assert answer_of(scope) is ranking
    assert values['recsys_degraded_total{reason="unknown_user",variant="none"}'] == 1
    assert values['recsys_stage_seconds_count{stage="score"}'] == 1


def test_every_other_fact_has_its_series(telemetry: PrometheusTelemetry, shown: Callable[[], dict[str, float]]) -> None:
    telemetry.request("/v1/recommend", 200, 0.003, placement="home", variant="none")
    telemetry.pipeline({"sequence": 200, "popular": 50}, {"seen": 7, "excluded": 0})
    telemetry.in_flight(3)
    telemetry.in_flight(-1)
    telemetry.queued(0.002)
    telemetry.shed("queue_full")
    telemetry.circuit("profile_store", "open")
    telemetry.fallback("profile_store", "last_known")
    telemetry.events("click", "accepted", 3)
    telemetry.events("click", "duplicate", 2)
    telemetry.event_ack(0.004)
    telemetry.event_log_lag(1.5)
    telemetry.bundle("b1", MADE)
    telemetry.bundle("b2", MADE)
    telemetry.swap("activated", 2.0)
    telemetry.quality("score_psi", 0.3)
    telemetry.recall_queries(8)
    telemetry.store("profiles", 40, evicted=2)
    telemetry.store("profiles", 50, evicted=3)
    values = shown()
    labelled = 'recsys_requests_total{placement="home",route="/v1/recommend",status="200",variant="none"}'
    expected = {
        labelled: 1,
        'recsys_request_seconds_count{route="/v1/recommend",variant="none"}': 1,
        'recsys_candidates_total{source="sequence"}': 200,
        'recsys_filtered_total{rule="seen"}': 7,
        "recsys_inflight": 2,
        "recsys_queue_age_seconds_count": 1,
        'recsys_shed_total{reason="queue_full"}': 1,
        'recsys_circuit_state{dep="profile_store"}': 2,
        'recsys_fallback_total{dep="profile_store",rung="last_known"}': 1,
        'recsys_events_total{result="accepted",type="click"}': 3,
        "recsys_dedup_total": 2,
        "recsys_event_ack_seconds_count": 1,
        "recsys_event_log_lag_seconds": 1.5,
        'recsys_bundle_info{id="b1"}': 0,
        'recsys_bundle_info{id="b2"}': 1,
        "recsys_bundle_age_seconds": 60.0,
        'recsys_bundle_swap_total{result="activated"}': 1,
        "recsys_swap_seconds_count": 1,
        "recsys_replicas": 1,
        "recsys_score_psi": 0.3,
        "recsys_retrieval_recall_sampled": 1.0,
        "recsys_catalogue_coverage": 1.0,
        "recsys_recall_queries_total": 8,
        'recsys_store_entries{store="profiles"}': 50,
        'recsys_store_evictions_total{store="profiles"}': 5,
    }
    assert {name: values.get(name) for name in expected} == expected
    assert values[f'recsys_rss_bytes{{replica="{os.getpid()}"}}'] > 1e6
    assert 'recsys_filtered_total{rule="excluded"}' not in values


def test_saying_nothing_costs_nothing_and_still_keeps_the_labels() -> None:
    scope: dict[str, object] = {}
    silent = Telemetry()
    silent.observe_answer(scope, _slate(), placement="home")
    assert labels_of(scope) == ("home", "none")
    for word in (silent.shed, lambda _: silent.queued(1.0)):
        word("x")


def test_callers_cannot_make_the_number_of_series_grow(
    telemetry: PrometheusTelemetry, shown: Callable[[], dict[str, float]]
) -> None:
    for number in range(500):
        telemetry.request("/v1/recommend", 200, 0.001, placement=f"p{number}", variant=f"v{number}")
        telemetry.shed(f"r{number}")
    series = [name for name in shown() if name.startswith(("recsys_requests_total", "recsys_shed_total"))]
    assert len(series) <= 51 + 51
    assert any(f'placement="{OTHER}"' in name for name in series)


def test_long_labels_are_cut_and_known_ones_stay() -> None:
    capped = Capped(2, length=3)
    assert [capped("abcdef"), capped("b"), capped("c"), capped("abcdef")] == ["abc", "b", OTHER, "abc"]


class Replica:
    """A process that counts, and shows what it and its siblings counted."""

    def __init__(self, folder: Path, requests: int, bundle: str) -> None:
        command = [sys.executable, "-c", _REPLICA, str(folder), str(requests), bundle]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._line() == "counted"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def show(self) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write("show\n")
        self.process.stdin.flush()
        return _values("\n".join(iter(self._line, "end")))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_replicas_of_a_host_answer_for_one_another_and_the_dead_keep_only_their_counts(tmp_path: Path) -> None:
    first, second = Replica(tmp_path, 2, "b1"), Replica(tmp_path, 5, "b2")
    count = 'recsys_requests_total{placement="home",route="/v1/recommend",status="200",variant="none"}'
    try:
        together = first.show()
        assert together == second.show() | {name: together[name] for name in together if "rss" in name}
        assert (together[count], together["recsys_inflight"], together["recsys_replicas"]) == (7, 7, 2)
        assert together['recsys_bundle_info{id="b1"}'] == together['recsys_bundle_info{id="b2"}'] == 1
        assert together["recsys_bundle_age_seconds"] == 9 * 86_400  # the older bundle's
        assert (together["recsys_catalogue_coverage"], together["recsys_retrieval_recall_sampled"]) == (0.2, 0.2)
        assert (together["recsys_score_psi"], together["recsys_unknown_id_ratio"]) == (0.5, 0.5)
        first.kill()
        left = second.show()
        assert (left[count], left["recsys_inflight"], left["recsys_replicas"]) == (7, 5, 1)
        assert 'recsys_bundle_info{id="b1"}' not in left
        assert left["recsys_bundle_age_seconds"] == 6 * 86_400
        assert left["recsys_catalogue_coverage"] == 0.5
    finally:
        first.kill()
        second.kill()
