"""The report of the serving benchmark judges by the best of a peer, and by the calm of its own run."""

import argparse
import json
from collections import Counter
from pathlib import Path

import pytest
from serve_bench.cases import Best, Measured, Overload, Share
from serve_bench.load import Seen
from serve_bench.report import DEFAULTS, FLAGS, ONE, TWO, Figures, write


def seen(rate: float, took_s: float, refused_s: float = 0.004) -> Seen:
    return Seen([took_s] * 100, [refused_s] * 10, Counter({200: round(rate)}), 1.0)


def measured(rate: float, took_s: float = 0.003) -> Measured:
    return Measured([rate], seen(rate, took_s), 1.0, 0.1, 0.1)


@pytest.fixture
def page(tmp_path: Path) -> str:
    bundle = tmp_path / "0123"
    bundle.mkdir()
    said = {"data": {"num_items": 9, "num_users": 3}, "encoder": {"width": 4, "max_length": 5}}
    (bundle / "manifest.json").write_text(json.dumps(said | {"index": {"factory": "Flat"}}))
    figures = Figures([Share(3.0, 2.0, 1.0), Share(2.8, 2.0, 1.0), Share(9.0, 2.0, 1.0)])
    figures.peak = {ONE: measured(200), TWO: measured(400), DEFAULTS: measured(10), FLAGS: measured(100)}
    figures.best_of_defaults = Best(4, measured(100), {1: 50.0, 4: 99.0})
    figures.latency, figures.latency_of_two, figures.latency_rate = measured(120), measured(240), 120.0
    figures.overload_peak = 200.0
    figures.overload = Overload(measured(190), seen(120, 0.006), seen(50, 0.01), 1_000 << 20, 20 << 20)
    arguments = argparse.Namespace(bundle=bundle, rounds=1, seconds=1.0, overload_seconds=1.0, out=None)
    return write(arguments, figures)


@pytest.mark.parametrize(
    "row",
    [
        "| two replicas against three deployments on defaults, at their best | >= 5x | 4.00x | **no** |",
        "| CPU per request against an in-process call, both busy | <= 1.35x | 1.50x | **no** |",
        "| the same against the pipeline alone | <= 1.35x | 3.00x | **no** |",
        "| p99 five seconds after the overload | <= 15 ms | 6.00 ms | yes |",
        "| the same against the calm before, same rate | <= 1.2x | 2.00x | **no** |",
        "| growth of memory over the overload | <= 1 % | 2.00 % | **no** |",
        "Memory of the replica after it all: +20.0 MiB of 1000.",
        "50 with 1, 99 with 4",
    ],
)
def test_a_goal_is_judged_by_the_figure_that_is_hardest_on_us(page: str, row: str) -> None:
    assert row in page
