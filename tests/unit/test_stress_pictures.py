"""The pictures beside the reports are whole SVG files that say what they show."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from stress import pictures

RNG = np.random.default_rng(0)
TOOK_MS = [float(one) for one in RNG.lognormal(1.0, 0.5, 9_000)]
AT_S = [float(one) for one in np.sort(RNG.uniform(0, 30, 9_000))]


def timeline() -> str:
    return pictures.timeline(AT_S, TOOK_MS, marks_s={"killed": [3.0, 9.0], "full capacity": [5.0]}, failed_s=[3.1])


DRAWN = {
    "timeline": (timeline, ("killed", "full capacity", "failed", "p99 of a second", "milliseconds")),
    "quantiles": (
        lambda: pictures.quantiles({"one replica": TOOK_MS, "two": TOOK_MS[:50]}, {"goal of p99": (0.99, 15.0)}),
        ("one replica", "two", "goal of p99", "p99.9"),
    ),
    "growth": (
        lambda: pictures.growth([10, 20, 40, 80], {"memory": [90, 100, 100, 101]}, 20, "of the warm state"),
        ("memory", "warm-up", "+1 %", "100.0%"),
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_one_svg_that_names_what_it_shows_and_is_the_same_every_time(name: str) -> None:
    draw, said = DRAWN[name]
    drawn = draw()
    root = ET.fromstring(drawn)
    assert root.tag.endswith("svg")
    texts = " ".join(root.itertext())
    assert [word for word in said if word not in texts] == []
    assert draw() == drawn


def test_thousands_of_requests_do_not_make_a_picture_of_thousands_of_points_but_keep_the_slowest() -> None:
    drawn = pictures.timeline([*AT_S, 30.5], [*TOOK_MS, 1e5], marks_s={}, failed_s=[])
    assert drawn.count("<use ") < 5_000
    assert "10^{5}" in drawn or "10⁵" in drawn or "5</tspan>" in drawn


def test_the_report_shows_the_picture_that_lies_beside_it(tmp_path: Path) -> None:
    lines = pictures.beside(tmp_path / "soak.md", timeline(), "Memory")
    assert lines[0] == "![Memory](soak.svg)"
    assert ET.parse(tmp_path / "soak.svg").getroot().tag.endswith("svg")
    assert pictures.beside(None, timeline(), "Memory") == []
