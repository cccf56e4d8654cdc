"""The pictures beside the reports are whole SVG files that say what they show."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from stress import drawing, pictures
from stress.pictures import Flip, Waits

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
    "waits": (
        lambda: pictures.waits(
            {
                "Redis killed": {"slate": Waits([5, 18, 23], 100)},
                "calm": {"slate": Waits([1, 2]), "event": Waits([3, 4])},
            },
            "p50, p99, slowest",
        ),
        ("Redis killed", "calm", "slate", "event", "at most", "p99, slowest"),
    ),
    "kills": (
        lambda: pictures.kills({"writing": 887}, {"acknowledged": 68_674, "lost": 0}),
        ("killed while writing", "887", "68,674", "lost", "none"),
    ),
    "replica_memory": (
        lambda: pictures.replica_memory({"1 process": (800.0, 100.0), "4": (800.0, 400.0)}, {"4": 1_170.0}),
        ("1 process", "mapped from files", "no file behind it", "goal"),
    ),
    "ingest": (
        lambda: pictures.ingest({"SQLite, open, 5,000/s": (5_002, 18.8), "none, closed": (81e3, 19)}, 5_000, 20),
        ("SQLite, open", "none, closed", "events a second", "p99"),
    ),
    "fuzz": (
        lambda: pictures.fuzz({"own": {"2xx": 70, "4xx": 30}, "atheris": {"4xx": 9, "fault": 1}}),
        ("own, 100", "atheris, 10", "documented 5xx", "fault", "100%"),
    ),
    "memory": (lambda: pictures.memory({"the service": ([0, 5, 9], [200, 240, 241])}), ("the service", "MiB")),
    "flips": (
        lambda: pictures.flips([Flip("a.npy", 0.5, "the check"), Flip("b.npy", 0.1, "")]),
        ("a.npy", "b.npy", "the check", "not refused", "place in the file"),
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
    lines = drawing.beside(tmp_path / "soak.md", timeline(), "Memory")
    assert lines[0] == "![Memory](soak.svg)"
    assert ET.parse(tmp_path / "soak.svg").getroot().tag.endswith("svg")
    assert drawing.beside(None, timeline(), "Memory") == []
