"""Dashboard, alerts, runbook and code speak of the same metrics."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry

from retrank.serving.telemetry.exposition import Exposition
from retrank.serving.telemetry.facade import SwapResult
from retrank.serving.telemetry.prometheus import PrometheusTelemetry
from retrank.serving.telemetry.series import BUNDLE_AGE, REPLICAS, RSS, Series

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "serving" / "dashboards" / "service.json"
ALERTS = ROOT / "serving" / "dashboards" / "alerts.yaml"
OPERATIONS = ROOT / "docs" / "operations.md"
_NAME = re.compile(r"\brecsys_\w+")


def _exported() -> set[str]:
    registry = CollectorRegistry()
    Series(registry)
    ending = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    named = {family.name + end for family in registry.collect() for end in ending[family.type]}
    return named | {BUNDLE_AGE, REPLICAS, RSS}


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def _expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("text", [*_expressions(), *(rule["expr"] for rule in _rules())])
def test_every_metric_that_is_asked_for_exists(text: str) -> None:
    named = set(_NAME.findall(text))
    assert named
    assert named <= _exported()


def test_the_dashboard_shows_every_metric() -> None:
    shown = set(_NAME.findall(DASHBOARD.read_text()))
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in shown}
    exported = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in _exported()}
    assert exported - families == {"recsys_bundle_created_seconds"}  # shown as an age


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_has_its_section_in_the_runbook(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    assert rule["alert"] in headings
    assert anchor == rule["alert"].lower()
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_no_section_of_the_runbook_is_for_an_alert_that_is_gone() -> None:
    headings = re.findall(r"^### (Recsys\w+)$", OPERATIONS.read_text(), flags=re.MULTILINE)
    assert headings == [rule["alert"] for rule in _rules()]


def _promtool(*words: str) -> str:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("NOT CHECKED: no promtool on this machine; apt-get install prometheus")
    done = subprocess.run([promtool, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_the_rules() -> None:
    assert f"SUCCESS: {len(_rules())} rules found" in _promtool("check", "rules", str(ALERTS))


GOOD = 'recsys_requests_total{route="/v1/recommend",status="200",instance="a"}'
HEALTHY = {
    GOOD: "0+6000x90",
    'recsys_replicas{instance="a"}': "2x90",
    'recsys_circuit_state{dep="profile_store",instance="a"}': "0x90",
    'recsys_bundle_info{id="b1",instance="a"}': "2x90",
    'recsys_bundle_info{id="b1",instance="b"}': "2x90",
    'recsys_empty_total{variant="none",instance="a"}': "0+1x90",
    'recsys_retrieval_recall_sampled{instance="a"}': "0.98x90",
    'recsys_score_psi{instance="a"}': "0.05x90",
    'recsys_unknown_id_ratio{instance="a"}': "0.1x90",
}
SICK: dict[str, dict[str, str]] = {
    "RecsysDown": {'recsys_replicas{instance="a"}': "0x90"},
    "RecsysErrors": {'recsys_requests_total{route="/v1/recommend",status="500",instance="b"}': "0+60x90"},
    "RecsysSlow": {
        'recsys_request_seconds_bucket{route="/v1/recommend",variant="none",le="0.05",instance="a"}': "0+90x90",
        'recsys_request_seconds_bucket{route="/v1/recommend",variant="none",le="0.1",instance="a"}': "0+100x90",
        'recsys_request_seconds_bucket{route="/v1/recommend",variant="none",le="+Inf",instance="a"}': "0+100x90",
    },
    "RecsysShedding": {'recsys_shed_total{reason="queue_slow",instance="a"}': "0+600x90"},
    "RecsysSaturated": {
        'recsys_queue_age_seconds_bucket{le="0.025",instance="a"}': "0+90x90",
        'recsys_queue_age_seconds_bucket{le="0.05",instance="a"}': "0+100x90",
        'recsys_queue_age_seconds_bucket{le="+Inf",instance="a"}': "0+100x90",
    },
    "RecsysDegraded": {'recsys_degraded_total{reason="sequence_failed",variant="none",instance="a"}': "0+600x90"},
    "RecsysEmpty": {'recsys_empty_total{variant="none",instance="a"}': "0+600x90"},
    "RecsysBundleOld": {'recsys_bundle_age_seconds{instance="a"}': "300000x90"},
    "RecsysBundlesDiffer": {'recsys_bundle_info{id="b2",instance="a"}': "1x90"},
    "RecsysSwapFailed": {'recsys_bundle_swap_total{result="failed",instance="a"}': "0x40 1x50"},
    "RecsysBreakerOpen": {'recsys_circuit_state{dep="profile_store",instance="a"}': "2x90"},
    "RecsysEventLogBehind": {'recsys_event_log_lag_seconds{instance="a"}': "120x90"},
    "RecsysEventsSlow": {
        'recsys_event_ack_seconds_bucket{le="0.025",instance="a"}': "0+90x90",
        'recsys_event_ack_seconds_bucket{le="0.05",instance="a"}': "0+100x90",
        'recsys_event_ack_seconds_bucket{le="+Inf",instance="a"}': "0+100x90",
    },
    "RecsysMemoryGrows": {'recsys_rss_bytes{replica="7",instance="a"}': "1000000+100000x90"},
    "RecsysRecallLow": {'recsys_retrieval_recall_sampled{instance="a"}': "0.8x90"},
    "RecsysScoresDrift": {'recsys_score_psi{instance="a"}': "0.4x90"},
    "RecsysUnknownIds": {'recsys_unknown_id_ratio{instance="a"}': "0.5x90"},
}


MORE_SICK: dict[str, list[dict[str, str]]] = {
    "RecsysErrors": [
        {
            'recsys_batch_requests_total{status="500",instance="a"}': "0+100x90",
            'recsys_batch_requests_total{status="200",instance="a"}': "0+900x90",
        }
    ],
    "RecsysBreakerOpen": [{'recsys_circuit_state{dep="ranker",instance="a"}': " ".join(["2", "2", "1", "2"] * 30)}],
}
"""The same illnesses, seen in another way."""


def test_a_counter_whose_increase_calls_somebody_is_there_before_it_counts() -> None:
    """Prometheus sees no increase in a series that begins at one: the first failure would call nobody."""
    counted = {name for rule in _rules() for name in re.findall(r"increase\((recsys_\w+)", rule["expr"])}
    assert counted == {"recsys_bundle_swap_total"}
    shown = Exposition(PrometheusTelemetry().registry, None, now=lambda: 0.0).text().decode()
    for result in get_args(SwapResult):
        assert f'recsys_bundle_swap_total{{result="{result}"}} 0.0' in shown


def _scene(ill: str, worse: dict[str, str]) -> dict[str, Any]:
    minutes = 240 if ill == "RecsysMemoryGrows" else 85
    series = {name: values.replace("x90", f"x{minutes + 5}") for name, values in (HEALTHY | worse).items()}
    return {
        "name": ill or "healthy",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": f'{{alertname="{ill}"}}', "value": 1}] if ill else [],
            }
        ],
    }


def test_each_alert_fires_for_its_illness_and_for_nothing_else(tmp_path: Path) -> None:
    assert list(SICK) == [rule["alert"] for rule in _rules()]
    ways = [*SICK.items(), *((ill, worse) for ill, more in MORE_SICK.items() for worse in more)]
    scenes = [_scene("", {}), *(_scene(ill, worse) for ill, worse in ways)]
    path = tmp_path / "alerts_test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "5m", "tests": scenes}))
    _promtool("test", "rules", str(path))
