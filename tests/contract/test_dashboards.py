"""Dashboard, alerts, runbook and code speak of the same metrics."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

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


def test_prometheus_accepts_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("NOT CHECKED: no promtool on this machine; apt-get install prometheus")
    done = subprocess.run([promtool, "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(_rules())} rules found" in done.stdout
